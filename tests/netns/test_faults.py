"""R15, R19, R20, R22 with real processes: what others do, or what a process suffers, harms nobody.

Nothing here depends on the speed of the machine; for figures: `python -m benchmarks.faults`.
"""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from tests.netns.tools import ipv4
from transport import load_key_file
from vswitch.lab import wait_until
from vswitch.lab.lan import PORT, SWITCH_ADDRESS
from vswitch.state import StateDir
from vswitch.switch.egress import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES

SOURCES = [sys.executable, "-m", "benchmarks.faults.sources"]


def ping(lan, count=30):
    """All of them are answered, late or not."""
    there = ipv4(lan, "pc2")
    done = lan.members["pc1"].run(["ping", "-n", "-i0.1", f"-c{count}", "-W30", there])
    assert len(set(re.findall(r"bytes from.*icmp_seq=(\d+)", done.stdout))) == count


def source(lan, host, *arguments):
    return host.popen([*SOURCES, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


@pytest.mark.netns("ping")
def test_a_flood_of_handshakes_keeps_nobody_out_and_nobody_down(lan):
    """R20."""
    key = load_key_file(StateDir(lan.state(lan.switch)).server_key).public.raw.hex()
    before = [lan.port(name)["since"] for name in ("pc1", "pc2")]
    stranger = lan.host("stranger")
    flood = source(lan, stranger, "flood", SWITCH_ADDRESS, PORT, key, 3000, 12)
    ping(lan)
    lan.join("late")
    lan.wait_connected("late")
    assert int(flood.communicate(timeout=60)[0].split()[-1]) > 100
    assert [lan.port(name)["since"] for name in ("pc1", "pc2")] == before
    lan.programs["late"].stop()


@pytest.mark.netns("ping")
def test_a_member_that_is_stopped_holds_nobody_up(lan):
    """R22: it misses what the queue does not hold; then it goes on."""
    since = lan.port("pc3")["since"]
    pid = lan.programs["pc3"].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        sources = [
            source(lan, lan.members["pc1"], "spray", to, 9, 1000, 500, 6)
            for to in (ipv4(lan, "pc3"), "10.64.255.255")
        ]
        ping(lan)
        for each in sources:
            each.communicate(timeout=60)
        port = lan.port("pc3")
        assert port["queued_frames"] <= MAX_QUEUED_FRAMES
        assert port["queued_bytes"] <= MAX_QUEUED_BYTES
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: lan.port("pc3")["queued_frames"] == 0, "an empty queue", timeout=60)
    assert lan.port("pc3")["since"] == since


@pytest.mark.netns("ping")
@pytest.mark.parametrize("seconds", [1, 5])
def test_a_switch_that_stands_still_loses_nobody_and_nothing(lan, seconds):
    """R19."""
    lan.wait_connected("pc1", "pc2", "pc3")
    before = [lan.port(name)["since"] for name in ("pc1", "pc2", "pc3")]
    there = ipv4(lan, "pc2")
    count = 10 * (seconds + 4)
    asking = lan.members["pc1"].popen(
        ["ping", "-n", "-i0.1", f"-c{count}", "-W30", there], stdout=subprocess.PIPE, text=True
    )
    time.sleep(1)
    pid = lan.programs["switch"].process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)
    said = asking.communicate(timeout=90)[0]
    assert len(set(re.findall(r"bytes from.*icmp_seq=(\d+)", said))) == count
    assert [lan.port(name)["since"] for name in ("pc1", "pc2", "pc3")] == before


@pytest.mark.netns("ping")
def test_a_switch_without_descriptors_left_goes_on_switching(lan):
    """R15: the control socket has none to give; frames need none."""
    there = ipv4(lan, "pc2")
    pid = lan.programs["switch"].process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    try:
        asked = lan.switch.popen(
            lan.argv(lan.switch, "status"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        done = lan.members["pc1"].run(["ping", "-n", "-i0.1", "-c30", "-W30", there])
        assert len(set(re.findall(r"bytes from.*icmp_seq=(\d+)", done.stdout))) == 30
        asked.wait(60)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    wait_until(lambda: lan.status() is not None, "an answer of the switch", timeout=30)
    assert lan.programs["switch"].running
