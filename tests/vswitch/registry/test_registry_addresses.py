"""Addresses in the registry: stable, one holder each, refused with the holder's name."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from vswitch.errors import ExitCode, VswitchError
from vswitch.members.protocol import ByeCode
from vswitch.registry.registry import Registry
from vswitch.registry.rules import EnrolRefused

NOW = 1_000_000.0
SUBNET = IPv4Network("10.77.0.0/24")
KEY1, KEY2, KEY3 = (bytes([n]) * 32 for n in (1, 2, 3))


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        yield registry


def refusal(call, *args):
    with pytest.raises(EnrolRefused) as caught:
        call(*args)
    assert caught.value.exit_code == ExitCode.REFUSED
    return caught.value


def test_addresses_are_stable_and_lowest_first(registry):
    for number, key in enumerate((KEY1, KEY2, KEY3)):
        registry.enrol_local(key, f"pc{number}", NOW)
    assert registry.lease(KEY2, "auto", SUBNET) == "10.77.0.2/24"
    assert registry.lease(KEY1, "auto", SUBNET) == "10.77.0.3/24"
    assert registry.lease(KEY2, "auto", SUBNET) == "10.77.0.2/24"
    assert registry.lease(KEY2, "none", SUBNET) is None
    assert registry.lease(KEY3, "auto", SUBNET) == "10.77.0.2/24"


def test_a_wished_address_is_given_if_it_is_free(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.enrol_local(KEY2, "pc2", NOW)
    assert registry.lease(KEY1, "10.77.0.9/24", SUBNET) == "10.77.0.9/24"
    assert registry.lease(KEY1, "10.77.0.9/24", SUBNET) == "10.77.0.9/24"
    assert registry.lease(KEY1, "auto", SUBNET) == "10.77.0.9/24"
    refused = refusal(registry.lease, KEY2, "10.77.0.9/24", SUBNET)
    assert refused.code == ByeCode.ADDRESS_TAKEN
    assert "taken by pc1" in str(refused)


@pytest.mark.parametrize(
    ("wish", "code", "part"),
    [
        ("10.77.0.0/24", ByeCode.ADDRESS_TAKEN, "network address"),
        ("10.77.0.1/24", ByeCode.ADDRESS_TAKEN, "kept for the switch"),
        ("10.77.0.255/24", ByeCode.ADDRESS_TAKEN, "broadcast"),
        ("192.168.0.5/24", ByeCode.ADDRESS_TAKEN, "outside the switch's subnet 10.77.0.0/24"),
        ("10.77.0.9/16", ByeCode.ADDRESS_TAKEN, "ask for 10.77.0.9/24"),
        ("rubbish", ByeCode.PROTOCOL, "write auto, none"),
    ],
)
def test_an_address_that_cannot_be_is_refused_and_the_old_one_stays(registry, wish, code, part):
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.lease(KEY1, "10.77.0.7/24", SUBNET)
    refused = refusal(registry.lease, KEY1, wish, SUBNET)
    assert refused.code == code
    assert part in str(refused)
    assert registry.look_up(KEY1).address == "10.77.0.7"


def test_a_full_subnet_says_so(registry):
    small = IPv4Network("10.0.0.0/30")
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.enrol_local(KEY2, "pc2", NOW)
    assert registry.lease(KEY1, "auto", small) == "10.0.0.2/30"
    refused = refusal(registry.lease, KEY2, "auto", small)
    assert refused.code == ByeCode.FULL
    assert "--subnet" in str(refused)


def test_a_new_subnet_replaces_what_does_not_fit(registry):
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.enrol_local(KEY2, "pc2", NOW)
    registry.lease(KEY1, "10.77.0.127/24", SUBNET)
    registry.lease(KEY2, "10.77.0.9/24", SUBNET)
    half = IPv4Network("10.77.0.0/25")
    assert registry.lease(KEY2, "auto", half) == "10.77.0.9/25"
    assert registry.lease(KEY1, "auto", half) == "10.77.0.2/25"
    assert registry.lease(KEY2, "auto", IPv4Network("10.9.0.0/16")) == "10.9.0.2/16"


def test_an_address_of_the_switchs_own_is_the_highest_free_one_and_no_members(registry):
    for number, key in enumerate((KEY1, KEY2)):
        registry.enrol_local(key, f"pc{number}", NOW)
    assert registry.lease(KEY1, "10.77.0.254/24", SUBNET) == "10.77.0.254/24"
    held = registry.hold(SUBNET, "publish")
    assert str(held) == "10.77.0.253"
    assert registry.hold(SUBNET, "publish") == held
    assert str(registry.hold(SUBNET, "other")) == "10.77.0.252"
    said = refusal(registry.lease, KEY2, "10.77.0.253/24", SUBNET)
    assert "is taken by publish" in str(said)


def test_a_full_subnet_has_none_for_the_switch_and_says_so(registry):
    small = IPv4Network("10.77.0.0/30")
    registry.enrol_local(KEY1, "pc1", NOW)
    registry.lease(KEY1, "auto", small)
    with pytest.raises(
        VswitchError, match=r"10\.77\.0\.0/30 are given away, and publish needs one"
    ):
        registry.hold(small, "publish")
    registry.lease(KEY1, "none", small)
    assert str(registry.hold(small, "publish")) == "10.77.0.2"
    assert refusal(registry.lease, KEY1, "auto", small).code == ByeCode.FULL
