"""Which networks behind members an operator may approve, row by row, and what is in force."""

from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort, ipv6_from_mac, lan_prefix
from vswitch.errors import ConfigError, NotFound
from vswitch.registry.approvals import in_force, refuse_approval
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed

LAN_OF_IT = (ip_network("10.77.0.0/24"), ip_network("fd77::/64"))
SWITCH = (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
OTHERS = {"pc2": (ip_network("192.168.0.0/16"), ip_network("0.0.0.0/0")), "pc3": ()}


def networks(*texts):
    return tuple(map(ip_network, texts))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.0/8", "overlaps 10.77.0.0/24, which is the LAN itself"),
        ("10.77.0.128/25", "the LAN itself"),
        ("fd77::/48", "fd77::/64, which is the LAN itself"),
        ("192.0.2.0/24", "the switch's own address, 192.0.2.1"),
        ("2001:db8::/32", "the switch's own address, 2001:db8::1"),
        ("192.168.1.0/24", "overlaps 192.168.0.0/16 of pc2"),
        ("128.0.0.0/1", "`exit`"),
        ("0.0.0.0/1", "`exit`"),
        ("2000::/3", "`exit`"),
        ("127.0.0.0/8", "no route leads to 127.0.0.0/8"),
        ("169.254.169.254/32", "no route leads to 169.254.0.0/16"),
        ("224.0.0.0/8", "no route"),
        ("fe80::/64", "no route"),
        ("::ffff:0:0/96", "no route"),
    ],
)
def test_what_cannot_be_approved(text, why):
    assert why in refuse_approval(ip_network(text), OTHERS, LAN_OF_IT, SWITCH)


@pytest.mark.parametrize(
    "text", ["10.78.0.0/16", "172.16.0.0/12", "fd78::/48", "0.0.0.0/0", "::/0", "198.51.100.7/32"]
)
def test_what_can(text):
    assert refuse_approval(ip_network(text), OTHERS, LAN_OF_IT, SWITCH) is None


def test_in_force_is_what_is_offered_and_approved():
    offered = networks("192.168.1.0/24", "10.0.0.0/8", "0.0.0.0/0")
    assert in_force(offered, ()) == ()
    assert in_force(offered, networks("192.168.0.0/16", "10.0.0.0/9")) == offered[:1]
    assert in_force(offered, networks("192.168.1.0/24", "0.0.0.0/0")) == (offered[0], offered[2])


def test_the_way_out_is_not_the_way_to_any_network():
    assert in_force(networks("192.168.1.0/24", "fd00::/16"), networks("0.0.0.0/0", "::/0")) == ()


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        for number in (1, 2):
            registry.enrol_local(bytes([number]) * 32, f"pc{number}", 0.0)
        yield registry


def test_approvals_are_kept_until_the_member_is_revoked(registry, tmp_path):
    wanted = networks("192.168.1.0/24", "::/0")
    assert registry.approve("pc1", wanted).routes == wanted
    with Registry.open(tmp_path / "registry.sqlite") as other:
        assert other.named("pc1").routes == wanted
    assert registry.rename("pc1", "office").routes == wanted
    with pytest.raises(ConfigError, match=r"192.168.0.0/16 cannot be behind pc2: .* of office"):
        registry.approve("pc2", networks("192.168.0.0/16"))
    assert registry.named("pc2").routes == ()
    registry.approve("pc2", networks("::/0"))
    registry.revoke("office", 1.0)
    registry.approve("pc2", networks("192.168.0.0/16"))
    with pytest.raises(NotFound):
        registry.approve("pc9", ())


def test_the_lan_and_the_switch_are_known_from_how_it_runs(registry):
    key = PublicKey(bytes([9]) * 32)
    served = LastServed(
        (HostPort("::", 7450), HostPort("198.51.100.5", 7450)),
        (HostPort("switch.example", 0), HostPort("203.0.113.7", 0)),
        IPv4Network("10.77.0.0/24"),
        key=key,
        lan="lab",
    )
    registry.record_served(served)
    assert registry.served() == served
    prefix = lan_prefix(key.raw, "lab")
    assert served.prefix == prefix
    for text in ("10.77.0.0/16", "203.0.113.0/24", "198.51.100.0/24", str(prefix)):
        with pytest.raises(ConfigError):
            registry.approve("pc1", networks(text))


def test_a_lan_has_so_many_networks(registry):
    registry.approve("pc1", networks(*(f"10.{n}.0.0/16" for n in range(32))))
    registry.approve("pc2", networks(*(f"10.{n}.0.0/16" for n in range(32, 64))))
    with pytest.raises(ConfigError, match="64"):
        registry.approve("pc2", networks(*(f"10.{n}.0.0/16" for n in range(32, 65))))


def test_prefixes_and_addresses_of_ipv6():
    one, other = lan_prefix(bytes(32), "default"), lan_prefix(bytes(32), "lab")
    assert one != other != lan_prefix(b"\1" * 32, "lab")
    assert one.subnet_of(ip_network("fd00::/8"))
    address = ipv6_from_mac(ip_network("fd77::/64"), bytes.fromhex("020000000001"))
    assert str(address) == "fd77::ff:fe00:1"
