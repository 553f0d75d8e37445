"""Frames of a WebSocket, RFC 6455 section 5: pure, and cheap at both ends.

wsproto makes the handshake (`websocket.py`), and is what the tests compare this with; its masking
is a loop for each byte, 4 ms for a unit of 60 kB, so the frames are made here.

Invariants: a length is checked before anything is kept for it; no more is held than one message and
one read. Binary messages, ping, pong and close, and nothing else; fragments, of which one message
has `FRAGMENT_LIMIT` at most, count as one message.

Error contract: `feed_untrusted` raises `BadRecord`, after which the connection cannot go on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from vswitch.errors import BadRecord

CONTINUATION: Final = 0x0
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MESSAGE_LIMIT: Final = 65_535  # bytes; a sealed unit is shorter
FRAGMENT_LIMIT: Final = 64
_CONTROL_LIMIT = 125  # bytes, section 5.5
_FIN = 0x80
_MASKED = 0x80
_KINDS = frozenset((CONTINUATION, BINARY, CLOSE, PING, PONG))
_SHORT = struct.Struct("!BB")
_LONG = struct.Struct("!BBH")

Bytes = bytes | bytearray | memoryview
Message = tuple[int, bytes]
"""BINARY, CLOSE, PING or PONG, and what it carries."""


def mask(data: Bytes, key: bytes) -> bytes:
    """HOT PATH. XOR with the key of four bytes, again and again: as one number, about 0.6 GB/s."""
    size = len(data)
    repeated = (key * (size // 4 + 1))[:size]
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")
    return number.to_bytes(size, "little")


def encode(kind: int, data: Bytes, key: bytes | None = None) -> list[Bytes]:
    """A message as one frame, in pieces to be joined.

    Args:
        kind: `BINARY`, `CLOSE`, `PING` or `PONG`.
        data: at most `MESSAGE_LIMIT` bytes.
        key: four random bytes from a client, None from a server.

    Raises:
        ValueError: it is too long.
    """
    size = len(data)
    bit = 0 if key is None else _MASKED
    if size <= _CONTROL_LIMIT:
        header = _SHORT.pack(_FIN | kind, bit | size)
    elif size <= MESSAGE_LIMIT:
        header = _LONG.pack(_FIN | kind, bit | 126, size)
    else:
        raise ValueError(f"a message of {size} bytes")
    return [header, data] if key is None else [header, key, mask(data, key)]


class FrameReader:
    """What comes from the other side, cut into messages."""

    def __init__(self, *, masked: bool) -> None:
        """`masked`: what clients send is, and what servers send is not."""
        self._masked = masked
        self._waiting = bytearray()
        self._parts: bytearray | None = None  # of a message whose last fragment is to come
        self._fragments = 0  # in there

    @property
    def held(self) -> int:
        """Bytes that are kept until more comes."""
        return len(self._waiting) + len(self._parts or b"")

    def feed_untrusted(self, data: Bytes) -> list[Message]:
        """The messages that `data` completes, in order.

        Raises:
            BadRecord: it is no WebSocket, or one of more than was agreed.
        """
        waiting = self._waiting
        waiting += data
        messages: list[Message] = []
        at = 0
        while (head := self._header(at)) is not None:
            first, start, size = head
            end = start + size
            if len(waiting) < end:
                break
            with memoryview(waiting) as view:
                body = bytes(view[start:end])
            if self._masked:
                body = mask(body, bytes(waiting[start - 4 : start]))
            at = end
            self._take(first, body, messages)
        del waiting[:at]
        return messages

    def _header(self, at: int) -> tuple[int, int, int] | None:
        """First byte, where the payload begins, its size; None until the header is whole."""
        waiting = self._waiting
        if len(waiting) < at + 2:
            return None
        first, second = waiting[at], waiting[at + 1]
        kind = first & 0x0F
        if first & 0x70 or kind not in _KINDS:
            raise BadRecord("no kind of frame that is spoken here")
        if bool(second & _MASKED) is not self._masked:
            raise BadRecord("masked where it must not be, or not where it must")
        size, start = second & 0x7F, at + 2
        if kind >= CLOSE and (size > _CONTROL_LIMIT or not first & _FIN):
            raise BadRecord("a control frame that is long or in fragments")
        if size == 127:
            raise BadRecord("a message that is too long")
        if size == 126:
            if len(waiting) < at + 4:
                return None
            size, start = int.from_bytes(waiting[at + 2 : at + 4], "big"), at + 4
            if size <= _CONTROL_LIMIT:
                raise BadRecord("a length that is longer than it has to be")
        if kind < CLOSE and size + len(self._parts or b"") > MESSAGE_LIMIT:
            raise BadRecord("a message that is too long")
        return first, start + (4 if self._masked else 0), size

    def _take(self, first: int, body: bytes, messages: list[Message]) -> None:
        kind = first & 0x0F
        if kind >= CLOSE:
            if kind == CLOSE and len(body) == 1:
                raise BadRecord("half a reason")
            messages.append((kind, body))
            return
        if (kind == CONTINUATION) is (self._parts is None):
            raise BadRecord("fragments out of order")
        if first & _FIN and self._parts is None:
            messages.append((BINARY, body))
            return
        if self._parts is None:
            self._parts, self._fragments = bytearray(), 0
        self._parts += body
        self._fragments += 1
        if self._fragments > FRAGMENT_LIMIT:
            raise BadRecord("a message in too many fragments")
        if first & _FIN:
            messages.append((BINARY, bytes(self._parts)))
            self._parts = None


def encode_all(datagrams: Iterable[Bytes], keys: bytes | None = None) -> bytes:
    """Binary messages laid end to end; `keys` has four bytes for each, from a client."""
    pieces: list[Bytes] = []
    for number, data in enumerate(datagrams):
        key = None if keys is None else keys[4 * number : 4 * number + 4]
        pieces += encode(BINARY, data, key)
    return b"".join(pieces)
