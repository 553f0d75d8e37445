"""A backup, and a restore of it after the state directory is lost: members come back unasked."""

import shutil
import signal

import pytest

from tests.netns.tools import ipv4, reach
from vswitch.lab import wait_until


@pytest.mark.netns("ping")
def test_members_come_back_to_a_switch_that_was_restored(empty_lan):
    lan = empty_lan
    lan.serve()
    for name in ("pc1", "pc2"):
        lan.join(name, "--no-dns")
    lan.wait_connected("pc1", "pc2")
    before = {name: ipv4(lan, name) for name in ("pc1", "pc2")}
    file = str(lan.switch.directory / "backup.tar")
    lan.command(lan.switch, "backup", file)
    running = lan.command(lan.switch, "restore", file, "--force", check=False)
    assert running.returncode == 2
    assert "a switch runs there: stop it first" in running.stderr
    lan.programs["switch"].stop(signal.SIGKILL)
    state = lan.state(lan.switch)
    (state / "registry.sqlite").unlink()
    lan.command(lan.switch, "restore", file, "--force")  # beside the socket that it has left
    shutil.rmtree(state)
    said = lan.command(lan.switch, "restore", file)
    assert "has the switch again" in said.stderr
    lan.serve()
    wait_until(lambda: lan.port("pc1") and lan.port("pc2"), "members", timeout=60)
    assert {name: ipv4(lan, name) for name in ("pc1", "pc2")} == before
    reach(lan.members["pc1"], before["pc2"])
