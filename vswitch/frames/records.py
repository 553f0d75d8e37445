"""The record stream: how frames and control messages lie one behind the other inside a session.

A record is `flag u16 BE | length u16 BE | body`, `length` being that of the body in bytes. A record
travels through the switch as the `bytes` that arrived, header included, and is never encoded anew.

| flag   | body                                                                        |
|--------|-----------------------------------------------------------------------------|
| 0xBCBC | Ethernet frame without FCS                                                  |
| 0xBCBD | superframe: virtio-net header (10 bytes), then a frame not yet cut to the MTU |
| 0xBCBE | control message: UTF-8 JSON, at most 16 KiB                                 |

A frame has 14 bytes at least: an Ethernet header. A shorter one is never made an object, since a
million of them would be little to send and much to hold. (Superframes are looked at by who takes
them.)

The stream may be cut at any byte. `RecordSplitter` raises `BadRecord` for what cannot be a record;
after that the stream has lost its framing for good, and the splitter refuses everything.
"""

from __future__ import annotations

import struct

from vswitch.errors import BadRecord

FRAME = 0xBCBC
SUPERFRAME = 0xBCBD
CONTROL = 0xBCBE
FRAME_FLAG = FRAME & 0xFF  # the second byte of a record tells the flags apart

HEADER_SIZE = 4  # bytes: flag and length
VIRTIO_HEADER_SIZE = 10  # bytes: struct virtio_net_hdr of linux/virtio_net.h, without num_buffers
MIN_FRAME = 14  # bytes: an Ethernet header
MAX_BODY = 0xFFFF  # bytes: what the length field can say
MAX_RECORD = HEADER_SIZE + MAX_BODY  # bytes: also the most that a splitter holds back
MAX_CONTROL_BODY = 16 * 1024  # bytes: a welcome with hundreds of routes fits

_HEADER = struct.Struct(">HH")
_WORD = struct.Struct(">I")
# Flag and length read as one number. The three flags are consecutive, from frame to control, so one
# comparison checks the flag, the least of a frame and the most of a control body together.
_LOWEST_WORD = FRAME << 16 | MIN_FRAME
_LOWEST_CONTROL = CONTROL << 16
_HIGHEST_WORD = CONTROL << 16 | MAX_CONTROL_BODY


def encode_record(flag: int, body: bytes) -> bytes:
    """The record of `body`. `ValueError` for an unknown flag or a body that is too long."""
    limit = {FRAME: MAX_BODY, SUPERFRAME: MAX_BODY, CONTROL: MAX_CONTROL_BODY}.get(flag)
    if limit is None:
        raise ValueError(f"unknown record flag {flag:#06x}")
    if len(body) > limit:
        raise ValueError(
            f"a record of flag {flag:#06x} holds at most {limit} bytes, not {len(body)}"
        )
    return _HEADER.pack(flag, len(body)) + body


def frame_record(frame: bytes) -> bytes:
    """The record of one Ethernet frame (without FCS). `ValueError` above 65,535 bytes."""
    try:
        return b"\xbc\xbc" + len(frame).to_bytes(2, "big") + frame
    except OverflowError:
        raise ValueError(f"a frame has at most {MAX_BODY} bytes, not {len(frame)}") from None


def frame_of(record: bytes) -> bytes:
    """The Ethernet frame inside a frame or superframe record. `ValueError` for a control record."""
    if is_control(record):
        raise ValueError("a control record holds no frame")
    return record[HEADER_SIZE + VIRTIO_HEADER_SIZE if is_superframe(record) else HEADER_SIZE :]


def is_superframe(record: bytes) -> bool:
    """Whether this whole record is a superframe."""
    return record[1] == SUPERFRAME & 0xFF


def is_control(record: bytes) -> bool:
    """Whether this whole record is a control message."""
    return record[1] == CONTROL & 0xFF


def cut(data: bytes, size: int) -> list[bytes]:
    """`data` in pieces of `size` bytes, the last one shorter; no piece for no data."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def pack(records: list[bytes], size: int) -> list[bytes]:
    """A batch as pieces of at most `size` bytes, for a stream that is cut at any byte.

    Small records are laid end to end and cut anywhere. Large ones keep together, as far as they
    fit a piece: then whoever passes a piece on does so without copying it.
    """
    # HOT PATH
    data = b"".join(records)
    if len(data) <= size:
        return [data]
    if max(map(len, records)) * 4 <= size:
        return cut(data, size)
    pieces: list[bytes] = []
    group: list[bytes] = []
    room = size
    for record in records:
        length = len(record)
        if length > room:
            if group:
                pieces.append(b"".join(group))
            if length > size:
                pieces += cut(record, size)
                group, room = [], size
                continue
            group, room = [], size
        group.append(record)
        room -= length
    if group:
        pieces.append(b"".join(group))
    return pieces


def pack_whole(records: list[bytes], size: int) -> list[bytes]:
    """A batch as messages of whole records, in order: together up to `size` bytes, or one alone."""
    # HOT PATH of the datagram lane
    if sum(map(len, records)) <= size:
        return [b"".join(records)]
    messages: list[bytes] = []
    group: list[bytes] = []
    room = size
    for record in records:
        length = len(record)
        if length > room and group:
            messages.append(b"".join(group))
            group, room = [], size
        group.append(record)
        room -= length
    messages.append(b"".join(group))
    return messages


def split_whole_untrusted(messages: list[bytes]) -> list[bytes]:
    """The records of messages that hold whole frames and superframes, each by itself.

    Raises `BadRecord` for anything else: an unknown flag, a part of a record, a control message.
    """
    # HOT PATH of the datagram lane
    records: list[bytes] = []
    unpack_from = _WORD.unpack_from
    for data in messages:
        end = len(data)
        start = 0
        while start < end:
            if end - start < HEADER_SIZE:
                raise BadRecord("a part of a record on the datagram lane")
            (word,) = unpack_from(data, start)
            if not _LOWEST_WORD <= word < _LOWEST_CONTROL:
                raise BadRecord(f"{_named(word)} on the datagram lane")
            stop = start + HEADER_SIZE + (word & 0xFFFF)
            if stop > end:
                raise BadRecord("a part of a record on the datagram lane")
            records.append(data[start:stop])
            start = stop
    return records


class RecordSplitter:
    """Turns the bytes of one direction of a session back into records.

    Holds at most one incomplete record (65,539 bytes). The cost is linear in what is fed, however
    small the pieces are: pieces are joined once, when they complete a record.
    """

    __slots__ = ("_broken", "_missing", "_pieces", "held")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.held = 0  # bytes of the incomplete record that wait for the rest of it
        self._missing = 0  # bytes until _pieces are worth another look
        self._broken: str | None = None

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The records that `data` completes, in order.

        Raises `BadRecord` for an unknown flag, a frame below 14 bytes or a control body above 16
        KiB. The records in front of the bad one are lost with it: the peer is broken or hostile,
        and its session ends.
        """
        # HOT PATH: five steps a record; a message that is one record comes back uncopied.
        if self._broken is not None:
            raise BadRecord(self._broken)
        if self._pieces:
            if len(data) < self._missing:
                if data:
                    self._hold(data, self._missing - len(data))
                return []
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces.clear()
            self.held = self._missing = 0
        records: list[bytes] = []
        append = records.append
        unpack_from = _WORD.unpack_from
        end = len(data)
        start = 0
        missing = 0
        while start < end:
            if end - start < HEADER_SIZE:
                missing = HEADER_SIZE - (end - start)
                break
            (word,) = unpack_from(data, start)
            if not _LOWEST_WORD <= word <= _HIGHEST_WORD:
                raise self._refuse(word)
            stop = start + HEADER_SIZE + (word & 0xFFFF)
            if stop > end:
                missing = stop - end
                break
            append(data[start:stop])
            start = stop
        if missing:
            self._hold(data[start:], missing)
        return records

    def forget(self) -> None:
        """Let the incomplete record go: the stream has ended."""
        self._pieces.clear()
        self.held = self._missing = 0

    def _hold(self, piece: bytes, missing: int) -> None:
        self._pieces.append(piece)
        self.held += len(piece)
        self._missing = missing

    def _refuse(self, word: int) -> BadRecord:
        self._broken = _named(word)
        return BadRecord(self._broken)


def _named(word: int) -> str:
    """What is wrong with a header."""
    flag, length = word >> 16, word & 0xFFFF
    if flag == FRAME:
        return f"a frame of {length} bytes, at least {MIN_FRAME}"
    if flag == CONTROL:
        return f"a control record of {length} bytes, limit {MAX_CONTROL_BODY}"
    return f"unknown record flag {flag:#06x}"
