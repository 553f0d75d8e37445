"""The messages of a handshake at both ends: datagrams on one side, session keys on the other.

    initiator                                        responder
      init (type 1): key, credential, payload   ──▶
                                                ◀──  response (type 2): association, result
      first sealed datagram, under the new keys ──▶  only now does anything change

An init can be replayed by whoever saw it, so reading one changes nothing: the responder keeps
the keys aside until something opens under them (`endpoint/demux.py`). The clear bytes of the init
are part of the prologue, so type, version, suite, index and credential are authenticated too.

A hybrid handshake has the same payloads, and ML-KEM-768 beside X25519. Each side says under the
seal of every init and response, hybrid or not, whether it takes hybrid ones.

Error contract: `*_untrusted` raises `BadPacket` and leaves the state as it was.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import max_len, min_len

from transport.constants import PROLOGUE
from transport.crypto.cipher import Opener, Sealer
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.noise import NO_PSK, NoiseInitiator, NoiseResponder, Pattern
from transport.errors import BadPacket
from transport.session.keyring import KeyPair
from transport.wire.datagrams import (
    HYBRID_PAYLOAD_SIZE,
    Credential,
    InitHeader,
    InitPayload,
    ResponseHeader,
    ResponsePayload,
    Suite,
    decode_init_payload_untrusted,
    decode_response_payload_untrusted,
    encode_init_clear,
    encode_response,
)

NO_CREDENTIAL = Credential()


@frozen
class Peer:
    """Whom an initiator talks to and what it shows there."""

    key: PublicKey
    credential: Credential = NO_CREDENTIAL
    # 32 bytes; zeros where the credential is the key alone. Checked here: an init is made in the
    # endpoint's own tasks, where it must not fail.
    psk: bytes = field(default=NO_PSK, validator=[min_len(32), max_len(32)], repr=False)


class Initiation:
    """One init and the answer to it; a retry is a new one with new ephemeral keys."""

    def __init__(
        self, identity: PrivateKey, peer: Peer, suite: Suite, index: int, *, hybrid: bool = False
    ) -> None:
        self.hybrid = hybrid
        self._suite = suite
        self._index = index
        self._clear = encode_init_clear(peer.credential, suite, index, hybrid=hybrid)
        self._noise = NoiseInitiator(
            identity,
            peer.key.raw,
            suite,
            prologue=PROLOGUE + self._clear,
            psk=peer.psk,
            pattern=_pattern(hybrid),
        )

    def init(self, payload: InitPayload) -> bytes:
        """The init without its MACs, 200 bytes; a hybrid one 1,384."""
        said = payload.encode()
        if self.hybrid:
            said = said[:HYBRID_PAYLOAD_SIZE]
        return self._clear + self._noise.write_message_1(said)

    def read_response_untrusted(
        self, header: ResponseHeader, now: float
    ) -> tuple[ResponsePayload, KeyPair]:
        if header.hybrid != self.hybrid:
            raise BadPacket("unexpected")
        response = decode_response_payload_untrusted(
            self._noise.read_message_2_untrusted(header.noise)
        )
        if response.index_copy != header.sender_index:
            raise BadPacket("bad_handshake")
        to_responder, to_initiator = self._noise.split()
        return response, KeyPair(
            suite=self._suite,
            local_index=self._index,
            sealer=Sealer(self._suite, to_responder, header.sender_index),
            opener=Opener(self._suite, to_initiator),
            born=now,
            handshake_hash=self._noise.handshake_hash,
            reset_token=response.reset_token,
            hybrid=self.hybrid,
        )


class InitReader:
    """A responder's reading of one init, in two steps with a look-up between them."""

    def __init__(self, identity: PrivateKey, header: InitHeader) -> None:
        self._header = header
        self._noise = NoiseResponder(
            identity,
            header.suite,
            prologue=PROLOGUE + header.clear,
            pattern=_pattern(header.hybrid),
        )

    def read_peer_untrusted(self) -> PublicKey:
        """Whose init this claims to be; decides which pre-shared key to try."""
        return PublicKey(self._noise.read_static_untrusted(self._header.noise))

    def read_payload_untrusted(self, psk: bytes) -> InitPayload:
        """The payload, which proves key and pre-shared key, though not that it is fresh."""
        return decode_init_payload_untrusted(self._noise.read_payload_untrusted(psk))

    def respond(self, response: ResponsePayload, now: float) -> tuple[bytes, KeyPair]:
        """The response without its MACs (108 bytes; a hybrid one 1,212), and the keys to keep
        aside.
        """
        index, suite, hybrid = response.index_copy, self._header.suite, self._header.hybrid
        noise = self._noise.write_message_2(response.encode())
        to_responder, to_initiator = self._noise.split()
        pair = KeyPair(
            suite=suite,
            local_index=index,
            sealer=Sealer(suite, to_initiator, self._header.sender_index),
            opener=Opener(suite, to_responder),
            born=now,
            handshake_hash=self._noise.handshake_hash,
            hybrid=hybrid,
        )
        return encode_response(index, self._header.sender_index, noise, hybrid=hybrid), pair


def _pattern(hybrid: bool) -> Pattern:
    return Pattern.IKHFS_PSK1 if hybrid else Pattern.IKPSK1
