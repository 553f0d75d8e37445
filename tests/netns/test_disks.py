"""Full disks and read-only ones below the state of a switch and of a member."""

import json
import os
import signal
from contextlib import suppress

import pytest

from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import Lan

RUN_DIRECTORY = "/run"  # where sockets go for which the state directory has no place


@pytest.fixture
def lan():
    """A switch and pc1, each with its state on a small disk of its own; both have been up."""
    with Lab() as lab:
        lan = Lan(lab)  # not that of the tests: mounts hide the state from here
        for host in (lan.switch, lan.host("pc1")):
            lan.state(host).mkdir(mode=0o700)
            mount(host, "-t", "tmpfs", "-o", "size=600k,mode=0700", "disk", lan.state(host))
            mount(host, "-t", "tmpfs", "run", RUN_DIRECTORY)
        lan.serve()
        lan.join("pc1")
        lan.wait_connected("pc1")
        # The lab looks from outside, below the mount, whether a member needs an invite.
        profile = lan.state(lan.members["pc1"]) / "members" / "pc1.toml"
        profile.parent.mkdir()
        profile.touch()
        yield lan
        lan.stop()


def mount(host, *words):
    host.run(["mount", *map(str, words)])


def remount(lan, host, how):
    mount(host, "-o", f"remount,{how}", lan.state(host))


def fill(path):
    """Take all that is left of the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(fd, bytes(512)):
            pass
    os.close(fd)


def full(lan, host):
    host.call(fill, str(lan.state(host) / "full"))


def log(lan, name):
    return lan.programs[name].log.read_text()


@pytest.mark.netns("ping")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_switch_starts_on_a_full_disk_and_known_members_come_in(lan, end):
    lan.programs["switch"].stop(end)
    full(lan, lan.switch)
    lan.serve("--mtu", "1400")
    wait_until(lambda: lan.port("pc1"), "pc1 on the switch", timeout=60)
    refused = lan.command(lan.switch, "invite", "pc2", check=False)
    assert (refused.returncode, "the disk is full" in refused.stderr) == (1, True)
    lan.switch.run(["rm", str(lan.state(lan.switch) / "full")])
    assert lan.invite("pc2").startswith("vsw2:")


@pytest.mark.netns
def test_a_revocation_that_cannot_be_kept_holds_until_the_switch_ends(lan):
    full(lan, lan.switch)
    done = lan.command(lan.switch, "revoke", "pc1", check=False)
    assert done.returncode == 1
    assert "pc1 is disconnected and kept out until the switch is started again" in done.stderr
    assert lan.port("pc1") is None
    refusals = lambda: log(lan, "switch").count("member-refused")  # noqa: E731
    wait_until(lambda: refusals() > 0, "another attempt", timeout=90)
    assert lan.port("pc1") is None
    assert lan.programs["pc1"].running
    lan.switch.run(["rm", str(lan.state(lan.switch) / "full")])
    assert "revoked pc1" in lan.command(lan.switch, "revoke", "pc1").stdout


@pytest.mark.netns("ping")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_switch_and_a_member_run_from_read_only_disks(lan, end):
    for name, host in (("pc1", lan.members["pc1"]), ("switch", lan.switch)):
        lan.programs[name].stop(end)
        remount(lan, host, "ro")
    lan.serve()
    lan.join("pc1")
    lan.wait_connected("pc1")
    said = lan.command(lan.members["pc1"], "status", "--json").stdout
    assert json.loads(said)["joins"][0]["state"] == "up"
    assert lan.command(lan.switch, "backup", str(lan.switch.directory / "backup.tar")).stdout == ""
    for name in ("pc1", "switch"):
        assert "control-elsewhere" in log(lan, name)
    assert "registry-read-only" in log(lan, "switch")
    done = lan.command(lan.switch, "invite", "pc2", check=False)
    assert (done.returncode, "read-only" in done.stderr) == (1, True)
    remount(lan, lan.switch, "rw")
    assert lan.invite("pc2").startswith("vsw2:")


@pytest.mark.netns
def test_a_member_without_any_place_for_a_socket_does_without(lan):
    host = lan.members["pc1"]
    lan.programs["pc1"].stop()
    remount(lan, host, "ro")
    mount(host, "-o", "remount,ro", RUN_DIRECTORY)
    lan.join("pc1")
    wait_until(lambda: lan.port("pc1"), "pc1 on the switch")
    assert "control-missing" in log(lan, "pc1")
