"""The Noise handshake: IK and its psk1 and psk2 forms with 25519 and BLAKE2s.

Own implementation of the Noise Protocol Framework, revision 34, for the patterns

    <- s
    ...
    -> e, es, s, ss [psk1]      <- e, ee, se [psk2]

on the pieces of `symmetric.py`. This program speaks `IKpsk1` only: with psk1 a first message
made with a wrong pre-shared key does not open, so nobody can make the responder give away
something to guess the key against. The other two are here because published vectors prove them.

Invariants: each object makes one handshake, in order, `ValueError` otherwise. A message that does
not open leaves the state as it was, so a forged answer cannot end a handshake, and another
pre-shared key can be tried. Both sides end with the same hash only if they agree on everything.

Error contract: `*_untrusted` raise `BadPacket` for what came from outside (`bad_handshake`,
`low_order_point`, `unexpected` for a second answer); wrong use raises `ValueError`.
"""

from __future__ import annotations

import enum
from typing import Final

from transport.errors import BadPacket
from transport.identity import KEY_BYTES, PrivateKey
from transport.symmetric import Aead, Suite, SymmetricState, aead, hkdf, nonce, nonce_packer

__all__ = [
    "NO_PSK",
    "Aead",
    "NoiseInitiator",
    "NoiseResponder",
    "Pattern",
    "Suite",
    "aead",
    "hkdf",
    "nonce",
    "nonce_packer",
]

NO_PSK: Final = bytes(KEY_BYTES)  # what IKpsk1 mixes in for a peer without a pre-shared key
_TAG: Final = 16  # bytes that the AEAD adds
_SEALED_KEY: Final = KEY_BYTES + _TAG
_MAX_MESSAGE: Final = 65535  # Noise section 3; an UDP datagram is smaller anyway


class Pattern(enum.Enum):
    """Handshake pattern; the value is its part of the protocol name."""

    IK = "IK"
    IKPSK1 = "IKpsk1"
    IKPSK2 = "IKpsk2"


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
        self._state = SymmetricState(suite, pattern.value, prologue)
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

    def _mix_psk(self, state: SymmetricState, place: Pattern) -> None:
        if self._pattern is place:
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
        ephemeral: for tests with known answers only; a fresh key otherwise.
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
    ) -> None:
        super().__init__(static, responder, suite, prologue, pattern)
        self._responder = responder
        self._ephemeral = ephemeral or PrivateKey.generate()
        self._set_psk(psk)

    def write_message_1(self, payload: bytes) -> bytes:
        """The first message: ephemeral (32), sealed static (48), sealed payload (n + 16).

        Raises:
            ValueError: out of turn, or the responder's key is a low-order point.
        """
        self._expect(_Step.NEW)
        state = self._state.copy()
        ephemeral = self._ephemeral
        self._mix_ephemeral(state, ephemeral.public.raw)
        state.mix_key(ephemeral.exchange(self._responder))
        sealed_static = state.seal(self._static.public.raw)
        state.mix_key(self._static.exchange(self._responder))
        self._mix_psk(state, Pattern.IKPSK1)
        sealed_payload = state.seal(payload)
        self._state, self._step = state, _Step.MESSAGE_1
        return ephemeral.public.raw + sealed_static + sealed_payload

    def read_message_2_untrusted(self, message: bytes) -> bytes:
        """The payload of the answer. After a `BadPacket` the true answer is still accepted."""
        if self._step is _Step.DONE:
            raise BadPacket("unexpected")
        self._expect(_Step.MESSAGE_1)
        if not KEY_BYTES + _TAG <= len(message) <= _MAX_MESSAGE:
            raise BadPacket("bad_handshake")
        state = self._state.copy()
        remote = message[:KEY_BYTES]
        self._mix_ephemeral(state, remote)
        state.mix_key(self._ephemeral.exchange_untrusted(remote))
        state.mix_key(self._static.exchange_untrusted(remote))
        self._mix_psk(state, Pattern.IKPSK2)
        payload = state.open_untrusted(message[KEY_BYTES:])
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
        self._remote_static = b""
        self._sealed_payload = b""

    def read_static_untrusted(self, message: bytes) -> bytes:
        """First step on message 1: the peer's static public key, 32 bytes; one X25519.

        The peer has not proven yet that the key is its own: that takes the second step, and,
        because message 1 can be replayed, something sealed with the session's keys.
        """
        self._expect(_Step.NEW)
        if not KEY_BYTES + _SEALED_KEY + _TAG <= len(message) <= _MAX_MESSAGE:
            raise BadPacket("bad_handshake")
        state = self._state.copy()
        remote = message[:KEY_BYTES]
        self._mix_ephemeral(state, remote)
        state.mix_key(self._static.exchange_untrusted(remote))
        public = state.open_untrusted(message[KEY_BYTES : KEY_BYTES + _SEALED_KEY])
        self._remote_ephemeral, self._remote_static = remote, public
        self._sealed_payload = message[KEY_BYTES + _SEALED_KEY :]
        self._state, self._step = state, _Step.STATIC_READ
        return public

    def read_payload_untrusted(self, psk: bytes = NO_PSK) -> bytes:
        """Second step on message 1: its payload; one X25519.

        Args:
            psk: the 32 bytes chosen by the static key. After a `BadPacket` another may be tried.
        """
        self._expect(_Step.STATIC_READ)
        self._set_psk(psk)
        state = self._state.copy()
        state.mix_key(self._static.exchange_untrusted(self._remote_static))
        self._mix_psk(state, Pattern.IKPSK1)
        payload = state.open_untrusted(self._sealed_payload)
        self._state, self._step = state, _Step.MESSAGE_1
        return payload

    def write_message_2(self, payload: bytes) -> bytes:
        """The answer: ephemeral (32), sealed payload (n + 16). The handshake is done."""
        self._expect(_Step.MESSAGE_1)
        state = self._state
        ephemeral = self._ephemeral or PrivateKey.generate()
        self._mix_ephemeral(state, ephemeral.public.raw)
        state.mix_key(ephemeral.exchange(self._remote_ephemeral))
        state.mix_key(ephemeral.exchange(self._remote_static))
        self._mix_psk(state, Pattern.IKPSK2)
        sealed_payload = state.seal(payload)
        self._step = _Step.DONE
        return ephemeral.public.raw + sealed_payload
