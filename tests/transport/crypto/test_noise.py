"""The handshake's promises: agreement, silence, order, retries; known answers of its pieces."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from transport.crypto.identity import PrivateKey
from transport.crypto.noise import (
    NO_PSK,
    NoiseInitiator,
    NoiseResponder,
    Pattern,
    aead,
    hkdf,
    nonce,
    nonce_packer,
)
from transport.errors import BadPacket
from transport.wire.datagrams import Suite

PSK = bytes(range(32))
PROLOGUE = b"vswitch/1" + bytes(16)

both_suites = pytest.mark.parametrize("suite", list(Suite))


@pytest.fixture(scope="module")
def client():
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def server():
    return PrivateKey.generate()


def pair(client, server, suite=Suite.CHACHAPOLY, *, psk=PSK, prologue=PROLOGUE, **options):
    initiator = NoiseInitiator(
        client, server.public.raw, suite, prologue=prologue, psk=psk, **options
    )
    return initiator, NoiseResponder(server, suite, prologue=prologue, **options)


def reason_of(function, *arguments):
    with pytest.raises(BadPacket) as caught:
        function(*arguments)
    return caught.value.reason


@both_suites
@pytest.mark.parametrize("pattern", list(Pattern))
def test_both_sides_derive_the_same_keys_and_hash(client, server, suite, pattern):
    psk = NO_PSK if pattern is Pattern.IK else PSK
    initiator, responder = pair(client, server, suite, psk=psk, pattern=pattern)
    first = initiator.write_message_1(b"hello")
    assert len(first) == 32 + (1184 + 16) * pattern.hybrid + 48 + 5 + 16
    assert responder.read_static_untrusted(first) == client.public.raw
    assert responder.read_payload_untrusted(psk) == b"hello"
    second = responder.write_message_2(b"")
    assert len(second) == 32 + (1088 + 16) * pattern.hybrid + 16
    assert initiator.read_message_2_untrusted(second) == b""
    assert initiator.split() == responder.split()
    assert len(set(initiator.split())) == 2
    assert initiator.handshake_hash == responder.handshake_hash


def test_every_handshake_is_different(client, server):
    seen = set()
    for _ in range(4):
        initiator, responder = pair(client, server)
        responder.read_static_untrusted(initiator.write_message_1(b""))
        responder.read_payload_untrusted(PSK)
        initiator.read_message_2_untrusted(responder.write_message_2(b""))
        seen |= {*initiator.split(), initiator.handshake_hash}
    assert len(seen) == 12


def test_client_identity_is_not_in_clear(client, server):
    initiator, _ = pair(client, server)
    assert client.public.raw not in initiator.write_message_1(b"")


def test_wrong_psk_stops_at_message_1_and_another_may_be_tried(client, server):
    initiator, responder = pair(client, server)
    responder.read_static_untrusted(initiator.write_message_1(b"hello"))
    assert reason_of(responder.read_payload_untrusted, NO_PSK) == "bad_handshake"
    with pytest.raises(ValueError, match="STATIC_READ"):
        responder.write_message_2(b"")
    assert responder.read_payload_untrusted(PSK) == b"hello"


@both_suites
def test_another_suite_prologue_pattern_or_responder_key_fails_the_handshake(client, server, suite):
    other_suite = Suite.AESGCM if suite is Suite.CHACHAPOLY else Suite.CHACHAPOLY
    first = pair(client, server, suite)[0].write_message_1(b"")
    for responder in (
        NoiseResponder(server, other_suite, prologue=PROLOGUE),
        NoiseResponder(server, suite, prologue=PROLOGUE + b"\x00"),
        NoiseResponder(server, suite, prologue=PROLOGUE, pattern=Pattern.IKPSK2),
        NoiseResponder(client, suite, prologue=PROLOGUE),
    ):
        assert reason_of(responder.read_static_untrusted, first) == "bad_handshake"


def test_forged_answers_do_not_end_the_handshake(client, server):
    initiator, responder = pair(client, server)
    responder.read_static_untrusted(initiator.write_message_1(b""))
    responder.read_payload_untrusted(PSK)
    second = responder.write_message_2(b"welcome")
    assert reason_of(initiator.read_message_2_untrusted, bytes(55)) == "low_order_point"
    assert reason_of(initiator.read_message_2_untrusted, second[:-1]) == "bad_handshake"
    assert reason_of(initiator.read_message_2_untrusted, b"\x09" * 55) == "bad_handshake"
    assert initiator.read_message_2_untrusted(second) == b"welcome"
    assert initiator.split() == responder.split()
    assert reason_of(initiator.read_message_2_untrusted, second) == "unexpected"


def test_replayed_message_1_gives_keys_that_the_replayer_does_not_have(client, server):
    initiator, responder = pair(client, server)
    first = initiator.write_message_1(b"")
    again = NoiseResponder(server, Suite.CHACHAPOLY, prologue=PROLOGUE)
    for side in (responder, again):
        side.read_static_untrusted(first)
        side.read_payload_untrusted(PSK)
        side.write_message_2(b"")
    assert not set(responder.split()) & set(again.split())


def test_order_is_enforced(client, server):
    initiator, responder = pair(client, server)
    for early in (
        initiator.split,
        responder.split,
        lambda: initiator.handshake_hash,
        lambda: initiator.read_message_2_untrusted(bytes(48)),
        lambda: responder.read_payload_untrusted(PSK),
        lambda: responder.write_message_2(b""),
    ):
        with pytest.raises(ValueError, match="handshake is at NEW"):
            early()
    first = initiator.write_message_1(b"")
    with pytest.raises(ValueError, match="handshake is at MESSAGE_1"):
        initiator.write_message_1(b"")
    responder.read_static_untrusted(first)
    with pytest.raises(ValueError, match="handshake is at STATIC_READ"):
        responder.read_static_untrusted(first)
    responder.read_payload_untrusted(PSK)
    with pytest.raises(ValueError, match="handshake is at MESSAGE_1"):
        responder.read_payload_untrusted(PSK)
    responder.write_message_2(b"")
    with pytest.raises(ValueError, match="handshake is at DONE"):
        responder.write_message_2(b"")


@pytest.mark.parametrize("size", [0, 31, 32, 80, 95, 65536, 100_000])
def test_sizes_of_message_1(server, size):
    responder = NoiseResponder(server, Suite.AESGCM)
    assert reason_of(responder.read_static_untrusted, b"\x09" * size) == "bad_handshake"


def test_wrong_use_by_the_program(client, server):
    with pytest.raises(ValueError, match="32 bytes"):
        pair(client, server, psk=b"short")
    with pytest.raises(ValueError, match="no pre-shared key"):
        pair(client, server, pattern=Pattern.IK)
    with pytest.raises(ValueError, match="low_order_point"):
        NoiseInitiator(client, bytes(32), Suite.AESGCM).write_message_1(b"")
    initiator, responder = pair(client, server)
    responder.read_static_untrusted(initiator.write_message_1(b""))
    with pytest.raises(ValueError, match="32 bytes"):
        responder.read_payload_untrusted(b"short")


# --- pieces ----------------------------------------------------------------------------------


@pytest.mark.parametrize("counter", [0, 1, 0x0102030405060708, 2**64 - 1])
def test_nonces(counter):
    little, big = counter.to_bytes(8, "little"), counter.to_bytes(8, "big")
    assert nonce(Suite.CHACHAPOLY, counter) == bytes(4) + little
    assert nonce(Suite.AESGCM, counter) == bytes(4) + big
    for suite in Suite:
        assert nonce_packer(suite)(counter) == nonce(suite, counter)


@both_suites
@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_cipher_keys_are_32_bytes(suite, size):
    with pytest.raises(ValueError, match="32 bytes"):
        aead(suite, bytes(size))


def test_suite_numbers_are_the_wires():
    assert {suite.name: int(suite) for suite in Suite} == {"CHACHAPOLY": 1, "AESGCM": 2}


@pytest.mark.parametrize("material", [b"", b"x", bytes(32), bytes(range(200))])
@pytest.mark.parametrize("outputs", [2, 3])
def test_hkdf_is_rfc_5869_with_empty_info(material, outputs):
    # RFC 5869 with the chaining key as salt; `cryptography` has its own implementation.
    salt = bytes(range(32))
    oracle = HKDF(hashes.BLAKE2s(32), 32 * outputs, salt, b"").derive(material)
    assert b"".join(hkdf(salt, material, outputs)) == oracle
