"""What a frame must be like before the switch looks at its addresses; pure functions.

Every check gives the reason to drop the frame, or None. They run before learning: a frame that is
refused here leaves no trace in the FDB. Sources: IEEE 802.1D-2004 7.12.6 and 802.1Q-2018 8.6.3
(reserved addresses), 802.3 3.2 (addresses).
"""

from __future__ import annotations

from vswitch.core.counters import DropReason
from vswitch.core.frame import ETHERNET_HEADER_SIZE, TAG_SIZE, VLAN_TAGS

__all__ = ["HEAD_SIZE", "max_frame", "refuse_head"]

HEAD_SIZE = 16  # bytes: destination, source, EtherType, and the TCI if that is a tag

_ZERO_MAC = bytes(6)
# 01-80-C2-00-00-00 to 0F: spanning tree, MAC control (so PAUSE, EtherType 0x8808, too), LACP,
# 802.1X, LLDP. They speak to the next bridge and never pass one.
_RESERVED_PREFIX = b"\x01\x80\xc2\x00\x00"


def max_frame(mtu: int) -> int:
    """Bytes of the longest frame, without FCS, on a LAN of this MTU: header and two tags on top."""
    return mtu + ETHERNET_HEADER_SIZE + 2 * TAG_SIZE


def refuse_head(head: bytes) -> DropReason | None:
    """Judge a frame by its first 16 bytes (fewer if it is shorter)."""
    if len(head) < ETHERNET_HEADER_SIZE or (len(head) < HEAD_SIZE and head[12:14] in VLAN_TAGS):
        return DropReason.RUNT
    if head[6] & 1:
        return DropReason.SOURCE_MULTICAST
    if head[6:12] == _ZERO_MAC:
        return DropReason.SOURCE_ZERO
    if head[:5] == _RESERVED_PREFIX and head[5] < 0x10:
        return DropReason.RESERVED_DESTINATION
    return None
