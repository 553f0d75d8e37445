"""Tests inside a namespace of their own, and the running LAN that the others share.

A test marked `inside` runs in a lab host, where it is root of an empty network: pytest runs the
whole file once more in there, and each test here reports what its double in there did.
"""

import functools
import os
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.netns.tools import NAMES, Lan, ipv4, reach
from vswitch.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "VSWITCH_TEST_INSIDE"
FILE_TIMEOUT = 300  # seconds for one file of tests


def pytest_configure(config):
    config.addinivalue_line("markers", "inside: runs in a lab host of its own")


def pytest_itemcollected(item):
    # Out here nothing of a test inside runs: its fixtures would change the network of this host.
    if item.get_closest_marker("inside") is not None and INSIDE not in os.environ:
        item.fixturenames = []


@functools.cache
def results_inside(path):
    """What became of each test of the file: name → None for passed, or the report."""
    with tempfile.TemporaryDirectory() as scratch, Lab() as lab:
        report = Path(scratch) / "report.xml"
        run = lab.host("inside").run(
            [
                *(sys.executable, "-m", "pytest", str(path), f"--rootdir={ROOT}", "-q"),
                *("-m", "inside", "-p", "no:cacheprovider", f"--junitxml={report}"),
            ],
            env={INSIDE: "1", "TMPDIR": scratch},
            timeout=FILE_TIMEOUT,
            check=False,
        )
        if not report.exists():
            return {}, run.stdout + run.stderr
        results = {}
        for case in ElementTree.parse(report).iter("testcase"):
            bad = [entry for entry in case if entry.tag in ("failure", "error", "skipped")]
            results[case.get("name")] = "\n".join(entry.text or "" for entry in bad) or None
        return results, run.stdout + run.stderr


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.get_closest_marker("inside") is None or INSIDE in os.environ:
        return None
    results, output = results_inside(pyfuncitem.path)
    if pyfuncitem.name not in results:
        pytest.fail(f"did not run inside:\n{output}", pytrace=False)
    if results[pyfuncitem.name] is not None:
        pytest.fail(results[pyfuncitem.name], pytrace=False)
    return True


@pytest.fixture
def quiet():
    """No IPv6 on new interfaces, so that the kernel sends nothing by itself; for tests inside."""
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    switch.write_text("1")
    yield
    switch.write_text("0")


@pytest.fixture(scope="module")
def empty_lan():
    """Hosts with the underlay, and nothing that runs."""
    with Lab() as lab:
        lan = Lan(lab)
        yield lan
        lan.stop()


@pytest.fixture(scope="module")
def lan(empty_lan):
    """A running switch with the members pc1, pc2 and pc3; each file of tests has its own."""
    empty_lan.serve()
    for name in NAMES:
        empty_lan.join(name)
    empty_lan.wait_connected(*NAMES)
    return empty_lan


@pytest.fixture(scope="module")
def mixed_lan(empty_lan):
    """The same, but pc3 has joined without superframes, so the switch cuts them for it."""
    empty_lan.serve()
    for name in NAMES:
        empty_lan.join(name, *(("--offload", "off") if name == "pc3" else ()))
    empty_lan.wait_connected(*NAMES)
    for name in NAMES[1:]:
        reach(empty_lan.members["pc1"], ipv4(empty_lan, name))
    return empty_lan
