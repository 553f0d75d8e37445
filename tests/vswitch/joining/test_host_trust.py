"""What a member takes from its switch, and what not, row by row."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from vswitch.config.options import JoinConfig
from vswitch.devices.host_interface import HostFacts
from vswitch.joining.host_trust import refuse_address, refuse_mtu

# A host behind a router, with a container network, a VPN, a name server of its own, and IPv6.
HOST = HostFacts(
    addresses=frozenset(
        map(
            ip_address,
            (
                *("127.0.0.1", "::1", "192.168.1.77", "172.17.0.1", "10.8.0.2"),
                *("fe80::77", "fd11::77", "2001:db8:1::77"),
            ),
        )
    ),
    gateways=frozenset(map(ip_address, ("192.168.1.1", "10.8.0.1", "100.64.7.1", "fe80::1"))),
    resolvers=frozenset(map(ip_address, ("127.0.0.53", "9.9.9.9", "10.53.0.9", "fd53::9"))),
    networks=frozenset(
        map(
            ip_network,
            (
                *("192.168.1.0/24", "172.17.0.0/16", "10.8.0.0/24", "10.20.0.0/16"),
                *("0.0.0.0/1", "128.0.0.0/1", "2000::/3", "fd11::/64", "fe80::/64"),
            ),
        )
    ),
    ipv6=True,
)
REMOTE = "172.30.0.5:7450"


def refusal(offered, stated="", *, host=HOST, remote=REMOTE, known="", **wishes):
    return refuse_address(
        offered,
        stated,
        JoinConfig(name="pc1", **wishes),
        host,
        remote=remote,
        known=known,
    )


@pytest.mark.parametrize(
    ("offered", "stated"),
    [
        ("10.77.0.2/24", "10.77.0.0/24"),
        ("10.77.0.2/24", "10.77.0.0/16"),
        ("10.77.0.2/24", ""),
        ("10.77.0.2/32", "10.77.0.0/24"),
        ("10.77.0.2/31", ""),
        ("172.31.255.9/16", ""),
        ("192.168.2.9/24", ""),
        ("100.127.0.9/16", ""),
        ("169.254.7.9/24", ""),
        ("fd77::2/64", ""),
        ("fc77:0:1::2/48", ""),
    ],
)
def test_private_networks_are_taken(offered, stated):
    assert refusal(offered, stated) is None


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        # What a switch was seen to do.
        ("9.9.9.9/24", "no private network"),
        ("9.9.9.10/24", "no private network"),
        ("8.8.8.1/24", "no private network"),
        ("128.0.0.1/1", "more than a LAN"),
        ("64.0.0.1/2", "more than a LAN"),
        ("2000::1/3", "more than a LAN"),
        ("192.168.1.1/25", "holds an address of this host|holds a gateway"),
        ("172.30.0.5/32", "the switch's own address"),
        ("127.0.0.1/8", "loopback"),
        ("224.0.0.5/4", "more than a LAN"),
        ("224.0.0.5/24", "multicast"),
        ("0.0.0.0/0", "more than a LAN"),
        ("::/0", "more than a LAN"),
        ("::1/128", "loopback"),
        # Their neighbours.
        ("0.0.0.1/1", "more than a LAN"),
        ("10.0.0.1/7", "more than a LAN"),
        ("0.0.0.0/8", "unspecified"),
        ("0.1.2.3/16", "reserved"),
        ("127.77.0.2/24", "loopback"),
        ("239.1.2.3/24", "multicast"),
        ("240.0.0.1/24", "reserved"),
        ("255.255.255.255/32", "reserved"),
        ("10.77.0.0/24", "address of the network"),
        ("10.77.0.255/24", "broadcast"),
        ("198.51.100.7/24", "no private network"),
        ("192.0.2.7/24", "no private network"),
        ("203.0.113.7/24", "no private network"),
        ("198.18.0.7/24", "no private network"),
        ("172.32.0.1/16", "no private network"),
        ("172.0.0.1/8", "no private network"),
        ("192.0.0.1/8", "no private network"),
        ("192.169.0.1/24", "no private network"),
        ("100.128.0.1/24", "no private network"),
        ("100.63.0.1/24", "no private network"),
        ("169.253.0.1/24", "no private network"),
        ("11.0.0.1/24", "no private network"),
        ("10.0.0.7/8", "holds an address of this host, 10.8.0.2"),
        ("10.8.0.7/24", "holds an address"),
        ("10.8.0.128/25", "address of the network"),
        ("10.8.0.130/25", "a part of 10.8.0.0/24"),
        ("192.168.1.9/24", "holds an address of this host, 192.168.1.77"),
        ("192.168.1.77/32", "holds an address"),
        ("192.168.1.1/32", "holds a gateway of this host, 192.168.1.1"),
        ("192.168.1.200/30", "address of the network"),
        ("192.168.1.201/30", "a part of 192.168.1.0/24"),
        ("192.168.0.9/16", "holds an address"),
        ("172.17.9.9/16", "holds an address of this host, 172.17.0.1"),
        ("172.17.9.9/24", "a part of 172.17.0.0/16"),
        ("172.16.0.9/12", "holds an address|the switch's own"),
        ("100.64.7.9/24", "holds a gateway of this host, 100.64.7.1"),
        ("10.20.3.4/24", "a part of 10.20.0.0/16"),
        ("10.53.0.1/24", "holds a name server of this host, 10.53.0.9"),
        ("10.53.0.9/32", "holds a name server"),
        ("172.30.0.1/24", "the switch's own address, 172.30.0.5"),
        ("169.254.9.9/16", "holds 169.254.169.254"),
        ("169.254.169.1/24", "holds 169.254.169.254"),
        ("100.100.100.1/24", "holds 100.100.100.200"),
        ("2001:db8::1/64", "no private network"),
        ("2606:4700::1/64", "no private network"),
        ("fe80::1/64", "of one link"),
        ("fec0::1/64", "no private network|reserved"),
        ("ff02::1/64", "multicast"),
        ("::/64", "unspecified"),
        ("::ffff:10.77.0.2/120", "reserved"),
        ("::ffff:9.9.9.9/128", "reserved"),
        ("64:ff9b::909:909/96", "no private network|reserved"),
        ("2002:909:909::1/48", "no private network"),
        ("fd77::1/32", "more than a LAN"),
        ("fd77::/64", "address of the network"),
        ("fd11::1/64", "holds an address of this host, fd11::77"),
        ("fd11::1:0:0:1/96", "a part of fd11::/64"),
        ("fd53::1/64", "holds a name server of this host, fd53::9"),
        ("fd00:ec2::1/64", "holds fd00:ec2::254"),
    ],
)
def test_what_is_the_hosts_or_nobodys_is_not_taken(offered, why):
    reason = refusal(offered)
    assert reason is not None
    assert any(each in reason for each in why.split("|")), reason


def test_name_server_of_a_network_apart_may_be_on_the_lan():
    facts = HostFacts(resolvers=HOST.resolvers, apart=True)
    assert refusal("10.53.0.1/24", host=facts) is None


@pytest.mark.parametrize(
    ("offered", "stated"),
    [
        ("10.77.0.2/24", "10.78.0.0/24"),
        ("10.77.0.2/16", "10.77.0.0/24"),
        ("10.77.0.2/24", "fd77::/64"),
        ("fd77::2/64", "10.77.0.0/24"),
    ],
)
def test_an_address_outside_the_network_of_the_welcome_is_not_taken(offered, stated):
    assert "outside the network that the switch states" in refusal(offered, stated)


@pytest.mark.parametrize("offered", ["10.77.0.2/24", "9.9.9.9/24", "fd77::2/64", "::/0"])
def test_none_is_none(offered):
    assert "--address none" in refusal(offered, address="none")
    assert "--bridge" in refusal(offered, bridge="br0")


def test_a_fixed_address_is_that_one_or_none():
    assert refusal("10.77.0.9/24", "10.77.0.0/24", address="10.77.0.9/24") is None
    for other in ("10.77.0.8/24", "10.77.0.9/16", "10.77.0.9/25", "9.9.9.9/24", "fd77::9/64"):
        assert "only 10.77.0.9/24 was asked for" in refusal(other, address="10.77.0.9/24")
    # It is the operator's own: public, and another than before.
    assert refusal("9.9.8.7/24", address="9.9.8.7/24", known="10.77.0.0/24") is None
    for own in ("192.168.1.77/24", "192.168.1.1/32", "172.30.0.6/24"):
        assert "holds" in refusal(own, address=own)


@pytest.mark.parametrize("remote", ["172.30.0.5:1", "[::ffff:172.30.0.5]:1", "[fd30::5%eth0]:1"])
def test_the_way_to_the_switch_is_found_however_it_is_written(remote):
    offered = "fd30::9/64" if "fd30" in remote else "172.30.0.9/24"
    assert "the switch's own address" in refusal(offered, remote=remote)


def test_another_network_than_before_needs_the_operator():
    assert refusal("10.77.0.2/24", known="10.77.0.0/24") is None
    for other in ("10.78.0.2/24", "10.77.0.2/25", "10.77.0.2/16", "fd77::2/64"):
        reason = refusal(other, known="10.77.0.0/24")
        assert "was 10.77.0.0/24 before; if that is meant, join with --allow-network" in reason
    assert refusal("10.78.0.2/24", known="10.77.0.0/24", allow_network="10.78.0.0/16") is None
    assert refusal("10.78.0.2/24", known="10.77.0.0/24", allow_network="10.79.0.0/16") is not None


def test_the_operator_may_allow_what_is_public_or_the_hosts_by_another_way():
    assert refusal("9.9.8.7/24", allow_network=["10.0.0.0/8", "9.9.8.0/24"]) is None
    assert refusal("2001:db8:7::9/64", allow_network="2001:db8:7::/48") is None
    for lan in ("10.53.0.0/24", "10.20.3.0/24", "172.17.9.0/24", "169.254.169.0/24"):
        offered = lan.replace(".0/", ".77/")
        assert f"--allow-network {lan}" in refusal(offered)
        assert refusal(offered, allow_network=lan) is None
        assert refusal(offered, allow_network="0.0.0.0/0") is not None  # said without knowing


@pytest.mark.parametrize(
    "offered",
    [
        *("192.168.1.9/24", "192.168.1.1/32", "172.30.0.9/24", "127.0.0.1/8", "0.0.0.0/0"),
        *("128.0.0.1/1", "224.0.0.5/24", "::/0", "::1/128", "2000::1/3", "::ffff:9.9.9.9/128"),
        *("fe80::5/64", "10.77.0.255/24", "255.255.255.255/32"),
    ],
)
def test_nobody_can_allow_what_takes_the_host_from_itself(offered):
    exactly = str(ip_interface(offered).network)
    assert refusal(offered, allow_network=["0.0.0.0/0", "::/0", exactly]) is not None


def test_a_host_with_nothing_of_its_own_takes_any_private_network():
    for offered in ("10.0.0.7/8", "192.168.1.9/24", "172.17.9.9/16", "fd11::1/64"):
        assert refusal(offered, host=HostFacts(), remote="192.0.2.1:1") is None


def test_the_mtu_leaves_the_host_its_ipv6():
    assert [refuse_mtu(mtu, HOST) for mtu in (1280, 1500, 9000)] == [None] * 3
    for mtu in (576, 1279):
        assert "IPv6 needs 1280" in refuse_mtu(mtu, HOST)
        assert refuse_mtu(mtu, HostFacts()) is None


def test_a_network_of_its_own_may_hold_the_switch_and_its_name_server():
    apart = HostFacts(apart=True, resolvers=frozenset([ip_address("192.168.1.1")]))
    assert refusal("192.168.1.9/24", host=apart, remote="192.168.1.5:7450") is None
    assert refusal("192.168.1.9/24", remote="192.168.1.5:7450") is not None
    assert refusal("203.0.113.9/24", host=apart) is not None
