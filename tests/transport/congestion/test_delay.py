"""The delay controller: what makes its window grow, what makes it shrink, and how far."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.congestion.controller import DATAGRAM, INITIAL_WINDOW, SentSegment
from transport.congestion.delay import (
    DRAIN_GAIN,
    DRAIN_INTERVAL,
    MAX_TARGET,
    MAX_WINDOW,
    MIN_RTT_LIFETIME,
    MIN_TARGET,
    MIN_WINDOW,
    PACING_GAIN,
    WINDOW_GAIN,
    DelayController,
    Drain,
    Mode,
)

MIN_RTT = 0.050  # seconds: the empty path


class Path:
    """A pipe of a rate and a queue, filled to the window and told so once a round."""

    def __init__(self, rate, min_rtt=MIN_RTT, *, foreign=0.0):
        self.rate, self.min_rtt, self.foreign = rate, min_rtt, foreign
        self.congestion = DelayController(0.0)
        self.now = 0.0

    @property
    def queue(self):
        """Seconds that a window makes: what does not fit the pipe stands before it."""
        return max(0.0, self.congestion.window / self.rate - self.min_rtt)

    def round(self, *, share=1.0, batches=4):
        """All of a window, or of a share of it, leaves and comes back."""
        congestion = self.congestion
        in_flight = share * congestion.window
        queue = max(0.0, in_flight / self.rate - self.min_rtt) + self.foreign
        sent, rtt = self.now, self.min_rtt + queue
        lasts = max(rtt, in_flight / self.rate)
        for number in range(batches):
            now = sent + lasts * (number + 1) / batches
            acked = [SentSegment(int(in_flight / batches), now - rtt, rtt)]
            congestion.on_acknowledged(acked, int(in_flight), now)
        self.now = now

    def run(self, seconds, **options):
        end = self.now + seconds
        while self.now < end:
            self.round(**options)


def settled(rate=20e6 / 8, seconds=5.0):
    path = Path(rate)
    path.run(seconds)
    assert path.congestion.mode is not Mode.SLOW_START
    return path


# --- Slow start ---------------------------------------------------------------------------------


def test_before_the_first_round_trip_the_window_is_the_initial_one_and_nothing_is_paced():
    congestion = DelayController(0.0)
    assert congestion.window == INITIAL_WINDOW
    assert congestion.rtt is None
    assert congestion.pacing_rate == inf


def test_an_empty_acknowledgement_changes_nothing():
    congestion = DelayController(0.0)
    congestion.on_acknowledged([], 0, 100.0)
    assert congestion.rtt is None
    assert congestion.window == INITIAL_WINDOW


def test_slow_start_at_most_doubles_the_window_each_round():
    path = Path(1e9)
    windows = []
    for _ in range(7):
        path.round()
        windows.append(path.congestion.window)
    assert path.congestion.mode is Mode.SLOW_START
    assert windows == sorted(windows)
    assert windows[-1] > 20 * INITIAL_WINDOW
    assert all(later <= 2 * sooner + 1 for sooner, later in pairwise(windows))


def test_a_sender_is_app_limited_while_the_source_uses_little_of_the_window():
    assert DelayController(0.0).app_limited
    path = settled()
    assert not path.congestion.app_limited
    path.round(share=0.2)
    path.round(share=0.2)
    assert path.congestion.app_limited
    path.round()
    path.round()
    assert not path.congestion.app_limited


def test_heavy_loss_ends_slow_start_though_the_source_uses_little_of_the_window():
    path = Path(1e9)
    for _ in range(6):
        path.round()
    assert path.congestion.mode is Mode.SLOW_START
    window = path.congestion.window
    for _ in range(3):
        path.congestion.on_lost([SentSegment(window, path.now, None)], path.now)
        path.round(share=0.2)
    assert path.congestion.mode is not Mode.SLOW_START
    assert path.congestion.window < window


def test_no_round_is_shorter_than_the_min_rtt():
    """An acknowledgement of what was sent first may come just after it was sent again."""
    path = settled()
    congestion = path.congestion
    congestion.on_acknowledged(
        [SentSegment(DATAGRAM, path.now - MIN_RTT, MIN_RTT)], DATAGRAM, path.now
    )
    rate, window = congestion.delivery_rate, congestion.window
    soon = path.now + MIN_RTT / 2
    congestion.on_acknowledged([SentSegment(DATAGRAM, soon - 0.001, None)], DATAGRAM, soon)
    assert (congestion.delivery_rate, congestion.window) == (rate, window)


def test_the_first_queue_ends_slow_start_with_about_the_bdp():
    path = Path(20e6 / 8)
    while path.congestion.mode is Mode.SLOW_START:
        path.round(batches=16)
        assert path.now < 2.0
    bdp = path.rate * MIN_RTT
    assert 0.5 * bdp < path.congestion.window < 1.5 * bdp


def test_a_plateau_of_the_delivery_rate_ends_slow_start():
    """A buffer too short to show a queue."""
    congestion = DelayController(0.0)
    now = 0.0
    while congestion.mode is Mode.SLOW_START:
        now += MIN_RTT
        in_flight = congestion.window
        size = min(in_flight, 50_000)
        congestion.on_acknowledged([SentSegment(size, now - MIN_RTT, MIN_RTT)], in_flight, now)
        assert now < 2.0
    assert congestion.window < 2 * 50_000


def test_the_rtt_is_smoothed():
    congestion = DelayController(0.0)
    congestion.on_acknowledged([SentSegment(1, 0.9, 0.1)], 1, 1.0)
    assert congestion.rtt == pytest.approx(0.1)
    congestion.on_acknowledged(
        [SentSegment(1, 1.0, 0.18), SentSegment(1, 1.0, 0.2), SentSegment(1, 1.0, None)], 3, 1.18
    )
    assert congestion.rtt == pytest.approx(0.1 + 0.08 / 8)


# --- Steady -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mbit", [2, 5, 20, 100])
def test_the_standing_queue_becomes_the_target(mbit):
    path = settled(mbit * 1e6 / 8, 20.0)
    target = path.congestion.target
    assert MIN_TARGET <= target <= MAX_TARGET
    queues = []
    for _ in range(100):
        path.round()
        queues.append(path.queue)
    queues.sort()
    assert queues[50] == pytest.approx(target, abs=0.6 * target)
    assert queues[-1] <= 2 * target + 0.010


def test_the_target_shrinks_as_the_rate_grows():
    targets = [settled(mbit * 1e6 / 8, 10.0).congestion.target for mbit in (2, 5, 20)]
    assert targets == sorted(targets, reverse=True)
    assert targets[0] > 1.5 * targets[2]


def test_the_queue_of_a_path_that_becomes_slow_is_drained():
    path = settled(100e6 / 8)
    path.rate /= 10
    path.run(3.0)
    assert path.queue <= 2 * MAX_TARGET


def test_the_window_grows_ever_faster_while_no_queue_shows():
    path = settled(5e6 / 8)
    path.rate *= 20
    path.run(5.0)
    assert path.congestion.window >= 0.7 * path.rate * MIN_RTT


def test_the_window_is_bounded_by_what_the_path_has_delivered():
    """Even when no queue ever shows: what is too much was dropped."""
    congestion = settled().congestion
    now, carried = 100.0, 60_000
    for _ in range(200):
        now += MIN_RTT
        congestion.on_acknowledged(
            [SentSegment(carried, now - MIN_RTT, MIN_RTT)], congestion.window, now
        )
    assert congestion.window <= WINDOW_GAIN * carried * 1.1 + MIN_WINDOW


def test_the_pacing_rate_is_a_little_more_than_the_window_in_a_round_trip():
    path = settled()
    congestion = path.congestion
    while congestion._drain is Drain.DRAINING:
        path.round()
    usual = congestion.window / (congestion.min_rtt + congestion.queue)
    assert congestion.pacing_rate == pytest.approx(PACING_GAIN * usual)


def test_every_few_seconds_the_queue_drains_for_a_round_trip():
    path = settled()
    draining = []
    while path.now < 60.0:
        before = path.congestion._window
        path.round()
        if path.congestion._drain is Drain.DRAINING:
            draining.append(path.now)
            assert path.congestion.window == int(DRAIN_GAIN * path.congestion._window)
            assert path.queue == 0.0
            assert path.congestion._window == pytest.approx(before, rel=0.2)
    times = [at for at, before in zip(draining, [0.0, *draining], strict=False) if at - before > 1]
    assert 55 / DRAIN_INTERVAL / 1.5 <= len(times) <= 55 / DRAIN_INTERVAL * 1.5


# --- What proves nothing -----------------------------------------------------------------------


def test_an_app_limited_source_does_not_grow_the_window_in_slow_start():
    path = Path(1e8)
    path.run(30.0, share=0.4)
    assert path.congestion.window == INITIAL_WINDOW
    path.run(1.0)
    assert path.congestion.window > INITIAL_WINDOW


def test_an_app_limited_source_does_not_grow_the_window_after_slow_start():
    path = settled()
    window = path.congestion._window
    path.run(30.0, share=0.3)
    assert path.congestion._window <= window


def test_an_outage_keeps_the_window():
    """Nothing came back for long: that tells of an outage, not of the rate."""
    path = settled()
    path.round()
    window, now = path.congestion._window, path.now + 30.0
    late = SentSegment(DATAGRAM, path.now, 30.0)
    path.congestion.on_acknowledged([late], path.congestion.window, now)
    assert path.congestion._window == window
    path.now = now
    path.run(2.0)
    assert path.congestion._window >= 0.7 * window


def test_one_late_segment_among_timely_ones_is_no_queue():
    path = settled()
    window = path.congestion._window
    congestion = path.congestion
    for _ in range(100):
        path.now += MIN_RTT
        size = congestion.window // 2
        acked = [
            SentSegment(size, path.now - MIN_RTT, MIN_RTT),
            SentSegment(size, path.now - MIN_RTT, 5 * MIN_RTT),
        ]
        congestion.on_acknowledged(acked, congestion.window, path.now)
    assert congestion._window >= 0.9 * window


def test_a_path_that_became_longer_for_good_is_not_taken_for_a_queue():
    path = settled()
    path.min_rtt += 0.1
    path.run(10.0)
    assert path.congestion.min_rtt == pytest.approx(path.min_rtt, abs=0.01)
    assert path.congestion.window >= 0.7 * path.rate * path.min_rtt


def test_a_standing_queue_of_others_restarts_slow_start():
    path = settled()
    path.foreign = 0.2
    began = path.now
    while path.congestion.mode is not Mode.SLOW_START:
        path.round()
        assert path.now < began + 10.0
    assert path.congestion.min_rtt >= MIN_RTT + 0.2
    assert path.congestion.window >= MIN_WINDOW


def test_an_old_min_rtt_is_forgotten():
    path = settled()
    congestion = path.congestion
    path.min_rtt += 0.004  # so little that the law lives with it
    path.run(2 * MIN_RTT_LIFETIME + 1)
    assert congestion.min_rtt >= path.min_rtt


# --- Whatever comes back -----------------------------------------------------------------------


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 2.0),  # seconds since the last
            st.floats(0.0, 3.0) | st.none(),  # round trip
            st.integers(0, 10**7),  # bytes acknowledged
            st.integers(0, 10**8),  # bytes that were under way
        ),
        max_size=60,
    )
)
def test_window_rate_and_target_are_bounded_whatever_comes_back(events):
    congestion = DelayController(0.0)
    now = 0.0
    for wait, rtt, size, in_flight in events:
        now += wait
        congestion.on_acknowledged([SentSegment(size, now - (rtt or 0.0), rtt)], in_flight, now)
        assert DRAIN_GAIN * MIN_WINDOW - 1 <= congestion.window <= MAX_WINDOW
        assert congestion.pacing_rate > 0
        assert 0 < congestion.target <= MAX_TARGET
        assert (congestion.rtt is None) == (congestion.pacing_rate == inf)


def test_slow_start_measures_the_rate_of_a_path_that_is_filled_for_a_part_of_a_round():
    """What leaves fast comes back at the rate of the path, and then nothing for a while."""
    congestion = DelayController(0.0)
    base, rate, began, free = 0.2, 20e6 / 8, 0.0, 0.0
    while congestion.mode is Mode.SLOW_START:
        window, pacing_rate = congestion.window, congestion.pacing_rate
        for number in range(1, window // DATAGRAM + 1):
            sent = began + number * DATAGRAM / pacing_rate
            free = max(free, sent) + DATAGRAM / rate
            congestion.on_acknowledged(
                [SentSegment(DATAGRAM, sent, free + base - sent)], window, free + base
            )
        began = free + base
    assert 0.7 * rate * base <= congestion.window <= 1.3 * rate * base
