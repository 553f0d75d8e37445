"""Sealing and opening: one direction under one key, with its counter and its replay window.

A sealed unit is `header (16) | ciphertext | tag (16)`; the header is the associated data and names
type, number of slices, receiver index and counter. A unit that does not fit one datagram travels
in slices, each with the header, in which only the slice's number differs. The counter is the nonce:
it is never used twice under a key, and a key that reaches its limit raises `KeyExhausted` instead.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from transport.constants import DATA_HEADER_SIZE, REJECT_AFTER_UNITS, SLICE_SIZE, TAG_SIZE
from transport.errors import BadPacket, KeyExhausted
from transport.noise import Suite, aead, nonce_packer
from transport.replay import ReplayWindow
from transport.wire import HEADER

__all__ = ["Opener", "Sealer"]


class Sealer:
    """The sending direction."""

    __slots__ = ("_encrypt", "_index", "_nonce", "counter")

    def __init__(self, suite: Suite, key: bytes, receiver_index: int) -> None:
        self._encrypt = aead(suite, key).encrypt
        self._nonce = nonce_packer(suite)
        self._index = receiver_index
        self.counter = 0  # of the next datagram

    def seal(self, kind: int, plaintext: bytes) -> bytes:
        """The one datagram for a small `plaintext`. Raises `KeyExhausted`. HOT PATH."""
        counter = self._next_counter()
        header = HEADER.pack(kind, 0, 1, 0, self._index, counter)
        return header + self._encrypt(self._nonce(counter), plaintext, header)

    def seal_unit(self, kind: int, plaintext: bytes) -> list[bytes]:
        """The datagrams for `plaintext`: one, or its slices. Raises `KeyExhausted`. HOT PATH."""
        size = len(plaintext) + TAG_SIZE
        if size <= SLICE_SIZE:
            return [self.seal(kind, plaintext)]
        counter = self._next_counter()
        slices = -(-size // SLICE_SIZE)
        header = HEADER.pack(kind, 0, slices, 0, self._index, counter)
        sealed = self._encrypt(self._nonce(counter), plaintext, header)
        rest, step = header[4:], -(-size // slices)  # equal, so that none is too short to be one
        return [
            bytes((kind, place, slices, 0)) + rest + sealed[at : at + step]
            for place, at in enumerate(range(0, size, step))
        ]

    def _next_counter(self) -> int:
        counter = self.counter
        if counter >= REJECT_AFTER_UNITS:
            raise KeyExhausted
        self.counter = counter + 1
        return counter


class Opener:
    """The receiving direction."""

    __slots__ = ("_decrypt", "_nonce", "_window", "failures", "newest", "opened")

    def __init__(self, suite: Suite, key: bytes) -> None:
        self._decrypt = aead(suite, key).decrypt
        self._nonce = nonce_packer(suite)
        self._window = ReplayWindow()
        self.failures = 0
        self.opened = 0
        self.newest = -1  # highest counter opened

    def open_untrusted(self, unit: bytes) -> bytes:
        """The plaintext of a whole unit with the header of its slice 0; raises `BadPacket`. The
        window moves only for what opened. HOT PATH.
        """
        _, place, slices, zero, _, counter = HEADER.unpack_from(unit)
        if place or zero or not slices:
            raise BadPacket("malformed")
        window = self._window
        if not window.check(counter):
            raise BadPacket("replay")
        try:
            plaintext = self._decrypt(
                self._nonce(counter), unit[DATA_HEADER_SIZE:], unit[:DATA_HEADER_SIZE]
            )
        except InvalidTag:
            self.failures += 1
            raise BadPacket("bad_seal") from None
        window.mark(counter)
        self.opened += 1
        if counter > self.newest:
            self.newest = counter
        return plaintext

    def seen(self, datagram: bytes) -> bool:
        """Whether the unit that a slice belongs to has been opened, or is too old."""
        return not self._window.check(int.from_bytes(datagram[8:DATA_HEADER_SIZE], "little"))
