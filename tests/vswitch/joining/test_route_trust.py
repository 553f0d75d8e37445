"""Which routes a member takes from its switch, and which not, row by row."""

from ipaddress import ip_address, ip_network

import attrs
import pytest

from tests.vswitch.joining.test_host_trust import HOST
from vswitch.addresses import WAY_OUT
from vswitch.config.addressing import to_accepted
from vswitch.joining.route_trust import judge_routes, refuse_address6, source_for
from vswitch.members.protocol import Gateway

OWN = ("10.77.0.2/24", "fd77::2/64")
SWITCH = (ip_address("172.30.0.5"), ip_address("2001:db8:7::5"))
VIA = {4: "10.77.0.3", 6: "fd77::3"}


def gateway(network, name="gw", via=None):
    return Gateway(network, via or VIA[6 if ":" in network else 4], name)


def judge(*gateways, accepted=WAY_OUT, exit_node="", own=OWN, host=HOST, switch=SWITCH):
    return judge_routes(
        gateways,
        name="pc1",
        accepted=accepted,
        exit_node=exit_node,
        own=own,
        host=host,
        switch=switch,
    )


def refusal(each, **given):
    judged = judge(each, **given)
    assert (judged.routes, judged.way_out) == ((), ())
    return judged.refused[each.network]


@pytest.mark.parametrize(
    "network",
    [
        *("192.168.2.0/24", "192.168.0.0/16", "172.20.0.0/16", "172.17.0.0/12", "10.21.0.0/16"),
        *("198.51.100.0/24", "fd12:3456::/32", "2001:db8:9::/48", "100.99.0.0/16"),
    ],
)
def test_what_is_taken(network):
    if network == "172.17.0.0/12":
        network = "172.16.0.0/13"  # which has the containers of this host in it
    each = gateway(network)
    assert judge(each).routes == (each,)
    assert refusal(each, accepted=()).startswith("behind gw: no such route was asked for")


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("192.168.1.0/24", "in 192.168.1.0/24, which this host reaches another way"),
        ("192.168.1.128/25", "in 192.168.1.0/24"),
        ("192.168.1.1/32", "in 192.168.1.0/24"),
        ("172.17.3.0/24", "in 172.17.0.0/16"),
        ("10.20.7.0/24", "in 10.20.0.0/16"),
        ("fd11::/80", "in fd11::/64"),
        ("10.53.0.0/16", "a name server of this host, 10.53.0.9"),
        ("9.9.9.0/24", "a name server of this host, 9.9.9.9"),
        ("fd53::/32", "a name server of this host, fd53::9"),
        ("100.96.0.0/11", "100.100.100.200"),
        ("100.64.7.0/24", "a gateway of this host, 100.64.7.1"),
        ("2001:db8:1::/48", "an address of this host, 2001:db8:1::77"),
        ("172.30.0.0/16", "the switch's own address, 172.30.0.5"),
        ("172.30.0.5/32", "the switch's own address, 172.30.0.5"),
        ("2001:db8:7::/48", "the switch's own address, 2001:db8:7::5"),
        ("10.77.0.0/16", "overlaps 10.77.0.0/24, which is the LAN itself"),
        ("10.77.0.128/25", "which is the LAN itself"),
        ("fd77::/48", "which is the LAN itself"),
        ("0.0.0.0/1", "`exit`"),
        ("128.0.0.0/1", "`exit`"),
        ("2000::/3", "`exit`"),
        ("127.0.0.0/8", "no route leads to 127.0.0.0/8"),
        ("169.254.169.254/32", "no route leads to 169.254.0.0/16"),
        ("224.0.0.0/8", "no route"),
        ("255.255.255.255/32", "no route"),
        ("fe80::/64", "no route"),
        ("::1/128", "no route"),
    ],
)
def test_what_stands_before_the_host_is_not(network, why):
    assert why in refusal(gateway(network))


@pytest.mark.parametrize(
    "via", ["10.77.0.2", "10.77.0.0", "10.77.0.255", "192.168.1.1", "10.78.0.3", "172.30.0.5"]
)
def test_a_gateway_is_another_host_on_the_lan(via):
    assert "no other host on the LAN" in refusal(gateway("192.168.2.0/24", via=via))
    exits = gateway("0.0.0.0/0", via=via)
    assert "no other host on the LAN" in refusal(exits, exit_node="gw")


def test_without_an_address_there_is_no_gateway():
    assert "no other host" in refusal(gateway("192.168.2.0/24"), own=OWN[1:])
    assert "no other host" in refusal(gateway("fd12::/32"), own=OWN[:1])


def test_the_way_out_is_for_who_has_asked_for_that_member():
    four, six, other = gateway("0.0.0.0/0"), gateway("::/0"), gateway("0.0.0.0/0", "pc9")
    assert judge(four, six, other) == judge()
    assert set(judge(four, six, other, exit_node="gw").way_out) == {four, six}
    assert judge(four, other, exit_node="pc9", accepted=()).way_out == (other,)
    assert judge(four, other, exit_node="pc7").way_out == ()


def test_only_what_was_asked_for():
    inner, outer = gateway("192.168.2.0/24"), gateway("192.168.0.0/16")
    accepted = [ip_network("192.168.2.0/23")]
    assert judge(inner, accepted=accepted).routes == (inner,)
    assert "--accept-routes 192.168.0.0/16" in refusal(outer, accepted=accepted)


def test_private_routes_lead_to_no_public_network():
    private = to_accepted("private")
    for network in ("192.168.2.0/24", "10.40.0.0/16", "100.99.0.0/16", "fd12:3456::/32"):
        assert judge(gateway(network), accepted=private).routes
    for network in ("198.51.100.0/24", "192.0.0.0/8", "2001:db8:9::/48", "fc00::/6"):
        assert "no such route" in refusal(gateway(network), accepted=private)


def test_overlaps_are_refused_by_name():
    outer, inner = gateway("10.40.0.0/14"), gateway("10.41.0.0/16", "pc4")
    judged = judge(inner, outer)
    assert judged.routes == (outer,)
    assert judged.refused == {
        "10.41.0.0/16": "behind pc4: it overlaps 10.40.0.0/14 of gw",
    }


def test_nothing_is_behind_oneself():
    assert judge(gateway("192.168.2.0/24", "pc1"), gateway("::/0", "pc1")) == judge()


def test_a_network_of_its_own_has_nothing_that_a_route_could_stand_before():
    apart = attrs.evolve(HOST, apart=True)
    for network in ("192.168.1.0/24", "172.30.0.0/16", "9.9.9.0/24"):
        each = gateway(network)
        assert judge(each, host=apart).routes == (each,)
    assert "the LAN itself" in refusal(gateway("10.77.0.0/16"), host=apart)


def test_the_source_is_the_address_beside_the_gateway():
    assert source_for(gateway("192.168.2.0/24"), OWN) == "10.77.0.2"
    assert source_for(gateway("fd12::/32"), OWN) == "fd77::2"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("fd77::2/64", None),
        ("fd77::2/48", "no /64"),
        ("fd77::2/128", "no /64"),
        ("2001:db8:1::2/64", "of fc00::/7"),
        ("fe80::2/64", "of fc00::/7"),
        ("10.77.0.2/24", "no /64"),
        ("fd11::2/64", "in fd11::/64"),
        ("fd53::2/64", "a name server of this host"),
        ("fd00:ec2::2/64", "a cloud"),
    ],
)
def test_an_ipv6_address_is_taken_where_it_stands_before_nothing(address, why):
    reason = refuse_address6(address, host=HOST, switch=SWITCH)
    assert reason is None if why is None else why in reason
