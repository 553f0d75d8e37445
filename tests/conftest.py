"""What all tests share: tests that need more than Python skip and say what is missing.

`@pytest.mark.netns("ping", ...)` stands for network namespaces, /dev/net/tun, and the tools that
it names.
"""

import functools
import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from transport.platform import LINUX
from vswitch.lab import missing_for_lab

FOLDERS = ("usr/bin", "usr/sbin", "sbin", "lib/systemd")
# Programs that this host does not have to itself: see `.ci/run`.
UNPACKED = sorted((Path(__file__).resolve().parents[1] / ".tools").glob("*"))
TOOL_PATH = ":".join(
    [
        os.environ.get("PATH", os.defpath),
        *(str(root / each) for root in (Path("/"), *UNPACKED) for each in FOLDERS),
    ]
)
missing = functools.cache(missing_for_lab)
# How long an example takes, and to make one, is a matter of the machine.
settings.register_profile("vswitch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vswitch")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 4`: file by file, in their order. So those with real hosts, which wait most of the
    time, begin early, and the last to end is a short one.
    """
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


def pytest_configure(config):
    # A shell may have had them ignored, and so would every program that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


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
