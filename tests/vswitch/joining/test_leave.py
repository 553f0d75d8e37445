"""A membership is given up: at the switch first, then on the host."""

import time

import pytest
import trio

from vswitch.cli import main
from vswitch.errors import ExitCode, NotReachable
from vswitch.joining import profiles
from vswitch.joining.leave import leave
from vswitch.state import StateDir


def profile_of(site, name):
    return profiles.load(StateDir(site.path / name), name)


async def test_the_switch_forgets_who_leaves(site, until):
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        profile = profile_of(site, "pc1")
        await leave(profile)
        assert running.registry.look_up(profile.private_key.public.raw) is None
        await until(lambda: not running.switch.ports)
        async with site.joined("pc1", running, host="other") as member:  # name and address are free
            assert member.welcome.address == "10.77.0.2/24"


async def test_who_was_revoked_can_leave(site):
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        await site.revoke("pc1")
        await leave(profile_of(site, "pc1"))


async def test_a_disabled_member_is_told_so(site):
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        running.registry.disable("pc1", time.time())
        with pytest.raises(NotReachable, match="pc1 was disabled"):
            await leave(profile_of(site, "pc1"))


async def test_a_switch_that_does_not_know_how_is_named(site, monkeypatch):
    monkeypatch.setattr("vswitch.members.device.AFTER_HELLO", frozenset())
    monkeypatch.setattr("vswitch.joining.leave.CONFIRM", 0.5)
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        with pytest.raises(NotReachable, match="has not forgotten pc1: an older one cannot"):
            await leave(profile_of(site, "pc1"))
        assert running.registry.named("pc1") is not None


@pytest.fixture
async def left(site):
    """The state of a host whose switch does not run any more."""
    async with site.serving() as running, site.joined("pc1", running):
        pass
    return StateDir(site.path / "pc1")


async def test_nothing_is_removed_until_the_switch_knows_it(left, monkeypatch, capsys):
    monkeypatch.setattr("vswitch.cli.leave._ask", refuse := Asked(NotReachable("it is away")))
    argv = ["leave", "pc1", "--state", str(left.path)]
    assert main(argv) == ExitCode.NOT_REACHABLE
    assert "it is away; nothing was removed" in capsys.readouterr().err
    assert left.profile("pc1").exists()
    assert left.key("pc1").exists()
    assert main([*argv, "--force"]) == ExitCode.OK
    assert not left.profile("pc1").exists()
    assert not left.key("pc1").exists()
    assert len(refuse.profiles) == 2
    assert main(argv) == ExitCode.NOT_FOUND


async def test_through_a_proxy_as_join(left, tmp_path, capsys):
    argv = ["leave", "pc1", "--state", str(left.path), "--proxy", "http://p.example:80"]
    assert main([*argv, "--proxy-credentials", str(tmp_path / "none")]) == ExitCode.FAILED
    assert f"proxy credentials {tmp_path}/none: No such file" in capsys.readouterr().err
    assert left.key("pc1").exists()


async def test_who_is_joined_is_told_to_stop_first(site, capsys):
    async with site.serving() as running, site.joined("pc1", running):
        argv = ["leave", "pc1", "--state", str(site.path / "pc1")]
        assert await trio.to_thread.run_sync(main, argv) == ExitCode.REFUSED
    assert "stop that first" in capsys.readouterr().err


class Asked:
    def __init__(self, error):
        self.error = error
        self.profiles = []

    def __call__(self, profile, config):
        self.profiles.append(profile)
        raise self.error
