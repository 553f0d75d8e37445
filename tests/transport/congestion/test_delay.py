"""The window in bytes: what makes it grow, what makes it shrink, and how far."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.congestion.delay import (
    BASE_MEMORY,
    DRAIN,
    DRAIN_EVERY,
    LARGEST,
    LEAST_TARGET,
    MOST_TARGET,
    PACE,
    PIECE,
    ROOM,
    SMALLEST,
    START,
    Congestion,
)
from transport.congestion.recovery import Acked

BASE = 0.050  # seconds: the empty path


class Path:
    """A pipe of a rate and a queue, filled to the window and told so once a round."""

    def __init__(self, rate, base=BASE, *, foreign=0.0):
        self.rate, self.base, self.foreign = rate, base, foreign
        self.congestion = Congestion(0.0)
        self.now = 0.0

    @property
    def queue(self):
        """Seconds that a window makes: what does not fit the pipe stands before it."""
        return max(0.0, self.congestion.window / self.rate - self.base)

    def round(self, *, share=1.0, batches=4):
        """All of a window, or of a share of it, leaves and comes back."""
        congestion = self.congestion
        under_way = share * congestion.window
        queue = max(0.0, under_way / self.rate - self.base) + self.foreign
        sent, rtt = self.now, self.base + queue
        lasts = max(rtt, under_way / self.rate)
        for number in range(batches):
            now = sent + lasts * (number + 1) / batches
            acked = [Acked(int(under_way / batches), now - rtt, rtt)]
            congestion.on_acked(acked, int(under_way), now)
        self.now = now

    def run(self, seconds, **options):
        end = self.now + seconds
        while self.now < end:
            self.round(**options)


def settled(rate=20e6 / 8, seconds=5.0):
    path = Path(rate)
    path.run(seconds)
    assert not path.congestion.starting
    return path


# --- The start ---------------------------------------------------------------------------------


def test_before_anything_is_known():
    congestion = Congestion(0.0)
    assert congestion.window == START
    assert congestion.rtt is None
    assert congestion.pace == inf


def test_nothing_acknowledged_is_no_sample():
    congestion = Congestion(0.0)
    congestion.on_acked([], 0, 100.0)
    assert congestion.rtt is None
    assert congestion.window == START


def test_it_doubles_each_round():
    path = Path(1e9)
    windows = []
    for _ in range(7):
        path.round()
        windows.append(path.congestion.window)
    assert path.congestion.starting
    assert windows == sorted(windows)
    assert windows[-1] > 20 * START
    assert all(later <= 2 * sooner + 1 for sooner, later in pairwise(windows))


def test_there_is_room_until_the_source_uses_it():
    assert Congestion(0.0).roomy
    path = settled()
    assert not path.congestion.roomy
    path.round(share=0.2)
    path.round(share=0.2)
    assert path.congestion.roomy
    path.round()
    path.round()
    assert not path.congestion.roomy


def test_heavy_loss_ends_that_though_the_source_uses_little_of_the_window():
    path = Path(1e9)
    for _ in range(6):
        path.round()
    assert path.congestion.starting
    window = path.congestion.window
    for _ in range(3):
        path.congestion.on_lost([Acked(window, path.now, None)], path.now)
        path.round(share=0.2)
    assert not path.congestion.starting
    assert path.congestion.window < window


def test_no_round_is_shorter_than_the_path():
    """An acknowledgement of what was sent first may come just after it was sent again."""
    path = settled()
    congestion = path.congestion
    congestion.on_acked([Acked(PIECE, path.now - BASE, BASE)], PIECE, path.now)
    rate, window = congestion.rate, congestion.window
    soon = path.now + BASE / 2
    congestion.on_acked([Acked(PIECE, soon - 0.001, None)], PIECE, soon)
    assert (congestion.rate, congestion.window) == (rate, window)


def test_the_first_queue_ends_that():
    path = Path(20e6 / 8)
    while path.congestion.starting:
        path.round(batches=16)
        assert path.now < 2.0
    bdp = path.rate * BASE
    assert 0.5 * bdp < path.congestion.window < 1.5 * bdp


def test_a_rate_that_grows_no_more_ends_that():
    """A buffer too short to show a queue."""
    congestion = Congestion(0.0)
    now = 0.0
    while congestion.starting:
        now += BASE
        under_way = congestion.window
        size = min(under_way, 50_000)
        congestion.on_acked([Acked(size, now - BASE, BASE)], under_way, now)
        assert now < 2.0
    assert congestion.window < 2 * 50_000


def test_a_round_trip_is_smoothed():
    congestion = Congestion(0.0)
    congestion.on_acked([Acked(1, 0.9, 0.1)], 1, 1.0)
    assert congestion.rtt == pytest.approx(0.1)
    congestion.on_acked([Acked(1, 1.0, 0.18), Acked(1, 1.0, 0.2), Acked(1, 1.0, None)], 3, 1.18)
    assert congestion.rtt == pytest.approx(0.1 + 0.08 / 8)


# --- The law -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mbit", [2, 5, 20, 100])
def test_the_queue_becomes_what_is_wanted(mbit):
    path = settled(mbit * 1e6 / 8, 20.0)
    target = path.congestion.target
    assert LEAST_TARGET <= target <= MOST_TARGET
    queues = []
    for _ in range(100):
        path.round()
        queues.append(path.queue)
    queues.sort()
    assert queues[50] == pytest.approx(target, abs=0.6 * target)
    assert queues[-1] <= 2 * target + 0.010


def test_who_has_more_wants_less():
    targets = [settled(mbit * 1e6 / 8, 10.0).congestion.target for mbit in (2, 5, 20)]
    assert targets == sorted(targets, reverse=True)
    assert targets[0] > 1.5 * targets[2]


def test_a_path_that_becomes_slow_is_drained():
    path = settled(100e6 / 8)
    path.rate /= 10
    path.run(3.0)
    assert path.queue <= 2 * MOST_TARGET


def test_room_is_taken_ever_faster():
    path = settled(5e6 / 8)
    path.rate *= 20
    path.run(5.0)
    assert path.congestion.window >= 0.7 * path.rate * BASE


def test_the_window_is_bounded_by_what_the_path_has_carried():
    """Even when no queue ever shows: what is too much was dropped."""
    congestion = settled().congestion
    now, carried = 100.0, 60_000
    for _ in range(200):
        now += BASE
        congestion.on_acked([Acked(carried, now - BASE, BASE)], congestion.window, now)
    assert congestion.window <= ROOM * carried * 1.1 + SMALLEST


def test_the_pace_is_a_little_more_than_the_window_in_a_round_trip():
    path = settled()
    congestion = path.congestion
    while congestion._draining:
        path.round()
    usual = congestion.window / (congestion.base + congestion.queue)
    assert congestion.pace == pytest.approx(PACE * usual)


def test_now_and_then_it_drains_for_a_round_trip():
    path = settled()
    draining = []
    while path.now < 60.0:
        before = path.congestion._window
        path.round()
        if path.congestion._draining:
            draining.append(path.now)
            assert path.congestion.window == int(DRAIN * path.congestion._window)
            assert path.queue == 0.0
            assert path.congestion._window == pytest.approx(before, rel=0.2)
    times = [at for at, before in zip(draining, [0.0, *draining], strict=False) if at - before > 1]
    assert 55 / DRAIN_EVERY / 1.5 <= len(times) <= 55 / DRAIN_EVERY * 1.5


# --- What proves nothing -----------------------------------------------------------------------


def test_a_source_that_does_not_fill_it_does_not_make_it_grow():
    path = Path(1e8)
    path.run(30.0, share=0.4)
    assert path.congestion.window == START
    path.run(1.0)
    assert path.congestion.window > START


def test_nor_does_it_after_the_start():
    path = settled()
    window = path.congestion._window
    path.run(30.0, share=0.3)
    assert path.congestion._window <= window


def test_a_stall_keeps_the_window():
    """Nothing came back for long: that tells of an outage, not of the rate."""
    path = settled()
    path.round()
    window, now = path.congestion._window, path.now + 30.0
    late = Acked(PIECE, path.now, 30.0)
    path.congestion.on_acked([late], path.congestion.window, now)
    assert path.congestion._window == window
    path.now = now
    path.run(2.0)
    assert path.congestion._window >= 0.7 * window


def test_one_late_segment_among_timely_ones_is_no_queue():
    path = settled()
    window = path.congestion._window
    congestion = path.congestion
    for _ in range(100):
        path.now += BASE
        size = congestion.window // 2
        acked = [Acked(size, path.now - BASE, BASE), Acked(size, path.now - BASE, 5 * BASE)]
        congestion.on_acked(acked, congestion.window, path.now)
    assert congestion._window >= 0.9 * window


def test_a_path_that_became_longer_for_good_is_not_taken_for_a_queue():
    path = settled()
    path.base += 0.1
    path.run(10.0)
    assert path.congestion.base == pytest.approx(path.base, abs=0.01)
    assert path.congestion.window >= 0.7 * path.rate * path.base


def test_a_queue_of_others_that_stays_makes_it_start_again():
    path = settled()
    path.foreign = 0.2
    began = path.now
    while not path.congestion.starting:
        path.round()
        assert path.now < began + 10.0
    assert path.congestion.base >= BASE + 0.2
    assert path.congestion.window >= SMALLEST


def test_an_old_minimum_is_forgotten():
    path = settled()
    congestion = path.congestion
    path.base += 0.004  # so little that the law lives with it
    path.run(2 * BASE_MEMORY + 1)
    assert congestion.base >= path.base


# --- Whatever comes back -----------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
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
def test_it_is_bounded(events):
    congestion = Congestion(0.0)
    now = 0.0
    for wait, rtt, size, under_way in events:
        now += wait
        congestion.on_acked([Acked(size, now - (rtt or 0.0), rtt)], under_way, now)
        assert DRAIN * SMALLEST - 1 <= congestion.window <= LARGEST
        assert congestion.pace > 0
        assert 0 < congestion.target <= MOST_TARGET
        assert (congestion.rtt is None) == (congestion.pace == inf)


def test_the_start_knows_the_rate_of_a_path_that_is_filled_for_a_part_of_a_round():
    """What leaves fast comes back at the rate of the path, and then nothing for a while."""
    congestion = Congestion(0.0)
    base, rate, began, free = 0.2, 20e6 / 8, 0.0, 0.0
    while congestion.starting:
        window, pace = congestion.window, congestion.pace
        for number in range(1, window // PIECE + 1):
            sent = began + number * PIECE / pace
            free = max(free, sent) + PIECE / rate
            congestion.on_acked([Acked(PIECE, sent, free + base - sent)], window, free + base)
        began = free + base
    assert 0.7 * rate * base <= congestion.window <= 1.3 * rate * base
