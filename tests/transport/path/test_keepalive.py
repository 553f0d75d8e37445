"""Keepalives, probes and the moment to give up, to the second."""

import pytest

from transport.path.keepalive import (
    DEAD_AFTER,
    DOUBT_INTERVAL,
    DOUBTED_AFTER,
    KEEPALIVE,
    KEEPALIVE_JITTER,
    PROBE_INTERVAL,
    RECONNECT_AFTER,
    SUSPECT_AFTER,
    Action,
    Liveness,
)


def answer(subject, now):
    subject.received(now)
    subject.answered()


def liveness(*, initiator=True, jitter=0.0, now=0.0):
    return Liveness(now, initiator=initiator, jitter=lambda: jitter)


def actions(subject, until, now=0.0):
    """(time, action) of every deadline up to `until`; a PING counts as sent."""
    seen = []
    while (due := subject.due) <= until:
        assert due > now or not seen  # else its owner would spin
        now = due
        action = subject.poll(now)
        seen.append((pytest.approx(now), action))
        if action is Action.PING:
            subject.sent(now, wants_answer=True)
        if action is Action.DEAD:
            break
    return seen


@pytest.mark.parametrize("jitter", [-1.0, 0.0, 1.0])
def test_keepalive_of_an_idle_initiator(jitter):
    subject = liveness(jitter=jitter)
    every = KEEPALIVE * (1 + KEEPALIVE_JITTER * jitter)
    assert subject.due == every
    assert subject.poll(every - 0.001) is Action.NOTHING
    assert subject.poll(every) is Action.PING
    answer(subject, every)
    assert subject.due == 2 * every


def test_any_datagram_sent_postpones_the_keepalive():
    subject = liveness()
    for second in range(1, 50):
        subject.sent(float(second), wants_answer=False)
        assert subject.poll(second + 0.5) is Action.NOTHING
        subject.received(float(second))


def test_a_responder_keeps_nothing_alive():
    subject = liveness(initiator=False)
    assert subject.due == DEAD_AFTER
    assert subject.poll(DEAD_AFTER - 0.001) is Action.NOTHING
    assert subject.poll(DEAD_AFTER) is Action.DEAD


@pytest.mark.parametrize("initiator", [True, False])
def test_a_peer_that_does_not_answer(initiator):
    subject = liveness(initiator=initiator)
    subject.sent(1.0, wants_answer=True)
    subject.sent(2.5, wants_answer=True)  # the first one counts
    seen = actions(subject, 100.0)
    probes = [1.0 + SUSPECT_AFTER + PROBE_INTERVAL * n for n in range(56)]
    assert seen == [*((when, Action.PING) for when in probes), (DEAD_AFTER, Action.DEAD)]


def test_suspect_and_reconnect():
    subject = liveness()
    subject.sent(10.0, wants_answer=True)
    assert not subject.suspect(10.0 + SUSPECT_AFTER - 0.001)
    assert subject.suspect(10.0 + SUSPECT_AFTER)
    assert not subject.wants_reconnect(10.0 + RECONNECT_AFTER - 0.001)
    assert subject.wants_reconnect(10.0 + RECONNECT_AFTER)
    answer(subject, 16.0)
    assert not subject.suspect(16.0)
    assert not subject.wants_reconnect(16.0)
    assert subject.idle(17.0) == 1.0


def test_a_datagram_that_deserves_no_answer_makes_no_peer_suspect():
    subject = liveness()
    subject.sent(0.0, wants_answer=False)
    assert not subject.suspect(30.0)


def test_a_doubted_peer_is_suspect_soon_unless_it_answers():
    subject = liveness()
    assert not subject.doubt(0.0 - DOUBT_INTERVAL)  # it has been heard just now
    assert subject.doubt(1.0)
    assert not subject.suspect(1.0)
    assert subject.due == 1.0 + DOUBTED_AFTER
    answer(subject, 1.2)
    assert not subject.suspect(2.0)
    assert not subject.doubt(1.0 + DOUBT_INTERVAL - 0.01)  # whoever says so may lie
    assert subject.doubt(1.0 + DOUBT_INTERVAL)
    assert not subject.doubt(1.0 + 2 * DOUBT_INTERVAL)  # it has not answered: nothing new
    assert subject.suspect(1.0 + DOUBT_INTERVAL + DOUBTED_AFTER)
    assert subject.poll(1.0 + DOUBT_INTERVAL + DOUBTED_AFTER) is Action.PING


def test_each_answer_is_for_all_that_was_sent():
    subject = liveness(initiator=False)
    for second in range(200):
        subject.sent(float(second), wants_answer=True)
        assert subject.poll(second + 0.9) is Action.NOTHING
        answer(subject, second + 0.9)
        assert not subject.suspect(second + 0.95)


@pytest.mark.parametrize("initiator", [True, False])
def test_a_peer_that_talks_and_answers_nothing_is_suspect_and_not_dead(initiator):
    subject = liveness(initiator=initiator)
    subject.sent(1.0, wants_answer=True)
    pings = []
    for now in (tenth / 10 for tenth in range(10, 2000)):
        subject.received(now)
        assert subject.suspect(now) == (now >= 1.0 + SUSPECT_AFTER)
        if now >= subject.due:
            assert subject.poll(now) is Action.PING
            subject.sent(now, wants_answer=True)
            pings.append(now)
    assert pings == [1.0 + SUSPECT_AFTER + PROBE_INTERVAL * n for n in range(196)]
    answer(subject, 200.0)
    assert not subject.suspect(200.0)
    assert subject.due == (199.0 + KEEPALIVE if initiator else 200.0 + DEAD_AFTER)


def test_an_idle_initiator_whose_peer_is_gone():
    seen = actions(liveness(), 100.0)
    assert seen[0] == (KEEPALIVE, Action.PING)
    assert seen[1] == (KEEPALIVE + SUSPECT_AFTER, Action.PING)
    assert seen[-1] == (DEAD_AFTER, Action.DEAD)
