"""What travels between the switch and foreign programs: taking it apart and putting it together.

| Kind          | On the wire                                                                |
|---------------|----------------------------------------------------------------------------|
| udp, qemu-dgram | a datagram is one Ethernet frame without FCS                             |
| tcp           | `0xBCBC`, length u16 BE, frame; again and again: the records of the switch |
| qemu-stream   | length u32 BE, frame                                                       |
| vxlan         | a datagram is a header of 8 bytes (RFC 7348) and a frame                   |

Frames that no Ethernet of the MTU has are dropped and counted (`runt`, `oversize`). A stream keeps
back at most two frames. Pure; `BadRecord` for a stream that cannot be followed any further.
"""

from __future__ import annotations

import struct
from collections import Counter

from vswitch.errors import BadRecord
from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE, TAG_SIZE
from vswitch.frames.records import FRAME, HEADER_SIZE, frame_record

_FLAG = b"\xbc\xbc"
_WORD = struct.Struct(">I")
VXLAN_HEADER_SIZE = 8  # bytes: flags, 24 reserved bits, VNI, 8 reserved bits
_VXLAN_VALID = 0x08  # the flag that says that the VNI is one
# Bytes of the longest frame that a stream in step is believed to announce: jumbo frames, tagged.
# A longer one is no frame that anybody sends; in the framed stream, it is a lost step.
MAX_ANNOUNCED = 9000 + ETHERNET_HEADER_SIZE + 2 * TAG_SIZE
# What QEMU may announce (NET_BUFSIZE of include/net/net.h, 68 KiB); more is another protocol.
MAX_QEMU = 68 * 1024
ASTRAY = 1 << 20  # bytes without a frame in them, after which a stream is something else


def longest_frame(mtu: int) -> int:
    """Bytes of the longest frame: header, two VLAN tags, and the MTU."""
    return ETHERNET_HEADER_SIZE + 2 * TAG_SIZE + mtu


def record_untrusted(frame: bytes, longest: int, dropped: Counter[str]) -> bytes | None:
    """The record of a frame; None for what is none, which is counted. HOT PATH."""
    size = len(frame)
    if size < ETHERNET_HEADER_SIZE:
        dropped["runt"] += 1
        return None
    if size > longest:
        dropped["oversize"] += 1
        return None
    return frame_record(frame)


def vxlan_header(vni: int) -> bytes:
    """What stands in front of each frame of that network."""
    return struct.pack(">B3xI", _VXLAN_VALID, vni << 8)


def without_vxlan_untrusted(datagram: bytes) -> tuple[int, bytes] | None:
    """VNI and frame of a datagram; None if it is no VXLAN. Reserved bits are ignored (RFC 7348)."""
    if len(datagram) < VXLAN_HEADER_SIZE or not datagram[0] & _VXLAN_VALID:
        return None
    return _WORD.unpack_from(datagram, 4)[0] >> 8, datagram[VXLAN_HEADER_SIZE:]


class _Stream:
    """What both streams share: a piece of a frame that waits, and a frame that is passed over."""

    def __init__(self, mtu: int, dropped: Counter[str]) -> None:
        self._longest = longest_frame(mtu)
        self._dropped = dropped
        self._held = b""
        self._skip = 0  # bytes of a frame that is too long, still to come

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._held)

    def _begin(self, data: bytes) -> bytes:
        """What is to be looked at now."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._held:
            data = self._held + data
            self._held = b""
        return data


class FramedStream(_Stream):
    """The stream of `0xBCBC | length | frame`.

    Where a flag should be and is none, the step is lost (`resync` is counted) and the next flag is
    looked for: one whose frame has a length that frames have. Of two that overlap, the one that is
    followed by another flag, or by nothing yet, is the true one; so hardly a frame is lost to what
    looks like a flag in between.
    """

    def __init__(self, mtu: int, dropped: Counter[str]) -> None:
        super().__init__(mtu, dropped)
        self._lost = False
        self._astray = 0  # bytes passed over since the last frame

    @staticmethod
    def encode(records: list[bytes]) -> list[bytes]:
        """The records of the switch are those of the stream."""
        return records

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The frame records that `data` completes; `BadRecord` after 1 MiB without any."""
        # HOT PATH
        data = self._begin(data)
        end, start = len(data), 0
        records: list[bytes] = []
        while True:
            if self._lost:
                start = self._find_step(data, start)
                if self._lost:
                    break
            if end - start < HEADER_SIZE:
                break
            (word,) = _WORD.unpack_from(data, start)
            length = word & 0xFFFF
            if word >> 16 != FRAME or length > MAX_ANNOUNCED:
                self._dropped["resync"] += 1
                self._lost = True
                continue
            stop = start + HEADER_SIZE + length
            if length > self._longest:
                self._dropped["oversize"] += 1
                self._skip = max(0, stop - end)
                start = min(stop, end)
                continue
            if stop > end:
                break
            if length < ETHERNET_HEADER_SIZE:
                self._dropped["runt"] += 1
            else:
                records.append(data[start:stop])
                self._astray = 0
            start = stop
        self._held = data[start:]
        return records

    def _find_step(self, data: bytes, start: int) -> int:
        """Where the next frame begins, or what is to be kept until more has come."""
        end = len(data)
        first = sure = -1  # where the first whole candidate is, and the first that is confirmed
        first_stop = 0
        waiting: list[int] = []  # candidates whose end has not come
        at = data.find(_FLAG, start)
        while at >= 0:
            if at + HEADER_SIZE > end:
                waiting.append(at)
                break
            length = _WORD.unpack_from(data, at)[0] & 0xFFFF
            stop = at + HEADER_SIZE + length
            if ETHERNET_HEADER_SIZE <= length <= self._longest:
                if stop > end:
                    waiting.append(at)
                elif stop == end or data[stop : stop + 2] == _FLAG:
                    sure = at
                    if stop < end:
                        waiting.clear()
                    break
                elif first < 0:
                    first, first_stop = at, stop
            at = data.find(_FLAG, at + 1)
        if sure >= 0 and self._may_hide(data, sure, end):
            waiting.append(sure)
            sure = -1
        found = first if first >= 0 and (sure < 0 or first_stop <= sure) else sure
        if found >= 0 and (found == sure or not waiting):
            self._pass_over(found - start)
            self._lost = False
            return found
        if waiting:
            keep = min(waiting) if first < 0 else min(first, *waiting)
        else:
            keep = end - 1 if end > start and data.endswith(_FLAG[:1]) else end
        self._pass_over(keep - start)
        return keep

    def _may_hide(self, data: bytes, at: int, end: int) -> bool:
        """Whether a candidate that ends with the data so far may hide the begin of a true one."""
        if at + HEADER_SIZE + (_WORD.unpack_from(data, at)[0] & 0xFFFF) < end:
            return False
        inner = data.find(_FLAG, at + 1)
        while inner >= 0:
            if inner + HEADER_SIZE > end:
                return True
            length = _WORD.unpack_from(data, inner)[0] & 0xFFFF
            if (
                ETHERNET_HEADER_SIZE <= length <= self._longest
                and inner + HEADER_SIZE + length > end
            ):
                return True
            inner = data.find(_FLAG, inner + 1)
        return False

    def _pass_over(self, count: int) -> None:
        self._astray += count
        if self._astray > ASTRAY:
            raise BadRecord(f"no frame in {self._astray} bytes: something else is sent here")


class QemuStream(_Stream):
    """The stream of QEMU's `-netdev stream` (and `socket`): `length u32 | frame`.

    There is no flag to look for, so what cannot be a length is the end: `BadRecord`.
    """

    @staticmethod
    def encode(records: list[bytes]) -> list[bytes]:
        """Records with the header of QEMU."""
        return [_WORD.pack(len(record) - HEADER_SIZE) + record[HEADER_SIZE:] for record in records]

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The frame records that `data` completes."""
        data = self._begin(data)
        end, start = len(data), 0
        records: list[bytes] = []
        while end - start >= _WORD.size:
            (length,) = _WORD.unpack_from(data, start)
            if length > MAX_QEMU:
                raise BadRecord(f"a frame of {length} bytes is announced: no stream of QEMU")
            stop = start + _WORD.size + length
            if length > self._longest:
                self._dropped["oversize"] += 1
                self._skip = max(0, stop - end)
                start = min(stop, end)
                continue
            if stop > end:
                break
            record = record_untrusted(data[start + _WORD.size : stop], self._longest, self._dropped)
            if record is not None:
                records.append(record)
            start = stop
        self._held = data[start:]
        return records
