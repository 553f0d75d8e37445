"""docs/start.md from the top: its commands on three hosts, as they stand there."""

import re
from pathlib import Path

import pytest

from vswitch.lab import wait_until

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "start.md").read_text()


def commands(number):
    """The lines of the blocks of a step, without comments."""
    (step,) = re.findall(rf"^## {number}\. .*?\n(.*?)(?=^## )", PAGE, re.DOTALL | re.M)
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```$", step, re.DOTALL | re.M)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]


@pytest.mark.netns("ping")
def test_the_first_five_minutes(empty_lan):
    lan = empty_lan
    serve, *invites = commands(2)
    assert serve == "vswitch serve --public switch.example.org"
    lan.serve()
    (join,) = commands(3)
    for invite in invites:
        program, command, name = invite.split()
        assert (program, command) == ("vswitch", "invite")
        string = lan.command(lan.switch, command, name).stdout
        lan.programs[name] = lan._start(lan.host(name), *join.split()[1:], text=string)
    for name in ("pc1", "pc2"):
        wait_until(lambda n=name: " connected " in lan.programs[n].tail(), f"{name} connected")
    pc1 = lan.members["pc1"]
    wait_until(lambda: "pc2" in pc1.run(["cat", "/etc/hosts"]).stdout, "name of pc2")
    *on_pc1, watch = commands(4)
    for line in on_pc1:
        host, _, said = line.partition("# ")
        program, *words = said.split()
        if program == "vswitch":
            shown = lan.command(lan.members[host], *words).stdout
        else:
            shown = lan.members[host].run([program, *words]).stdout
        assert ("10.77.0.2" if words == ["status"] else "10.77.0.3") in shown, line
    assert watch == "vswitch status --watch"
