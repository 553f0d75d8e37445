"""Builders of small, correct Ethernet frames, without FCS and without padding.

MAC addresses are 6 bytes or text, IPv4 addresses are text. Layouts: RFC 826 (ARP), RFC 791 (IPv4),
RFC 792 (ICMP), IEEE 802.1Q (tag). A malformed address is a `ValueError`.
"""

from __future__ import annotations

import ipaddress
import struct

from vswitch.frames.ethernet import BROADCAST, parse_mac

_ARP = 0x0806
_IPV4 = 0x0800
_ICMP = 1  # protocol number
_TTL = 64  # hops, the usual start


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
    addresses = ipaddress.IPv4Address(source_ip).packed + ipaddress.IPv4Address(target_ip).packed
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(icmp), 0, 0, _TTL, _ICMP, 0) + addresses
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return ethernet(target, source, _IPV4, ip + icmp)


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
