"""Who is called what, as the switch, its name server and its members hear it."""

from ipaddress import IPv6Network, ip_address
from types import SimpleNamespace

import pytest
from attrs import evolve

from vswitch.addresses import ipv6_from_mac, mac_from_key
from vswitch.members.protocol import Roster
from vswitch.registry.rules import Member
from vswitch.serving.directory import Directory
from vswitch.switch.port import Bound

PREFIX = IPv6Network("fd77::/64")
ONE, TWO = (
    Member(name, bytes([number]) * 32, f"10.77.0.{number}", 0.0, None, None)
    for number, name in ((2, "pc1"), (3, "pc2"))
)
MACS = {mac_from_key(each.key): each.name for each in (ONE, TWO)}
ANNOUNCED = bytes.fromhex("02000000000a")


def own(member):
    return ipv6_from_mac(PREFIX, mac_from_key(member.key))


class Lan:
    """A directory, and what it has told."""

    def __init__(self):
        self.connected, self.reserved, self.renamed, self.sent = {}, [], [], []
        self.directory = Directory(self.connected, PREFIX)
        self.directory.reserve = lambda *told: self.reserved.append(told)
        self.directory.renamed = self.renamed.append

    def plug(self, member, *, bridge=False):
        port = SimpleNamespace(bound=Bound(ANNOUNCED), bridge=bridge)
        device = SimpleNamespace(send_control=self.sent.append)
        self.connected[member.key] = SimpleNamespace(port=port, device=device)


@pytest.fixture
def lan():
    lan = Lan()
    lan.directory.update([TWO, ONE])
    return lan


def test_what_is_of_members_is_told_once(lan):
    lan.directory.update([ONE, TWO])
    macs, addresses = lan.reserved.pop()
    assert (macs, lan.reserved) == (MACS, [])
    assert addresses == {
        address.packed: each.name
        for each in (ONE, TWO)
        for address in (ip_address(each.address), own(each))
    }


def test_who_comes_is_known_at_once_and_by_its_new_address(lan):
    lan.directory.update([])
    lan.directory.enter(ONE, "10.77.0.9")
    macs, addresses = lan.reserved[-1]
    assert macs == {mac_from_key(ONE.key): "pc1"}
    assert set(addresses) == {ip_address("10.77.0.9").packed, own(ONE).packed}
    assert lan.directory.find("pc1") is ONE
    assert lan.directory.addresses("pc1", "") == (ip_address("10.77.0.9"),)


def test_a_name_that_a_member_had_is_its_own_until_another_has_it(lan):
    renamed = evolve(ONE, name="new", former="pc1")
    lan.directory.update([renamed, TWO])
    assert (lan.directory.find("pc1"), lan.renamed[-1]) == (renamed, {"pc1": "new"})
    another = evolve(TWO, name="pc1")
    lan.directory.update([renamed, another])
    assert (lan.directory.find("pc1"), lan.renamed[-1]) == (another, {})


def test_members_hear_of_another_list_and_of_no_equal_one(lan):
    lan.plug(ONE)
    lan.directory.update([ONE, TWO])
    assert lan.sent == []
    lan.directory.update([ONE])
    assert lan.sent == [Roster()]


def test_a_host_is_found_by_name_address_and_mac(lan):
    there, mac = lan.directory, mac_from_key(ONE.key)
    address = ip_address(ONE.address)
    assert (there.addresses("pc1", "pc2"), there.label(address, "pc2")) == ((address,), "pc1")
    assert (there.label_of_mac(mac, "pc2"), there.mac("pc1", "pc2")) == ("pc1", None)
    lan.plug(ONE)
    assert there.mac("pc1", "pc2") == ANNOUNCED
    lan.plug(ONE, bridge=True)
    assert there.mac("pc1", "pc2") is None


@pytest.mark.parametrize("apart", ["pc1", "pc2"])
def test_who_is_kept_apart_knows_of_nobody_and_nobody_of_it(lan, apart):
    there, mac, address = lan.directory, mac_from_key(ONE.key), ip_address(ONE.address)
    lan.plug(ONE)
    there.separated = apart.__eq__
    assert there.addresses("pc1", "pc2") is there.label(address, "pc2") is None
    assert there.mac("pc1", "pc2") is there.label_of_mac(mac, "pc2") is None
    assert there.addresses("pc1", "pc1") == (address,)
    assert there.peers("pc2", "").members == (f"pc2 away 10.77.0.3 {_text(TWO)}",)


def test_peers_are_those_behind_a_name_with_the_mac_that_they_have(lan):
    lan.plug(TWO)
    first = f"pc1 away 10.77.0.2 {_text(ONE)}"
    second = f"pc2 up 10.77.0.3 {ANNOUNCED.hex(':')}"
    assert lan.directory.peers("pc1", "").members == (first, second)
    assert lan.directory.peers("pc1", "pc1").members == (second,)


def _text(member):
    return mac_from_key(member.key).hex(":")
