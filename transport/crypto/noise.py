"""The Noise handshake: IK and its psk1, psk2 and hfs forms with 25519, ML-KEM-768 and BLAKE2s.

Own implementation of the Noise Protocol Framework, revision 34, and of its extension for hybrid
forward secrecy (noise_hfs_spec), for the patterns

    <- s
    ...
    -> e, es, [e1,] s, ss [psk1]      <- e, ee, [ekem1,] se [psk2]

on the primitives of `cryptography` and the standard library: first ciphers, HKDF and the symmetric
state, then the patterns. This program speaks `IKpsk1` and `IKhfs+psk1` only: with psk1 a first
message made with a wrong pre-shared key does not open, so nobody can make the responder give away
something to guess the key against. The other two are here because published vectors prove them.

In the hybrid form `e1` is an ephemeral encapsulation key, after the first key agreement as section
5 of the extension has it, and `ekem1` a ciphertext for it; its secret is mixed into the chain
beside those of X25519, so what is sealed after it, and the session, is secret as long as one of the
two is. The static keys, and with them authentication, stay X25519.

Invariants: a cipher key never seals two messages under one nonce; the counter starts at zero with
every new key. Each object makes one handshake, in order, `ValueError` otherwise. A message that
does not open leaves the state as it was, so a forged answer cannot end a handshake, and another
pre-shared key can be tried. Both sides end with the same hash only if they agree on everything.

Error contract: `*_untrusted` raise `BadPacket` for what came from outside (`bad_handshake`,
`low_order_point`, `unexpected` for a second answer); wrong use raises `ValueError`.
"""

from __future__ import annotations

import enum
import hmac
import struct
from collections.abc import Callable
from functools import cache
from hashlib import blake2s
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.crypto.identity import KEY_BYTES, PrivateKey
from transport.crypto.kem import (
    KEM_CIPHERTEXT_BYTES,
    KEM_KEY_BYTES,
    KemPrivateKey,
    KemPublicKey,
)
from transport.errors import BadPacket
from transport.wire.datagrams import Suite

# --- Ciphers, HKDF and the symmetric state (sections 4, 5 and 12) --------------------------------

CIPHER_KEY_BYTES: Final = 32  # both ciphers of Noise
HASH_BYTES: Final = 32  # BLAKE2s

Aead = ChaCha20Poly1305 | AESGCM


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
        exchange: the names of key agreements in the protocol name.
    """

    __slots__ = ("_chaining_key", "_counter", "_key", "_suite", "hash")

    def __init__(
        self, suite: Suite, pattern: str, prologue: bytes, exchange: str = "25519"
    ) -> None:
        name = f"Noise_{pattern}_{exchange}_{_CIPHER_NAMES[suite]}_BLAKE2s".encode()
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


# --- Patterns (sections 7 and 9) -----------------------------------------------------------------

NO_PSK: Final = bytes(KEY_BYTES)  # what IKpsk1 mixes in for a peer without a pre-shared key
_TAG: Final = 16  # bytes that the AEAD adds
_SEALED_KEY: Final = KEY_BYTES + _TAG
_SEALED_KEM_KEY: Final = KEM_KEY_BYTES + _TAG
_SEALED_CIPHERTEXT: Final = KEM_CIPHERTEXT_BYTES + _TAG
_MAX_MESSAGE: Final = 65535  # Noise section 3; an UDP datagram is smaller anyway


class Pattern(enum.Enum):
    """Handshake pattern; the value is its part of the protocol name."""

    IK = "IK"
    IKPSK1 = "IKpsk1"
    IKPSK2 = "IKpsk2"
    IKHFS_PSK1 = "IKhfs+psk1"

    @property
    def hybrid(self) -> bool:
        """Whether it has the tokens `e1` and `ekem1`."""
        return self is Pattern.IKHFS_PSK1


class _Step(enum.IntEnum):
    NEW = 0
    STATIC_READ = 1  # responder only
    MESSAGE_1 = 2
    DONE = 3


class _Handshake:
    """What both roles share."""

    def __init__(
        self,
        static: PrivateKey,
        responder_public: bytes,
        suite: Suite,
        prologue: bytes,
        pattern: Pattern,
    ) -> None:
        self._static = static
        self._pattern = pattern
        self._step = _Step.NEW
        self._psk = NO_PSK
        exchange = "25519+MLKEM768" if pattern.hybrid else "25519"
        self._state = SymmetricState(suite, pattern.value, prologue, exchange)
        self._state.mix_hash(responder_public)

    def split(self) -> tuple[bytes, bytes]:
        """Keys of the session, 32 bytes each: initiator to responder, responder to initiator."""
        self._expect(_Step.DONE)
        return self._state.split()

    @property
    def handshake_hash(self) -> bytes:
        """32 bytes that only these two sides share, different in every handshake; not secret."""
        self._expect(_Step.DONE)
        return self._state.hash

    def _expect(self, step: _Step) -> None:
        if self._step is not step:
            raise ValueError(f"this handshake is at {self._step.name}, not at {step.name}")

    def _set_psk(self, psk: bytes) -> None:
        if len(psk) != KEY_BYTES:
            raise ValueError(f"a pre-shared key is {KEY_BYTES} bytes")
        if self._pattern is Pattern.IK and psk != NO_PSK:
            raise ValueError("the pattern IK has no pre-shared key")
        self._psk = psk

    def _mix_ephemeral(self, state: SymmetricState, public: bytes) -> None:
        state.mix_hash(public)
        if self._pattern is not Pattern.IK:
            state.mix_key(public)  # Noise section 9.2

    def _mix_psk1(self, state: SymmetricState) -> None:
        if self._pattern in (Pattern.IKPSK1, Pattern.IKHFS_PSK1):
            state.mix_key_and_hash(self._psk)

    def _mix_psk2(self, state: SymmetricState) -> None:
        if self._pattern is Pattern.IKPSK2:
            state.mix_key_and_hash(self._psk)


class NoiseInitiator(_Handshake):
    """The side that knows the other's static key and speaks first.

    Args:
        static: our static key.
        responder: the 32-byte static public key of the other side.
        suite: the cipher.
        prologue: bytes that both sides must agree on; they are not sent.
        psk: 32 bytes, `NO_PSK` where there is none.
        pattern: the handshake pattern.
        ephemeral, kem: for tests with known answers only; fresh keys otherwise.
    """

    def __init__(
        self,
        static: PrivateKey,
        responder: bytes,
        suite: Suite,
        *,
        prologue: bytes = b"",
        psk: bytes = NO_PSK,
        pattern: Pattern = Pattern.IKPSK1,
        ephemeral: PrivateKey | None = None,
        kem: KemPrivateKey | None = None,
    ) -> None:
        super().__init__(static, responder, suite, prologue, pattern)
        self._responder = responder
        self._ephemeral = ephemeral or PrivateKey.generate()
        self._kem = (kem or KemPrivateKey()) if pattern.hybrid else None
        self._set_psk(psk)

    def write_message_1(self, payload: bytes) -> bytes:
        """The first message: ephemeral (32), in a hybrid one the sealed encapsulation key (1,200),
        sealed static (48), sealed payload (n + 16).

        Raises:
            ValueError: out of turn, or the responder's key is a low-order point.
        """
        self._expect(_Step.NEW)
        state = self._state.copy()
        ephemeral = self._ephemeral
        self._mix_ephemeral(state, ephemeral.public.raw)
        state.mix_key(ephemeral.exchange(self._responder))
        sealed_kem_key = b"" if self._kem is None else state.seal(self._kem.public)
        sealed_static = state.seal(self._static.public.raw)
        state.mix_key(self._static.exchange(self._responder))
        self._mix_psk1(state)
        sealed_payload = state.seal(payload)
        self._state, self._step = state, _Step.MESSAGE_1
        return ephemeral.public.raw + sealed_kem_key + sealed_static + sealed_payload

    def read_message_2_untrusted(self, message: bytes) -> bytes:
        """The payload of the answer. After a `BadPacket` the true answer is still accepted."""
        if self._step is _Step.DONE:
            raise BadPacket("unexpected")
        self._expect(_Step.MESSAGE_1)
        sealed_at = KEY_BYTES if self._kem is None else KEY_BYTES + _SEALED_CIPHERTEXT
        if not sealed_at + _TAG <= len(message) <= _MAX_MESSAGE:
            raise BadPacket("bad_handshake")
        state = self._state.copy()
        remote = message[:KEY_BYTES]
        self._mix_ephemeral(state, remote)
        state.mix_key(self._ephemeral.exchange_untrusted(remote))
        if self._kem is not None:
            ciphertext = state.open_untrusted(message[KEY_BYTES:sealed_at])
            state.mix_key(self._kem.decapsulate_untrusted(ciphertext))
        state.mix_key(self._static.exchange_untrusted(remote))
        self._mix_psk2(state)
        payload = state.open_untrusted(message[sealed_at:])
        self._state, self._step = state, _Step.DONE
        return payload


class NoiseResponder(_Handshake):
    """The side that answers. Reads message 1 in two steps: who it is, then with which key.

    Args: as `NoiseInitiator`.
    """

    def __init__(
        self,
        static: PrivateKey,
        suite: Suite,
        *,
        prologue: bytes = b"",
        pattern: Pattern = Pattern.IKPSK1,
        ephemeral: PrivateKey | None = None,
    ) -> None:
        super().__init__(static, static.public.raw, suite, prologue, pattern)
        self._ephemeral = ephemeral  # made late: a stranger's message must not cost us a key
        self._remote_ephemeral = b""
        self._kem_key = b""  # what is said to be one
        self._remote_kem: KemPublicKey | None = None
        self._remote_static = b""
        self._sealed_payload = b""

    def read_static_untrusted(self, message: bytes) -> bytes:
        """First step on message 1: the peer's static public key, 32 bytes; one X25519, no KEM.

        The peer has not proven yet that the key is its own: that takes the second step, and,
        because message 1 can be replayed, something sealed with the session's keys.
        """
        self._expect(_Step.NEW)
        static_at = KEY_BYTES + (_SEALED_KEM_KEY if self._pattern.hybrid else 0)
        payload_at = static_at + _SEALED_KEY
        if not payload_at + _TAG <= len(message) <= _MAX_MESSAGE:
            raise BadPacket("bad_handshake")
        state = self._state.copy()
        remote = message[:KEY_BYTES]
        self._mix_ephemeral(state, remote)
        state.mix_key(self._static.exchange_untrusted(remote))
        kem_key = b""
        if self._pattern.hybrid:
            kem_key = state.open_untrusted(message[KEY_BYTES:static_at])
        public = state.open_untrusted(message[static_at:payload_at])
        self._remote_ephemeral, self._remote_static = remote, public
        self._kem_key = kem_key
        self._sealed_payload = message[payload_at:]
        self._state, self._step = state, _Step.STATIC_READ
        return public

    def read_payload_untrusted(self, psk: bytes = NO_PSK) -> bytes:
        """Second step on message 1: its payload; one X25519, and last the encapsulation key.

        Args:
            psk: the 32 bytes chosen by the static key. After a `BadPacket` another may be tried.
        """
        self._expect(_Step.STATIC_READ)
        self._set_psk(psk)
        state = self._state.copy()
        state.mix_key(self._static.exchange_untrusted(self._remote_static))
        self._mix_psk1(state)
        payload = state.open_untrusted(self._sealed_payload)
        if self._pattern.hybrid:
            self._remote_kem = KemPublicKey.from_raw_untrusted(self._kem_key)
        self._state, self._step = state, _Step.MESSAGE_1
        return payload

    def write_message_2(self, payload: bytes) -> bytes:
        """The answer: ephemeral (32), in a hybrid one the sealed ciphertext (1,104), sealed
        payload (n + 16). The handshake is done.
        """
        self._expect(_Step.MESSAGE_1)
        state = self._state
        ephemeral = self._ephemeral or PrivateKey.generate()
        self._mix_ephemeral(state, ephemeral.public.raw)
        state.mix_key(ephemeral.exchange(self._remote_ephemeral))
        sealed_ciphertext = b""
        if self._remote_kem is not None:
            ciphertext, secret = self._remote_kem.encapsulate()
            sealed_ciphertext = state.seal(ciphertext)
            state.mix_key(secret)
        state.mix_key(ephemeral.exchange(self._remote_static))
        self._mix_psk2(state)
        sealed_payload = state.seal(payload)
        self._step = _Step.DONE
        return ephemeral.public.raw + sealed_ciphertext + sealed_payload


# --- Choice of the cipher suite ------------------------------------------------------------------


@cache
def preferred_suite() -> Suite:
    """AESGCM if /proc/cpuinfo lists AES, CHACHAPOLY otherwise and where it cannot be read.

    AES-GCM is the faster of the two where the processor has AES instructions (0.8 against 1.5 µs
    for 1,400 bytes) and the slower, and not constant-time, where it has not. Nothing is negotiated:
    the responder takes both.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return Suite.CHACHAPOLY
    # x86 calls the list "flags", ARM "Features".
    features = {
        word for line in lines if line.startswith(("flags", "Features")) for word in line.split()
    }
    return Suite.AESGCM if "aes" in features else Suite.CHACHAPOLY
