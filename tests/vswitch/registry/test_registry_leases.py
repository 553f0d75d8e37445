"""Leases of machines in the registry: one holder for an address, be it a member or a machine."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from vswitch.members.protocol import ByeCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused, Lease

NOW = 1_000_000.0
SUBNET = IPv4Network("10.77.0.0/24")
KEY1, KEY2 = (bytes([n]) * 32 for n in (1, 2))
A, B = bytes.fromhex("52540000000a"), bytes.fromhex("52540000000b")


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        registry.enrol_local(KEY1, "pc1", NOW)
        registry.enrol_local(KEY2, "pc2", NOW)
        yield registry


def lease(mac, number, **changes):
    said = {"port": "home", "hostname": "", "granted": NOW, "expires": NOW + 60, **changes}
    return Lease(mac, f"10.77.0.{number}", **said)


def test_leases_outlive_the_program(registry, tmp_path):
    assert registry.keep_lease(lease(A, 130, hostname="printer"))
    assert registry.keep_lease(lease(B, 131))
    assert registry.keep_lease(lease(A, 132))  # in place of the other one
    with Registry.open(tmp_path / "registry.sqlite") as again:
        assert again.leases() == [lease(B, 131), lease(A, 132)]
        again.end_leases([A])
    assert registry.leases() == [lease(B, 131)]


def test_an_address_has_one_holder(registry):
    registry.lease(KEY1, "10.77.0.130/24", SUBNET)
    assert not registry.keep_lease(lease(A, 130))
    assert registry.keep_lease(lease(A, 131))
    assert not registry.keep_lease(lease(B, 131))
    with pytest.raises(EnrolRefused, match="taken by the machine 52:54:00:00:00:0a") as refused:
        registry.lease(KEY2, "10.77.0.131/24", SUBNET)
    assert refused.value.code == ByeCode.ADDRESS_TAKEN
    assert not registry.keep_lease(lease(A, 130))  # what it had is gone, too
    assert registry.leases() == []
    assert registry.lease(KEY2, "10.77.0.131/24", SUBNET) == "10.77.0.131/24"


def test_members_get_no_address_that_a_machine_has_or_is_promised(registry):
    assert registry.keep_lease(lease(A, 2))
    registry.promised = {IPv4Address("10.77.0.3"): "pc2", IPv4Address("10.77.0.4"): "office"}
    assert registry.lease(KEY1, "auto", SUBNET) == "10.77.0.5/24"
    with pytest.raises(EnrolRefused, match="taken by a reservation for office"):
        registry.lease(KEY2, "10.77.0.4/24", SUBNET)
    assert registry.lease(KEY2, "auto", SUBNET) == "10.77.0.3/24"
