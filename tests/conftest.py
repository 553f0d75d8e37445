"""What all tests share: tests that need more than Python skip and say what is missing.

`@pytest.mark.netns("ping", ...)` stands for network namespaces, /dev/net/tun, and the tools that
it names.
"""

import functools
import os
import shutil

import pytest

from transport.platform import LINUX
from vswitch.lab import missing_for_lab

TOOL_PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
missing = functools.cache(missing_for_lab)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 2`: file by file, and those with real hosts one after the other, since they look for
    what others leave; they wait most of the time, and the others run beside them. A file whose
    tests run inside a host of their own meets nobody there.
    """
    from xdist.scheduler import LoadScopeScheduling

    @functools.cache
    def scope_of(file):
        if not file.startswith("tests/netns/"):
            return file
        return file if "mark.inside" in (config.rootpath / file).read_text() else "hosts"

    class OneForHosts(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return scope_of(nodeid.partition("::")[0])

    return OneForHosts(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if not LINUX and item.get_closest_marker("linux"):
        pytest.skip("needs the Linux part")
    marks = list(item.iter_markers("netns"))
    if not marks:
        return
    tools = {tool for mark in marks for tool in mark.args}
    if not LINUX:
        pytest.skip("needs the Linux part")
    absent = missing() + sorted(tool for tool in tools if not shutil.which(tool, path=TOOL_PATH))
    if absent:
        pytest.skip("missing: " + ", ".join(absent))
