"""Control items: what is asked, what is answered, and what pings measure."""

import itertools

import pytest

from transport.constants import CONTROL_PER_SECOND, SEALED_OVERHEAD
from transport.errors import BadPacket
from transport.session.exchange import PING_BACK_INTERVAL, SAMPLE_LIFE, ControlExchange
from transport.wire.control import (
    Close,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    encode_control,
)

PEER = ("192.0.2.1", 1000)


def exchange(*, initiator=True):
    numbers = itertools.count(1)
    return ControlExchange(
        0.0, lambda size: next(numbers).to_bytes(size, "big"), initiator=initiator
    )


def hear(subject, *items, now=0.0):
    return subject.receive_untrusted(encode_control(*items), PEER, now)


def ping(subject, now):
    """Ask, and give what the answer has to say."""
    subject.ping(now)
    ((_, asked),) = subject.take()
    return asked.data


def test_what_is_queued_leaves_once_in_order():
    subject = exchange()
    subject.queue(Rekey())
    subject.queue(PathChallenge(bytes(8)), PEER)
    subject.ping(1.0)
    expected = [(None, Rekey()), (PEER, PathChallenge(bytes(8))), (None, Ping(b"\0" * 7 + b"\1"))]
    assert subject.queued == expected
    assert subject.take() == expected
    assert subject.queued == subject.take() == []


def test_what_is_cleared_never_leaves():
    subject = exchange()
    subject.ping(1.0)
    subject.clear()
    assert subject.take() == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (PathChallenge(b"12345678"), (PEER, PathResponse(b"12345678"))),  # there, not to the path
        (Ping(b"12345678"), (None, Pong(b"12345678"))),
        (MtuProbe(7, 100), (None, MtuAck(SEALED_OVERHEAD + 107, 7))),
    ],
    ids=["challenge", "ping", "probe"],
)
def test_questions_are_answered(question, answer):
    subject = exchange()
    assert hear(subject, question) == [question]
    assert subject.take() == [answer]


@pytest.mark.parametrize(
    "item", [PathResponse(bytes(8)), Pong(bytes(8)), MtuAck(1000, 1), Rekey(), Close(1, "x")]
)
def test_answers_and_notes_are_not_answered(item):
    subject = exchange(initiator=False)
    assert hear(subject, item, now=100.0) == [item]
    assert subject.queued == []


def test_each_item_of_a_datagram_is_answered():
    subject = exchange()
    hear(subject, Ping(b"11111111"), Ping(b"22222222"), PathChallenge(b"33333333"))
    assert subject.take() == [
        (None, Pong(b"11111111")),
        (None, Pong(b"22222222")),
        (PEER, PathResponse(b"33333333")),
    ]


def test_the_round_trip_is_that_of_pings():
    subject = exchange()
    assert subject.round_trip is None
    hear(subject, Pong(ping(subject, 10.0)), now=10.2)
    assert subject.pinged_at == 10.0
    assert subject.round_trip == pytest.approx(0.2)
    hear(subject, Pong(ping(subject, 20.0)), now=20.6)
    assert subject.round_trip == pytest.approx(0.3)  # a quarter of the way


def test_an_answer_counts_once():
    subject = exchange()
    data = ping(subject, 10.0)
    hear(subject, Pong(data), now=10.1)
    hear(subject, Pong(data), now=15.0)
    assert subject.round_trip == pytest.approx(0.1)


def test_only_the_answer_to_the_last_ping_counts():
    subject = exchange()
    first, second = ping(subject, 10.0), ping(subject, 11.0)
    hear(subject, Pong(first), now=11.1)
    assert subject.round_trip is None
    hear(subject, Pong(second), now=11.2)
    assert subject.round_trip == pytest.approx(0.2)


def test_answers_that_nobody_waits_for_change_nothing():
    subject = exchange()
    hear(subject, Pong(bytes(8)), Pong(b"12345678"), now=1.0)
    assert subject.round_trip is None


def test_a_responder_pings_back_but_not_each_time():
    subject = exchange(initiator=False)
    question, asked = Ping(b"12345678"), []
    for step in range(21):
        hear(subject, question, now=step * PING_BACK_INTERVAL / 4)
        asked += [step for _, item in subject.take() if isinstance(item, Ping)]
    assert asked == [4, 8, 12, 16, 20]


def test_an_initiator_does_not_ping_back():
    subject = exchange()
    hear(subject, Ping(b"12345678"), now=100.0)
    assert subject.take() == [(None, Pong(b"12345678"))]


def test_what_is_no_control_is_refused_and_costs_nothing():
    subject = exchange()
    for _ in range(2 * int(CONTROL_PER_SECOND)):
        with pytest.raises(BadPacket) as caught:
            subject.receive_untrusted(encode_control(Ping(bytes(8))) + b"\x01", PEER, 0.0)
        assert caught.value.reason == "bad_control"
    assert subject.queued == []
    assert hear(subject, Rekey()) == [Rekey()]


def test_datagrams_are_limited_and_the_limit_ends():
    subject = exchange()
    for _ in range(int(CONTROL_PER_SECOND)):
        hear(subject, Ping(bytes(8)))
    subject.take()
    with pytest.raises(BadPacket) as caught:
        hear(subject, Ping(bytes(8)))
    assert caught.value.reason == "control_limited"
    assert subject.queued == []
    hear(subject, Ping(bytes(8)), now=1.0)
    assert len(subject.queued) == 1


def test_the_shortest_round_trip_of_late_is_shown():
    subject = exchange()
    assert subject.shortest(0.0) is None
    for number, took in enumerate([0.5, 0.1, 0.2, 0.3]):
        data = ping(subject, 10.0 + number)
        assert subject.asking
        hear(subject, Pong(data), now=10.0 + number + took)
        assert not subject.asking
    assert subject.shortest(14.0) == pytest.approx(0.1)
    assert subject.shortest(11.15 + SAMPLE_LIFE) == pytest.approx(0.2)  # the shortest is too old
    assert subject.shortest(99.0) == pytest.approx(0.3)  # all are: the last one
    hear(subject, Pong(ping(subject, 20.0)), now=20.4)
    hear(subject, Pong(ping(subject, 30.0)), now=30.4)
    assert subject.shortest(30.5) == pytest.approx(0.2)  # four are kept
