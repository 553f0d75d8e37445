"""Ethernet in numbers and as text: sizes, MAC addresses, VLANs.

Inside the switch a MAC address is 6 bytes. Layouts: IEEE 802.3 (frame), 802.1Q and 802.1ad (tags);
headers.py reads them.
"""

from __future__ import annotations

import re

ETHERNET_HEADER_SIZE = 14  # bytes: destination, source, EtherType
HEAD_SIZE = 16  # bytes: the same, and the TCI if the EtherType is that of a tag
TAG_SIZE = 4  # bytes of an 802.1Q tag: TPID and TCI
MIN_MTU = 576  # bytes: what every IPv4 host takes (RFC 791)
MAX_MTU = 9000  # bytes: the usual jumbo frame, and the most that this switch is built for
MAX_VLAN = 4094  # 802.1Q-2018 table 9-2: 0 is no VLAN, 4095 is reserved
ALL_VLANS = frozenset(range(1, MAX_VLAN + 1))
BROADCAST = b"\xff\xff\xff\xff\xff\xff"
VLAN_TAGS = (b"\x81\x00", b"\x88\xa8")  # TPIDs of 802.1Q and of 802.1ad service tags

_RANGE = re.compile(r"\s*([0-9]{1,4})\s*(?:-\s*([0-9]{1,4})\s*)?", re.ASCII)
_MAC_TEXT = re.compile(r"[0-9a-f]{2}([:-]?)[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}", re.ASCII)


def parse_vlans(text: str) -> frozenset[int]:
    """The VLANs of `10,20-30`, or of `all`; `ValueError` with the reason."""
    if text.strip().lower() == "all":
        return ALL_VLANS
    vlans: set[int] = set()
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise ValueError("write VLANs as 10,20-30, or all")
        low, high = int(found[1]), int(found[2] or found[1])
        if not 1 <= low <= high <= MAX_VLAN:
            raise ValueError(f"VLANs are 1 to {MAX_VLAN}, and a range goes up")
        vlans.update(range(low, high + 1))
    return frozenset(vlans)


def max_frame(mtu: int) -> int:
    """Bytes of the longest frame, without FCS, on a LAN of this MTU: header and two tags on top."""
    return mtu + ETHERNET_HEADER_SIZE + 2 * TAG_SIZE


def format_mac(mac: bytes) -> str:
    """`02:00:5e:10:00:01` of 6 bytes. `ValueError` for another length."""
    if len(mac) != 6:
        raise ValueError(f"a MAC address has 6 bytes, not {len(mac)}")
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """6 bytes of `02:00:5e:10:00:01`, `02-00-5E-10-00-01` or `02005e100001`, else `ValueError`."""
    lowered = text.lower()
    if not _MAC_TEXT.fullmatch(lowered):
        raise ValueError(f"not a MAC address: {text!r}")
    return bytes.fromhex(lowered.replace(":", "").replace("-", ""))


def is_group(mac: bytes) -> bool:
    """Whether an address is multicast or broadcast (the I/G bit, IEEE 802-2014 8.2)."""
    return bool(mac[0] & 1)


def vlan_of(frame: bytes) -> int:
    """The VLAN id of the outer tag, 0 for none and for a priority tag, of at least 14 bytes.

    Also accepts just the first 16 bytes of a frame. A tag that is cut off counts as none.
    """
    if frame[12:14] in VLAN_TAGS and len(frame) >= 16:
        return (frame[14] & 0x0F) << 8 | frame[15]
    return 0
