"""The window in bytes: what makes it grow, what makes it shrink, and how far."""

import pytest

from transport.congestion import BASE_MEMORY, LARGEST, SMALLEST, START, TARGET, DelayWindow

BASE = 0.050  # seconds: the empty path


def rounds(window, count, rtt, *, now, limited=True, step=0.060):
    """Rounds in which everything took `rtt`; returns the time after them."""
    for _ in range(count):
        if limited:
            window.on_limited()
        window.on_acked([(1000, now - rtt)], now)
        now += step
    return now


def test_it_starts_where_the_constant_says():
    window = DelayWindow(0.0)
    assert window.window == START
    assert window.rtt is None


def test_it_doubles_each_round_until_the_first_queue():
    window = DelayWindow(0.0)
    now = rounds(window, 1, BASE, now=1.0)
    assert window.window == 2 * START
    rounds(window, 1, BASE, now=now)
    assert window.window == 4 * START


def test_it_is_bounded_above():
    window = DelayWindow(0.0)
    rounds(window, 50, BASE, now=1.0)
    assert window.window == LARGEST


def test_it_is_bounded_below():
    window = DelayWindow(0.0)
    now = rounds(window, 1, BASE, now=1.0, limited=False)
    rounds(window, 40, 3 * BASE, now=now, step=0.2)
    assert window.window == SMALLEST


def test_a_source_that_does_not_fill_it_proves_nothing():
    window = DelayWindow(0.0)
    now = rounds(window, 20, BASE, now=1.0, limited=False)
    assert window.window == START
    rounds(window, 1, BASE, now=now)
    assert window.window > START


def test_a_queue_shrinks_it_whether_filled_or_not():
    for limited in (True, False):
        window = DelayWindow(0.0)
        now = rounds(window, 1, BASE, now=1.0, limited=False)
        rounds(window, 1, BASE + 4 * TARGET, now=now, limited=limited)
        assert 0.7 * START <= window.window < START


def test_after_a_queue_it_grows_gently():
    window = DelayWindow(0.0)
    now = rounds(window, 1, BASE, now=1.0)
    now = rounds(window, 1, BASE + 2 * TARGET, now=now, step=0.2)
    before = window.window
    rounds(window, 1, BASE, now=now)
    assert before < window.window <= 1.125 * before


def test_a_queue_of_the_target_keeps_it():
    window = DelayWindow(0.0)
    now = rounds(window, 1, BASE, now=1.0, limited=False)
    rounds(window, 20, BASE + TARGET, now=now, step=0.2)
    assert window.window == START


def test_one_step_a_round_however_many_samples():
    window = DelayWindow(0.0)
    for number in range(40):
        window.on_limited()
        now = 1.0 + number / 1000
        window.on_acked([(1000, now - BASE)], now)
    assert window.window == 2 * START


def test_the_shortest_time_of_a_round_counts():
    """Delayed segments among timely ones are jitter, not a queue."""
    window = DelayWindow(0.0)
    now = rounds(window, 1, BASE, now=1.0, limited=False)
    for _ in range(10):
        window.on_limited()
        window.on_acked([(1000, now - 10 * BASE), (1000, now - BASE)], now)
        now += 0.060
    assert window.window == LARGEST


def test_an_old_minimum_is_forgotten():
    """A path that became longer for good is not taken for a queue for ever."""
    window = DelayWindow(0.0)
    now = rounds(window, 10, BASE, now=1.0, limited=False)
    longer = BASE + 5 * TARGET
    end = now + 2 * BASE_MEMORY + 1
    while now < end:
        now = rounds(window, 1, longer, now=now, step=0.2)
    shrunk = window.window
    assert shrunk < START
    rounds(window, 5, longer, now=now, step=0.2)
    assert window.window > shrunk


def test_nothing_acknowledged_is_no_sample():
    window = DelayWindow(0.0)
    window.on_acked([], 100.0)
    assert window.rtt is None
    assert window.window == START


def test_round_trip_is_smoothed():
    window = DelayWindow(0.0)
    window.on_acked([(1, 0.9)], 1.0)
    assert window.rtt == pytest.approx(0.1)
    window.on_acked([(1, 0.9), (1, 1.0)], 1.18)
    assert window.rtt == pytest.approx(0.1 + 0.08 / 8)


def test_a_path_that_takes_no_time():
    window = DelayWindow(0.0)
    rounds(window, 5, 0.0, now=1.0)
    assert window.window > START
    assert window.rtt == 0.0
