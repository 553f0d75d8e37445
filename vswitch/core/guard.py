"""Whether a frame may come from where it comes: the guards of a port, as one pure decision.

 source   the Ethernet source is one of the port's; the source address of IP, and the sender of
          ARP, is one of the port's, link-local, or that of a host that has none yet
 arp      the sender inside ARP is the Ethernet source, and no address of another port
 dhcp     nothing that only a DHCP server or relay sends: UDP from port 67, over IPv6 from 547
 ra       nothing that only an IPv6 router sends: advertisements and redirects (RFC 6105), however
          they are wrapped (RFC 7113)

IPv4 of a port that has no IPv4 address is any but those of others, and so IPv6 never is: addresses
of IPv6 that are not link-local are of the port if it was given them or their prefix.

What a guard cannot follow and a host might, it drops: `guard_undetermined`, or the guard's own
name behind IPv6 headers. A later fragment passes, since its first one decides: a fragment cannot
change the first 8 bytes behind IP, and of IPv6 must not overlap at all (RFC 5722).

Pure; nothing here raises for any bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from vswitch.core.counters import DropReason
from vswitch.core.frame import ETHERNET_HEADER_SIZE
from vswitch.core.packet import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    LATER,
    OBSCURE,
    UDP,
    frame_at,
    network_untrusted,
    upper_ipv4_untrusted,
    upper_ipv6_untrusted,
)

__all__ = ["Addresses", "Rules", "judge_untrusted"]

_ARP_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"
_ARP_SIZE = 28
_NO_IPV4 = bytes(4)
_NO_IPV6 = bytes(16)
_IGMP = 2
_DHCP_TO_SERVER = b"\x00\x44\x00\x43"  # UDP from port 68 to 67
_DHCP_SERVER = b"\x00\x43"  # 67
_DHCPV6_SERVER = b"\x02\x23"  # 547
_FROM_ROUTERS = (134, 137)  # ICMPv6: router advertisement, redirect


@attrs.frozen
class Addresses:
    """IP addresses and prefixes that belong to a port."""

    hosts: frozenset[bytes] = frozenset()  # packed, 4 or 16 bytes
    prefixes: tuple[tuple[int, int, int], ...] = ()  # bytes of an address, bits to drop, the rest
    any_ipv4: bool = False

    def has(self, packed: bytes) -> bool:
        """Whether an address is among them."""
        if packed in self.hosts:
            return True
        value = int.from_bytes(packed, "big")
        return any(
            len(packed) == size and value >> drop == rest for size, drop, rest in self.prefixes
        )


@attrs.define(eq=False)
class Rules:
    """What the guards of one port go by."""

    port: int
    source: bool
    arp: bool
    dhcp: bool
    ra: bool
    macs: set[bytes]
    addresses: Addresses
    owners: Mapping[bytes, int]  # packed address → port, of all ports of the switch


def judge_untrusted(record: bytes, rules: Rules) -> DropReason | None:
    """Why a frame or superframe record must not pass; None if it may. HOT PATH."""
    at = frame_at(record)
    if len(record) < at + ETHERNET_HEADER_SIZE:
        return None  # forwarding drops it, under its right name
    if rules.source and record[at + 6 : at + 12] not in rules.macs:
        return DropReason.SOURCE_GUARD
    kind, header = network_untrusted(record, at)
    if kind == IPV4:
        return _ipv4_untrusted(record, header, rules)
    if kind == IPV6:
        return _ipv6_untrusted(record, header, rules)
    if kind == ARP:
        return _arp_untrusted(record, at, header, rules)
    return DropReason.GUARD_UNDETERMINED if kind == OBSCURE else None


def _arp_untrusted(record: bytes, at: int, header: int, rules: Rules) -> DropReason | None:
    if not (rules.source or rules.arp):
        return None
    reason = DropReason.ARP_CHECK if rules.arp else DropReason.SOURCE_GUARD
    if len(record) < header + _ARP_SIZE or record[header : header + 6] != _ARP_ETHERNET_IPV4:
        return reason
    sender = record[header + 14 : header + 18]
    taken = rules.owners.get(sender, rules.port) != rules.port
    if rules.arp and (taken or record[header + 8 : header + 14] != record[at + 6 : at + 12]):
        return DropReason.ARP_CHECK
    if rules.source and sender != _NO_IPV4 and not _ipv4_is_of(sender, rules):
        return DropReason.SOURCE_GUARD
    return None


def _ipv4_is_of(packed: bytes, rules: Rules) -> bool:
    addresses = rules.addresses
    if packed in addresses.hosts or packed[:2] == b"\xa9\xfe":  # 169.254/16, RFC 3927
        return True
    if rules.owners.get(packed, rules.port) != rules.port:
        return False
    return addresses.any_ipv4 or addresses.has(packed)


def _ipv4_untrusted(record: bytes, header: int, rules: Rules) -> DropReason | None:
    if not (rules.source or rules.dhcp):
        return None
    protocol, upper = upper_ipv4_untrusted(record, header)
    if protocol == OBSCURE:
        return DropReason.GUARD_UNDETERMINED
    if rules.source:
        source = record[header + 12 : header + 16]
        if source == _NO_IPV4:
            # A host without an address asks for one, or says which groups it hears (RFC 3376).
            asks = protocol == UDP and record[upper : upper + 4] == _DHCP_TO_SERVER
            if not asks and protocol != _IGMP:
                return DropReason.SOURCE_GUARD
        elif not _ipv4_is_of(source, rules):
            return DropReason.SOURCE_GUARD
    if rules.dhcp and protocol == UDP:
        port = record[upper : upper + 2]
        if len(port) < 2 or port == _DHCP_SERVER:
            return DropReason.DHCP_GUARD
    return None


def _ipv6_untrusted(record: bytes, header: int, rules: Rules) -> DropReason | None:
    if rules.source:
        source = record[header + 8 : header + 24]
        if len(source) < 16:
            return DropReason.GUARD_UNDETERMINED
        link_local = source[0] == 0xFE and source[1] & 0xC0 == 0x80
        if not link_local and source != _NO_IPV6:
            taken = rules.owners.get(source, rules.port) != rules.port
            if taken or not rules.addresses.has(source):
                return DropReason.SOURCE_GUARD
    if not (rules.ra or rules.dhcp):
        return None
    protocol, upper = upper_ipv6_untrusted(record, header)
    if protocol == LATER:
        return None
    undetermined = DropReason.RA_GUARD if rules.ra else DropReason.DHCP_GUARD
    if protocol == OBSCURE:
        return undetermined
    if protocol == ICMPV6 and rules.ra and (upper >= len(record) or record[upper] in _FROM_ROUTERS):
        return DropReason.RA_GUARD
    if protocol == UDP and rules.dhcp:
        port = record[upper : upper + 2]
        if len(port) < 2 or port == _DHCPV6_SERVER:
            return DropReason.DHCP_GUARD
    return None
