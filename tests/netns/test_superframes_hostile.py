"""What a member can do whose kernel lies about its superframes: nothing, and it is counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.tools import NAMES, ipv4, joined
from vswitch.lab import wait_until

SCRIPT = Path(__file__).with_name("hostile_member.py")


@pytest.fixture(scope="module")
def lan(mixed_lan):
    return mixed_lan


def ping(lan, name, *options):
    """Whether pc1 gets every answer of that member."""
    done = lan.members["pc1"].run(["ping", *options, ipv4(lan, name)], check=False)
    return ", 0% packet loss" in done.stdout


def bad_offloads(lan, name):
    return joined(lan, name)["drops"].get("bad_offload", 0)


def attack(lan):
    """Become a member and send; what was sent, and the program that goes on."""
    evil = lan.host("evil")
    mac = joined(lan, "pc2")["mac"]
    process = evil.popen(
        [sys.executable, str(SCRIPT), str(evil.directory / "state"), "evil", mac],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(lan.invite("evil") + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline()), process


@pytest.mark.netns("ping")
def test_hostile_superframes_reach_no_kernel_are_not_cut_and_are_counted(lan):
    sent, process = attack(lan)
    assert sent["to_all"] > 30
    stood_for = sum(sent["stand_for"])
    wait_until(lambda: lan.port("evil")["rx_frames"] >= stood_for, "end of the attack")
    # Those to all are judged before they are flooded, those to one by whoever gets them; and one
    # that says that it is not to be cut is no longer than a frame.
    drops = lan.port("evil")["drops"]
    assert drops.keys() <= {"bad_superframe", "oversize"}
    assert drops["bad_superframe"] + drops.get("oversize", 0) >= sent["stand_for"][1]
    expected = sent["to_victim"] - drops.get("oversize", 0) // 2
    wait_until(lambda: bad_offloads(lan, "pc2") >= expected, "end of the attack at pc2")
    assert bad_offloads(lan, "pc1") == bad_offloads(lan, "pc3") == 0
    assert lan.port("evil")["rx_frames"] == stood_for
    for name in NAMES[1:]:
        assert ping(lan, name, "-c5", "-i0.1", "-W5")
    for name in ("switch", *NAMES):
        assert lan.programs[name].running
        assert "Traceback" not in lan.programs[name].log.read_text()
    assert lan.port("evil")["state"] == "up"
    process.kill()
