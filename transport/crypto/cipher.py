"""Sealing and opening: one direction under one key, with its counter and its replay window.

A sealed unit is `header (16) | ciphertext | tag (16)`; the header is the associated data and names
type, number of slices, receiver index and counter. A unit that does not fit one datagram travels
in slices, each with the header, in which only the slice's number differs. The counter is the nonce:
it is never used twice under a key, and a key that reaches its limit raises `KeyExhausted` instead.
"""

from __future__ import annotations

from hashlib import blake2s

from cryptography.exceptions import InvalidTag

from transport.constants import DATA_HEADER_SIZE, MAX_SLICES, REJECT_AFTER_UNITS, TAG_SIZE
from transport.crypto.noise import aead, nonce_packer
from transport.crypto.replay import ReplayWindow
from transport.errors import BadPacket, KeyExhausted
from transport.wire.datagrams import HEADER, Suite
from transport.wire.trains import Bytes

_PLACES = bytes(range(MAX_SLICES))


def conversation_number(handshake_hash: bytes) -> int:
    """KCP's conversation number: from the first handshake of an association."""
    return int.from_bytes(blake2s(handshake_hash + b"conv").digest()[:4], "little")


class Sealer:
    """The sending direction."""

    __slots__ = ("_encrypt", "_index", "_nonce", "counter", "limit")

    def __init__(self, suite: Suite, key: bytes, receiver_index: int) -> None:
        self._encrypt = aead(suite, key).encrypt
        self._nonce = nonce_packer(suite)
        self._index = receiver_index
        self.counter = 0  # of the next datagram
        self.limit = REJECT_AFTER_UNITS  # that is never used

    def seal(self, kind: int, plaintext: bytes) -> bytes:
        """The one datagram for a small `plaintext`. Raises `KeyExhausted`. HOT PATH."""
        counter = self.counter
        if counter >= self.limit:
            raise KeyExhausted
        self.counter = counter + 1
        header = HEADER.pack(kind, 0, 1, 0, self._index, counter)
        return header + self._encrypt(self._nonce(counter), plaintext, header)

    def seal_unit(self, kind: int, plaintext: bytes, slice_size: int) -> tuple[Bytes, int]:
        """The datagrams for `plaintext`, one or its slices of at most `slice_size` bytes each,
        laid end to end, and the size of each but the last. Raises `KeyExhausted`. HOT PATH.
        """
        size = len(plaintext) + TAG_SIZE
        if size <= slice_size:
            return self.seal(kind, plaintext), size + DATA_HEADER_SIZE
        counter = self.counter
        if counter >= self.limit:
            raise KeyExhausted
        self.counter = counter + 1
        slices = -(-size // slice_size)
        header = HEADER.pack(kind, 0, slices, 0, self._index, counter)
        sealed = memoryview(self._encrypt(self._nonce(counter), plaintext, header))
        step = -(-size // slices)  # equal, so that none is too short to be one
        pieces: list[Bytes] = [b""]
        pieces += [sealed[at : at + step] for at in range(0, size, step)]
        # The header goes between all pieces in one step, and the numbers of slices in another.
        train = bytearray(header).join(pieces)
        train[1 :: step + DATA_HEADER_SIZE] = _PLACES[:slices]
        return train, step + DATA_HEADER_SIZE


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

    def open_untrusted(self, datagram: bytes) -> bytes:
        """The plaintext of a unit that is one datagram; raises `BadPacket`."""
        return self.open_unit_untrusted(datagram[:DATA_HEADER_SIZE], datagram[DATA_HEADER_SIZE:])

    def open_unit_untrusted(self, header: bytes, sealed: Bytes) -> bytes:
        """The plaintext of a unit with the header of its slice 0; raises `BadPacket`. The window
        moves only for what opened. HOT PATH.
        """
        _, place, slices, zero, _, counter = HEADER.unpack(header)
        if place or zero or not slices:
            raise BadPacket("malformed")
        if counter >= REJECT_AFTER_UNITS:
            raise BadPacket("counter_limit")  # no sender may use it
        window = self._window
        if counter <= window.highest and not window.check(counter):
            raise BadPacket("replay")
        try:
            plaintext = self._decrypt(self._nonce(counter), sealed, header)
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
