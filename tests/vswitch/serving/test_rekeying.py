"""A new key for a switch that serves: sessions stay, members move, and how the old key ends."""

import json
import time

import pytest
import trio
from attrs import evolve

from tests.vswitch.joining.test_member_survives import broadcast, free_port
from transport import PublicKey, load_key_file
from vswitch.addresses import HostPort
from vswitch.cli import main
from vswitch.errors import ConfigError, ExitCode, RefusedError, VswitchError
from vswitch.management.handlers import members as handlers
from vswitch.members.protocol import FROM_SWITCH
from vswitch.registry.archive import backup, restore
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused
from vswitch.state import StateDir
from vswitch.web.client import open_websocket
from vswitch.web.links import link_path

DAY = 86400.0


def pinned(site, name):
    """The key of the switch in the profile of a member."""
    text = StateDir(site.path / name).profile(name).read_text()
    return PublicKey.from_text(text.partition('server_key = "')[2].partition('"')[0])


def key_of(site):
    return load_key_file(site.files.server_key).public


def rekeying(running):
    return running.underlay.subject.rekeying


async def waiting(running):
    return [each.name for each in (await rekeying(running).status()).waiting]


async def until_waiting(running, names):
    with trio.fail_after(20):
        while await waiting(running) != names:  # noqa: ASYNC110  the registry sets no event
            await trio.sleep(0.01)


async def passes(one, other, until, number):
    one.interface.feed(broadcast(one, number))
    await until(lambda: other.interface.written)
    assert other.interface.take() == [broadcast(one, number)]


@pytest.fixture
def older(monkeypatch):
    """Members that join now are of an older version, which does not know of new keys."""
    monkeypatch.setattr("vswitch.joining.connection.FROM_SWITCH", FROM_SWITCH - {"rekey"})
    return monkeypatch


async def test_members_move_and_come_back_after_restarts_of_either_side(site, until, nursery):
    listen = f"127.0.0.1:{free_port()}"
    served = await site.start_serving(nursery, listen=listen)
    running, old = served.running, key_of(site)
    async with site.joined("away", running):
        pass
    async with site.joined("pc2", running) as other:
        async with site.joined("pc1", running) as one:
            prefix = running.network.status.served.prefix
            told = await rekeying(running).begin(DAY)
            assert (told.key, told.old_key) == (key_of(site).fingerprint(), old.fingerprint())
            assert key_of(site) != old
            await until(lambda: pinned(site, "pc1") == pinned(site, "pc2") == key_of(site))
            await passes(one, other, until, 1)
            assert [(await each.status()).attempts for each in (one, other)] == [0, 0]
        await until_waiting(running, ["away"])
        await served.stop()
        served = await site.start_serving(nursery, listen=listen)
        running = served.running
        assert running.network.status.served.prefix == prefix
        async with site.joined("pc1", None) as one, site.joined("away", None):
            await until(lambda: len(running.network.reception.connected) == 3)
            await passes(one, other, until, 2)
            await until(lambda: pinned(site, "away") == key_of(site))
            await until_waiting(running, [])
            told = await rekeying(running).finish()
            assert (told.old_key, told.waiting) == (None, [])
            assert not site.files.old_server_key.exists()
            await passes(one, other, until, 3)
    assert (await site.status()).rekey is None


async def test_who_has_not_moved_is_cut_off_at_the_end_and_told_why(site, until, older):
    async with site.serving() as running, site.joined("old", running) as member:
        older.undo()
        early = site.invite("early", running.listen)  # with the key of now
        site.invite("never", running.listen)
        await rekeying(running).begin(DAY)
        told = await rekeying(running).status()
        assert ([each.name for each in told.waiting], told.invites) == (["old"], 2)
        async with site.joined("early", None, invite=early), site.joined("new", running):
            await until(lambda: pinned(site, "early") == key_of(site))
            await until_waiting(running, ["old"])
            with pytest.raises(RefusedError, match=r": old, who has one of 1 invites from before:"):
                await rekeying(running).finish()
            assert site.files.old_server_key.exists()
            await rekeying(running).finish(force=True)
            error = await member.wait_ended()
            assert isinstance(error, EnrolRefused)
            assert "the switch has another key now" in str(error)
            assert "vswitch invite NAME --again" in str(error)
            await until(lambda: len(running.network.reception.connected) == 2)
            with site.registry() as registry:
                assert registry.open_invites(0.0) == []
            again = site.invite("old", running.listen, again=True)
            async with site.joined("old", None, invite=again) as back:
                assert back.welcome.address == member.welcome.address


async def test_the_grace_ends_by_itself(site, until, older, caplog):
    async with site.serving() as running, site.joined("old", running) as member:
        before = key_of(site)
        await rekeying(running).begin(0.2)
        assert isinstance(await member.wait_ended(), EnrolRefused)
        assert not site.files.old_server_key.exists()
        said = f"switch-key-forgotten key={before.fingerprint()} cut_off=old"
        await until(lambda: said in caplog.text)


@pytest.mark.parametrize("years", [5, -5])
async def test_a_clock_that_is_set_neither_ends_the_grace_nor_keeps_it(
    site, until, nursery, older, years
):
    """It is counted while the switch serves, across its starts."""
    listen = f"127.0.0.1:{free_port()}"
    served = await site.start_serving(nursery, listen=listen)
    async with site.joined("old", served.running):
        await rekeying(served.running).begin(60.0)
        await trio.sleep(0.1)
    now = time.time
    await served.stop()
    older.setattr(time, "time", lambda: now() + years * 365 * DAY)
    served = await site.start_serving(nursery, listen=listen)
    keys = rekeying(served.running).keys
    assert 0 < keys.grace.left < 60 - 0.1
    told = await rekeying(served.running).status()
    assert 0 < told.until - time.time() < 60
    async with site.joined("old", None) as member:
        left = evolve(keys, grace=evolve(keys.grace, left=0.2))
        async with rekeying(served.running)._changing():
            await rekeying(served.running)._go_by(left)
        assert isinstance(await member.wait_ended(), EnrolRefused)
    assert not site.files.old_server_key.exists()


async def test_an_end_that_had_to_wait_is_of_its_own_grace_alone(site, until):
    """Behind a reload, for one; and meanwhile the operator has finished and begun anew."""
    async with site.serving() as running:
        lock = running.reloader.changing
        await rekeying(running).begin(0.2)
        async with lock:
            await until(lambda: lock.statistics().tasks_waiting == 1)
            networks = rekeying(running)._networks
            grace = networks.keys.grace
            networks.keys = evolve(networks.keys, grace=evolve(grace, left=grace.left + DAY))
        async with lock:  # after that end, which was first
            assert networks.keys.grace is not None
        assert site.files.old_server_key.exists()


async def test_what_cannot_be_is_refused(site):
    async with site.serving() as running, site.joined("pc1", running) as member:
        with pytest.raises(RefusedError, match="nothing to finish"):
            await rekeying(running).finish()
        for seconds in (-1.0, 400 * DAY, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match="0 to 366 days"):
                await rekeying(running).begin(seconds)
        with pytest.raises(RefusedError, match=r"all members are cut off .*\(pc1\)"):
            await rekeying(running).begin(0.0)
        await rekeying(running).begin(DAY)
        key = key_of(site)
        with pytest.raises(RefusedError, match="a new key already"):
            await rekeying(running).begin(DAY)
        assert key_of(site) == key
        asked = {"name": "pc2", "public": "a.example", "expires": 60.0}
        made = await handlers.invite(running.network.controlled, asked)
        assert JoinString.parse_untrusted(made["string"]).server_key == key
        assert (await member.status()).state == "up"


async def test_a_restore_that_was_cut_short_is_carried_out_at_the_start(site, monkeypatch):
    async with site.serving() as running:
        first = key_of(site)
        kept = backup(site.files)
        await rekeying(running).begin(DAY)
    with monkeypatch.context() as patch:
        patch.setattr("vswitch.registry.archive._replace_with", failing)
        with pytest.raises(VswitchError, match="killed"):
            restore(site.files, "it", kept, force=True)
    assert key_of(site) != first
    async with site.serving() as running:
        assert rekeying(running).keys.identities[0].public == key_of(site) == first
        assert rekeying(running).keys.old is None


def failing(*_):
    raise VswitchError("killed")


async def test_after_a_theft_nobody_comes_by_the_old_key(site, until):
    async with site.serving() as running, site.joined("pc1", running) as member:
        invite, before = site.invite("pc2", running.listen), key_of(site)
        told = await rekeying(running).begin(0.0, force=True)
        assert (told.old_key, told.key) == (None, key_of(site).fingerprint())
        assert isinstance(await member.wait_ended(), EnrolRefused)
        assert pinned(site, "pc1") == before != key_of(site)
        assert not site.files.old_server_key.exists()
        async with site.starting("pc2", invite=invite) as stranger:
            await until(lambda: running.endpoint.statistics().drops.get("bad_mac1"))
            assert stranger.welcome is None


async def test_over_https_the_switch_is_where_either_key_says(site, until):
    https = f"https://127.0.0.1:{free_port()}"
    options = {"https": https.removeprefix("https://"), "public": "127.0.0.1"}
    async with site.serving(**options) as running:
        invite = JoinString.parse_untrusted(site.invite("pc1", running.listen))
        invite = evolve(invite, servers=(HostPort("127.0.0.1", free_port()),), https=(https,))
        await rekeying(running).begin(DAY)
        async with site.joined("pc1", None, invite=invite.encode(), path="https"):  # by the old one
            await until(lambda: pinned(site, "pc1") == key_of(site))
        await rekeying(running).finish(force=True)
        async with site.joined("pc1", None, path="https") as member:
            assert (await member.status()).path.startswith("https:")
        old = open_websocket(f"{https}{link_path(invite.server_key.raw)}")
        with pytest.raises(OSError, match="404"):
            await old.__aenter__()


async def test_the_command_says_who_has_not_moved_and_asks_before_it_cuts_off(
    site, older, until, capsys
):
    async def run(*words):
        argv = [*words, "--state", str(site.files.path)]
        code = await trio.to_thread.run_sync(main, argv)
        return code, *capsys.readouterr()

    async with site.serving() as running, site.joined("old", running) as member:
        site.invite("later", running.listen)
        code, out, _ = await run("rekey", "--status")
        assert (code, out) == (0, f"key {key_of(site).fingerprint()}; there is no older one\n")
        code, _, err = await run("rekey", "--grace", "off")
        assert (code, "all members are cut off" in err) == (ExitCode.REFUSED, True)
        before = key_of(site)
        code, out, err = await run("rekey", "--grace", "2d")
        assert (code, "make a new one" in err) == (0, True)
        lines = out.splitlines()
        assert lines[0] == f"key {key_of(site).fingerprint()}"
        assert lines[1].startswith(f"old key {before.fingerprint()}, good until ")
        assert lines[2] == "open invites that name the old key: 1"
        assert lines[4:] == ["NOT MOVED  LAST SEEN", lines[5]]
        assert lines[5].startswith("old        ")
        assert "not moved: old" in (await run("status"))[1]
        assert "(old key)" in (await run("members"))[1]
        told = json.loads((await run("status", "--json"))[1])["switch"]["rekey"]
        assert [each["name"] for each in told["waiting"]] == ["old"]
        listed = json.loads((await run("members", "--json"))[1])
        assert [each["switch_key"] for each in listed["members"]] == [before.fingerprint()]
        assert [each["old_key"] for each in listed["invites"]] == [True]
        code, _, err = await run("rekey", "--finish")
        assert (code, "old, who has one of 1 invites from before" in err) == (4, True)
        code, out, _ = await run("rekey", "--finish", "--force", "--json")
        assert (code, json.loads(out)["old_key"]) == (0, None)
        assert isinstance(await member.wait_ended(), EnrolRefused)
        code, _, err = await run("rekey", "--finish")
        assert (code, "nothing to finish" in err) == (ExitCode.REFUSED, True)


async def test_the_key_is_that_of_all_networks(site, older, tmp_path):
    config = tmp_path / "vswitch.toml"
    config.write_text(
        "[names]\nenabled = false\n[network.lab]\n[network.lab.names]\nenabled = false\n"
    )
    async with site.serving(config=config) as running:
        invite = site.invite("pc1", running.listen, network="lab")
        async with site.joined("pc1", None, invite=invite) as member:
            told = await rekeying(running).begin(DAY)
            assert [(each.network, each.name) for each in told.waiting] == [("lab", "pc1")]
            with site.registry("lab") as registry:
                assert registry.served().key == key_of(site)
            with pytest.raises(RefusedError, match="pc1 of network lab"):
                await rekeying(running).finish()
            await rekeying(running).finish(force=True)
            assert isinstance(await member.wait_ended(), EnrolRefused)


async def test_a_registry_that_fails_in_the_middle_leaves_no_half_of_it(
    site, until, monkeypatch, caplog
):
    listen = f"127.0.0.1:{free_port()}"
    async with site.serving(listen=listen) as running, site.joined("pc1", running):
        record, calls = Registry.record_served, []

        def locked(self, served):
            calls.append(served)
            if len(calls) > 1:
                raise VswitchError("locked")
            record(self, served)

        monkeypatch.setattr(Registry, "record_served", locked)
        told = await rekeying(running).begin(DAY)
        assert told.key == key_of(site).fingerprint()
        await until(lambda: pinned(site, "pc1") == key_of(site))
        assert "invites may name the key before" in caplog.text
        monkeypatch.undo()
    async with site.serving(listen=listen), site.joined("pc1", None):
        with site.registry() as registry:
            assert registry.served().key == key_of(site)
