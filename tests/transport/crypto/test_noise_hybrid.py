"""The hybrid handshake against a second implementation, in both roles and both ciphers."""

import json

import pytest
from kyber_py.ml_kem import ML_KEM_768

from tests.transport.crypto.hybrid_reference import (
    VECTORS,
    State,
    first_message,
    hkdf,
    keys_of,
    public_of,
    read_second_message,
    vectors,
    x25519,
)
from transport.crypto import kem
from transport.crypto.identity import PrivateKey
from transport.crypto.kem import KemPrivateKey, KemPublicKey, PostQuantum, post_quantum_missing
from transport.crypto.noise import NoiseInitiator, NoiseResponder, Pattern
from transport.errors import BadPacket, TransportError
from transport.wire.datagrams import Suite

SUITES = {"ChaChaPoly": Suite.CHACHAPOLY, "AESGCM": Suite.AESGCM}
KNOWN = json.loads(VECTORS.read_text())
each_vector = pytest.mark.parametrize("known", KNOWN, ids=lambda known: known["cipher"])
each_cipher = pytest.mark.parametrize("cipher", SUITES)


def raw(known):
    return {name: bytes.fromhex(value) for name, value in known.items() if name != "cipher"}


def initiator(known, cipher):
    return NoiseInitiator(
        PrivateKey.from_raw(known["client"]),
        public_of(known["server"]),
        SUITES[cipher],
        prologue=known["prologue"],
        psk=known["psk"],
        pattern=Pattern.IKHFS_PSK1,
        ephemeral=PrivateKey.from_raw(known["client_ephemeral"]),
        kem=KemPrivateKey(known["kem_seed"]),
    )


def responder(known, cipher):
    return NoiseResponder(
        PrivateKey.from_raw(known["server"]),
        SUITES[cipher],
        prologue=known["prologue"],
        pattern=Pattern.IKHFS_PSK1,
        ephemeral=PrivateKey.from_raw(known["server_ephemeral"]),
    )


def read(side, message, psk):
    side.read_static_untrusted(message)
    return side.read_payload_untrusted(psk)


def test_the_second_implementation_still_gives_the_vectors():
    assert vectors() == KNOWN


def test_its_x25519_is_that_of_rfc_7748():
    scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
    point = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    product = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert x25519(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == product


@each_vector
def test_the_initiator_makes_the_vector(known):
    cipher, known = known["cipher"], raw(known)
    side = initiator(known, cipher)
    assert side.write_message_1(known["first_payload"]) == known["first"]
    assert side.read_message_2_untrusted(known["second"]) == known["second_payload"]
    assert side.split() == (known["to_server"], known["to_client"])
    assert side.handshake_hash == known["hash"]


@each_vector
def test_the_responder_reads_the_vector_and_is_read(known):
    """What it encapsulates is chance, so its answer is read by the second implementation."""
    cipher, known = known["cipher"], raw(known)
    side = responder(known, cipher)
    assert side.read_static_untrusted(known["first"]) == public_of(known["client"])
    assert side.read_payload_untrusted(known["psk"]) == known["first_payload"]
    second = side.write_message_2(known["second_payload"])
    state = State(cipher, known["prologue"], public_of(known["server"]))
    assert first_message(state, known, known["psk"], known["first_payload"]) == known["first"]
    assert read_second_message(state, known, second) == known["second_payload"]
    assert side.split() == tuple(hkdf(state.ck, b"", 2))
    assert side.handshake_hash == state.h


@each_cipher
def test_every_part_of_both_messages_is_authenticated(cipher):
    known = raw(next(each for each in KNOWN if each["cipher"] == cipher))
    for place in range(0, len(known["first"]), 97):
        changed = bytearray(known["first"])
        changed[place] ^= 4
        with pytest.raises(BadPacket):
            read(responder(known, cipher), bytes(changed), known["psk"])
    side = initiator(known, cipher)
    side.write_message_1(known["first_payload"])
    for place in range(0, len(known["second"]), 97):
        changed = bytearray(known["second"])
        changed[place] ^= 4
        with pytest.raises(BadPacket):
            side.read_message_2_untrusted(bytes(changed))
    assert side.read_message_2_untrusted(known["second"]) == known["second_payload"]


def test_an_encapsulation_key_that_is_none_is_found_last():
    """Whoever sends it has proven its own key: nothing is parsed for a stranger."""
    known = keys_of(9) | {"prologue": b"", "psk": bytes(32)}
    side = NoiseInitiator(
        PrivateKey.from_raw(known["client"]),
        public_of(known["server"]),
        Suite.AESGCM,
        pattern=Pattern.IKHFS_PSK1,
    )
    side._kem.public = b"\xff" * 1184  # coefficients of 4095, where q is 3329
    message = side.write_message_1(b"")
    other = responder(known, "AESGCM")
    assert other.read_static_untrusted(message) == public_of(known["client"])
    with pytest.raises(BadPacket) as caught:
        other.read_payload_untrusted(bytes(32))
    assert caught.value.reason == "bad_handshake"


# --- ML-KEM-768 against another library ----------------------------------------------------------


def test_keys_of_a_seed_are_the_same():
    seed = bytes(range(64))
    assert KemPrivateKey(seed).public == ML_KEM_768.key_derive(seed)[0]


def test_each_opens_what_the_other_has_encapsulated():
    ours = KemPrivateKey()
    secret, ciphertext = ML_KEM_768.encaps(ours.public)
    assert ours.decapsulate_untrusted(ciphertext) == secret
    public, private = ML_KEM_768.keygen()
    ciphertext, secret = KemPublicKey.from_raw_untrusted(public).encapsulate()
    assert ML_KEM_768.decaps(private, ciphertext) == secret


def test_a_changed_ciphertext_gives_another_secret_and_no_error():
    """Implicit rejection, and the same of both (FIPS 203 section 7.3)."""
    seed = bytes(range(1, 65))
    ours, (public, private) = KemPrivateKey(seed), ML_KEM_768.key_derive(seed)
    ciphertext, secret = KemPublicKey.from_raw_untrusted(public).encapsulate()
    changed = bytes((ciphertext[0] ^ 1,)) + ciphertext[1:]
    assert ours.decapsulate_untrusted(changed) != secret
    assert ours.decapsulate_untrusted(changed) == ML_KEM_768.decaps(private, changed)


@pytest.mark.parametrize("size", [0, 1087, 1089])
def test_a_ciphertext_of_another_size_is_refused(size):
    with pytest.raises(BadPacket):
        KemPrivateKey().decapsulate_untrusted(bytes(size))


# --- Where it is missing --------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(kem, "post_quantum_missing", lambda: "cryptography 43 has no ML-KEM-768")


def test_here_it_is():
    assert post_quantum_missing() is None
    assert [kem.usable_post_quantum(each) for each in PostQuantum] == list(PostQuantum)


def test_where_it_is_missing_auto_is_off_and_require_an_error(without):
    assert kem.usable_post_quantum(PostQuantum.AUTO) is PostQuantum.OFF
    assert kem.usable_post_quantum(PostQuantum.OFF) is PostQuantum.OFF
    with pytest.raises(TransportError, match="required, and cryptography 43 has no"):
        kem.usable_post_quantum(PostQuantum.REQUIRE)


def test_an_older_cryptography_says_what_it_takes(monkeypatch):
    monkeypatch.setitem(
        __import__("sys").modules, "cryptography.hazmat.primitives.asymmetric.mlkem", None
    )
    post_quantum_missing.cache_clear()
    try:
        assert "cryptography 47 or newer" in (post_quantum_missing() or "")
    finally:
        post_quantum_missing.cache_clear()
