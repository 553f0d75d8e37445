"""Every definite no: what the member is told, with which exit code, and what is left behind."""

import contextlib
import sqlite3
import time

import pytest

from vswitch.errors import ExitCode, NotReachable, RefusedError, TimedOut, VswitchError
from vswitch.members.protocol import ByeCode
from vswitch.registry.invite import JoinString
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused


def check_refused(error, code, *words):
    assert isinstance(error, EnrolRefused)
    assert isinstance(error, RefusedError)
    assert error.exit_code == ExitCode.REFUSED
    assert error.code is code
    for word in words:
        assert word in str(error)


def left_behind(site, host):
    members = site.path / host / "members"
    return sorted(path.name for path in members.iterdir()) if members.exists() else []


async def test_an_invite_makes_one_member(site):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        async with site.joined("pc1", None, invite=text):
            error = await site.failing("pc1", host="thief", invite=text)
            check_refused(error, ByeCode.INVITE_USED, "used already", "ask for a new one")
            assert left_behind(site, "thief") == []
            assert [port.name for port in running.switch.ports] == ["pc1"]


async def test_an_expired_invite_is_refused(site):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen, expires=-1.0)
        error = await site.failing("pc1", invite=text)
        check_refused(error, ByeCode.INVITE_EXPIRED, "expired")
        assert left_behind(site, "pc1") == []
        assert running.registry.members() == []


async def test_an_invite_for_another_name_is_refused(site):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        error = await site.failing("pc2", invite=text)
        check_refused(error, ByeCode.UNKNOWN, "the invite is for pc1", "--name pc1")
        assert left_behind(site, "pc2") == []
        async with site.joined("pc1", None, invite=text):
            assert running.registry.named("pc1") is not None


async def test_an_invite_that_the_switch_does_not_know_gets_no_answer(site, monkeypatch):
    monkeypatch.setattr("vswitch.joining.member.PATIENCE", 0.2)
    async with site.serving() as running:
        known = JoinString.parse_untrusted(site.invite("pc1", running.listen))
        unknown = JoinString.new(known.server_key, *known.servers).encode()
        error = await site.failing("pc1", invite=unknown, once=True)
        assert isinstance(error, TimedOut)
        assert error.exit_code == ExitCode.TIMEOUT
        assert "does not know this member" in str(error)


async def test_a_string_with_the_key_of_another_switch_gets_no_answer(site, monkeypatch):
    monkeypatch.setattr("vswitch.joining.member.PATIENCE", 0.2)
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
    # Who starts anew on that port has another key and must not pass for the first.
    site.files.server_key.unlink()
    async with site.serving(listen=running.listen):
        error = await site.failing("pc1", invite=text, once=True)
        assert isinstance(error, TimedOut)
        assert "another key" in str(error)


async def test_a_name_that_another_key_has_is_refused(site):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        with site.registry() as registry:
            registry.enrol_local(bytes(range(32)), "pc1", time.time())
        error = await site.failing("pc1", invite=text)
        check_refused(error, ByeCode.NAME_TAKEN, "pc1 is taken", "vswitch revoke pc1")
        assert left_behind(site, "pc1") == []


async def test_a_member_cannot_change_its_name(site):
    async with site.serving() as running, site.joined("pc1", running) as member:
        for kind in ("key", "toml"):
            source = member.config.files.members / f"pc1.{kind}"
            copy = member.config.files.members / f"pc2.{kind}"
            copy.write_text(source.read_text().replace("pc1", "pc2"))
            copy.chmod(0o600)
        error = await site.failing("pc2", host="pc1")
        check_refused(error, ByeCode.NAME_TAKEN, "a member named pc1", "--name pc1")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("10.77.0.2/24", ["10.77.0.2 is taken by pc1"]),
        ("10.77.0.1/24", ["kept for the switch"]),
        ("10.77.0.9/16", ["ask for 10.77.0.9/24"]),
        ("192.0.2.1/24", ["outside"]),
    ],
)
async def test_an_address_that_cannot_be_had_is_refused(site, wish, words):
    async with site.serving() as running, site.joined("pc1", running):
        text = site.invite("pc2", running.listen)
        error = await site.failing("pc2", invite=text, address=wish)
        check_refused(error, ByeCode.ADDRESS_TAKEN, *words)
        # It is a member already, and the key is what makes it one: it must not be lost.
        assert left_behind(site, "pc2") == ["pc2.key"]
        async with site.joined("pc2", None, invite=text) as member:
            assert member.interface.address == "10.77.0.3/24"


async def test_a_revoked_member_is_disconnected_and_refused_ever_after(site, until):
    async with site.serving() as running, site.joined("pc1", running) as member:
        async with site.joined("pc2", running):
            assert await site.revoke("pc1") == ["pc1"]
            assert [port.name for port in running.switch.ports] == ["pc2"]
            check_refused(await member.wait_ended(), ByeCode.REVOKED, "pc1 was revoked")
            check_refused(await site.failing("pc1"), ByeCode.REVOKED, "new invite")
            text = site.invite("pc1", running.listen)
            check_refused(await site.failing("pc1", invite=text), ByeCode.REVOKED)
            # Another host may be pc1 now, with the address that is free again.
            async with site.joined("pc1", None, host="new", invite=text) as other:
                assert other.interface.address == "10.77.0.2/24"


async def test_a_revoked_member_cannot_enrol_itself_on_the_switch_host(site):
    async with site.serving(), site.joined("pc1", None, host="switch") as member:
        assert await site.revoke("pc1") == ["pc1"]
        check_refused(await member.wait_ended(), ByeCode.REVOKED)
        check_refused(await site.failing("pc1", host="switch"), ByeCode.REVOKED)


async def test_telling_of_a_revocation_touches_nobody_else(site):
    async with site.serving() as running, site.joined("pc1", running):
        with site.registry() as registry:
            registry.enrol_local(bytes(32), "pc9", time.time())
        assert await site.revoke("pc9") == []
        assert [port.name for port in running.switch.ports] == ["pc1"]


async def test_a_full_disk_while_enrolling_loses_nothing(site, monkeypatch):
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)

        def full(*_):
            raise VswitchError("registry.sqlite: the disk is full;\nnothing was changed")

        with monkeypatch.context() as patch:
            patch.setattr(Registry, "enrol", full)
            error = await site.failing("pc1", invite=text, once=True)
        assert isinstance(error, NotReachable)  # it is worth trying again
        assert "the switch has failed" in str(error)
        assert left_behind(site, "pc1") == ["pc1.key"]
        assert not running.switch.ports
        async with site.joined("pc1", None, invite=text) as member:
            assert member.welcome.name == "pc1"


async def test_a_full_disk_at_the_registry_refuses_and_loses_nothing(site, caplog):
    """The same with SQLite in charge: a page limit is a disk that is full."""
    async with site.serving() as running:
        text = site.invite("pc1", running.listen)
        writer = running.registry._database._writer
        (pages,) = writer.execute("PRAGMA page_count").fetchone()
        writer.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            writer.execute("CREATE TABLE filler (x)")
        # Rows still fit into the pages that are there: fill them up.
        filler = iter(range(10_000))
        with contextlib.suppress(VswitchError):
            for number in filler:
                running.registry.enrol_local(number.to_bytes(32, "big"), f"m{number}", 0.0)
        assert next(filler, None) is not None
        before = running.registry.members()
        error = await site.failing("pc1", invite=text, once=True)
        assert "the switch has failed" in str(error)
        assert "the disk is full" in caplog.text
        assert running.registry.members() == before
        writer.execute("PRAGMA max_page_count=1000000")
        async with site.joined("pc1", None, invite=text) as member:
            assert member.welcome.name == "pc1"


async def test_a_full_disk_shuts_no_known_member_out(site, monkeypatch, until, caplog):
    async with site.serving() as running:
        async with site.joined("pc1", running):
            pass
        await until(lambda: not running.switch.ports)

        def full(*_):
            raise VswitchError("the disk is full")

        monkeypatch.setattr(Registry, "touch", full)
        async with site.joined("pc1", None) as member:
            assert member.welcome.name == "pc1"
        await until(lambda: not running.switch.ports)
        await until(lambda: "registry-failed" in caplog.text)
        assert "enrolment-failed" not in caplog.text


async def test_one_member_more_than_the_switch_takes_is_refused_as_full(site, until):
    async with site.serving(max_members=2) as running:
        async with site.joined("pc1", running), site.joined("pc2", running):
            text = site.invite("pc3", running.listen)
            error = await site.failing("pc3", invite=text, once=True)
            assert isinstance(error, NotReachable)
            assert "full" in str(error)
            # A member that comes back takes its own place, full or not.
            site.copy_member("pc1", "copy")
            async with site.joined("pc1", None, host="copy") as again:
                assert again.welcome.address == "10.77.0.2/24"
                assert len(running.switch.ports) == 2
        await until(lambda: not running.switch.ports)
        # Room for a session is no room for a member: the registry has its two.
        error = await site.failing("pc3", invite=text, once=True)
        assert "the switch has its 2 members" in str(error)


async def test_a_full_subnet_refuses_the_member_with_what_to_do(site):
    async with site.serving(subnet="10.9.0.0/30") as running, site.joined("pc1", running):
        text = site.invite("pc2", running.listen)
        error = await site.failing("pc2", invite=text, once=True)
        assert isinstance(error, NotReachable)
        assert "all addresses of 10.9.0.0/30 are given away" in str(error)
        async with site.joined("pc2", None, invite=text, address="none") as member:
            assert member.welcome.address is None
