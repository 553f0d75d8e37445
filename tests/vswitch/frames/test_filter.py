"""Filters say of each frame what they say they do."""

import struct

import pytest

from vswitch.frames.filter import parse_filter_untrusted
from vswitch.frames.headers import facts_of, summary
from vswitch.testing import arp_request, ethernet, icmp_echo, vlan_tagged

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
GROUP = "01:00:5e:01:02:03"


def ipv6(source, destination, protocol, payload):
    import ipaddress

    head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    both = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    return ethernet(B, A, 0x86DD, head + both + payload)


def udp4(offset=0):
    frame = bytearray(icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=bytes(20)))
    frame[14 + 9] = 17
    frame[14 + 6 : 14 + 8] = offset.to_bytes(2, "big")
    frame[34:42] = struct.pack(">HHHH", 5000, 53, 28, 0)
    return bytes(frame)


PORTS = struct.pack(">HHHH", 1000, 443, 8, 0)
FRAMES = {
    "ping": icmp_echo(A, "10.0.0.1", B, "10.0.0.2"),
    "tagged": vlan_tagged(icmp_echo(A, "10.0.0.1", B, "10.0.0.2"), 10),
    "twice": vlan_tagged(vlan_tagged(udp4(), 10), 20, tpid=0x88A8),
    "arp": arp_request(B, "10.0.0.2", "10.0.0.1"),
    "udp": udp4(),
    "fragment": udp4(100),
    "udp6": ipv6("fd00::1", "fd00::2", 17, PORTS),
    "udp6-options": ipv6("fd00::1", "fd00::2", 0, bytes([17, 0, *bytes(6)]) + PORTS),
    "udp6-fragment": ipv6("fd00::1", "fd00::2", 44, bytes([17, 0, 1, 0, *bytes(4)]) + PORTS),
    "group": ethernet(GROUP, A, 0x88B5, b"x"),
    "runt": b"\x02",
}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", set(FRAMES)),
        (f"src {B}", {"arp"}),
        (f"host {B.upper()} and not arp", set(FRAMES) - {"arp", "group", "runt"}),
        (f"dst {GROUP}", {"group"}),
        (f"ether dst {GROUP}", {"group"}),
        (f"ether host {GROUP} && !arp", {"group"}),
        ("ether proto 0x88b5 || ether src 02:00:00:00:00:0b", {"group", "arp"}),
        ("arp host 10.0.0.1", {"arp"}),
        ("ip src host 10.0.0.1 and proto icmp", {"ping", "tagged"}),
        ("icmp dst net 10.0.0.0/30 and vlan", {"tagged"}),
        ("net fd00::/16", {"udp6", "udp6-options", "udp6-fragment"}),
        ("udp dst port 443", {"udp6", "udp6-options"}),
        ("src port 443 or tcp port 443 or dst port 1000", set()),
        ("!(ip or ip6)", {"arp", "group", "runt"}),
        ("host 10.0.0.1 and arp", {"arp"}),
        ("src 10.0.0.1 and icmp", {"ping", "tagged"}),
        ("dst 10.0.0.0/30 and icmp and vlan", {"tagged"}),
        ("src 10.0.0.2", {"arp"}),
        ("host fd00::/16", {"udp6", "udp6-options", "udp6-fragment"}),
        ("dst fd00::1", set()),
        ("vlan 10", {"tagged", "twice"}),
        ("vlan", {"tagged", "twice"}),
        ("type vlan", {"tagged", "twice"}),
        ("vlan 20 and port 53", {"twice"}),
        ("port 53", {"twice", "udp"}),
        ("udp", {"twice", "udp", "fragment", "udp6", "udp6-options", "udp6-fragment"}),
        ("port 443", {"udp6", "udp6-options"}),
        ("proto 17 and ip6 and not port 443", {"udp6-fragment"}),
        ("type 0x88b5", {"group"}),
        ("multicast", {"arp", "group"}),
        ("broadcast", {"arp"}),
        ("arp or icmp and vlan", {"arp", "tagged"}),
        ("(arp or icmp) and vlan", {"tagged"}),
        ("not not arp", {"arp"}),
        ("not (ip or ip6)", {"arp", "group", "runt"}),
    ],
)
def test_a_filter(text, names):
    matches = parse_filter_untrusted(text)
    assert {name for name, frame in FRAMES.items() if matches(frame)} == names


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("host", "an address behind host is missing"),
        ("host pc1", "'pc1' is no MAC address"),
        ("port 70000", "0 to 65535"),
        ("port -1", "0 to"),
        ("port x", "not a number"),
        ("port ١", "not a number"),
        ("vlan 4096", "0 to 4095"),
        ("type bogus", "not a number"),
        ("arp icmp", "join terms by and, or"),
        ("arp and", "a term is missing"),
        ("(arp", r"a \) is missing"),
        ("arp)", "not expected"),
        ("frobnicate", "is no term"),
        ("not " * 40 + "arp", "too deeply"),
        ("(" * 300 + "arp", "too deeply"),
        ("a" * 1001, "at most 1000"),
    ],
)
def test_what_is_no_filter_says_why(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_filter_untrusted(text)


def test_facts_and_summary():
    facts = facts_of(FRAMES["twice"])
    assert facts.vlans == (20, 10)
    assert facts.ports == (5000, 53)
    assert summary(FRAMES["udp"]) == f"{A} > {B} ip 10.0.0.1.5000 > 10.0.0.2.53 udp, 62 bytes"
    assert summary(FRAMES["tagged"]).startswith(f"{A} > {B} vlan 10 ip 10.0.0.1 > 10.0.0.2 icmp")
    assert summary(FRAMES["arp"]).endswith("arp 10.0.0.2 > 10.0.0.1, 42 bytes")
    assert summary(FRAMES["group"]) == f"{A} > {GROUP} type 0x88b5, 15 bytes"
    assert summary(b"ab") == "2 bytes, no whole Ethernet header"
