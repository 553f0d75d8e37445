"""What hosts and routers say about multicast groups, and asking them: IGMP v1 to v3, MLD v1 and v2.

Behind up to two VLAN tags: IPv4 with IGMP (RFC 1112, 2236, 3376), IPv6 with a hop-by-hop header and
MLD (RFC 2710, 3810), and the hellos of PIM routers (RFC 7761). RFC 4541 has switches look at all of
these. Source lists are not kept: who wants a group from some sources wants the group.

A switch that asks for groups itself asks by IGMPv3 and MLDv2, which hosts of older versions
understand (RFC 3376 7, RFC 3810 8). The source of `query_record` is 0.0.0.0, so that no router
takes the switch for one (RFC 4541 2.1.1), and in IPv6, where hosts believe nothing else, the
link-local address of the switch.

Error contract: `read_untrusted` gives None for any other frame, and raises only `BadRecord` for one
that is such a message and wrong: lengths, a checksum, a hop limit other than 1, a source that no
neighbour has. Pure.
"""

from __future__ import annotations

import struct
from enum import Enum

import attrs

from vswitch.errors import BadRecord
from vswitch.frames.checksum import word_sum
from vswitch.frames.headers import (
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    IPV4_SIZE,
    IPV4_TYPE,
    IPV6,
    IPV6_SIZE,
    IPV6_TYPE,
    network_untrusted,
    upper_ipv6_untrusted,
)
from vswitch.frames.records import frame_record

_IGMP, _PIM = 2, 103  # protocols
_V1_REPORT, _QUERY, _V2_REPORT, _V2_LEAVE, _V3_REPORT = 0x12, 0x11, 0x16, 0x17, 0x22
_MLD_QUERY, _MLD_REPORT, _MLD_DONE, _MLD2_REPORT = 130, 131, 132, 143
_PIM_HELLO = 0x20  # version 2, type 0
_PIM_GROUPS = (bytes((224, 0, 0, 13)), b"\xff\x02" + bytes(13) + b"\x0d")
_SSDP = b"\x01\x00\x5e\x7f\xff\xfa"  # 239.255.255.250, by which devices are found
_ALL_HOSTS = bytes((224, 0, 0, 1))
_ALL_NODES = b"\xff\x02" + bytes(13) + b"\x01"
_ROUTER_ALERT_4 = b"\x94\x04\0\0"  # RFC 2113
_ROUTER_ALERT_6 = b"\x3a\0\x05\x02\0\0\x01\0"  # hop-by-hop header, ICMPv6 next; RFC 2711
_ROBUSTNESS = 2
_INTERVAL = 125  # seconds, told to other queriers


class Says(Enum):
    """What a message is."""

    QUERY = "query"  # who wants this group, or any
    REPORT = "report"  # this is what I want now, or no longer
    ROUTER = "router"  # here is a multicast router


@attrs.frozen
class GroupMessage:
    """One message."""

    says: Says
    version: int  # of IP
    group: bytes = b""  # that a query is about; b"" for all
    anonymous: bool = False  # a query from 0.0.0.0: by a switch, not by a router
    response_time: float = 0.0  # seconds in which a query wants its answers
    joins: tuple[bytes, ...] = ()  # packed addresses of groups
    leaves: tuple[bytes, ...] = ()


def group_mac(group: bytes) -> bytes:
    """The MAC address of a group (RFC 1112 6.4, RFC 2464 7)."""
    if len(group) == 4:
        return b"\x01\x00\x5e" + bytes((group[1] & 0x7F,)) + group[2:]
    return b"\x33\x33" + group[12:]


def is_for_everybody(mac: bytes) -> bool:
    """Whether a group address always goes to all ports, whatever anybody reports.

    224.0.0.0/24 (routing, mDNS, LLMNR), SSDP; in IPv6 all nodes and all others of that kind, mDNS,
    LLMNR, DHCP, and solicited nodes (neighbour discovery). And all that is not IP.
    """
    if mac[:3] == b"\x01\x00\x5e":
        return mac[3:5] == b"\0\0" or mac == _SSDP
    if mac[:2] == b"\x33\x33":
        return mac[2] == 0xFF or mac[2:5] in (b"\0\0\0", b"\0\1\0")
    return True


def read_untrusted(frame: bytes) -> GroupMessage | None:
    """The message in an Ethernet frame, if there is one."""
    kind, at = network_untrusted(frame, 0)
    if kind == IPV4 and len(frame) >= at + IPV4_SIZE and frame[at] >> 4 == 4:
        return _ipv4_untrusted(frame[at:])
    if kind == IPV6 and len(frame) >= at + IPV6_SIZE and frame[at] >> 4 == 6:
        return _ipv6_untrusted(frame[at:])
    return None


def _ipv4_untrusted(packet: bytes) -> GroupMessage | None:
    protocol = packet[9]
    if protocol not in (_IGMP, _PIM):
        return None
    header, length = (packet[0] & 0x0F) * 4, _word(packet, 2)
    if not 20 <= header <= length <= len(packet) or _word(packet, 6) & 0x3FFF:
        raise BadRecord("IGMP in an IPv4 packet whose lengths are wrong, or in a fragment")
    body, source = packet[header:length], packet[12:16]
    if protocol == _PIM:
        hello = packet[16:20] == _PIM_GROUPS[0] and body[:1] == bytes((_PIM_HELLO,))
        return GroupMessage(Says.ROUTER, 4) if hello else None
    if len(body) < 8 or word_sum(body) % 0xFFFF:
        raise BadRecord("IGMP that is short, or has a wrong checksum")
    if packet[8] != 1:
        raise BadRecord("IGMP from another network")
    kind, code, group = body[0], body[1], body[4:8]
    if kind == _QUERY:
        if not any(group):
            group = b""
        elif group[0] >> 4 != 0xE:
            raise BadRecord("a query for what is no group")
        seconds = _floating(code, 0x80, 4) / 10 if code else 10.0  # 0: version 1
        return GroupMessage(
            Says.QUERY, 4, group=group, anonymous=not any(source), response_time=seconds
        )
    if kind == _V3_REPORT:
        return _records_untrusted(body, 4)
    if kind in (_V1_REPORT, _V2_REPORT, _V2_LEAVE):
        _check_group(group)
        if kind == _V2_LEAVE:
            return GroupMessage(Says.REPORT, 4, leaves=(group,))
        return GroupMessage(Says.REPORT, 4, joins=(group,))
    return None


def _ipv6_untrusted(packet: bytes) -> GroupMessage | None:
    following, length = packet[6], _word(packet, 4) + IPV6_SIZE
    if following == _PIM:
        hello = packet[24:40] == _PIM_GROUPS[1] and packet[40:41] == bytes((_PIM_HELLO,))
        return GroupMessage(Says.ROUTER, 6) if hello else None
    # MLD always has a router alert in front of it; other ICMPv6 is none of our business.
    protocol, at = upper_ipv6_untrusted(packet, 0)
    if following != HOP_BY_HOP or protocol != ICMPV6 or len(packet) < at + 1:
        return None
    if packet[at] not in (*(_MLD_QUERY, _MLD_REPORT, _MLD_DONE, _MLD2_REPORT),):
        return None
    if not at + 8 <= length <= len(packet):
        raise BadRecord("MLD in an IPv6 packet whose lengths are wrong")
    body, source = packet[at:length], packet[8:24]
    if (word_sum(packet[8:40]) + len(body) + ICMPV6 + word_sum(body)) % 0xFFFF:
        raise BadRecord("MLD with a wrong checksum")
    if packet[7] != 1 or ((source[0] != 0xFE or source[1] & 0xC0 != 0x80) and any(source)):
        raise BadRecord("MLD from another network")
    kind, group = body[0], body[8:24]
    if kind == _MLD2_REPORT:
        return _records_untrusted(body, 6)
    if len(body) < 24:
        raise BadRecord("MLD that is short")
    if kind == _MLD_QUERY:
        if not any(source):
            raise BadRecord("an MLD query from nobody")
        if not any(group):
            group = b""
        elif group[0] != 0xFF:
            raise BadRecord("a query for what is no group")
        seconds = _floating(_word(body, 4), 0x8000, 12) / 1000
        return GroupMessage(Says.QUERY, 6, group=group, response_time=seconds)
    _check_group(group)
    if kind == _MLD_DONE:
        return GroupMessage(Says.REPORT, 6, leaves=(group,))
    return GroupMessage(Says.REPORT, 6, joins=(group,))


def _records_untrusted(body: bytes, version: int) -> GroupMessage:
    """The group records of an IGMPv3 or MLDv2 report (RFC 3376 4.2, RFC 3810 5.2)."""
    size = 4 if version == 4 else 16
    joins: dict[bytes, None] = {}
    leaves: dict[bytes, None] = {}
    at = 8
    for _ in range(_word(body, 6)):
        if at + 4 + size > len(body):
            raise BadRecord("a report that ends inside a record")
        kind, auxiliary, sources = body[at], body[at + 1], _word(body, at + 2)
        group = body[at + 4 : at + 4 + size]
        at += 4 + size + sources * size + auxiliary * 4
        if at > len(body):
            raise BadRecord("a report that ends inside a record")
        _check_group(group)
        if kind in (2, 4) or (kind in (1, 3, 5) and sources):  # excludes some, or includes some
            joins[group] = None
            leaves.pop(group, None)
        elif kind in (1, 3):  # includes none
            leaves[group] = None
            joins.pop(group, None)
    return GroupMessage(Says.REPORT, version, joins=tuple(joins), leaves=tuple(leaves))


def _check_group(group: bytes) -> None:
    if (group[0] >> 4 != 0xE) if len(group) == 4 else (group[0] != 0xFF):
        raise BadRecord("a report of what is no group")


def _floating(code: int, limit: int, bits: int) -> int:
    """A response time as IGMPv3 and MLDv2 write it: from `limit` on with an exponent."""
    if code < limit:
        return code
    mantissa = code & (1 << bits) - 1 | 1 << bits
    return mantissa << ((code >> bits & 7) + 3)


def _word(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def query_record(
    mac: bytes, version: int, vlan: int, response_time: float, group: bytes = b""
) -> bytes:
    """The frame record of a query for a group, or for all.

    Args:
        mac: that of the switch.
        version: of IP.
        vlan: whose tag it gets; 0 for none.
        response_time: seconds in which to answer, up to 12.
        group: packed; b"" for all.
    """
    target = group or (_ALL_HOSTS if version == 4 else _ALL_NODES)
    tag = b"\x81\0" + vlan.to_bytes(2, "big") if vlan else b""
    if version == 4:
        packet = _ipv4(target, group or bytes(4), response_time)
        ethertype = IPV4_TYPE
    else:
        packet = _ipv6(mac, target, group or bytes(16), response_time)
        ethertype = IPV6_TYPE
    return frame_record(group_mac(target) + mac + tag + ethertype + packet)


def _ipv4(target: bytes, group: bytes, response_time: float) -> bytes:
    message = struct.pack(
        ">BBH4sBBH", 0x11, round(response_time * 10), 0, group, _ROBUSTNESS, _INTERVAL, 0
    )
    message = message[:2] + (-word_sum(message) % 0xFFFF).to_bytes(2, "big") + message[4:]
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x46, 0xC0, 24 + len(message), 0, 0x4000, 1, 2, 0, bytes(4), target
    )
    header += _ROUTER_ALERT_4
    return header[:10] + (-word_sum(header) % 0xFFFF).to_bytes(2, "big") + header[12:] + message


def _ipv6(mac: bytes, target: bytes, group: bytes, response_time: float) -> bytes:
    source = b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    milliseconds = round(response_time * 1000)
    message = struct.pack(
        ">BBHHH16sBBH", 130, 0, 0, milliseconds, 0, group, _ROBUSTNESS, _INTERVAL, 0
    )
    total = word_sum(source + target) + len(message) + 58 + word_sum(message)
    message = message[:2] + (-total % 0xFFFF).to_bytes(2, "big") + message[4:]
    header = struct.pack(">IHBB", 6 << 28, len(_ROUTER_ALERT_6) + len(message), 0, 1)
    return header + source + target + _ROUTER_ALERT_6 + message
