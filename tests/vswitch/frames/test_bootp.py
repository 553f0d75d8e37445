"""DHCP messages: what is built is read again, and what is none is said to be none."""

import struct
from ipaddress import IPv4Address, IPv4Network

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.errors import BadRecord
from vswitch.frames.bootp import (
    DhcpMessage,
    Kind,
    Option,
    build_dhcp,
    number,
    read_dhcp_untrusted,
    routes,
    search_list,
    wire_name,
)

MAC = bytes.fromhex("525400123456")
DISCOVER = DhcpMessage(kind=Kind.DISCOVER, transaction=7, mac=MAC)
HEAD = 240  # bytes before the options

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
messages = st.builds(
    DhcpMessage,
    kind=st.sampled_from(Kind),
    transaction=st.integers(0, 2**32 - 1),
    mac=st.binary(min_size=6, max_size=6).map(lambda mac: b"\x02" + mac[1:]),
    op=st.sampled_from((1, 2)),
    seconds=st.integers(0, 65535),
    broadcast=st.booleans(),
    client=addresses,
    given=addresses,
    relay=addresses,
    options=st.dictionaries(
        st.integers(1, 254).filter(lambda code: code not in (52, 53)),
        st.binary(max_size=300),
        max_size=5,
    ),
)


@given(messages)
def test_what_is_built_is_read(message):
    assert read_dhcp_untrusted(build_dhcp(message)) == message


@given(messages, st.integers(548, 1472))
def test_options_are_left_out_whole_where_they_do_not_fit(message, most):
    payload = build_dhcp(message, most)
    assert len(payload) <= most
    kept = read_dhcp_untrusted(payload).options
    assert kept.items() <= dict(message.options).items()


@given(st.binary(max_size=700))
def test_any_bytes_are_a_message_or_bad(data):
    try:
        read_dhcp_untrusted(data)
    except BadRecord:
        pass


def test_parts_of_an_option_are_joined_and_overflow_is_found():
    """RFC 3396, and RFC 2132 9.3: options that go on in `file` and `sname`."""
    head = bytearray(build_dhcp(DISCOVER)[:HEAD])
    head[108:236] = bytes((12, 2)) + b"pc" + b"\xff" + bytes(123)  # file
    head[44:108] = bytes((12, 1)) + b"1" + b"\xff" + bytes(60)  # sname
    payload = bytes(head) + bytes((53, 1, 1, 0, 0, 61, 1, 9, 61, 1, 8, 52, 1, 3, 255))
    message = read_dhcp_untrusted(payload)
    assert message.options == {61: b"\x09\x08", 12: b"pc1", 52: b"\x03"}


def test_an_overflow_without_a_body_is_none():
    payload = build_dhcp(DISCOVER)[:HEAD] + bytes((53, 1, 1, 52, 0, 255))
    assert read_dhcp_untrusted(payload).options == {52: b""}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:239],
        lambda data: data[:236] + b"\0\0\0\0" + data[240:],  # no cookie
        lambda data: b"\3" + data[1:],  # neither asks nor answers
        lambda data: data[:1] + b"\6" + data[2:],  # token ring
        lambda data: data[:2] + b"\x10" + data[3:],
        lambda data: data[:28] + bytes(6) + data[34:],
        lambda data: data[:28] + b"\xff" * 6 + data[34:],
        lambda data: data[:240] + b"\xff" + data[241:],  # no kind: BOOTP
        lambda data: data[:242] + b"\x09" + data[243:],
        lambda data: data[:240] + b"\x35",
        lambda data: data[:240] + b"\x35\x02\x01",
    ],
)
def test_what_is_no_message(change):
    with pytest.raises(BadRecord):
        read_dhcp_untrusted(change(build_dhcp(DISCOVER)))


def test_a_message_without_an_end_is_read():
    assert read_dhcp_untrusted(build_dhcp(DISCOVER)[:243]) == DISCOVER


def test_the_shortest_message_is_as_long_as_bootp():
    assert len(build_dhcp(DISCOVER)) == 300


def test_bodies_of_options():
    """The examples of RFC 3442 and RFC 3397, without its compression."""
    via = IPv4Address("10.77.0.1")
    found = [
        routes([(IPv4Network(net), via)]).hex()
        for net in ("0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.17.0.0/16", "10.229.0.128/25")
    ]
    assert found == [
        "000a4d0001",
        "080a0a4d0001",
        "180a00000a4d0001",
        "100a110a4d0001",
        "190ae500800a4d0001",
    ]
    assert search_list(["eng.apple.com", "lan"]) == b"\3eng\5apple\3com\0\3lan\0"
    assert number(2**40) == struct.pack(">I", 2**32 - 2)  # all ones would be for ever


@pytest.mark.parametrize("domain", ["", "a..b", "x" * 64, ".".join(["a" * 50] * 6), "."])
def test_what_is_no_domain(domain):
    with pytest.raises(ValueError, match="domain"):
        wire_name(domain)


def test_the_first_address_of_an_option():
    message = attrs.evolve(DISCOVER, options={Option.DNS: bytes(range(8)), Option.ROUTER: b"\1"})
    assert message.address(Option.DNS) == IPv4Address("0.1.2.3")
    assert message.address(Option.ROUTER) is None
