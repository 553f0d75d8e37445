"""What a frame carries, found by offset: the network protocol, and the one above it.

For guards, which must not be led astray: a host may see more in a frame than a quick look does. So
what a host could take for ARP, IPv4 or IPv6 and these functions cannot follow is `OBSCURE`: more
than two VLAN tags (hosts strip any number of tags with VLAN id 0), IP inside LLC/SNAP (some hosts
and access points take it for IP; both are CVE-2021-27853 and its kin), and IPv6 headers that end
beyond the frame, or are too many or unknown (RFC 7113).

Everything is read in the record where it lies; `at` is where the frame, or the header, begins in
it. Pure; nothing here raises for any bytes.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from vswitch.frames.ethernet import VLAN_TAGS, format_mac, header
from vswitch.frames.records import FRAME, HEADER_SIZE, VIRTIO_HEADER_SIZE, is_superframe
from vswitch.frames.virtio import FRAME_AT

# Network protocols, by their EtherType; OTHER: none of them; OBSCURE: perhaps one.
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
OTHER, OBSCURE = 0, -1
LATER = -2  # a later fragment: what is above IP was said in the first one
UDP, ICMPV6 = 17, 58

_MAX_TAGS = 2
_MAX_EXTENSIONS = 8  # headers; RFC 8504 5.3 lets a host refuse more
_SNAP = b"\xaa\xaa\x03"
_NETWORK = {b"\x08\x00": IPV4, b"\x08\x06": ARP, b"\x86\xdd": IPV6}
_FRAGMENT, _AUTHENTICATION = 44, 51
# Extension headers: hop-by-hop, routing, fragment, authentication, destination, mobility, HIP,
# shim6 (RFC 7045, IANA). What ESP holds cannot be seen, and is nothing that a host takes for more.
_HEADERS = frozenset((0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140))
_FIRST_UNASSIGNED = 146  # protocols from here on are unassigned, or for experiments
_FRAME_FLAG = FRAME & 0xFF


def frame_at(record: bytes) -> int:
    """Where the frame begins in a frame or superframe record."""
    return HEADER_SIZE if record[1] == _FRAME_FLAG else FRAME_AT


def network_untrusted(record: bytes, at: int) -> tuple[int, int]:
    """The network protocol of the frame that begins at `at`, and where its header begins."""
    # HOT PATH of a guarded port
    at += 12
    kind = record[at : at + 2]
    tags = 0
    while kind in VLAN_TAGS:
        if tags == _MAX_TAGS:
            return OBSCURE, at
        tags += 1
        at += 4
        kind = record[at : at + 2]
    found = _NETWORK.get(kind)
    if found is not None:
        return found, at + 2
    # A length of 802.3: what is inside SNAP has an EtherType of its own.
    if kind < b"\x06\x00" and record[at + 2 : at + 5] == _SNAP:
        inner = record[at + 8 : at + 10]
        if inner in _NETWORK or inner in VLAN_TAGS:
            return OBSCURE, at
    return OTHER, at + 2


def upper_ipv4_untrusted(record: bytes, at: int) -> tuple[int, int]:
    """The protocol above the IPv4 header at `at`, and where it begins; `OBSCURE`: no IPv4."""
    if len(record) < at + 20 or not 0x45 <= record[at] <= 0x4F:
        return OBSCURE, at
    if record[at + 6] & 0x1F or record[at + 7]:
        return LATER, at
    return record[at + 9], at + (record[at] & 0x0F) * 4


def upper_ipv6_untrusted(record: bytes, at: int) -> tuple[int, int]:
    """The protocol above all headers of the IPv6 packet at `at`, and where it begins."""
    size = len(record)
    if size < at + 40 or record[at] >> 4 != 6:
        return OBSCURE, at
    following = record[at + 6]
    at += 40
    for left in range(_MAX_EXTENSIONS, -1, -1):
        if following not in _HEADERS:
            determined = following < _FIRST_UNASSIGNED and at <= size
            return (following, at) if determined else (OBSCURE, at)
        if not left or size < at + 8:
            break
        if following == _FRAGMENT:
            if record[at + 2] or record[at + 3] & 0xF8:
                return LATER, at
            length = 8
        elif following == _AUTHENTICATION:
            length = 8 + record[at + 1] * 4
        else:
            length = 8 + record[at + 1] * 8
        following, at = record[at], at + length
    return OBSCURE, at


# -------------------------------------------------------------------------------------------------
# Whether a record holds DHCP, for a bridge that keeps the DHCP of two LANs apart. Pure.

_UDP = 17
_PORTS_V4 = (b"\x00\x43", b"\x00\x44")  # 67 and 68, to a server and to a client: RFC 2131
_PORTS_V6 = (b"\x02\x22", b"\x02\x23")  # 546 and 547: RFC 8415


def is_dhcp_untrusted(record: bytes) -> bool:
    """Whether this frame or superframe record is of DHCP or DHCPv6, to a server or to a client.

    By the destination port; IPv6 without extension headers, as DHCP is sent. Later fragments have
    no ports, and are of no use without the first. Anything is accepted and nothing raised.
    """
    # HOT PATH of a bridge
    at = HEADER_SIZE + VIRTIO_HEADER_SIZE if is_superframe(record) else HEADER_SIZE
    at += 12
    kind = record[at : at + 2]
    for _ in range(_MAX_TAGS):
        if kind not in VLAN_TAGS:
            break
        at += 4
        kind = record[at : at + 2]
    network = at + 2
    if kind == b"\x08\x00":
        if len(record) < network + 20 or record[network + 9] != _UDP:
            return False
        if (record[network + 6] & 0x1F) or record[network + 7]:
            return False  # a later fragment
        ports = network + (record[network] & 0x0F) * 4
        return record[ports + 2 : ports + 4] in _PORTS_V4
    if kind == b"\x86\xdd":
        if len(record) < network + 48 or record[network + 6] != _UDP:
            return False
        return record[network + 42 : network + 44] in _PORTS_V6
    return False


# -------------------------------------------------------------------------------------------------
# What a frame says on its outside, for people and filters: addresses, VLANs, protocol, ports.
#
# Read from bytes that anybody may have sent: what is not there, or cut off, is empty. Pure;
# nothing raises. Layouts: IEEE 802.3 and 802.1Q, RFC 791, 826, 8200, 9293, 768.

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
_MAX_SHOWN_EXTENSIONS = 8  # more than any honest packet has


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
    for _ in range(_MAX_SHOWN_EXTENSIONS):
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
