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

from vswitch.core.frame import VLAN_TAGS
from vswitch.core.records import FRAME, HEADER_SIZE
from vswitch.core.virtio import FRAME_AT

__all__ = [
    "ARP",
    "ICMPV6",
    "IPV4",
    "IPV6",
    "LATER",
    "OBSCURE",
    "OTHER",
    "UDP",
    "frame_at",
    "network_untrusted",
    "upper_ipv4_untrusted",
    "upper_ipv6_untrusted",
]

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
