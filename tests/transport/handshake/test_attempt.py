"""One attempt at a session: when it sends, what it does with answers, when it stops."""

import itertools
from collections import Counter

import pytest

from transport.constants import INIT_SIZE
from transport.crypto.identity import PrivateKey
from transport.crypto.kem import PostQuantum
from transport.crypto.noise import NO_PSK
from transport.errors import BadPacket
from transport.handshake.admission import HANDSHAKE_BURST_PER_ADDRESS, HANDSHAKES_PER_ADDRESS
from transport.handshake.attempt import COPY_INTERVAL, HANDSHAKE_RETRY_JITTER, Negotiation
from transport.handshake.cookie import CookieJar, MacStamper
from transport.handshake.messages import InitReader, Peer
from transport.ratelimit import TokenBucket
from transport.wire.datagrams import ResponsePayload, Result, Suite, decode_init_untrusted

CLIENT = PrivateKey.from_raw(b"\x11" * 32)
SERVER = PrivateKey.from_raw(b"\x22" * 32)
INDEX = 0xA0
SOURCE = b"here"


def negotiation(
    *,
    jitter=0.0,
    resume=0,
    give_up_at=100.0,
    stamper=None,
    post_quantum=PostQuantum.OFF,
    forms=None,
    address=("198.51.100.1", 7450),
):
    clock = iter(range(1, 1000))
    chance = min(int((jitter + 1) * 2**31), 2**32 - 1).to_bytes(4, "little")
    return Negotiation(
        CLIENT,
        Peer(SERVER.public),
        Suite.CHACHAPOLY,
        address=address,
        index=INDEX,
        resume=resume,
        stamper=stamper or MacStamper(SERVER.public.raw),
        now=0.0,
        give_up_at=give_up_at,
        random_bytes=lambda size: (chance * size)[:size],
        timestamp_ns=lambda: next(clock),
        post_quantum=post_quantum,
        forms=forms,
    )


def sent_by(subject, now):
    """The init of one datagram that it sends, None where it sends nothing."""
    sent = subject.datagrams_to_send(now)
    assert len(sent) < 2
    return sent[0] if sent else None


def read(init):
    reader = InitReader(SERVER, decode_init_untrusted(init))
    reader.read_peer_untrusted()
    return reader, reader.read_payload_untrusted(NO_PSK)


def response_to(init, result=Result.OK):
    payload = ResponsePayload(association=5, index_copy=0xB0, receive_window=128, result=result)
    response, pair = read(init)[0].respond(payload, 0.0)
    return MacStamper(CLIENT.public.raw).stamp(response, 0.0), pair


def reason(function, *arguments):
    with pytest.raises(BadPacket) as caught:
        function(*arguments)
    return caught.value.reason


def sent_until(subject, until):
    """What it sends, and when."""
    sent = []
    while (due := subject.deadline()) < until:
        datagram = sent_by(subject, due)
        if datagram is None:
            break
        sent.append((due, datagram))
    return sent


def sending_times(subject, until):
    """When each init left for the first time."""
    first = {}
    for when, datagram in sent_until(subject, until):
        first.setdefault(datagram, when)
    return list(first.values())


def copies(sent):
    """How often each init left, in their order."""
    return list(Counter(datagram for _, datagram in sent).values())


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
def test_retries(jitter):
    times = sending_times(negotiation(jitter=jitter), 60.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    scale = 1 + HANDSHAKE_RETRY_JITTER * jitter
    assert times[0] == 0.0
    assert gaps[:5] == pytest.approx([scale * gap for gap in (0.5, 1, 1.5, 1.5, 1.5)])


def test_later_inits_without_an_answer_are_sent_in_more_copies_a_moment_apart():
    sent = sent_until(negotiation(), 4.0)
    assert copies(sent) == [1, 4, 8, 8]
    for (earlier, one), (later, other) in itertools.pairwise(sent):
        assert one != other or later - earlier == pytest.approx(COPY_INTERVAL)


def test_an_init_with_a_cookie_has_fewer_copies():
    """Each of them costs the responder a key exchange, and few others have one."""
    subject = negotiation()
    jar = CookieJar(SERVER.public.raw)
    sent = sent_until(subject, 1.65)
    assert copies(sent) == [1, 4, 3]
    subject.receive_cookie_untrusted(jar.reply(sent[-1][1][200:216], INDEX, SOURCE, 1.65), 1.65)
    later = sent_until(subject, 5.6)
    assert [when for when, _ in later[:2]] == pytest.approx([1.65, 2.15])  # no copy of the old one
    assert copies(later) == [1, 2, 4, 4]


def test_after_an_answer_no_copy_follows():
    subject = negotiation()
    sent = sent_until(subject, 0.58)
    assert copies(sent) == [1, 2]
    subject.hurry(0.58)
    assert copies(sent_until(subject, 1.0)) == [1]


def test_copies_end_with_the_time_for_all():
    assert copies(sent_until(negotiation(give_up_at=0.58), 10.0)) == [1, 2]


def test_copies_are_never_more_than_one_address_may_send():
    """Or a stranger, who is to hear nothing, would be told to come back with a cookie."""
    allowed = TokenBucket(HANDSHAKES_PER_ADDRESS, HANDSHAKE_BURST_PER_ADDRESS, 0.0)
    assert all(allowed.allow(when) for when, _ in sent_until(negotiation(jitter=-1.0), 20.0))


def test_no_init_leaves_between_retries():
    subject = negotiation()
    assert sent_by(subject, 0.0)
    assert sent_by(subject, 0.0) is None
    assert sent_by(subject, 0.499) is None
    assert sent_by(subject, 0.5)
    assert subject.sent == 2


def test_an_attempt_ends_at_its_deadline():
    subject = negotiation(give_up_at=4.0)
    assert sending_times(subject, 100.0) == [0.0, 0.5, 1.5, 3.0]
    assert subject.deadline() == 4.0
    assert sent_by(subject, 4.0) is None


def test_an_init_carries_the_payload_that_the_responder_reads():
    subject = negotiation(resume=0x77)
    init = sent_by(subject, 0.0)
    assert len(init) == INIT_SIZE
    CookieJar(SERVER.public.raw).check_mac1_untrusted(init)
    assert init[-16:] == bytes(16)
    payload = read(init)[1]
    assert payload.resume == 0x77
    assert payload.cookie_echo == bytes(16)
    assert payload.timestamp_ns == 1


def test_each_retry_has_a_new_ephemeral_key_and_timestamp():
    subject = negotiation()
    inits = [sent_by(subject, now) for now in (0.0, 1.0, 3.0)]
    assert len({init[16:48] for init in inits}) == 3
    assert [read(init)[1].timestamp_ns for init in inits] == [1, 2, 3]


def test_an_answer_gives_keys():
    subject = negotiation()
    response, theirs = response_to(sent_by(subject, 0.0))
    agreed = subject.receive_response_untrusted(response, 0.5)
    assert agreed.response.association == 5
    assert agreed.pair.local_index == INDEX
    assert agreed.pair.handshake_hash == theirs.handshake_hash


def test_a_refusal_is_an_answer():
    subject = negotiation()
    response, _ = response_to(sent_by(subject, 0.0), Result.REVOKED)
    assert subject.receive_response_untrusted(response, 0.5).response.result is Result.REVOKED


def test_an_answer_before_the_question():
    response, _ = response_to(sent_by(negotiation(), 0.0))
    assert reason(negotiation().receive_response_untrusted, response, 0.0) == "unexpected"


@pytest.mark.parametrize("number", range(5))
def test_an_answer_to_one_of_the_last_four_tries_is_good(number):
    subject = negotiation()
    inits = [sent_by(subject, now) for now in (0.0, 1.0, 3.0, 5.0, 7.0)]
    response, theirs = response_to(inits[number])
    if number == 0:
        assert reason(subject.receive_response_untrusted, response, 7.1) == "bad_handshake"
    else:
        agreed = subject.receive_response_untrusted(response, 7.1)
        assert agreed.pair.handshake_hash == theirs.handshake_hash


def test_a_hurried_one_sends_at_once_and_then_as_before():
    subject = negotiation()
    sent_by(subject, 0.0)
    subject.hurry(0.1)
    assert subject.deadline() == 0.1
    assert sent_by(subject, 0.1)
    assert subject.deadline() == pytest.approx(0.1 + 1.0)  # and no copies of the first


def test_every_bit_flip_of_a_response_but_in_mac2():
    subject = negotiation()
    honest, _ = response_to(sent_by(subject, 0.0))
    for bit in range(8 * (len(honest) - 16)):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << bit % 8
        assert reason(subject.receive_response_untrusted, bytes(flipped), 0.0) in (
            "bad_mac1",
            "bad_version",
            "malformed",
        )
    # The last 16 bytes would be a proof of address, which no initiator asks for.
    assert subject.receive_response_untrusted(honest[:-1] + b"\xff", 0.0)


def test_a_response_with_a_mac_for_somebody_else():
    subject = negotiation()
    response, _ = response_to(sent_by(subject, 0.0))
    wrong = MacStamper(SERVER.public.raw).stamp(response[:-32], 0.0)
    assert reason(subject.receive_response_untrusted, wrong, 0.0) == "bad_mac1"


def test_a_cookie_is_used_at_once_inside_and_outside():
    subject = negotiation()
    jar = CookieJar(SERVER.public.raw)
    first = sent_by(subject, 0.0)
    subject.receive_cookie_untrusted(jar.reply(first[200:216], INDEX, SOURCE, 0.1), 0.1)
    assert subject.deadline() == 0.1
    second = sent_by(subject, 0.1)
    assert jar.check_mac2(second, SOURCE, 0.2)
    assert read(second)[1].cookie_echo == jar.cookie_for(SOURCE, 0.2)


def test_a_cookie_for_another_init_changes_nothing():
    subject = negotiation()
    jar = CookieJar(SERVER.public.raw)
    other = sent_by(negotiation(), 0.0)
    reply = jar.reply(other[200:216], INDEX, SOURCE, 0.1)
    second = sent_by(subject, 1.0)
    assert reason(subject.receive_cookie_untrusted, reply, 1.1) == "bad_handshake"
    assert subject.datagrams_to_send(1.1) == ()
    assert len(second) == 232


def test_a_cookie_outlives_one_negotiation():
    stamper = MacStamper(SERVER.public.raw)
    jar = CookieJar(SERVER.public.raw)
    first = negotiation(stamper=stamper)
    init = sent_by(first, 0.0)
    first.receive_cookie_untrusted(jar.reply(init[200:216], INDEX, SOURCE, 0.0), 0.0)
    later = sent_by(negotiation(stamper=stamper), 60.0)
    assert jar.check_mac2(later, SOURCE, 60.0)
