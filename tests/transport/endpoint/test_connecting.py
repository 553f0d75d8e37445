"""One outcome of several handshakes: which counts, and who is asked at once."""

from types import SimpleNamespace

import pytest
from attrs import define

from transport.constants import CONNECT_ADDRESSES, CONNECT_STAGGER
from transport.endpoint.connecting import Attempts
from transport.errors import HandshakeRefused, HandshakeTimeout, PeerUnreachable
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.wire.datagrams import Result

PLACES = [(f"192.0.2.{number}", 1) for number in range(1, 4)]


@define(eq=False)
class Try:
    address: tuple
    start: float
    end: float
    sent: int = 0


class FakeDemux:
    def __init__(self):
        self.abandoned, self.hurried, self.touched = [], [], []
        self.abandon, self.touch = self.abandoned.append, self.touched.append

    def connect(self, peer, address, now, give_up_at):
        return Try(address, now, give_up_at)

    def hurry(self, negotiation, now):
        self.hurried.append(negotiation)


@pytest.fixture
def attempts():
    return Attempts(FakeDemux())


def begin(attempts, places=PLACES):
    attempt = attempts.begin("peer", places, 100.0, 10.0)
    return attempt, list(attempts.running)


def test_each_is_asked_a_moment_later_and_not_too_many(attempts):
    _, tries = begin(attempts, PLACES * 4)
    assert [each.start for each in tries] == [
        100.0 + CONNECT_STAGGER * place for place in range(CONNECT_ADDRESSES)
    ]
    assert {each.end for each in tries} == {110.0}
    with pytest.raises(ValueError, match="no address"):
        attempts.begin("peer", [], 0.0, 1.0)


def test_the_first_answer_counts_and_a_later_one_is_not_wanted(attempts):
    attempt, tries = begin(attempts)
    session, failed = SimpleNamespace(), []
    later = SimpleNamespace(fail=lambda *why: failed.append(why))
    attempts.take(Connected(tries[1], session))
    assert attempt.over.is_set()
    assert attempt.result(10.0) is session
    assert (attempts.running, attempts._demux.abandoned) == ({}, tries)
    attempts.take(Connected(tries[0], later))
    assert attempt.result(10.0) is session
    assert (len(failed), attempts._demux.touched) == (1, [later])


def test_a_refusal_counts(attempts):
    attempt, tries = begin(attempts)
    attempts.take(GaveUp(tries[0]))
    assert not attempt.over.is_set()
    attempts.take(Refused(tries[1], Result.FULL))
    assert attempt.over.is_set()
    with pytest.raises(HandshakeRefused, match="refused: full"):
        attempt.result(10.0)


def test_it_is_over_when_all_have_given_up(attempts):
    attempt, tries = begin(attempts)
    for each in tries:
        assert not attempt.over.is_set()
        attempts.take(GaveUp(each))
    with pytest.raises(HandshakeTimeout, match="no answer within 10 s"):
        attempt.result(10.0)


def test_what_is_out_of_reach_hurries_the_next_and_all_of_it_is_the_end(attempts):
    attempt, tries = begin(attempts)
    tries[0].sent = 1
    attempts.obstruct(PLACES[0], "no route", 100.0, shut=True)
    assert attempts._demux.hurried == [tries[1]]
    attempts.obstruct(PLACES[1], "said to be filtered", 100.0, shut=False)
    attempts.obstruct(PLACES[2], "no way", 100.0, shut=True)
    assert not attempt.over.is_set()
    attempts.obstruct(PLACES[1], "no route", 100.0, shut=True)
    assert attempt.over.is_set()
    with pytest.raises(PeerUnreachable, match="no route; no route; no way"):
        attempt.result(10.0)
