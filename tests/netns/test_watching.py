"""`ports`, `wait`, `ping` of members, and `top` on a terminal, with real hosts."""

import json
import shlex
import subprocess

import pytest

from tests.netns.tools import ipv4
from vswitch.lab import wait_until


@pytest.mark.netns("tmux")
def test_what_is_there_is_waited_for_measured_and_shown(empty_lan):
    lan = empty_lan
    lan.serve()
    lan.join("pc1")
    assert lan.command(lan.switch, "wait", "pc1", "--timeout", "30s").stdout == "pc1 is up\n"
    lan.join("pc2")
    lan.wait_connected("pc2")
    pc1 = lan.members["pc1"]
    assert lan.command(pc1, "wait").stdout == "pc1 is up\n"
    late = lan.command(pc1, "wait", "pc7", "--timeout", "1s", check=False)
    assert (late.returncode, late.stderr) == (
        6,
        "vswitch: error: after 1s: nothing here is named pc7\n",
    )
    said = json.loads(lan.command(pc1, "ping", "pc2", "-c", "2", "--json").stdout)
    assert (said["address"], said["join"], len(said["trips"])) == (ipv4(lan, "pc2"), "pc1", 2)
    for trip in said["trips"]:
        assert trip["ms"] > 0
        assert trip["beyond_ms"] == pytest.approx(max(trip["ms"] - trip["to_switch_ms"], 0))
    line = lan.command(pc1, "ping", ipv4(lan, "pc2"), "-c", "1").stdout
    assert "to the switch" in line
    assert "from there to pc2" in line
    here = lan.command(lan.switch, "ping", "pc1", "-c", "1").stdout
    assert here.endswith("between the switch and this member\n")
    gone = lan.command(pc1, "ping", "pc9", check=False)
    assert gone.returncode == 5
    ports = json.loads(lan.command(lan.switch, "ports", "pc2", "--json").stdout)["ports"]
    assert [port["name"] for port in ports] == ["pc2"]
    assert f"address        {ipv4(lan, 'pc2')}/24" in lan.command(lan.switch, "ports", "pc2").stdout
    screen_of(lan, "top", "FROM IT")
    screen_of(lan, "status", "ADDRESS", "--watch")
    lan.programs["pc2"].stop()
    assert lan.command(lan.switch, "wait", "pc2", "--gone").returncode == 0


def screen_of(lan, command, word, *options):
    """Of a terminal of 80 by 24: it fits, and Ctrl-C ends it."""
    socket = lan.switch.directory / "tmux"

    def tmux(*argv):
        argv = ["tmux", "-S", str(socket), *argv]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout

    argv = shlex.join(lan.argv(lan.switch, command, *options))
    tmux("new-session", "-d", "-x", "80", "-y", "24", argv)
    try:
        wait_until(lambda: all(w in tmux("capture-pane", "-p") for w in (word, "pc1", "pc2")), word)
        lines = tmux("capture-pane", "-p").splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) <= 24
        tmux("send-keys", "C-c")
        wait_until(lambda: not tmux("list-sessions"), "end by Ctrl-C")
    finally:
        tmux("kill-server")
