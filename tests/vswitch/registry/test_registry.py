"""Members and invites in the registry: who is let in, once, and who is refused."""

from __future__ import annotations

import contextlib
import sqlite3
from ipaddress import IPv4Network

import pytest
from attrs import evolve

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, ExitCode, NotFound
from vswitch.management.members import invites_of
from vswitch.members.protocol import ByeCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, Grace, Invite, LastServed, check_known

NOW = 1_000_000.0
HOUR = 3600.0
SUBNET = IPv4Network("10.77.0.0/24")
KEY1, KEY2, KEY3 = (bytes([n]) * 32 for n in (1, 2, 3))


def make_invite(name="pc1", number=1, now=NOW, life=HOUR):
    return Invite(bytes([number]) * 8, bytes([number]) * 32, name, now, now + life)


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        yield registry


def refusal(call, *args):
    with pytest.raises(EnrolRefused) as caught:
        call(*args)
    assert caught.value.exit_code == ExitCode.REFUSED
    return caught.value


def test_an_invite_makes_one_member(registry):
    invite = make_invite()
    registry.add_invite(invite)
    assert registry.invite(invite.id) == invite
    member = registry.enrol(KEY1, "pc1", invite.id, NOW)
    assert (member.name, member.key, member.created) == ("pc1", KEY1, NOW)
    assert registry.look_up(KEY1) == registry.named("pc1") == member
    spent = registry.invite(invite.id)
    assert (spent.used, spent.used_by) == (NOW, KEY1)
    assert registry.look_up(KEY2) is None
    assert registry.invite(b"x" * 8) is None


def test_the_name_may_be_left_to_the_invite(registry):
    registry.add_invite(make_invite("nas"))
    assert registry.enrol(KEY1, "", b"\1" * 8, NOW).name == "nas"


def test_asking_again_with_the_same_key_and_name_succeeds(registry):
    registry.add_invite(make_invite())
    first = registry.enrol(KEY1, "pc1", b"\1" * 8, NOW)
    assert registry.enrol(KEY1, "pc1", b"\1" * 8, NOW + 9 * HOUR) == first
    assert registry.enrol(KEY1, "", b"\1" * 8, NOW) == first
    assert registry.enrol_local(KEY1, "pc1", NOW) == first
    assert len(registry.members()) == 1


def test_a_used_invite_is_refused(registry):
    registry.add_invite(make_invite())
    registry.enrol(KEY1, "pc1", b"\1" * 8, NOW)
    refused = refusal(registry.enrol, KEY2, "pc1", b"\1" * 8, NOW)
    assert refused.code == ByeCode.INVITE_USED
    assert "1970-01-12" in str(refused)
    assert "ask for a new invite" in str(refused)
    assert registry.look_up(KEY2) is None


def test_an_invite_expires_at_its_time_and_not_before(registry):
    registry.add_invite(make_invite())
    refused = refusal(registry.enrol, KEY1, "pc1", b"\1" * 8, NOW + HOUR)
    assert refused.code == ByeCode.INVITE_EXPIRED
    assert registry.enrol(KEY1, "pc1", b"\1" * 8, NOW + HOUR - 0.001).name == "pc1"


def test_an_invite_is_for_its_name_only(registry):
    registry.add_invite(make_invite())
    refused = refusal(registry.enrol, KEY1, "pc2", b"\1" * 8, NOW)
    assert refused.code == ByeCode.UNKNOWN
    assert "--name pc1" in str(refused)
    assert registry.invite(b"\1" * 8).used is None


def test_an_unknown_invite_is_refused(registry):
    assert refusal(registry.enrol, KEY1, "pc1", b"\1" * 8, NOW).code == ByeCode.UNKNOWN


def test_a_name_belongs_to_one_key(registry):
    registry.add_invite(make_invite())
    registry.enrol_local(KEY1, "pc1", NOW)
    refused = refusal(registry.enrol, KEY2, "pc1", b"\1" * 8, NOW)
    assert refused.code == ByeCode.NAME_TAKEN
    assert "pc1" in str(refused)
    assert registry.invite(b"\1" * 8).used is None
    assert refusal(registry.enrol_local, KEY2, "pc1", NOW).code == ByeCode.NAME_TAKEN
    refused = refusal(registry.enrol_local, KEY1, "pc2", NOW)
    assert refused.code == ByeCode.NAME_TAKEN
    assert "--name pc1" in str(refused)


def test_a_name_from_outside_is_checked(registry):
    assert refusal(registry.enrol_local, KEY1, "../x", NOW).code == ByeCode.PROTOCOL
    assert registry.members() == []


def test_a_member_cannot_be_invited_again_before_it_is_revoked(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    refused = refusal(registry.add_invite, make_invite())
    assert "vswitch revoke pc1" in str(refused)
    registry.revoke("pc1", NOW)
    registry.add_invite(make_invite())
    assert registry.enrol(KEY2, "pc1", b"\1" * 8, NOW).key == KEY2


def test_a_member_is_invited_again_for_its_own_key_alone(registry):
    with pytest.raises(NotFound, match="without --again"):
        registry.add_invite(make_invite(), again=True)
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.add_invite(make_invite(), again=True)
    assert refusal(registry.enrol, KEY2, "pc1", b"\1" * 8, NOW).code == ByeCode.NAME_TAKEN
    assert registry.enrol(KEY1, "pc1", b"\1" * 8, NOW + 1).created == NOW
    spent = registry.invite(b"\1" * 8)
    assert (spent.used, spent.used_by) == (NOW + 1, KEY1)


def test_a_revoked_key_stays_out_and_its_name_and_address_are_free(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    assert registry.lease(KEY1, "auto", SUBNET) == "10.77.0.2/24"
    member = registry.revoke("pc1", NOW + 1)
    assert (member.key, member.revoked, member.address) == (KEY1, NOW + 1, None)
    assert registry.named("pc1") is None
    assert registry.look_up(KEY1).revoked == NOW + 1
    refused = refusal(registry.enrol_local, KEY1, "pc1", NOW + 2)
    assert refused.code == ByeCode.REVOKED
    assert "new invite" in str(refused)
    assert refusal(registry.lease, KEY1, "auto", SUBNET).code == ByeCode.UNKNOWN
    assert registry.count() == 0
    registry.enrol_local(KEY2, "pc1", NOW + 3)
    assert registry.count() == 1
    assert registry.lease(KEY2, "auto", SUBNET) == "10.77.0.2/24"
    assert [m.key for m in registry.members()] == [KEY2, KEY1]


def test_revoking_cancels_open_invites(registry):
    registry.add_invite(make_invite())
    assert registry.revoke("pc1", NOW) is None
    assert refusal(registry.enrol, KEY1, "pc1", b"\1" * 8, NOW).code == ByeCode.UNKNOWN
    with pytest.raises(NotFound, match="no member is named pc1"):
        registry.revoke("pc1", NOW)


def test_a_full_switch_says_so_and_spends_nothing(tmp_path):
    with Registry.open(tmp_path / "r", max_members=1) as registry:
        registry.enrol_local(KEY1, "pc1", NOW)
        registry.add_invite(make_invite("pc2"))
        refused = refusal(registry.enrol, KEY2, "pc2", b"\1" * 8, NOW)
        assert refused.code == ByeCode.FULL
        assert "--max-members" in str(refused)
        assert registry.invite(b"\1" * 8).used is None
        registry.revoke("pc1", NOW)
        assert registry.enrol(KEY2, "pc2", b"\1" * 8, NOW).name == "pc2"


def test_open_invites_are_bounded_and_old_ones_are_forgotten(registry):
    for number in range(1024):
        id = number.to_bytes(8, "big")
        registry._database._writer.execute(
            "INSERT INTO invite (id, psk, name, created, expires) VALUES (?, ?, 'x', ?, ?)",
            (id, bytes(32), NOW, NOW + HOUR),
        )
    refused = refusal(registry.add_invite, make_invite(number=255))
    assert refused.code == ByeCode.FULL
    registry.add_invite(make_invite(number=255, now=NOW + 2 * HOUR))
    assert registry.invite(bytes(8)) is not None
    registry.enrol(KEY1, "", make_invite(number=255).id, NOW + 2 * HOUR)
    registry.add_invite(make_invite("pc2", number=254, now=NOW + 40 * 86400))
    assert registry.invite(make_invite(number=255).id) is None


def test_an_open_invite_survives_a_clock_that_jumps(registry):
    """One look at a clock that is 40 days, or 40 years, ahead for a moment."""
    registry.add_invite(make_invite("pc1"))
    registry.add_invite(make_invite("pc2", number=2, now=NOW + 40 * 86400))
    registry.add_invite(make_invite("pc3", number=3, now=NOW + 40 * 365 * 86400))
    assert registry.enrol(KEY1, "pc1", make_invite().id, NOW + 1).name == "pc1"
    # Nor does one that is revoked meanwhile come back with the clock.
    assert registry.revoke("pc2", NOW + 60 * 365 * 86400) is None
    assert registry.invite(make_invite(number=2).id) is None


def test_unused_invites_are_bounded_by_number(registry, monkeypatch):
    monkeypatch.setattr("vswitch.registry.registry._UNUSED_KEPT", 3)
    for number in range(10):
        registry.add_invite(make_invite(f"pc{number}", number, now=NOW + 2 * HOUR * number))
    kept = [n for n in range(10) if registry.invite(make_invite(number=n).id)]
    assert kept == [6, 7, 8, 9]


@pytest.mark.parametrize(
    "name", ["local", "services", "any", "internet", "switch", "0", "1", "23", "lab", "lab-7", "vx"]
)
def test_names_of_other_ports_are_for_no_member(registry, name):
    registry.record_served(LastServed((HostPort("::", 1),), (), SUBNET, ("lab", "vx")))
    with pytest.raises(ConfigError, match=f"no member can be called {name}") as caught:
        registry.add_invite(make_invite(name))
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(ConfigError):
        registry.enrol_local(KEY1, name, NOW)


@pytest.mark.parametrize("name", ["local1", "pc1", "1a", "lab7", "lab-x", "xlab"])
def test_other_names_are_free(registry, name):
    registry.record_served(LastServed((HostPort("::", 1),), (), SUBNET, ("lab", "vx")))
    registry.add_invite(make_invite(name))


def test_a_member_that_has_such_a_name_already_keeps_it(registry):
    registry.enrol_local(KEY1, "lab", NOW)
    registry.record_served(LastServed((HostPort("::", 1),), (), SUBNET, ("lab",)))
    assert registry.enrol_local(KEY1, "lab", NOW).name == "lab"


def test_touch_notes_when_members_were_seen(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.touch([KEY1, KEY3], NOW + 5)
    assert registry.look_up(KEY1).last_seen == NOW + 5


def test_how_the_switch_was_served_last_is_read_back(registry):
    assert registry.served() is None
    served = LastServed((HostPort("::", 7450),), (), SUBNET)
    registry.record_served(served)
    assert registry.served() == served
    key = PublicKey(bytes(range(32)))
    net = IPv4Network("10.0.0.0/8")
    places = (HostPort("::", 1), HostPort("fe80::1%eth0", 2))
    served = LastServed(places, (HostPort("example.org", 0), places[1]), net, ("lab",), key)
    registry.record_served(served)
    assert registry.served() == served


@pytest.mark.parametrize(
    ("public", "reached"),
    [
        (HostPort("switch.example.org", 0), HostPort("switch.example.org", 7450)),
        (HostPort("192.0.2.2", 0), HostPort("192.0.2.2", 443)),
        (HostPort("192.0.2.2", 5), HostPort("192.0.2.2", 5)),
    ],
)
def test_a_public_place_without_a_port_has_that_of_its_address_or_of_the_first(public, reached):
    places = (HostPort("192.0.2.1", 7450), HostPort("192.0.2.2", 443))
    assert LastServed(places, (), SUBNET).reached_at((public,)) == (reached,)


def test_no_secret_in_the_repr_of_an_invite():
    assert "psk" not in repr(make_invite())


def test_current_members_are_those_who_are_not_revoked(registry):
    for key, name in ((KEY1, "pc1"), (KEY2, "pc2")):
        registry.enrol_local(key, name, 1.0)
    registry.revoke("pc1", 2.0)
    assert [(each.key, each.name) for each in registry.current()] == [(KEY2, "pc2")]


def test_a_renamed_member_keeps_its_place_and_its_host_may_say_the_old_name(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    address = registry.lease(KEY1, "auto", SUBNET)
    registry.add_invite(make_invite(name="pc1"), again=True)
    assert registry.rename("pc1", "office") == registry.look_up(KEY1)
    assert registry.named("pc1") is None
    assert registry.lease(KEY1, "auto", SUBNET) == address
    assert [each.name for each in registry.open_invites(NOW)] == ["office"]
    registry.rename("office", "lab")
    for said in ("", "pc1", "office", "lab"):
        assert check_known(registry.look_up(KEY1), said).name == "lab"
    with pytest.raises(EnrolRefused):
        check_known(registry.look_up(KEY1), "pc2")
    registry.enrol_local(KEY2, "pc1", NOW)  # the old name is free
    with pytest.raises(EnrolRefused, match="pc1 is taken"):
        registry.rename("lab", "pc1")
    with pytest.raises(NotFound):
        registry.rename("nobody", "pc3")
    for wrong in ("local", "7"):
        with pytest.raises(ConfigError):
            registry.rename("lab", wrong)
    for number in range(20):  # what is kept of former names is bounded
        registry.rename(registry.look_up(KEY1).name, f"x{number}")
    assert registry.look_up(KEY1).former.split() == [f"x{number}" for number in range(11, 19)]


def test_a_disabled_member_is_refused_and_keeps_its_place(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    address = registry.lease(KEY1, "auto", SUBNET)
    assert registry.disable("pc1", NOW).disabled == NOW
    with pytest.raises(EnrolRefused, match="`vswitch enable pc1`") as caught:
        registry.enrol(KEY1, "pc1", bytes(8), NOW)
    assert caught.value.code == ByeCode.DISABLED
    registry.disable("pc1", None)
    assert registry.enrol(KEY1, "pc1", bytes(8), NOW).name == "pc1"
    assert registry.lease(KEY1, "auto", SUBNET) == address
    with pytest.raises(NotFound):
        registry.disable("pc2", NOW)


def test_a_registry_of_the_first_format_is_read_on(tmp_path):
    path = tmp_path / "registry.sqlite"
    with Registry.open(path) as registry:
        registry.enrol_local(KEY1, "pc1", NOW)
    with contextlib.closing(sqlite3.connect(path)) as file:
        for column in ("disabled", "former", "routes", "switch_key"):
            file.execute(f"ALTER TABLE member DROP COLUMN {column}")
        file.execute("DROP TABLE lease")
        file.execute("PRAGMA user_version=1")
    with Registry.open(path) as registry:
        assert registry.rename("pc1", "pc2").former == "pc1"


def test_who_leaves_is_a_stranger_and_who_was_revoked_stays_known(registry):
    for key, name in ((KEY1, "pc1"), (KEY2, "pc2")):
        registry.enrol_local(key, name, NOW)
    registry.revoke("pc2", NOW)
    for key in (KEY1, KEY2, KEY3):
        registry.leave(key)
    assert registry.look_up(KEY1) is None
    assert registry.look_up(KEY2).revoked == NOW


# --- A new key of the switch ---------------------------------------------------------------------


def test_by_which_key_of_the_switch_a_member_came_last_is_noted(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    assert registry.look_up(KEY1).switch_key is None
    registry.touch([KEY1], NOW, KEY2)
    registry.touch([KEY1], NOW + 1)  # the end of a session says nothing about it
    member = registry.look_up(KEY1)
    assert (member.switch_key, member.last_seen) == (KEY2, NOW + 1)


def test_two_keys_of_the_switch_are_read_back_and_addresses_follow_from_the_first(registry):
    old, new = PublicKey(KEY1), PublicKey(KEY2)
    before = LastServed((HostPort("::", 7450),), (), SUBNET, key=old)
    during = evolve(before, key=new, origin=old, grace=Grace(old, NOW, 0.25))
    after = evolve(during, grace=None)
    for served in (before, during, after):
        registry.record_served(served)
        assert registry.served() == served
        assert served.prefix == before.prefix
    assert evolve(after, origin=None).prefix != before.prefix


def test_invites_from_before_a_new_key_are_known_and_cancelled_at_the_end(registry):
    registry.add_invite(make_invite("pc1", 1, NOW))
    registry.add_invite(make_invite("pc2", 2, NOW + 1))
    registry.add_invite(make_invite("pc3", 3, NOW - 1))
    registry.enrol(KEY1, "pc3", b"\3" * 8, NOW)
    grace = Grace(PublicKey(KEY1), NOW + 1, 1800.0)
    registry.record_served(LastServed((HostPort("::", 7450),), (), SUBNET, grace=grace))
    told = {each.name: each for each in invites_of(registry, registry.members(), NOW)}
    assert (told["pc1"].old_key, told["pc1"].expires) == (True, NOW + 1800)
    assert (told["pc2"].old_key, told["pc2"].expires) == (False, NOW + 1 + HOUR)
    registry.cancel_invites(grace.since)
    assert [each.name for each in registry.open_invites(NOW)] == ["pc2"]
    assert registry.invite(b"\3" * 8) is not None  # a used one goes on to say so
