"""What travels between the switch and foreign programs: taking it apart and putting it together.

| Kind          | On the wire                                                                |
|---------------|----------------------------------------------------------------------------|
| udp, qemu-dgram | a datagram is one Ethernet frame without FCS                             |
| tcp           | `0xBCBC`, length u16 BE, frame; again and again: the records of the switch |
| kcp           | the same stream, in segments of KCP (`conversations.py`)                     |
| qemu-stream   | length u32 BE, frame                                                       |
| vxlan         | a datagram is a header of 8 bytes (RFC 7348) and a frame                   |

Frames that no Ethernet of the MTU has are dropped and counted (`runt`, `oversize`). A stream keeps
back at most two frames. Pure; `BadRecord` for a stream that cannot be followed any further.

What is no frame costs a stream more than it costs its sender. So each place where none begins is a
lost step, and so are a record that is too short for one, and each `STRAY` bytes without any:
whoever reads the stream ends it when they are too many a second (`streams.py`), and one
read that is full of them ends it at once.
"""

from __future__ import annotations

import re
import struct
from collections import Counter, deque
from collections.abc import Iterator

from vswitch.errors import BadRecord
from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE, TAG_SIZE
from vswitch.frames.records import FRAME, HEADER_SIZE, frame_record

_FLAG = b"\xbc\xbc"
# A flag, with the higher byte of a length that is believed, or with nothing yet.
_FLAGGED = re.compile(rb"\xbc\xbc(?:[\x00-\x23]|\Z)")
_Candidate = tuple[int, int]  # what may be a frame: where its flag is, and where it ends
_WORD = struct.Struct(">I")
VXLAN_HEADER_SIZE = 8  # bytes: flags, 24 reserved bits, VNI, 8 reserved bits
_VXLAN_VALID = 0x08  # the flag that says that the VNI is one
# Bytes of the longest frame that a stream in step is believed to announce: jumbo frames, tagged.
# A longer one is no frame that anybody sends; in the framed stream, it is a lost step.
MAX_ANNOUNCED = 9000 + ETHERNET_HEADER_SIZE + 2 * TAG_SIZE
# What QEMU may announce (NET_BUFSIZE of include/net/net.h, 68 KiB); more is another protocol.
MAX_QEMU = 68 * 1024
ASTRAY = 1 << 20  # bytes without a frame in them, after which a stream is something else
STRAY = 8 * 1024  # bytes without a frame that are as dear as another lost step
LOST_AT_ONCE = 256  # lost steps of one read


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
        self.lost_steps = 0  # how often something else stood where a frame was to begin
        self._most_lost = LOST_AT_ONCE  # of them, after this read

    @property
    def held(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._held)

    def _begin(self, data: bytes) -> bytes:
        """What is to be looked at now."""
        self._most_lost = self.lost_steps + LOST_AT_ONCE
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        if self._held:
            data = self._held + data
            self._held = b""
        return data

    def _lose_step(self) -> None:
        self.lost_steps += 1
        if self.lost_steps > self._most_lost:
            raise BadRecord(f"more than {LOST_AT_ONCE} lost steps at once: something else is sent")


class _Search:
    """What may be a frame, since the step was lost. Positions are bytes since then.

    A candidate ends with the flag of the next frame, and then is a true one; or with something
    else, and then is `first` at best; or has not ended, and waits. All that waits ends within a
    frame, so that two frames are all that is looked back for. Nothing is looked at twice, and each
    candidate comes and goes once, so that the work is a constant for each byte.
    """

    def __init__(self) -> None:
        self.kept = 0  # where the bytes begin that are still there
        self.scanned = 0  # up to where flags have been looked for
        self.first: _Candidate | None = None  # a whole one that no flag follows
        self._waiting: deque[_Candidate] = deque()  # by where they begin
        self._starts: dict[int, int] = {}  # of what waits, by the end: the first that begins
        # Of what waits, those that nothing outlasts that begins later: by where they begin.
        self._lasting: list[_Candidate] = []

    def add(self, start: int, stop: int) -> None:
        """One more, behind the others."""
        self._waiting.append((start, stop))
        self._starts.setdefault(stop, start)
        while self._lasting and self._lasting[-1][1] <= stop:
            self._lasting.pop()
        self._lasting.append((start, stop))

    def ends_at(self, stop: int) -> int | None:
        """Where the candidate begins that ends there."""
        return self._starts.get(stop)

    def hides(self, start: int, stop: int) -> bool:
        """Whether one that begins inside goes on behind the end of this one."""
        while self._lasting and self._lasting[-1][1] <= stop:
            self._lasting.pop()
        return bool(self._lasting) and self._lasting[-1][0] > start

    def settled(self, end: int, unread: int) -> Iterator[_Candidate]:
        """What no flag follows and nothing that waits overlaps, now that all before `end` is known;
        at `unread`, something may begin.
        """
        while True:
            while self._waiting and self._waiting[0][1] < end:
                if self.first is None:
                    self.first = self._leave()
                elif self._waiting[0][0] < self.first[1]:
                    self._leave()
                else:
                    break
            if self.first is None or self.begin(unread) < self.first[1]:
                return
            found, self.first = self.first, None
            yield found

    def before(self, start: int) -> Iterator[_Candidate]:
        """What is whole and lies before a true one, each behind the other."""
        free = 0
        for each in ([self.first] if self.first else []) + list(self._waiting):
            if each[0] >= free and each[1] <= start:
                free = each[1]
                yield each

    def begin(self, unread: int) -> int:
        """Where the first begins that waits."""
        return self._waiting[0][0] if self._waiting else unread

    def _leave(self) -> _Candidate:
        start, stop = self._waiting.popleft()
        if self._starts.get(stop) == start:
            del self._starts[stop]
        return start, stop


class FramedStream(_Stream):
    """The stream of `0xBCBC | length | frame`.

    Where a flag should be and is none, the step is lost (`resync` is counted) and the next flag is
    looked for: one whose frame has a length that frames have. Of two that overlap, the one that is
    followed by another flag, or by nothing yet, is the true one; so hardly a frame is lost to what
    looks like a flag in between.
    """

    def __init__(self, mtu: int, dropped: Counter[str]) -> None:
        super().__init__(mtu, dropped)
        self._search: _Search | None = None  # while the step is lost
        self._astray = 0  # bytes that have come since the last frame, while it was

    @staticmethod
    def encode(records: list[bytes]) -> list[bytes]:
        """The records of the switch are those of the stream."""
        return records

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The frame records that `data` completes; `BadRecord` after 1 MiB without any."""
        # HOT PATH
        fresh = len(data)
        data = self._begin(data)
        end, start = len(data), 0
        records: list[bytes] = []
        while True:
            if self._search is not None:
                start = self._find_step(data, start, self._search, records)
                if self._search is not None:
                    self._note_astray(fresh, records)
                    break
            if end - start < HEADER_SIZE:
                break
            (word,) = _WORD.unpack_from(data, start)
            length = word & 0xFFFF
            if word >> 16 != FRAME or length > MAX_ANNOUNCED:
                self._dropped["resync"] += 1
                self._lose_step()
                self._search = _Search()
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
                self._lose_step()
            else:
                records.append(data[start:stop])
            start = stop
        self._held = data[start:]
        return records

    def _find_step(self, data: bytes, start: int, search: _Search, records: list[bytes]) -> int:
        """Where the stream goes on in step, or what is to be kept until more has come; `records`
        get the frames before that.
        """
        zero = start - search.kept  # where position 0 is in `data`
        end = len(data) - zero
        half = data.endswith(_FLAG[:1], start)
        unread, cut = end - half, False  # where a header may begin that is not whole yet
        match = _FLAGGED.search(data, search.scanned + zero)
        while match is not None:
            at = match.start() - zero
            true = search.ends_at(at)
            if true is not None:
                return self._take_up(data, zero, search, true, at, records)
            for found in search.settled(at, at):
                self._take_one(data, zero, found, records)
            if at + HEADER_SIZE > end:
                unread, cut, half = at, True, False
                break
            length = _WORD.unpack_from(data, at + zero)[0] & 0xFFFF
            if ETHERNET_HEADER_SIZE <= length <= self._longest:
                search.add(at, at + HEADER_SIZE + length)
            match = _FLAGGED.search(data, at + zero + 1)
        true = search.ends_at(end)
        if true is not None and not (cut and unread > true) and not search.hides(true, end):
            return self._take_up(data, zero, search, true, end, records)
        for found in search.settled(end - half, unread):
            self._take_one(data, zero, found, records)
        search.scanned = unread
        search.kept = search.begin(unread) if search.first is None else search.first[0]
        return search.kept + zero

    def _take_up(
        self, data: bytes, zero: int, search: _Search, at: int, stop: int, records: list[bytes]
    ) -> int:
        """The frame there is a true one: the stream is in step behind it."""
        for found in search.before(at):
            self._take_one(data, zero, found, records)
        records.append(data[at + zero : stop + zero])
        self._search = None
        self._astray = 0
        return stop + zero

    def _take_one(self, data: bytes, zero: int, found: _Candidate, records: list[bytes]) -> None:
        """A frame, and something else behind it: the step is lost once more."""
        records.append(data[found[0] + zero : found[1] + zero])
        self._dropped["resync"] += 1
        self._lose_step()

    def _note_astray(self, fresh: int, records: list[bytes]) -> None:
        before, self._astray = self._astray, 0 if records else self._astray + fresh
        self.lost_steps += max(0, self._astray // STRAY - before // STRAY)
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
            if length < ETHERNET_HEADER_SIZE:
                self._dropped["runt"] += 1
                self._lose_step()
            else:
                records.append(frame_record(data[start + _WORD.size : stop]))
            start = stop
        self._held = data[start:]
        return records
