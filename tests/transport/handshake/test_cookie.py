"""Macs and cookies: who is answered, for how long a cookie lives, what a reply may do."""

import random
import struct
from hashlib import blake2s

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from transport.errors import BadPacket
from transport.handshake.cookie import (
    STAMPS_KEPT,
    CookieJar,
    MacStamper,
    check_mac1_untrusted,
    mac1,
)
from transport.stats import DROP_REASONS

SERVER = bytes(range(32))  # any 32 bytes do as a public key here
OTHER = bytes(range(1, 33))
SOURCE = bytes([192, 0, 2, 1]) + (41022).to_bytes(2, "big")
BODY = b"\x01\x01" + bytes(198)  # an init without its macs: 200 bytes
INDEX = 0x01020304


@pytest.fixture
def jar():
    return CookieJar(SERVER, random.Random(1).randbytes)


@pytest.fixture
def stamper():
    return MacStamper(SERVER)


def give_cookie(jar, stamper, now, source=SOURCE):
    packet = stamper.stamp(BODY, now)
    stamper.consume_reply_untrusted(jar.reply(packet[-32:-16], INDEX, source, now), now)


def rejected(function, *arguments):
    with pytest.raises(BadPacket) as caught:
        function(*arguments)
    assert caught.value.reason in DROP_REASONS
    return caught.value.reason


# --- mac1 ------------------------------------------------------------------------------------


def test_mac1_is_the_documented_construction():
    key = blake2s(b"mac1----" + SERVER, digest_size=32).digest()
    expected = blake2s(BODY, key=key, digest_size=16).digest()
    assert mac1(SERVER, BODY) == expected


def test_stamped_packet_passes(jar, stamper):
    packet = stamper.stamp(BODY, 0.0)
    assert len(packet) == 232
    assert packet[:200] == BODY
    assert packet[200:216] == mac1(SERVER, BODY)
    assert packet[216:] == bytes(16)
    jar.check_mac1_untrusted(packet)
    check_mac1_untrusted(SERVER, packet)


def test_mac1_covers_every_bit_but_mac2(jar, stamper):
    packet = stamper.stamp(BODY, 0.0)
    for bit in range(8 * 216):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        assert rejected(jar.check_mac1_untrusted, bytes(flipped)) == "bad_mac1"
    jar.check_mac1_untrusted(packet[:-1] + b"\x01")


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 231])
def test_mac1_of_cut_packets(jar, stamper, size):
    assert rejected(jar.check_mac1_untrusted, stamper.stamp(BODY, 0.0)[:size]) == "bad_mac1"


def test_mac1_for_another_key(jar):
    packet = MacStamper(OTHER).stamp(BODY, 0.0)
    assert rejected(jar.check_mac1_untrusted, packet) == "bad_mac1"
    assert rejected(check_mac1_untrusted, SERVER, packet) == "bad_mac1"


# --- cookie reply ----------------------------------------------------------------------------


def test_reply_is_the_documented_layout(jar, stamper):
    packet = stamper.stamp(BODY, 0.0)
    reply = jar.reply(packet[200:216], INDEX, SOURCE, 0.0)
    assert len(reply) == 64
    assert struct.unpack_from("<BBHI", reply) == (3, 1, 0, INDEX)
    key = blake2s(reply[8:32], key=blake2s(b"cookie--" + SERVER).digest()).digest()
    opened = ChaCha20Poly1305(key).decrypt(bytes(12), reply[32:], packet[200:216])
    assert opened == jar.cookie_for(SOURCE, 0.0)


def test_cookie_proves_the_address(jar, stamper):
    assert not jar.check_mac2(stamper.stamp(BODY, 0.0), SOURCE, 0.0)
    give_cookie(jar, stamper, 0.0)
    packet = stamper.stamp(BODY, 1.0)
    jar.check_mac1_untrusted(packet)
    assert jar.check_mac2(packet, SOURCE, 1.0)
    assert not jar.check_mac2(packet, SOURCE[:-1] + b"\x00", 1.0)  # another port
    assert not jar.check_mac2(packet, b"\x0a" + SOURCE[1:], 1.0)
    assert jar.accepts(SOURCE, stamper.cookie(1.0), 1.0)
    assert not jar.accepts(b"\x0a" + SOURCE[1:], stamper.cookie(1.0), 1.0)


def test_mac2_covers_every_bit(jar, stamper):
    give_cookie(jar, stamper, 0.0)
    packet = stamper.stamp(BODY, 1.0)
    for bit in range(8 * len(packet)):
        flipped = bytearray(packet)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not jar.check_mac2(bytes(flipped), SOURCE, 1.0)
    for size in (0, 15, 16, 231):
        assert not jar.check_mac2(packet[:size], SOURCE, 1.0)


@pytest.mark.parametrize("cookie", [b"", bytes(16), bytes(15), bytes(17)])
def test_no_cookie_is_no_proof(jar, cookie):
    assert not jar.accepts(SOURCE, cookie, 0.0)


def test_every_bit_of_a_reply_matters_but_its_index(jar, stamper):
    packet = stamper.stamp(BODY, 0.0)
    reply = jar.reply(packet[200:216], INDEX, SOURCE, 0.0)
    for bit in set(range(8 * 64)) - set(range(8 * 4, 8 * 8)):
        flipped = bytearray(reply)
        flipped[bit // 8] ^= 1 << bit % 8
        rejected(stamper.consume_reply_untrusted, bytes(flipped), 0.0)
        assert stamper.cookie(0.0) is None
    stamper.consume_reply_untrusted(reply, 0.0)  # forgeries did not spoil the true one
    assert stamper.cookie(0.0) == jar.cookie_for(SOURCE, 0.0)


def test_reasons_of_bad_replies(jar, stamper):
    take = stamper.consume_reply_untrusted
    assert rejected(take, jar.reply(bytes(16), INDEX, SOURCE, 0.0), 0.0) == "unexpected"
    packet = stamper.stamp(BODY, 0.0)
    reply = jar.reply(packet[200:216], INDEX, SOURCE, 0.0)
    assert rejected(take, reply[:-1], 0.0) == "malformed"
    assert rejected(take, reply + b"\x00", 0.0) == "malformed"
    assert rejected(take, b"\x02" + reply[1:], 0.0) == "malformed"
    assert rejected(take, reply[:1] + b"\x02" + reply[2:], 0.0) == "bad_version"
    assert rejected(take, reply[:3] + b"\x01" + reply[4:], 0.0) == "malformed"
    assert rejected(take, jar.reply(bytes(16), INDEX, SOURCE, 0.0), 0.0) == "bad_handshake"
    stranger = CookieJar(OTHER).reply(packet[200:216], INDEX, SOURCE, 0.0)
    assert rejected(take, stranger, 0.0) == "bad_handshake"


def test_reply_answers_one_of_the_last_packets_and_only_once(jar, stamper):
    packets = [stamper.stamp(bytes((n,)), n / 100) for n in range(STAMPS_KEPT + 1)]
    replies = [jar.reply(each[1:17], INDEX, SOURCE, 0.5) for each in packets]
    assert rejected(stamper.consume_reply_untrusted, replies[0], 1.0) == "bad_handshake"
    assert stamper.consume_reply_untrusted(replies[1], 1.0) == packets[1][1:17]
    for each in replies:  # nor does any of before
        assert rejected(stamper.consume_reply_untrusted, each, 100.0) == "unexpected"
    assert stamper.cookie(1.0 + 115.0) is None  # the repetition did not make it fresh


def test_replies_do_not_repeat_themselves(jar):
    replies = {jar.reply(bytes(16), INDEX, SOURCE, 0.0) for _ in range(100)}
    assert len({reply[8:32] for reply in replies}) == 100


# --- time ------------------------------------------------------------------------------------


def test_client_uses_a_cookie_for_115_seconds(jar, stamper):
    give_cookie(jar, stamper, 10.0)
    assert stamper.cookie(124.9) is not None
    assert stamper.cookie(125.0) is None
    assert stamper.cookie(9.0) is None  # a clock that steps back proves nothing
    assert stamper.stamp(BODY, 125.0)[-16:] == bytes(16)


@pytest.mark.parametrize(
    ("given", "last_good"),
    [(0.0, 239.9), (60.0, 239.9), (119.9, 239.9), (120.0, 359.9), (1000.0, 1199.9)],
)
def test_server_accepts_until_the_end_of_the_next_period(jar, given, last_good):
    jar.cookie_for(SOURCE, 0.0)  # periods start here
    cookie = jar.cookie_for(SOURCE, given)
    for now in (given, last_good):
        assert jar.accepts(SOURCE, cookie, now)
    assert not jar.accepts(SOURCE, cookie, last_good + 0.2)


def test_a_clients_fresh_cookie_is_always_accepted():
    for phase in range(0, 240, 7):
        jar, stamper = CookieJar(SERVER), MacStamper(SERVER)
        jar.cookie_for(SOURCE, 0.0)
        give_cookie(jar, stamper, float(phase))
        late = phase + 114.9
        assert jar.check_mac2(stamper.stamp(BODY, late), SOURCE, late)


def test_long_silence_forgets_both_secrets(jar):
    cookie = jar.cookie_for(SOURCE, 0.0)
    assert not jar.accepts(SOURCE, cookie, 1e6)
    assert jar.cookie_for(SOURCE, 1e6) != cookie


def test_clock_that_steps_back_rotates_nothing(jar):
    cookie = jar.cookie_for(SOURCE, 1000.0)
    assert jar.accepts(SOURCE, cookie, 0.0)
    assert jar.cookie_for(SOURCE, 0.0) == cookie


def test_secrets_differ_between_servers():
    assert CookieJar(SERVER).cookie_for(SOURCE, 0.0) != CookieJar(SERVER).cookie_for(SOURCE, 0.0)
