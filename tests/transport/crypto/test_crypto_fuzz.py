# Invariant: whatever bytes come from outside, every `*_untrusted` function of the transport's
# leaves either raises BadPacket with a reason that has a counter, or was given exactly what an
# honest peer sent; and after any number of refusals the honest message is still accepted.
"""Random bytes, bit flips, cuts and splices against identity, Noise and cookies."""

import os
import random

import pytest

from transport.crypto.identity import PrivateKey
from transport.crypto.noise import NoiseInitiator, NoiseResponder
from transport.errors import BadPacket
from transport.handshake.cookie import CookieJar, MacStamper, check_mac1_untrusted
from transport.stats import DROP_REASONS
from transport.wire.datagrams import Suite

# Mutated inputs for each of the eight targets; every single bit flip and every cut come on top.
INPUTS = int(os.environ.get("VSWITCH_FUZZ_INPUTS", "6500"))
SEED = 7450

PROLOGUE = b"vswitch/1" + bytes(16)
PSK = bytes(range(32))
SOURCE = bytes(6)
CLIENT = PrivateKey.from_raw(b"\x11" * 32)
SERVER = PrivateKey.from_raw(b"\x22" * 32)

both_suites = pytest.mark.parametrize("suite", list(Suite))


def every_bit_and_cut(honest):
    for bit in range(8 * len(honest)):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)
    for size in range(len(honest)):
        yield honest[:size]


def mutations(honest, count, seed=SEED):
    """`count` inputs that are not `honest`."""
    rng = random.Random(seed)
    made = 0
    while made < count:
        data = bytearray(honest)
        kind = rng.randrange(7)
        if kind == 0:
            data = bytearray(rng.randbytes(rng.randrange(2 * len(honest))))
        elif kind == 1:
            data = bytearray(rng.randbytes(len(honest)))
        else:
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(len(data) + 1)
                if kind == 2:
                    data[at:at] = rng.randbytes(rng.randrange(1, 40))
                elif kind == 3:
                    del data[at : at + rng.randrange(1, 40)]
                elif kind == 4:
                    size = rng.randrange(1, 40)
                    data[at : at + size] = rng.choice([b"\x00", b"\xff", b"\x7f"]) * size
                elif kind == 5:
                    start = rng.randrange(len(honest))
                    data[at : at + 32] = honest[start : start + 32]
                elif at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
        if data != honest:
            made += 1
            yield bytes(data)


def refuses(function, inputs):
    """Call with every input; all must be refused. Returns how many there were."""
    count = 0
    for data in inputs:
        with pytest.raises(BadPacket) as caught:
            function(data)
        assert caught.value.reason in DROP_REASONS
        count += 1
    return count


def started(suite, payload=bytes(88)):
    initiator = NoiseInitiator(CLIENT, SERVER.public.raw, suite, prologue=PROLOGUE, psk=PSK)
    return initiator, initiator.write_message_1(payload)


def responder(suite):
    return NoiseResponder(SERVER, suite, prologue=PROLOGUE)


def test_exchange_agrees_or_refuses():
    rng = random.Random(SEED)
    reasons = []
    for number in range(INPUTS):
        size = 32 if number % 2 else rng.randrange(100)
        point = rng.choice([rng.randbytes(size), bytes(size), b"\xff" * size])
        try:
            shared = CLIENT.exchange_untrusted(point)
        except BadPacket as error:
            reasons.append(error.reason)
        else:
            assert len(shared) == 32
            assert any(shared)
    assert set(reasons) == {"bad_handshake", "low_order_point"}
    assert len(reasons) < INPUTS


@both_suites
def test_message_1(suite):
    _, honest = started(suite)
    target = responder(suite)

    def both_steps(data):
        # What follows the sealed static key is looked at in the second step only; a responder
        # is used for one message, so a first step that succeeds asks for a new one.
        nonlocal target
        if target.read_static_untrusted(data) == CLIENT.public.raw:
            used, target = target, responder(suite)
            used.read_payload_untrusted(PSK)

    assert refuses(both_steps, every_bit_and_cut(honest)) == 9 * len(honest)
    assert refuses(both_steps, mutations(honest, INPUTS)) == INPUTS
    assert target.read_static_untrusted(honest) == CLIENT.public.raw
    assert target.read_payload_untrusted(PSK) == bytes(88)


@both_suites
def test_pre_shared_keys_of_message_1(suite):
    _, honest = started(suite)
    target = responder(suite)
    target.read_static_untrusted(honest)
    guesses = (data for data in mutations(PSK, INPUTS) if len(data) == 32)
    assert refuses(target.read_payload_untrusted, guesses) > INPUTS / 5
    assert target.read_payload_untrusted(PSK) == bytes(88)


@both_suites
def test_message_2(suite):
    initiator, first = started(suite)
    server = responder(suite)
    server.read_static_untrusted(first)
    server.read_payload_untrusted(PSK)
    honest = server.write_message_2(bytes(48))
    read = initiator.read_message_2_untrusted
    assert refuses(read, every_bit_and_cut(honest)) == 9 * len(honest)
    assert refuses(read, mutations(honest, INPUTS)) == INPUTS
    assert read(honest) == bytes(48)
    assert refuses(read, [honest]) == 1
    assert initiator.split() == server.split()


def test_mac1():
    honest = MacStamper(SERVER.public.raw).stamp(random.Random(SEED).randbytes(200), 0.0)
    jar = CookieJar(SERVER.public.raw)
    damaged = [data for data in mutations(honest, INPUTS) if data[:-16] != honest[:-16]]
    damaged += [data for data in every_bit_and_cut(honest) if data[:-16] != honest[:-16]]
    assert refuses(jar.check_mac1_untrusted, damaged) > INPUTS
    assert refuses(lambda data: check_mac1_untrusted(SERVER.public.raw, data), damaged) > INPUTS
    for data in damaged:
        assert not jar.check_mac2(data, SOURCE, 0.0)
    jar.check_mac1_untrusted(honest)
    check_mac1_untrusted(SERVER.public.raw, honest)


def test_cookie_reply():
    jar, stamper = CookieJar(SERVER.public.raw), MacStamper(SERVER.public.raw)
    packet = stamper.stamp(bytes(200), 0.0)
    honest = jar.reply(packet[200:216], 1, SOURCE, 0.0)

    def damaged(inputs):
        # Bytes 4..7 are the receiver index, which is not this class's to check.
        return (data for data in inputs if data[:4] + data[8:] != honest[:4] + honest[8:])

    def consume(data):
        stamper.consume_reply_untrusted(data, 0.0)

    assert refuses(consume, damaged(every_bit_and_cut(honest))) > 500
    assert refuses(consume, damaged(mutations(honest, INPUTS))) > INPUTS / 2
    assert stamper.cookie(0.0) is None
    consume(honest)
    assert stamper.cookie(0.0) == jar.cookie_for(SOURCE, 0.0)
