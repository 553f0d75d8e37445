"""What is under way: what has arrived, what is lost, when it is sent again; no clock, no KCP."""

import random
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.congestion.recovery import (
    INITIAL_RTO,
    MAX_BACKOFF,
    MAX_RTO,
    MIN_REORDER_WINDOW,
    MIN_RTO,
    REORDER_LIFETIME,
    Recovery,
)
from transport.constants import KCP_HEADER_SIZE

SIZE = 1000
RTT = 0.050
NUMBERS = 1 << 32  # of segments


def stamp_of(now):
    return int(now * 1000)


class Sender:
    """A recovery, and what it has sent: (sn, stamp) with the time."""

    def __init__(self, first=0):
        self.recovery = Recovery(0.0)
        self.recovery.una = self.recovery._first = self.recovery._next_sn = first
        self.next = first
        self.stamps = {}

    def send(self, now, count=1):
        for _ in range(count):
            content = bytes(SIZE - KCP_HEADER_SIZE)
            assert self.recovery.on_sent(0, content, stamp_of(now), now) == self.next
            self.stamps[self.next] = stamp_of(now)
            self.next = (self.next + 1) % NUMBERS

    def ack(self, sn, now, stamp=None):
        self.recovery.on_ack(sn, self.stamps[sn] if stamp is None else stamp, now)
        return self.recovery.take_acked(now)

    def repeat(self, now):
        """All that is to be sent again, and is now; their numbers."""
        repeated = []
        while (segment := self.recovery.repeat(stamp_of(now), now)) is not None:
            self.stamps[segment.sn] = stamp_of(now)
            repeated.append(segment.sn)
        return repeated

    def time_out(self):
        """Wait until something is due; the time then, and what is sent again."""
        now = self.recovery.deadline()
        self.recovery.handle_timeout(now)
        return now, self.repeat(now)


def known_path(sender, now=0.0):
    """Many round trips, so that the timeout is near the round trip."""
    for _ in range(40):
        sender.send(now)
        now += RTT
        sender.ack(sender.next - 1, now)
    return now


# --- What arrives ------------------------------------------------------------------------------


def test_in_order():
    sender = Sender()
    sender.send(1.0, 3)
    assert sender.recovery.pipe == sender.recovery.unacknowledged == 3 * SIZE
    for sn in range(3):
        (acked,) = sender.ack(sn, 1.0 + RTT)
        assert (acked.size, acked.sent, acked.rtt) == (SIZE, 1.0, pytest.approx(RTT))
    assert sender.recovery.pipe == sender.recovery.unacknowledged == 0
    assert sender.recovery.take_lost() == []
    assert sender.recovery.deadline() == inf
    assert sender.recovery.rtt == pytest.approx(RTT)


def test_an_acknowledgement_counts_once():
    sender = Sender()
    sender.send(1.0, 2)
    assert len(sender.ack(0, 1.1)) == 1
    assert sender.ack(0, 1.2) == []
    sender.recovery.on_ack(77, 0, 1.2)  # never sent
    assert sender.recovery.take_acked(1.2) == []
    assert sender.recovery.pipe == SIZE


def test_the_span_is_what_the_peer_may_have_to_hold():
    sender = Sender()
    sender.send(1.0, 5)
    for sn in (1, 2, 4):
        sender.ack(sn, 1.1)
    assert sender.recovery.span == 5 * SIZE
    sender.recovery.on_una(3, 1.2)
    assert sender.recovery.span == 2 * SIZE
    sender.recovery.on_una(5, 1.2)
    assert sender.recovery.span == 0


def test_una_without_acknowledgements():
    sender = Sender()
    sender.send(1.0, 5)
    sender.recovery.on_una(3, 1.1)
    acked = sender.recovery.take_acked(1.1)
    assert [each.rtt for each in acked] == [None] * 3  # it is not known when they came
    assert sender.recovery.pipe == sender.recovery.unacknowledged == 2 * SIZE
    sender.recovery.on_una(1, 1.1)  # an old datagram
    sender.recovery.on_una(3, 1.1)
    assert sender.recovery.take_acked(1.1) == []


@pytest.mark.parametrize("una", [6, 1000, NUMBERS // 2 - 1])
def test_una_beyond_what_was_sent_is_all_of_it(una):
    sender = Sender()
    sender.send(1.0, 5)
    sender.recovery.on_una(una, 1.1)
    assert len(sender.recovery.take_acked(1.1)) == 5
    assert sender.recovery.pipe == 0
    sender.send(1.2)  # and what comes later is still followed
    assert len(sender.ack(5, 1.3)) == 1


@pytest.mark.parametrize("una", [NUMBERS // 2, NUMBERS - 1])
def test_una_far_behind_is_nothing(una):
    sender = Sender()
    sender.send(1.0, 5)
    sender.recovery.on_una(una, 1.1)
    assert sender.recovery.take_acked(1.1) == []
    assert sender.recovery.pipe == 5 * SIZE


def test_numbers_wrap():
    first = NUMBERS - 3
    sender = Sender(first)
    sender.send(1.0, 6)
    assert sender.next == 3
    sender.ack(1, 1.1)
    sender.recovery.on_una(0, 1.1)
    assert len(sender.recovery.take_acked(1.1)) == 3
    sender.recovery.on_una(first, 1.1)  # older than the wrap
    assert sender.recovery.unacknowledged == 2 * SIZE
    sender.recovery.on_una(3, 1.2)
    assert sender.recovery.unacknowledged == sender.recovery.pipe == 0


def test_the_oldest_is_the_one_that_nothing_acknowledges():
    sender = Sender(NUMBERS - 2)
    recovery = sender.recovery
    assert recovery.oldest is None
    assert recovery.outstanding == 0
    sender.send(1.0, 5)
    assert recovery.oldest == NUMBERS - 2
    sender.ack(NUMBERS - 1, 1.1)
    assert (recovery.oldest, recovery.outstanding) == (NUMBERS - 2, 5)
    sender.ack(NUMBERS - 2, 1.1)
    assert (recovery.oldest, recovery.outstanding) == (0, 3)
    recovery.on_una(NUMBERS - 1, 1.1)
    assert recovery.oldest == 0
    recovery.on_una(2, 1.1)
    assert (recovery.oldest, recovery.outstanding) == (2, 1)
    sender.ack(2, 1.1)
    assert recovery.oldest is None
    sender.send(1.2)
    assert (recovery.oldest, recovery.outstanding) == (3, 1)


# --- What is lost ------------------------------------------------------------------------------


def test_a_gap_is_lost_after_a_while_for_reordering():
    sender = Sender()
    now = known_path(sender)
    lost = sender.next
    sender.send(now, 2)
    sender.ack(lost + 1, now + RTT)
    assert not sender.recovery.to_repeat
    due = sender.recovery.deadline()
    assert now + RTT < due <= now + 1.3 * RTT
    sender.recovery.handle_timeout(due)
    assert [each.sent for each in sender.recovery.take_lost()] == [now]
    assert sender.recovery.take_lost() == []
    assert sender.recovery.pipe == 0
    assert sender.recovery.unacknowledged == SIZE
    assert sender.repeat(due) == [lost]
    assert sender.recovery.pipe == SIZE
    assert len(sender.ack(lost, due + RTT)) == 1
    assert sender.recovery.unacknowledged == 0


def test_an_acknowledgement_of_a_much_later_segment_shows_a_loss_at_once():
    sender = Sender()
    now = known_path(sender)
    sender.send(now)
    sender.send(now + RTT)
    sender.ack(sender.next - 1, now + 2 * RTT)
    assert sender.repeat(now + 2 * RTT) == [sender.next - 2]


def test_reordering_within_the_window_is_no_loss():
    sender = Sender()
    now = known_path(sender)
    sender.send(now, 4)
    last = sender.next - 1
    sender.ack(last, now + RTT)
    for sn in (last - 2, last - 1, last - 3):
        sender.ack(sn, now + RTT + MIN_REORDER_WINDOW)
    assert sender.recovery.take_lost() == []
    assert sender.recovery.unacknowledged == 0


def reordered_by(sender, now, late):
    """One segment comes `late` seconds after the next; whether it was sent again for nothing."""
    sn = sender.next
    sender.send(now)
    sender.send(now)
    stamp = sender.stamps[sn]
    sender.ack(sn + 1, now + RTT)
    repeated = []
    if sender.recovery.deadline() <= now + RTT + late:
        _, repeated = sender.time_out()
    sender.ack(sn, now + RTT + late, stamp)
    assert sender.recovery.unacknowledged == 0
    return bool(repeated)


def test_repeats_for_nothing_widen_the_window_and_losses_narrow_it():
    sender = Sender()
    now = known_path(sender)
    late = 0.6 * RTT
    spurious = 0
    for _ in range(20):
        spurious += reordered_by(sender, now, late)
        now += 1.0
    assert 0 < spurious < 6  # it learns
    widened = sender.recovery._reorder_window
    assert widened > late
    for _ in range(10 * REORDER_LIFETIME):
        sender.send(now, 2)
        lost = sender.next - 2
        sender.ack(sender.next - 1, now + RTT)
        when, repeated = sender.time_out()
        assert repeated == [lost]
        sender.ack(lost, when + RTT)
        now += 1.0
    assert sender.recovery._reorder_window == MIN_REORDER_WINDOW


def test_a_repetition_that_is_lost_too():
    sender = Sender()
    now = known_path(sender)
    lost = sender.next
    sender.send(now, 2)
    sender.ack(lost + 1, now + RTT)
    now, repeated = sender.time_out()
    assert repeated == [lost]
    sender.send(now + 0.010)  # later than the repetition: its arrival tells
    sender.ack(sender.next - 1, now + 0.010 + RTT)
    _, repeated = sender.time_out()
    assert repeated == [lost]


def test_a_round_trip_of_the_first_copy_is_known_by_its_stamp():
    """Or a path that has become longer than the timeout would never be known as such."""
    sender = Sender()
    sender.send(1.0)
    now, repeated = sender.time_out()
    assert repeated == [0]
    (acked,) = sender.ack(0, 1.0 + 3 * INITIAL_RTO, stamp_of(1.0))
    assert acked.rtt == pytest.approx(3 * INITIAL_RTO)
    assert sender.recovery.timeout > 3 * INITIAL_RTO
    sender.send(now + 5)
    now, _ = sender.time_out()
    now, _ = sender.time_out()
    assert sender.ack(1, now + 1.0, stamp_of(now) + 7)[0].rtt is None  # of no copy we remember


# --- When nothing comes back -------------------------------------------------------------------


def test_the_last_one_is_sent_again_after_a_timeout():
    sender = Sender()
    now = known_path(sender)
    sender.send(now)
    when, repeated = sender.time_out()
    assert repeated == [sender.next - 1]
    assert when - now == pytest.approx(sender.recovery.rtt + 0.030, abs=0.015)


def test_the_timeout_begins_when_a_paced_unit_has_left():
    sender = Sender()
    now = known_path(sender)
    sender.send(now)
    sender.recovery.leaves_until(now + 1.0)
    assert sender.recovery.deadline() == pytest.approx(now + 1.0 + sender.recovery.timeout)


def test_before_the_first_round_trip():
    sender = Sender()
    sender.send(1.0)
    assert sender.recovery.deadline() == 1.0 + INITIAL_RTO


def test_timeouts_back_off_and_send_one_two_four():
    sender = Sender()
    now = known_path(sender)
    sender.send(now, 100)
    counts, waits = [], []
    for _ in range(10):
        when, repeated = sender.time_out()
        counts.append(len(repeated))
        waits.append(round(when - now, 9))
        now = when
        assert sender.recovery.pipe == 100 * SIZE
    most = 2**MAX_BACKOFF
    assert counts == [1, 2, 4, 8, 16] + [most] * 5
    assert waits == sorted(waits)
    assert MIN_RTO <= waits[0] < waits[1]
    assert waits[-1] == pytest.approx(MAX_RTO)  # a healed path is noticed that soon


def test_an_answer_ends_the_backing_off():
    sender = Sender()
    now = known_path(sender)
    usual = sender.recovery.timeout
    sender.send(now, 50)
    for _ in range(5):
        now, repeated = sender.time_out()
    assert sender.recovery.timeout > usual
    sender.ack(repeated[-1], now + RTT)
    assert sender.recovery.timeout <= 1.5 * usual
    # And it tells of all that was sent before it.
    now, repeated = sender.time_out()
    assert len(repeated) >= 30


def test_a_lost_segment_that_arrives_after_all_is_not_retransmitted():
    sender = Sender()
    now = known_path(sender)
    sender.send(now, 2)
    now = sender.recovery.deadline()
    sender.recovery.handle_timeout(now)
    assert sender.recovery.to_repeat
    sender.ack(sender.next - 2, now)
    assert sender.repeat(now) == []
    assert not sender.recovery.to_repeat
    assert sender.recovery.pipe == sender.recovery.unacknowledged == SIZE


# --- Whatever happens --------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    first=st.sampled_from([0, NUMBERS - 40]),
    loss=st.sampled_from([0.0, 0.1, 0.5, 0.8]),
    ack_loss=st.sampled_from([0.0, 0.1, 0.5]),
    copies=st.sampled_from([0.0, 0.3]),
    jitter=st.sampled_from([0.0, 0.005, 0.1]),
)
def test_everything_is_finally_acknowledged(seed, first, loss, ack_loss, copies, jitter):
    rng = random.Random(seed)
    sender = Sender(first)
    recovery = sender.recovery
    back = []  # (time, sn, stamp, una)
    arrived = set()
    una = first
    now, sent, acknowledged = 0.0, 0, 0

    def transmit(sn):
        nonlocal una
        for _ in range(1 + (rng.random() < copies)):
            if rng.random() < loss:
                continue
            arrived.add(sn)
            while una in arrived:
                una = (una + 1) % NUMBERS
            if rng.random() >= ack_loss:
                back.append((now + RTT + jitter * rng.random(), sn, sender.stamps[sn], una))

    while acknowledged < 80:
        if sent < 80 and rng.random() < 0.5:
            burst = min(rng.randrange(1, 10), 80 - sent)
            start = sender.next
            sender.send(now, burst)
            sent += burst
            for offset in range(burst):
                transmit((start + offset) % NUMBERS)
        for event in sorted(each for each in back if each[0] <= now):
            back.remove(event)
            _, sn, stamp, told = event
            recovery.on_ack(sn, stamp, now)
            recovery.on_una(told, now)
        acked = recovery.take_acked(now)
        acknowledged += len(acked)
        assert all(each.rtt is None or each.rtt >= 0 for each in acked)
        if now >= recovery.deadline():
            recovery.handle_timeout(now)
        assert recovery.deadline() > now
        for sn in sender.repeat(now):
            transmit(sn)
        recovery.take_lost()
        waiting = (sent - acknowledged) * SIZE
        assert 0 <= recovery.pipe <= recovery.unacknowledged == waiting <= recovery.span
        now += 0.005
        assert now < 120
    assert recovery.pipe == recovery.unacknowledged == 0
    recovery.on_una(sender.next, now)  # the last one to say so may be lost; the next says it
    assert recovery.span == 0
    assert recovery.deadline() == inf
