"""The headers of a frame, read by offset: Ethernet with its tags, ARP, IPv4, IPv6, ports, DHCP.

Every other module that looks into a frame does it with the functions and offsets of this one, so
that guards, snooping, captures and superframes follow a frame equally far: up to two VLAN tags and
eight IPv6 extension headers.

For guards, which must not be led astray: a host may see more in a frame than a quick look does. So
what a host could take for ARP, IPv4 or IPv6 and these functions cannot follow is `OBSCURE`: more
than two VLAN tags (hosts strip any number of tags with VLAN id 0), IP inside LLC/SNAP (some hosts
and access points take it for IP; both are CVE-2021-27853 and its kin), and IPv6 headers that end
beyond the frame, or are too many or unknown (RFC 7113).

Everything is read where it lies, in a record or in a frame; `at` is where the frame, or the header,
begins in it. Pure; nothing here raises for any bytes, but `header` for a frame that is too short.
Layouts: IEEE 802.3 and 802.1Q, RFC 791, 826, 8200, 9293, 768, 2131, 8415.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple

import attrs

from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE, TAG_SIZE, VLAN_TAGS, format_mac
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE
from vswitch.frames.virtio import FRAME_AT, TCP, UDP

# Network protocols, by their EtherType; OTHER: none of them; OBSCURE: perhaps one.
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
OTHER, OBSCURE = 0, -1
LATER = -2  # a later fragment: what is above IP was said in the first one
ICMPV6 = 58
HOP_BY_HOP = 0
IPV4_TYPE, ARP_TYPE, IPV6_TYPE = b"\x08\x00", b"\x08\x06", b"\x86\xdd"
IPV4_SIZE, IPV6_SIZE, UDP_SIZE, TCP_SIZE = 20, 40, 8, 20  # bytes, without options
ETHERTYPE_AT = 12  # bytes of a frame before it
MAX_TAGS = 2  # a service tag and a customer tag; what lies deeper is payload
MAX_EXTENSIONS = 8  # headers; RFC 8504 5.3 lets a host refuse more
ARP_ETHERNET_IPV4 = b"\x00\x01\x08\x00\x06\x04"  # how ARP for these two begins
ARP_SIZE = 28  # bytes of it
DHCP_PORTS = (b"\x00\x43", b"\x00\x44")  # 67 of servers and 68 of clients
ROUTER_ADVERTISEMENT = b"\x86"  # the type of ICMPv6 (RFC 4861)
DHCPV6_PORTS = (b"\x02\x23", b"\x02\x22")  # 547 of servers and 546 of clients

_TAGS_SIZE = MAX_TAGS * TAG_SIZE
_TCP, _UDP = bytes((TCP,)), bytes((UDP,))
_SNAP = b"\xaa\xaa\x03"
_NETWORK = {IPV4_TYPE: IPV4, ARP_TYPE: ARP, IPV6_TYPE: IPV6}
_FRAGMENT, _AUTHENTICATION = 44, 51
# Extension headers: hop-by-hop, routing, fragment, authentication, destination, mobility, HIP,
# shim6 (RFC 7045, IANA). What ESP holds cannot be seen, and is nothing that a host takes for more.
_HEADERS = frozenset((HOP_BY_HOP, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140))
_FIRST_UNASSIGNED = 146  # protocols from here on are unassigned, or for experiments


def frame_at(record: bytes) -> int:
    """Where the frame begins in a frame or superframe record."""
    return HEADER_SIZE if record[1] == FRAME_FLAG else FRAME_AT


def behind_tags(data: bytes, at: int) -> int:
    """Where the EtherType behind the VLAN tags is, of which the outermost EtherType is at `at`."""
    last = at + _TAGS_SIZE
    while at < last and data[at : at + 2] in VLAN_TAGS:
        at += TAG_SIZE
    return at


def network_untrusted(record: bytes, at: int) -> tuple[int, int]:
    """The network protocol of the frame that begins at `at`, and where its header begins."""
    # HOT PATH of a guarded port
    at += ETHERTYPE_AT
    kind = record[at : at + 2]
    last = at + _TAGS_SIZE
    while kind in VLAN_TAGS:  # as `behind_tags`, without the call
        if at == last:
            return OBSCURE, at
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
    if len(record) < at + IPV4_SIZE or not 0x45 <= record[at] <= 0x4F:
        return OBSCURE, at
    if record[at + 6] & 0x1F or record[at + 7]:
        return LATER, at
    return record[at + 9], at + (record[at] & 0x0F) * 4


def upper_ipv6_untrusted(record: bytes, at: int) -> tuple[int, int]:
    """The protocol above all headers of the IPv6 packet at `at`, and where it begins; for `LATER`,
    where the fragment header does.
    """
    size = len(record)
    if size < at + IPV6_SIZE or record[at] >> 4 != 6:
        return OBSCURE, at
    following = record[at + 6]
    at += IPV6_SIZE
    for left in range(MAX_EXTENSIONS, -1, -1):
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


def autoconfiguration_untrusted(record: bytes) -> str:
    """How a LAN configures its hosts, if that is what the frame or superframe is for: `dhcp`, of
    either version, to a server or to a client; `ra`, an IPv6 router advertisement; else "".

    DHCP by the destination port. Later fragments have none, and are of no use without the first.
    """
    # HOT PATH of a bridge
    kind, at = network_untrusted(record, HEADER_SIZE if record[1] == FRAME_FLAG else FRAME_AT)
    if kind == IPV4:
        if record[at + 9 : at + 10] != _UDP:  # nearly all frames get no further
            return ""
        protocol, at = upper_ipv4_untrusted(record, at)
        dhcp = protocol == UDP and record[at + 2 : at + 4] in DHCP_PORTS
        return "dhcp" if dhcp else ""
    if kind == IPV6:
        if record[at + 6 : at + 7] == _TCP:
            return ""
        protocol, at = upper_ipv6_untrusted(record, at)
        if protocol == ICMPV6:
            return "ra" if record[at : at + 1] == ROUTER_ADVERTISEMENT else ""
        if protocol == UDP and record[at + 2 : at + 4] in DHCPV6_PORTS:
            return "dhcp"
    return ""


@attrs.frozen
class FrameHeader:
    """What stands in front of the payload of a frame."""

    destination: bytes
    source: bytes
    ethertype: int  # of the payload, behind all tags that were read
    vlans: tuple[int, ...]  # VLAN ids, outermost first
    payload_offset: int  # bytes from the start of the frame


def header(frame: bytes) -> FrameHeader:
    """The header of a frame, up to two tags deep. `ValueError` when the frame ends inside it."""
    at = behind_tags(frame, ETHERTYPE_AT)
    if len(frame) < at + 2:
        raise ValueError(f"a frame of {len(frame)} bytes ends inside its header")
    tags = range(ETHERNET_HEADER_SIZE, at + 2, TAG_SIZE)
    return FrameHeader(
        destination=frame[0:6],
        source=frame[6:12],
        ethertype=_word(frame, at),
        vlans=tuple(_word(frame, tag) & 0x0FFF for tag in tags),
        payload_offset=at + 2,
    )


# What a frame says on its outside, for people and filters: what is not there, or cut off, is empty.

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
    if kind == IPV4:
        protocol, above = upper_ipv4_untrusted(frame, at)
        later, addresses = at + 9, frame[at + 12 : at + 20]
    elif kind == IPV6:
        protocol, above = upper_ipv6_untrusted(frame, at)
        later, addresses = above, frame[at + 8 : at + 40]
    else:
        arp = frame[at : at + ARP_SIZE] if kind == ARP else b""
        if len(arp) == ARP_SIZE and arp.startswith(ARP_ETHERNET_IPV4):
            return facts._replace(from_ip=arp[14:18], to_ip=arp[24:28])
        return facts
    if above == at and protocol == OBSCURE:  # not even that header
        return facts
    ports: tuple[int, ...] = ()
    if protocol in (TCP, UDP) and len(frame) >= above + 4:
        ports = (_word(frame, above), _word(frame, above + 2))
    half = len(addresses) // 2
    return facts._replace(
        from_ip=addresses[:half],
        to_ip=addresses[half:],
        protocol=frame[later] if protocol == LATER else protocol,
        ports=ports,
    )


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


def _word(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


@lru_cache(256)
def _ip_text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
