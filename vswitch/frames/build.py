"""Builders of small, correct Ethernet frames, without FCS and without padding.

MAC addresses are 6 bytes or text, IPv4 addresses are text unless they are said to be objects.
Layouts: RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 792 and 4443 (ICMP), 9293 (TCP), 768 (UDP), IEEE
802.1Q (tag). A malformed address is a `ValueError`.
"""

from __future__ import annotations

import ipaddress
import struct

from vswitch.frames.ethernet import BROADCAST, parse_mac

_ARP = 0x0806
_IPV4 = 0x0800
_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58  # protocol numbers
_TTL = 64  # hops, the usual start

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ethernet(
    destination: bytes | str, source: bytes | str, ethertype: int, payload: bytes = b""
) -> bytes:
    """A frame with this header and payload."""
    return _mac(destination) + _mac(source) + ethertype.to_bytes(2, "big") + payload


def vlan_tagged(frame: bytes, vlan: int, *, priority: int = 0, tpid: int = 0x8100) -> bytes:
    """The frame with one more tag, as the outermost; TPID 0x88A8 makes it a service tag."""
    if not 0 <= vlan <= 0xFFF or not 0 <= priority <= 7:
        raise ValueError("a VLAN id has 12 bits, a priority 3")
    return frame[:12] + struct.pack(">HH", tpid, priority << 13 | vlan) + frame[12:]


def arp_request(source: bytes | str, source_ip: str, target_ip: str) -> bytes:
    """Who has `target_ip`? Broadcast."""
    return ethernet(BROADCAST, source, _ARP, _arp(1, _mac(source), source_ip, bytes(6), target_ip))


def arp_reply(source: bytes | str, source_ip: str, target: bytes | str, target_ip: str) -> bytes:
    """`source_ip` is at `source`, told to `target` alone."""
    return ethernet(target, source, _ARP, _arp(2, _mac(source), source_ip, _mac(target), target_ip))


def icmp_echo(
    source: bytes | str,
    source_ip: str,
    target: bytes | str,
    target_ip: str,
    *,
    identifier: int = 1,
    sequence: int = 1,
    data: bytes = b"",
    reply: bool = False,
) -> bytes:
    """An ICMP echo request, or the reply to one, in IPv4, both checksums right."""
    kind = 0 if reply else 8
    icmp = struct.pack(">BBHHH", kind, 0, 0, identifier, sequence) + data
    icmp = icmp[:2] + checksum(icmp).to_bytes(2, "big") + icmp[4:]
    ends = ipaddress.IPv4Address(source_ip), ipaddress.IPv4Address(target_ip)
    return ethernet(target, source, _IPV4, ip(*ends, _ICMP, icmp))


def ip(
    source: IpAddress, target: IpAddress, protocol: int, payload: bytes, *, hops: int = _TTL
) -> bytes:
    """A packet of the family of its addresses, without options."""
    addresses = source.packed + target.packed
    if source.version == 6:
        head = struct.pack(">IHBB", 6 << 28, len(payload), protocol, hops)
        return head + addresses + payload
    size = 20 + len(payload)
    head = struct.pack(">BBHHHBBH", 0x45, 0, size, 0, 0, hops, protocol, 0) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def upper(
    protocol: int,
    source_port: int,
    target_port: int,
    data: bytes,
    ends: tuple[IpAddress, IpAddress],
) -> bytes:
    """What is above IP between these addresses: an echo request of ICMP or ICMPv6, the first
    segment of TCP, a datagram of UDP; of other protocols the data alone.
    """
    if protocol in (_ICMP, _ICMPV6):
        kind = 8 if protocol == _ICMP else 128
        head, at = struct.pack(">BBHHH", kind, 0, 0, 1, 1), 2
    elif protocol == _TCP:
        head, at = (
            struct.pack(">HHIIBBHHH", source_port, target_port, 0, 0, 0x50, 2, 65535, 0, 0),
            16,
        )
    elif protocol == _UDP:
        head, at = struct.pack(">HHHH", source_port, target_port, 8 + len(data), 0), 6
    else:
        return data
    whole = head + data
    pseudo = b""
    if protocol != _ICMP:  # RFC 9293 3.1, RFC 8200 8.1
        pseudo = ends[0].packed + ends[1].packed + struct.pack(">II", len(whole), protocol)
    # Of UDP, 0 would say that there is none (RFC 768).
    check = checksum(pseudo + whole) or 0xFFFF * (protocol == _UDP)
    return whole[:at] + check.to_bytes(2, "big") + whole[at + 2 :]


def icmpv6(ends: tuple[IpAddress, IpAddress], kind: int, code: int, body: bytes) -> bytes:
    """A message of ICMPv6 between these addresses, `body` being what follows its checksum."""
    head = struct.pack(">BB", kind, code)
    pseudo = ends[0].packed + ends[1].packed + struct.pack(">II", 4 + len(body), _ICMPV6)
    return head + checksum(pseudo + head + b"\0\0" + body).to_bytes(2, "big") + body


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 over data that contains its own right checksum."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arp(operation: int, sender: bytes, sender_ip: str, target: bytes, target_ip: str) -> bytes:
    return (
        struct.pack(">HHBBH", 1, _IPV4, 6, 4, operation)
        + sender
        + ipaddress.IPv4Address(sender_ip).packed
        + target
        + ipaddress.IPv4Address(target_ip).packed
    )


def _mac(mac: bytes | str) -> bytes:
    if isinstance(mac, str):
        return parse_mac(mac)
    if len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    return mac
