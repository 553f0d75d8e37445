"""Live handshakes with another implementation, `noiseprotocol`: both roles, both ciphers."""

import random

import pytest

from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NoiseInitiator, NoiseResponder, aead, nonce
from transport.errors import BadPacket
from transport.wire.datagrams import Suite

connection = pytest.importorskip("noise.connection", reason="noiseprotocol is not installed")

RUNS = 30  # for each role and each cipher: 120 handshakes
NAMES = {
    Suite.CHACHAPOLY: b"Noise_IKpsk1_25519_ChaChaPoly_BLAKE2s",
    Suite.AESGCM: b"Noise_IKpsk1_25519_AESGCM_BLAKE2s",
}
NOISE_ERRORS = (connection.NoiseInvalidMessage, connection.InvalidTag)

cases = pytest.mark.parametrize(
    ("suite", "seed"), [(suite, seed) for suite in Suite for seed in range(RUNS)]
)


class Case:
    """Random keys, prologue, pre-shared key and payloads, the same for the same seed."""

    def __init__(self, suite, seed):
        self.random = random.Random(seed)
        self.suite = suite
        self.client = PrivateKey.from_raw(self.random.randbytes(32))
        self.server = PrivateKey.from_raw(self.random.randbytes(32))
        self.prologue = self.random.randbytes(self.random.randrange(64))
        self.psk = self.random.randbytes(32)

    def payload(self):
        return self.random.randbytes(self.random.choice([0, 1, 48, 88, 1400]))

    def theirs(self, role):
        noise = connection.NoiseConnection.from_name(NAMES[self.suite])
        noise.set_psks(self.psk)
        noise.set_prologue(self.prologue)
        pair = connection.Keypair
        if role == "initiator":
            noise.set_as_initiator()
            noise.set_keypair_from_private_bytes(pair.STATIC, self.client.raw())
            noise.set_keypair_from_public_bytes(pair.REMOTE_STATIC, self.server.public.raw)
        else:
            noise.set_as_responder()
            noise.set_keypair_from_private_bytes(pair.STATIC, self.server.raw())
        noise.start_handshake()
        return noise

    def our_initiator(self, **changes):
        options = {"prologue": self.prologue, "psk": self.psk, **changes}
        return NoiseInitiator(self.client, self.server.public.raw, self.suite, **options)

    def our_responder(self):
        return NoiseResponder(self.server, self.suite, prologue=self.prologue)

    def exchange(self, noise, sending, receiving):
        """A few transport messages in both directions, empty associated data."""
        ours, theirs = aead(self.suite, sending), aead(self.suite, receiving)
        for counter in range(5):
            stamp, text = nonce(self.suite, counter), self.payload()
            assert noise.decrypt(ours.encrypt(stamp, text, b"")) == text
            assert theirs.decrypt(stamp, bytes(noise.encrypt(text)), b"") == text


@cases
def test_we_initiate(suite, seed):
    case = Case(suite, seed)
    ours, theirs = case.our_initiator(), case.theirs("responder")
    first, second = case.payload(), case.payload()
    assert theirs.read_message(ours.write_message_1(first)) == first
    assert ours.read_message_2_untrusted(bytes(theirs.write_message(second))) == second
    assert ours.handshake_hash == theirs.get_handshake_hash()
    sending, receiving = ours.split()
    case.exchange(theirs, sending, receiving)


@cases
def test_the_reference_initiates_and_we_respond(suite, seed):
    case = Case(suite, seed)
    ours, theirs = case.our_responder(), case.theirs("initiator")
    first, second = case.payload(), case.payload()
    message = bytes(theirs.write_message(first))
    assert ours.read_static_untrusted(message) == case.client.public.raw
    assert ours.read_payload_untrusted(case.psk) == first
    assert theirs.read_message(ours.write_message_2(second)) == second
    assert ours.handshake_hash == theirs.get_handshake_hash()
    receiving, sending = ours.split()
    case.exchange(theirs, sending, receiving)


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("change", [{"psk": bytes(32)}, {"prologue": b"other"}])
def test_both_implementations_refuse_the_same_messages(suite, change):
    case = Case(suite, 1)
    message = case.our_initiator(**change).write_message_1(b"")
    with pytest.raises(NOISE_ERRORS):
        case.theirs("responder").read_message(message)
    ours = case.our_responder()
    read, argument = ours.read_static_untrusted, message
    if "psk" in change:  # the static key comes before the pre-shared key
        assert ours.read_static_untrusted(message) == case.client.public.raw
        read, argument = ours.read_payload_untrusted, case.psk
    with pytest.raises(BadPacket, match="bad_handshake"):
        read(argument)
