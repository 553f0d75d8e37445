"""The handshake against the cacophony vectors: every byte of six handshakes and what follows."""

import json
from pathlib import Path

import pytest

from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NO_PSK, NoiseInitiator, NoiseResponder, Pattern, aead, nonce
from transport.wire.datagrams import Suite

VECTORS = Path(__file__).resolve().parents[3].parent / "shared" / "vectors" / "noise.json"
SUITES = {"ChaChaPoly": Suite.CHACHAPOLY, "AESGCM": Suite.AESGCM}

NAMES = [
    f"Noise_{pattern.value}_25519_{cipher}_BLAKE2s"
    for pattern in Pattern
    if not pattern.hybrid  # of which nobody has published any; test_noise_hybrid.py has our own
    for cipher in SUITES
]


def load(name):
    if not VECTORS.is_file():
        pytest.skip(f"the file with the Noise vectors is not here: {VECTORS}")
    vectors = json.loads(VECTORS.read_text())["vectors"]
    return next(vector for vector in vectors if vector["protocol_name"] == name)


def key(text):
    return PrivateKey.from_raw(bytes.fromhex(text))


def run(vector):
    """Both roles with the vector's keys, up to the end of message 2."""
    _, pattern_name, _, cipher, _ = vector["protocol_name"].split("_")
    suite, pattern = SUITES[cipher], Pattern(pattern_name)
    psk = bytes.fromhex(vector["init_psks"][0]) if "init_psks" in vector else NO_PSK
    initiator = NoiseInitiator(
        key(vector["init_static"]),
        bytes.fromhex(vector["init_remote_static"]),
        suite,
        prologue=bytes.fromhex(vector["init_prologue"]),
        psk=psk,
        pattern=pattern,
        ephemeral=key(vector["init_ephemeral"]),
    )
    responder = NoiseResponder(
        key(vector["resp_static"]),
        suite,
        prologue=bytes.fromhex(vector["resp_prologue"]),
        pattern=pattern,
        ephemeral=key(vector["resp_ephemeral"]),
    )
    first, second = (bytes.fromhex(message["payload"]) for message in vector["messages"][:2])
    sent = initiator.write_message_1(first)
    assert responder.read_static_untrusted(sent) == key(vector["init_static"]).public.raw
    assert responder.read_payload_untrusted(psk) == first
    answer = responder.write_message_2(second)
    assert initiator.read_message_2_untrusted(answer) == second
    return suite, initiator, responder, [sent, answer]


@pytest.mark.parametrize("name", NAMES)
def test_noise_vector(name):
    vector = load(name)
    suite, initiator, responder, sent = run(vector)
    expected = [bytes.fromhex(message["ciphertext"]) for message in vector["messages"]]
    assert sent == expected[:2]
    assert initiator.handshake_hash.hex() == vector["handshake_hash"]
    assert responder.handshake_hash.hex() == vector["handshake_hash"]
    assert initiator.split() == responder.split()

    ciphers = [aead(suite, secret) for secret in initiator.split()]
    transport = vector["messages"][2:]
    assert len(transport) == 4
    for number, message in enumerate(transport):
        # The initiator sends the first, then they take turns; each direction counts alone.
        cipher, stamp = ciphers[number % 2], nonce(suite, number // 2)
        sealed = bytes.fromhex(message["ciphertext"])
        assert cipher.encrypt(stamp, bytes.fromhex(message["payload"]), b"") == sealed
        assert cipher.decrypt(stamp, sealed, b"").hex() == message["payload"]


@pytest.mark.parametrize(
    ("cipher", "handshake_hash"),
    [
        ("AESGCM", "e021191d00ed98487edaecaa267d084404d3a9cf5c3593354d222632df19cc36"),
        ("ChaChaPoly", "a02debd3baac76b19863f7d1175927193fcee661e9f7ae87b6d086cb4926c783"),
    ],
)
def test_handshake_hash_of_our_pattern(cipher, handshake_hash):
    # The two cacophony vectors of IKpsk1 in short, so that they run wherever this file is: the
    # hash covers every byte of both messages.
    vector = {
        "protocol_name": f"Noise_IKpsk1_25519_{cipher}_BLAKE2s",
        "init_prologue": b"John Galt".hex(),
        "resp_prologue": b"John Galt".hex(),
        "init_psks": [b"This is my Austrian perspective!".hex()],
        "init_static": "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
        "init_ephemeral": "893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
        "init_remote_static": "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
        "resp_static": "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
        "resp_ephemeral": "bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
        "messages": [
            {"payload": b"Ludwig von Mises".hex()},
            {"payload": b"Murray Rothbard".hex()},
        ],
    }
    _, initiator, responder, _ = run(vector)
    assert initiator.handshake_hash.hex() == handshake_hash
    assert responder.handshake_hash.hex() == handshake_hash
