"""A capture file, block by block: pcapng, as Wireshark, tshark and tcpdump read it.

Source: draft-ietf-opsawg-pcapng. One section, little-endian; interfaces are Ethernet, times in
nanoseconds since the epoch. A file is one `section_header`, then in any order `interface`
(numbered from 0 as they come), `packet` and `interface_statistics` of interfaces that came before.

Pure. Text is cut where an option ends (65,535 bytes of UTF-8); nothing raises but `struct.error`
for a number that no field can hold.
"""

from __future__ import annotations

import struct
from functools import lru_cache

IN = 1  # directions of a packet (epb_flags): into the switch
OUT = 2

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6  # block types
_BYTE_ORDER = 0x1A2B3C4D
_ETHERNET = 1  # LINKTYPE_ETHERNET
_UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFF  # of a section
_COMMENT = 1  # options of every block
_USER_APPLICATION = 4  # of a section
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9  # of an interface
_FLAGS = 2  # of a packet
_RECEIVED, _DROPPED = 4, 5  # of statistics
_NANOSECONDS = b"\x09"  # 10 to the power of minus nine
_MAX_OPTION = 0xFFFF  # bytes
_COMMENTS = 256  # that are remembered: those of one conversation are alike

_HEAD = struct.Struct("<II")
_PACKET_HEAD = struct.Struct("<IIIIIII")


def section_header(application: str) -> bytes:
    """The beginning of a file, with the program that wrote it."""
    body = struct.pack("<IHHQ", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(_SECTION, body, _text(_USER_APPLICATION, application))


def interface(name: str, description: str = "", snap_length: int = 0) -> bytes:
    """One more interface; `snap_length` in bytes, 0 for whole packets."""
    options = _text(_NAME, name)
    if description:
        options += _text(_DESCRIPTION, description)
    options += _option(_RESOLUTION, _NANOSECONDS)
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, snap_length), options)


def packet(
    number: int, at: int, data: bytes, length: int, direction: int = 0, comment: str = ""
) -> bytes:
    """One packet of interface `number` at `at`; `length` is what it had before it was cut."""
    # HOT PATH of a capture
    options = _options_of(comment, direction)
    padded = data + bytes(-len(data) % 4)
    size = 32 + len(padded) + len(options)
    head = _PACKET_HEAD.pack(_PACKET, size, number, at >> 32, at & 0xFFFFFFFF, len(data), length)
    return b"".join((head, padded, options, size.to_bytes(4, "little")))


@lru_cache(_COMMENTS)
def _options_of(comment: str, direction: int) -> bytes:
    options = b""
    if comment:
        options += _text(_COMMENT, comment)
    if direction:
        options += _option(_FLAGS, direction.to_bytes(4, "little"))
    return options + bytes(4) if options else b""


def interface_statistics(
    number: int, at: int, received: int, dropped: int, comment: str = ""
) -> bytes:
    """What became of the packets of an interface up to now: seen, and lost by the capture."""
    options = _option(_RECEIVED, received.to_bytes(8, "little"))
    options += _option(_DROPPED, dropped.to_bytes(8, "little"))
    if comment:
        options += _text(_COMMENT, comment)
    body = struct.pack("<III", number, at >> 32, at & 0xFFFFFFFF)
    return _block(_STATISTICS, body, options)


def totals_at_end(tail: bytes) -> tuple[int, int] | None:
    """Received and dropped of all interfaces, of the last part of a file that this module wrote;
    None if it does not end with them.
    """
    received = dropped = 0
    end = len(tail)
    while end >= 52:
        size = int.from_bytes(tail[end - 4 : end], "little")
        start = end - size
        if size < 52 or start < 0 or _HEAD.unpack_from(tail, start) != (_STATISTICS, size):
            break
        received += int.from_bytes(tail[start + 24 : start + 32], "little")
        dropped += int.from_bytes(tail[start + 36 : start + 44], "little")
        end = start
    return (received, dropped) if end < len(tail) else None


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    size = 12 + len(body) + len(options) + 4
    return b"".join((_HEAD.pack(kind, size), body, options, bytes(4), size.to_bytes(4, "little")))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, text: str) -> bytes:
    value = text.encode("utf-8", "replace")
    if len(value) > _MAX_OPTION:
        value = value[:_MAX_OPTION].decode("utf-8", "ignore").encode("utf-8")
    return _option(code, value)
