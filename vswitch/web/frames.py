"""Frames of a WebSocket, RFC 6455 section 5: pure, and cheap at both ends.

wsproto makes the handshake (`websocket.py`), and is what the tests compare this with; its masking
is a loop for each byte, 4 ms for a unit of 60 kB, so the frames are made here.

Invariants: a length is checked before anything is kept for it; no more is held than one message and
one read. Binary messages, ping, pong and close, and nothing else; fragments, of which one message
has `FRAGMENT_LIMIT` at most, count as one message.

Error contract: `feed_untrusted` raises `BadRecord`, after which the connection cannot go on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import cache
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
Message = tuple[int, bytes | bytearray]
"""BINARY, CLOSE, PING or PONG, and what it carries."""


@cache
def _xor(byte: int) -> bytes:
    """What each byte becomes by XOR with this one, for `translate`."""
    return bytes(byte ^ each for each in range(256))


def mask(data: bytes | bytearray, key: bytes | bytearray) -> bytes | bytearray:
    """HOT PATH. XOR with the key of four bytes, again and again: all with the same, or each fourth
    byte, which takes more than twice as long, and all as one number longer still.
    """
    if key == 4 * key[:1]:
        return data.translate(_xor(key[0]))
    masked = bytearray(len(data))
    for place, byte in enumerate(key):
        masked[place::4] = data[place::4].translate(_xor(byte))
    return masked


def fresh_key() -> bytes:
    """To mask a frame with: one random byte, four times over. Masks are there so that no program
    chooses what bytes a proxy sees (section 10.3); what is sent here is encrypted already, and
    `mask` is fast with such a key.
    """
    return 4 * os.urandom(1)


def encode(kind: int, data: bytes | bytearray, key: bytes | None = None) -> list[Bytes]:
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

    def feed_untrusted(self, data: bytes | bytearray) -> list[Message]:
        """The messages that `data` completes, in order.

        Raises:
            BadRecord: it is no WebSocket, or one of more than was agreed.
        """
        waiting = self._waiting
        if waiting:  # else what is whole is taken from where it is
            waiting += data
            data = waiting
        messages: list[Message] = []
        at = 0
        while (head := self._header(data, at)) is not None:
            first, start, size = head
            end = start + size
            if len(data) < end:
                break
            body = data[start:end]
            if self._masked:
                body = mask(body, data[start - 4 : start])
            at = end
            self._take(first, body, messages)
        if waiting:
            del waiting[:at]
        else:
            waiting += data[at:]
        return messages

    def _header(self, data: bytes | bytearray, at: int) -> tuple[int, int, int] | None:
        """First byte, where the payload begins, its size; None until the header is whole."""
        if len(data) < at + 2:
            return None
        first, second = data[at], data[at + 1]
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
            if len(data) < at + 4:
                return None
            size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if size <= _CONTROL_LIMIT:
                raise BadRecord("a length that is longer than it has to be")
        if kind < CLOSE and size + len(self._parts or b"") > MESSAGE_LIMIT:
            raise BadRecord("a message that is too long")
        return first, start + (4 if self._masked else 0), size

    def _take(self, first: int, body: bytes | bytearray, messages: list[Message]) -> None:
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


def encode_all(datagrams: Iterable[bytes | bytearray], *, client: bool) -> bytes:
    """Binary messages laid end to end, as a client or a server sends them."""
    pieces: list[Bytes] = []
    for data in datagrams:
        pieces += encode(BINARY, data, fresh_key() if client else None)
    return b"".join(pieces)
