"""Sealing and opening: one direction under one key, with its counter and its replay window.

A sealed datagram is `header (16) | ciphertext | tag (16)`; the header is the associated data
and names type, receiver index and counter. The counter is the nonce: it is never used twice
under a key, and a key that reaches its limit raises `KeyExhausted` instead.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag

from transport.constants import DATA_HEADER_SIZE, REJECT_AFTER_UNITS
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
        """The datagram for `plaintext`. Raises `KeyExhausted`. HOT PATH."""
        counter = self.counter
        if counter >= REJECT_AFTER_UNITS:
            raise KeyExhausted
        self.counter = counter + 1
        header = HEADER.pack(kind, 0, 1, 0, self._index, counter)
        return header + self._encrypt(self._nonce(counter), plaintext, header)


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
        """The plaintext; raises `BadPacket`. The window moves only for what opened. HOT PATH."""
        _, place, slices, zero, _, counter = HEADER.unpack_from(datagram)
        if slices != 1 or place or zero:
            raise BadPacket("slices_unsupported" if slices > 1 and not zero else "malformed")
        window = self._window
        if not window.check(counter):
            raise BadPacket("replay")
        try:
            plaintext = self._decrypt(
                self._nonce(counter), datagram[DATA_HEADER_SIZE:], datagram[:DATA_HEADER_SIZE]
            )
        except InvalidTag:
            self.failures += 1
            raise BadPacket("bad_seal") from None
        window.mark(counter)
        self.opened += 1
        if counter > self.newest:
            self.newest = counter
        return plaintext
