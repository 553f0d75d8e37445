"""Host and port texts, names, subnets, and which addresses members can have."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.addresses import (
    HostPort,
    check_name,
    lowest_free,
    parse_subnet,
    parse_wish,
    reserved_reason,
    switch_address,
)

SUBNET = IPv4Network("10.77.0.0/29")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("[::]:7450", "::", 7450),
        (":7450", "", 7450),
        ("192.0.2.1:1", "192.0.2.1", 1),
        ("switch.example.org:65535", "switch.example.org", 65535),
        ("[2001:DB8:0:0::1]:7", "2001:db8::1", 7),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
        ("my_host:0", "my_host", 0),
    ],
)
def test_host_and_port_are_read(text, host, port):
    assert HostPort.parse(text) == HostPort(host, port)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("host", "the port is missing"),
        ("host:", "not a port number"),
        ("host:x", "not a port number"),
        ("host:²", "not a port number"),
        ("host:65536", "not in 0..65535"),
        ("host:000000001", "not in 0..65535"),
        ("::1:7450", "in brackets"),
        ("[::1", r"\[ADDRESS\]:PORT"),
        ("[::1]7450", r"\[ADDRESS\]:PORT"),
        ("[host]:1", "only IPv6"),
        ("[::g]:1", "not an IPv6 address"),
        ("300.1.1.1:1", "not an IPv4 address"),
        ("-a:1", "neither a host name"),
        ("a b:1", "neither a host name"),
        ("a..b:1", "neither a host name"),
        ("münchen.de:1", "ASCII"),
        ("a" * 64 + ":1", "neither a host name"),
    ],
)
def test_wrong_host_or_port_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        HostPort.parse(text)


def test_a_default_port_is_taken_only_where_none_is_written():
    assert HostPort.parse("host", default_port=5) == HostPort("host", 5)
    assert HostPort.parse("[::1]", default_port=5) == HostPort("::1", 5)
    assert HostPort.parse("host:6", default_port=5).port == 6


@given(
    st.one_of(
        st.ip_addresses().map(str), st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9})?", fullmatch=True)
    ),
    st.integers(0, 65535),
)
def test_text_of_a_host_and_port_is_read_back(host, port):
    where = HostPort(host, port)
    assert HostPort.parse(where.text()) == where
    assert str(where) == where.text()


@pytest.mark.parametrize("name", ["a", "pc1", "a-b", "0", "a" * 63])
def test_names_are_dns_labels(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a.b", "a_b", "a" * 64, "ä", "a\n", "../x"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="a name is"):
        check_name(name)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.77.0.0", "prefix length"),
        ("10.77.0.5/24", "host bits are set: write 10.77.0.0/24"),
        ("10.77.0.0/33", "not an IPv4 subnet"),
        ("fd00::/64", "not an IPv4 subnet"),
        ("10.77.0.0/31", "/8 to /30"),
        ("0.0.0.0/8", "no host can have"),
        ("224.0.0.0/24", "no host can have"),
        ("127.0.0.0/8", "no host can have"),
        ("x/24", "not an IPv4 subnet"),
    ],
)
def test_wrong_subnets_are_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_subnet(text)


def test_wishes_have_one_spelling_and_others_are_refused():
    assert parse_wish("auto") == "auto"
    assert parse_wish("none") == "none"
    assert parse_wish("10.77.0.9/24") == "10.77.0.9/24"
    for wrong in ("", "10.77.0.9", "Auto", "10.77.0.9/33", "fd00::1/64", "x/24", "10.77.0.9/24 "):
        with pytest.raises(ValueError, match="write auto, none"):
            parse_wish(wrong)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.77.0.0", "network address"),
        ("10.77.0.1", "kept for the switch"),
        ("10.77.0.7", "broadcast"),
        ("10.77.0.8", "outside"),
    ],
)
def test_reserved_addresses_are_named(address, reason):
    assert reason in reserved_reason(IPv4Address(address), SUBNET)


def test_lowest_free_gives_every_usable_address_once_and_then_none():
    taken = []
    while (address := lowest_free(SUBNET, taken)) is not None:
        assert reserved_reason(address, SUBNET) is None
        taken.append(address)
    assert [str(a) for a in taken] == [f"10.77.0.{n}" for n in range(2, 7)]
    assert switch_address(SUBNET) == IPv4Address("10.77.0.1")


def test_lowest_free_fills_gaps_first():
    taken = {IPv4Address("10.0.0.2"), IPv4Address("10.0.0.4")}
    assert lowest_free(IPv4Network("10.0.0.0/8"), taken) == IPv4Address("10.0.0.3")
