"""KCP's segments as they are on the wire: 24 bytes of header, little-endian, and the content.

    conversation u32 | command u8 | fragment u8 | window u16 | time u32 | number u32 | una u32
    | size u32

`fragment` says how many of the same message follow, `window` how many segments the sender of this
one takes, `time` is its clock in milliseconds, which an acknowledgement gives back, and `una` says
that everything below that number has arrived. All numbers of 32 bits go round.

A datagram is one segment or more, nothing else; acknowledgements come first. Pure.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from transport.constants import KCP_HEADER_SIZE

HEADER: Final = Struct("<IBBHIIII")
PUSH: Final = 81
ACK: Final = 82
ASK: Final = 83  # for the window
TELL: Final = 84
PARITY: Final = 85  # ours: `lanes/parity.py`, in a datagram of its own
ROUND: Final = 0xFFFFFFFF  # mask of numbers and times
HALF: Final = 0x7FFFFFFF  # so far ahead a number may be of another, or it is behind it


def joined(segments: list[bytes], most: int) -> list[bytes]:
    """Datagrams of these segments, in their order, each of at most so many bytes but for a segment
    that has more. HOT PATH.
    """
    datagrams: list[bytes] = []
    begin = size = 0
    for at, segment in enumerate(segments):
        size += len(segment)
        if size > most and at > begin:
            datagrams.append(b"".join(segments[begin:at]))
            begin, size = at, len(segment)
    datagrams.append(b"".join(segments[begin:]))
    return datagrams


def only_acknowledgements(datagram: bytes) -> bool:
    """Whether it holds nothing that has to be acknowledged itself: its last segment is an
    acknowledgement, and those come first. HOT PATH.
    """
    return len(datagram) % KCP_HEADER_SIZE == 0 and datagram[4 - KCP_HEADER_SIZE] == ACK
