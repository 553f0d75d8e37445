"""What Noise is made of: ciphers, nonces, HKDF and the symmetric state, for 25519 and BLAKE2s.

Follows the Noise Protocol Framework, revision 34, sections 4, 5.1, 5.2 and 12, on the primitives
of `cryptography` and the standard library. The patterns are in `noise.py`.

Invariant: a cipher key never seals two messages under one nonce; the counter starts at zero with
every new key.

Error contract: `open_untrusted` raises `BadPacket` (`bad_handshake`) and nothing else; wrong use
raises `ValueError`.
"""

from __future__ import annotations

import enum
import hmac
import struct
from collections.abc import Callable
from hashlib import blake2s
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.errors import BadPacket

__all__ = [
    "CIPHER_KEY_BYTES",
    "HASH_BYTES",
    "Aead",
    "Suite",
    "SymmetricState",
    "aead",
    "hkdf",
    "nonce",
    "nonce_packer",
]

CIPHER_KEY_BYTES: Final = 32  # both ciphers of Noise
HASH_BYTES: Final = 32  # BLAKE2s

Aead = ChaCha20Poly1305 | AESGCM


class Suite(enum.IntEnum):
    """The cipher of handshake and session; the number is the wire's."""

    CHACHAPOLY = 1
    AESGCM = 2  # with the 32-byte keys of Noise: AES-256


_CIPHER_NAMES: Final = {Suite.CHACHAPOLY: "ChaChaPoly", Suite.AESGCM: "AESGCM"}
# Noise section 12.3 and 12.4: 32 zero bits, then the counter; the byte order differs.
_NONCE_PACKERS: Final = {
    Suite.CHACHAPOLY: struct.Struct("<4xQ").pack,
    Suite.AESGCM: struct.Struct(">4xQ").pack,
}


def aead(suite: Suite, key: bytes) -> Aead:
    """The cipher of a suite under a 32-byte key."""
    if len(key) != CIPHER_KEY_BYTES:
        raise ValueError(f"a cipher key is {CIPHER_KEY_BYTES} bytes")
    return ChaCha20Poly1305(key) if suite is Suite.CHACHAPOLY else AESGCM(key)


def nonce_packer(suite: Suite) -> Callable[[int], bytes]:
    """The function that makes a 12-byte nonce of a counter (0 ... 2**64 - 1), for hot paths."""
    return _NONCE_PACKERS[suite]


def nonce(suite: Suite, counter: int) -> bytes:
    """The 12-byte nonce of a counter (0 ... 2**64 - 1)."""
    return _NONCE_PACKERS[suite](counter)


def hkdf(chaining_key: bytes, material: bytes, outputs: int) -> tuple[bytes, ...]:
    """HKDF of Noise section 4.3 with HMAC-BLAKE2s: two or three outputs of 32 bytes."""
    secret = hmac.digest(chaining_key, material, blake2s)
    result: list[bytes] = []
    last = b""
    for number in range(1, outputs + 1):
        last = hmac.digest(secret, last + bytes([number]), blake2s)
        result.append(last)
    return tuple(result)


class SymmetricState:
    """The state of one handshake: Noise section 5.2, with the CipherState of 5.1 inside.

    Args:
        suite: the cipher.
        pattern: the pattern's part of the protocol name, such as `IKpsk1`.
        prologue: bytes that both sides must agree on.
    """

    __slots__ = ("_chaining_key", "_counter", "_key", "_suite", "hash")

    def __init__(self, suite: Suite, pattern: str, prologue: bytes) -> None:
        name = f"Noise_{pattern}_25519_{_CIPHER_NAMES[suite]}_BLAKE2s".encode()
        self.hash = name.ljust(HASH_BYTES, b"\0") if len(name) <= HASH_BYTES else _hash(name)
        self._suite = suite
        self._chaining_key = self.hash
        self._key = b""  # in the IK family a key is mixed in before anything is sealed
        self._counter = 0
        self.mix_hash(prologue)

    def copy(self) -> SymmetricState:
        """The same state once more: try on the copy, keep it only if all went well."""
        other = object.__new__(SymmetricState)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def mix_hash(self, data: bytes) -> None:
        """Bind `data` (MixHash)."""
        self.hash = _hash(self.hash + data)

    def mix_key(self, material: bytes) -> None:
        """Derive the next cipher key from a shared secret (MixKey)."""
        self._chaining_key, self._key = hkdf(self._chaining_key, material, 2)
        self._counter = 0

    def mix_key_and_hash(self, material: bytes) -> None:
        """Derive the next cipher key from a pre-shared key (MixKeyAndHash)."""
        self._chaining_key, mixed, self._key = hkdf(self._chaining_key, material, 3)
        self.mix_hash(mixed)
        self._counter = 0

    def seal(self, plaintext: bytes) -> bytes:
        """EncryptAndHash: 16 bytes longer than the plaintext."""
        cipher = aead(self._suite, self._key)
        sealed = cipher.encrypt(nonce(self._suite, self._counter), plaintext, self.hash)
        self._counter += 1
        self.mix_hash(sealed)
        return sealed

    def open_untrusted(self, sealed: bytes) -> bytes:
        """DecryptAndHash. Raises `BadPacket("bad_handshake")`; the state is as before."""
        cipher = aead(self._suite, self._key)
        try:
            plaintext = cipher.decrypt(nonce(self._suite, self._counter), sealed, self.hash)
        except InvalidTag:
            raise BadPacket("bad_handshake") from None
        self._counter += 1
        self.mix_hash(sealed)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The two session keys, the initiator's sending key first."""
        first, second = hkdf(self._chaining_key, b"", 2)
        return first, second


def _hash(data: bytes) -> bytes:
    return blake2s(data).digest()
