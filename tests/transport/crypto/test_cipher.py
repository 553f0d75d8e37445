"""Sealing and opening: every bit counts, no counter twice, nothing moves for what is forged."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from transport.constants import REJECT_AFTER_UNITS, SEALED_OVERHEAD
from transport.crypto.cipher import Opener, Sealer
from transport.crypto.noise import aead, nonce_packer
from transport.crypto.replay import WINDOW
from transport.errors import BadPacket, KeyExhausted
from transport.wire.datagrams import CONTROL, DATA, HEADER, Suite

KEY = bytes(range(32))
INDEX = 0x01020304
PLAINTEXT = b"one KCP datagram"

both_suites = pytest.mark.parametrize("suite", list(Suite))


def pair(suite=Suite.CHACHAPOLY):
    return Sealer(suite, KEY, INDEX), Opener(suite, KEY)


def reason(opener, datagram):
    with pytest.raises(BadPacket) as caught:
        opener.open_untrusted(datagram)
    return caught.value.reason


@both_suites
def test_round_trip(suite):
    sealer, opener = pair(suite)
    for number in range(5):
        datagram = sealer.seal(DATA, PLAINTEXT)
        assert len(datagram) == len(PLAINTEXT) + SEALED_OVERHEAD
        assert HEADER.unpack_from(datagram) == (DATA, 0, 1, 0, INDEX, number)
        assert opener.open_untrusted(datagram) == PLAINTEXT
        assert (opener.newest, opener.opened) == (number, number + 1)
    assert opener.open_untrusted(sealer.seal(CONTROL, b"")) == b""


def test_chachapoly_as_the_document_says():
    sealer, _ = pair(Suite.CHACHAPOLY)
    sealer.counter = 0x0102
    datagram = sealer.seal(DATA, PLAINTEXT)
    nonce = bytes(4) + (0x0102).to_bytes(8, "little")
    expected = ChaCha20Poly1305(KEY).encrypt(nonce, PLAINTEXT, datagram[:16])
    assert datagram[16:] == expected


def test_aes_gcm_as_the_document_says():
    sealer, _ = pair(Suite.AESGCM)
    sealer.counter = 0x0102
    datagram = sealer.seal(DATA, PLAINTEXT)
    nonce = bytes(4) + (0x0102).to_bytes(8, "big")
    assert datagram[16:] == AESGCM(KEY).encrypt(nonce, PLAINTEXT, datagram[:16])


@both_suites
def test_every_bit_flip_is_refused_and_moves_nothing(suite):
    sealer, opener = pair(suite)
    honest = sealer.seal(DATA, PLAINTEXT)
    for bit in range(8 * len(honest)):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << bit % 8
        assert reason(opener, bytes(flipped)) in ("bad_seal", "malformed", "counter_limit")
    assert (opener.newest, opener.opened) == (-1, 0)
    assert opener.failures > 8 * (len(honest) - 10)
    assert opener.open_untrusted(honest) == PLAINTEXT


def test_every_truncation_is_refused():
    sealer, opener = pair()
    honest = sealer.seal(DATA, PLAINTEXT)
    for size in range(SEALED_OVERHEAD, len(honest)):
        assert reason(opener, honest[:size]) == "bad_seal"
    assert opener.open_untrusted(honest) == PLAINTEXT


@pytest.mark.parametrize(
    ("place", "slices", "zero", "expected"),
    [
        (0, 2, 0, "bad_seal"),
        (1, 2, 0, "malformed"),
        (0, 0, 0, "malformed"),
        (1, 1, 0, "malformed"),
        (0, 1, 1, "malformed"),
        (0, 2, 1, "malformed"),
    ],
)
def test_slices(place, slices, zero, expected):
    _, opener = pair()
    datagram = HEADER.pack(DATA, place, slices, zero, INDEX, 0) + bytes(32)
    assert reason(opener, datagram) == expected
    assert opener.failures == (expected == "bad_seal")


def test_a_datagram_opens_once():
    sealer, opener = pair()
    datagrams = [sealer.seal(DATA, PLAINTEXT) for _ in range(3)]
    for datagram in reversed(datagrams):
        opener.open_untrusted(datagram)
    for datagram in datagrams:
        assert reason(opener, datagram) == "replay"
    assert opener.failures == 0
    assert opener.newest == 2


def test_a_datagram_that_left_the_window_does_not_open():
    sealer, opener = pair()
    late = [sealer.seal(DATA, PLAINTEXT) for _ in range(2)]
    sealer.counter = WINDOW
    opener.open_untrusted(sealer.seal(DATA, PLAINTEXT))
    assert reason(opener, late[0]) == "replay"
    assert opener.open_untrusted(late[1]) == PLAINTEXT


@pytest.mark.parametrize("counter", [2**64 - 1, 2**64 - 2**13 - 2, 2**63, REJECT_AFTER_UNITS])
def test_a_counter_that_no_sender_may_use_is_refused_before_it_opens(counter):
    _, opener = pair()
    header = HEADER.pack(DATA, 0, 1, 0, INDEX, counter)
    suite = Suite.CHACHAPOLY
    sealed = aead(suite, KEY).encrypt(nonce_packer(suite)(counter), b"", header)
    assert reason(opener, header + sealed) == "counter_limit"
    assert (opener.opened, opener.newest, opener.failures) == (0, -1, 0)


def test_a_forged_counter_does_not_move_the_window():
    sealer, opener = pair()
    forged = HEADER.pack(DATA, 0, 1, 0, INDEX, REJECT_AFTER_UNITS - 1) + bytes(16)
    assert reason(opener, forged) == "bad_seal"
    assert opener.open_untrusted(sealer.seal(DATA, PLAINTEXT)) == PLAINTEXT


def test_a_key_seals_only_so_much():
    sealer, opener = pair()
    sealer.counter = REJECT_AFTER_UNITS - 1
    last = sealer.seal(DATA, PLAINTEXT)
    for _ in range(2):
        with pytest.raises(KeyExhausted):
            sealer.seal(DATA, PLAINTEXT)
    assert opener.open_untrusted(last) == PLAINTEXT


def test_no_nonce_twice():
    sealer, _ = pair()
    counters = [HEADER.unpack_from(sealer.seal(kind, b""))[5] for kind in [DATA, CONTROL] * 50]
    assert counters == list(range(100))


@both_suites
def test_the_other_suite_does_not_open(suite):
    sealer, _ = pair(suite)
    other = Suite.AESGCM if suite is Suite.CHACHAPOLY else Suite.CHACHAPOLY
    assert reason(Opener(other, KEY), sealer.seal(DATA, PLAINTEXT)) == "bad_seal"
