"""What hosts and routers say about multicast groups, for tests: IGMP and MLD, whole frames.

Addresses are text. Checksums and lengths are right; what is wrong in a test, the test makes wrong.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

from vswitch.frames.build import ethernet
from vswitch.frames.checksum import word_sum
from vswitch.frames.igmp import group_mac


def igmp(
    source: bytes, kind: int, group: str, *, code: int = 0, sender: str = "10.0.0.9", to: str = ""
) -> bytes:
    """A message of IGMPv1 or v2: 0x11 query, 0x12 and 0x16 report, 0x17 leave."""
    packed = ipaddress.IPv4Address(group).packed
    target = to or ("224.0.0.2" if kind == 0x17 else "224.0.0.1" if not any(packed) else group)
    return _igmp(source, sender, target, struct.pack(">BBH", kind, code, 0) + packed)


def igmp3_report(source: bytes, records: Sequence[tuple[int, str, Sequence[str]]]) -> bytes:
    """An IGMPv3 report of (kind, group, sources)."""
    body = struct.pack(">BBHHH", 0x22, 0, 0, 0, len(records))
    for kind, group, sources in records:
        packed = [ipaddress.IPv4Address(each).packed for each in (group, *sources)]
        body += struct.pack(">BBH", kind, 0, len(sources)) + b"".join(packed)
    return _igmp(source, "10.0.0.9", "224.0.0.22", body)


def mld(source: bytes, kind: int, group: str, *, delay: int = 0, sender: str = "fe80::9") -> bytes:
    """A message of MLDv1: 130 query, 131 report, 132 done."""
    packed = ipaddress.IPv6Address(group).packed
    target = "ff02::2" if kind == 132 else "ff02::1" if not any(packed) else group
    return _mld(source, sender, target, struct.pack(">BBHHH", kind, 0, 0, delay, 0) + packed)


def mld2_report(source: bytes, records: Sequence[tuple[int, str, Sequence[str]]]) -> bytes:
    """An MLDv2 report of (kind, group, sources)."""
    body = struct.pack(">BBHHH", 143, 0, 0, 0, len(records))
    for kind, group, sources in records:
        packed = [ipaddress.IPv6Address(each).packed for each in (group, *sources)]
        body += struct.pack(">BBH", kind, 0, len(sources)) + b"".join(packed)
    return _mld(source, "fe80::9", "ff02::16", body)


def multicast_data(source: bytes, group: str) -> bytes:
    """A frame to a group; nobody looks behind its addresses."""
    address = ipaddress.ip_address(group)
    ethertype = 0x0800 if address.version == 4 else 0x86DD
    return ethernet(group_mac(address.packed), source, ethertype, b"\x45" + bytes(60))


def _igmp(source: bytes, sender: str, target: str, body: bytes) -> bytes:
    body = body[:2] + (-word_sum(body) % 0xFFFF).to_bytes(2, "big") + body[4:]
    packed = ipaddress.IPv4Address(target).packed
    header = struct.pack(">BBHHHBBH", 0x46, 0xC0, 24 + len(body), 0, 0x4000, 1, 2, 0)
    header += ipaddress.IPv4Address(sender).packed + packed + b"\x94\x04\0\0"
    header = header[:10] + (-word_sum(header) % 0xFFFF).to_bytes(2, "big") + header[12:]
    return ethernet(group_mac(packed), source, 0x0800, header + body)


def _mld(source: bytes, sender: str, target: str, body: bytes) -> bytes:
    addresses = ipaddress.IPv6Address(sender).packed + ipaddress.IPv6Address(target).packed
    total = word_sum(addresses) + len(body) + 58 + word_sum(body)
    body = body[:2] + (-total % 0xFFFF).to_bytes(2, "big") + body[4:]
    header = struct.pack(">IHBB", 6 << 28, 8 + len(body), 0, 1) + addresses
    packed = ipaddress.IPv6Address(target).packed
    hops = bytes.fromhex("3a00050200000100")
    return ethernet(group_mac(packed), source, 0x86DD, header + hops + body)
