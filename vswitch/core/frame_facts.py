"""What a frame says on its outside, for people and filters: addresses, VLANs, protocol, ports.

Read from bytes that anybody may have sent: what is not there, or cut off, is empty. Pure; nothing
raises. Layouts: IEEE 802.3 and 802.1Q, RFC 791, 826, 8200, 9293, 768.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from vswitch.core.frame import format_mac, header

__all__ = ["ETHERTYPES", "PROTOCOLS", "Facts", "facts_of", "summary"]

ETHERTYPES = {
    "ip": 0x0800,
    "arp": 0x0806,
    "wol": 0x0842,
    "vlan": 0x8100,
    "ip6": 0x86DD,
    "pppoe": 0x8863,
    "eapol": 0x888E,
    "lldp": 0x88CC,
    "ptp": 0x88F7,
    "loopback": 0x9000,
}
PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "icmp6": 58}
_TYPE_NAMES = {number: name for name, number in ETHERTYPES.items()}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_EXTENSIONS = {0, 43, 60}  # IPv6: hop-by-hop, routing, destination options
_FRAGMENT = 44
_ETHERNET_AND_IPV4 = b"\x00\x01\x08\x00\x06\x04"  # how ARP for these two begins
_MAX_EXTENSIONS = 8  # more than any honest packet has


class Facts(NamedTuple):
    """The outside of a frame."""

    destination: bytes = b""
    source: bytes = b""
    vlans: tuple[int, ...] = ()  # outermost first
    ethertype: int = -1  # behind the tags
    from_ip: bytes = b""  # packed; of ARP, the sender's
    to_ip: bytes = b""
    protocol: int = -1  # above IP
    ports: tuple[int, ...] = ()  # source and destination, of TCP and UDP


def facts_of(frame: bytes) -> Facts:
    """All that can be read of a frame without FCS."""
    try:
        head = header(frame)
    except ValueError:
        return Facts(frame[0:6], frame[6:12]) if len(frame) >= 12 else Facts()
    at, kind = head.payload_offset, head.ethertype
    facts = Facts(head.destination, head.source, head.vlans, kind)
    if kind == ETHERTYPES["ip"] and len(frame) >= at + 20 and frame[at] >> 4 == 4:
        behind: int | None = at + (frame[at] & 0x0F) * 4
        if (frame[at + 6] << 8 | frame[at + 7]) & 0x1FFF:
            behind = None  # a later fragment
        return _with_ip(facts, frame, slice(at + 12, at + 16), frame[at + 9], behind)
    if kind == ETHERTYPES["ip6"] and len(frame) >= at + 40 and frame[at] >> 4 == 6:
        protocol, behind = _behind_extensions(frame, frame[at + 6], at + 40)
        return _with_ip(facts, frame, slice(at + 8, at + 24), protocol, behind)
    arp = frame[at : at + 28] if kind == ETHERTYPES["arp"] else b""
    if len(arp) == 28 and arp.startswith(_ETHERNET_AND_IPV4):
        return facts._replace(from_ip=arp[14:18], to_ip=arp[24:28])
    return facts


def summary(frame: bytes) -> str:
    """One line for people."""
    facts = facts_of(frame)
    if facts.ethertype < 0:
        return f"{len(frame)} bytes, no whole Ethernet header"
    where = f"{format_mac(facts.source)} > {format_mac(facts.destination)}"
    tags = "".join(f" vlan {vlan}" for vlan in facts.vlans)
    what = _TYPE_NAMES.get(facts.ethertype, f"type 0x{facts.ethertype:04x}")
    if facts.from_ip:
        source, destination = _ip_text(facts.from_ip), _ip_text(facts.to_ip)
        if facts.ports:
            source, destination = f"{source}.{facts.ports[0]}", f"{destination}.{facts.ports[1]}"
        above = f" {_PROTOCOL_NAMES.get(facts.protocol, facts.protocol)}" * (facts.protocol >= 0)
        what = f"{what} {source} > {destination}{above}"
    return f"{where}{tags} {what}, {len(frame)} bytes"


def _with_ip(facts: Facts, frame: bytes, source: slice, protocol: int, behind: int | None) -> Facts:
    size = source.stop - source.start
    ports: tuple[int, ...] = ()
    if protocol in (6, 17) and behind is not None and len(frame) >= behind + 4:
        ports = tuple(int.from_bytes(frame[at : at + 2], "big") for at in (behind, behind + 2))
    return facts._replace(
        from_ip=frame[source],
        to_ip=frame[source.stop : source.stop + size],
        protocol=protocol,
        ports=ports,
    )


def _behind_extensions(frame: bytes, protocol: int, at: int) -> tuple[int, int | None]:
    """The protocol above IPv6, and where it begins; None for a later fragment, or if cut off."""
    for _ in range(_MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS and protocol != _FRAGMENT:
            return protocol, at
        if len(frame) < at + 8:
            return protocol, None
        following = frame[at]
        if protocol == _FRAGMENT:
            if (frame[at + 2] << 8 | frame[at + 3]) & 0xFFF8:
                return following, None
            at += 8
        else:
            at += (frame[at + 1] + 1) * 8
        protocol = following
    return protocol, None


def _ip_text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
