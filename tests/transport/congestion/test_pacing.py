"""How much may leave now: a rate, a burst, a debt."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.congestion.pacing import FAST_RATE, MIN_BURST, WAKE_UP_INTERVAL, Pacer, burst

RATE = 1e6  # bytes a second
SIZE = 1400


def leaves(pacer, size=SIZE):
    """How many of so many bytes leave now."""
    count = 0
    while pacer.tokens > 0:
        pacer.tokens -= size
        count += 1
    return count


def full(rate):
    pacer = Pacer(-1e6)
    pacer.refill(rate, 1.0)
    return pacer


def test_nothing_is_held_back_before_the_rate_is_known():
    pacer = Pacer(0.0)
    pacer.refill(inf, 0.0)
    pacer.tokens -= 10**9
    assert pacer.tokens > 0
    assert pacer.ready_at() == 0.0


def test_the_first_rate_leaves_a_bucket_of_one_burst():
    pacer = full(inf)
    pacer.refill(RATE, 1.0)
    assert leaves(pacer) == MIN_BURST / SIZE


def test_two_datagrams_may_always_leave_together():
    assert leaves(full(1000.0)) == 2


def test_a_long_wait_saves_up_one_burst():
    for rate in (RATE, 10 * RATE, 1e9):
        pacer = full(rate)
        pacer.refill(rate, 1000.0)
        most = max(MIN_BURST, burst(rate, WAKE_UP_INTERVAL))
        assert most <= leaves(pacer) * SIZE < most + SIZE


def test_bursts_grow_with_the_rate_of_the_path():
    assert burst(RATE, 0.001) == pytest.approx(1000, rel=0.01)
    assert burst(FAST_RATE, 0.001) == pytest.approx(2 * FAST_RATE * 0.001)
    assert burst(10 * FAST_RATE, 0.001) == pytest.approx(101 * 10 * FAST_RATE * 0.001)


def test_the_pacer_is_open_again_when_the_debt_is_paid():
    pacer = full(RATE)
    pacer.tokens -= 100_000
    ready = pacer.ready_at()
    assert ready == pytest.approx(1.0 + (100_000 - MIN_BURST) / RATE, abs=1e-5)
    pacer.refill(RATE, ready - 0.001)
    assert pacer.tokens <= 0
    pacer.refill(RATE, ready)
    assert pacer.tokens > 0
    assert pacer.ready_at() == ready


def test_a_debt_is_paid_at_the_new_rate():
    pacer = full(RATE)
    pacer.tokens -= 100_000
    pacer.refill(10 * RATE, 1.0)
    assert pacer.ready_at() == pytest.approx(1.0 + (100_000 - MIN_BURST) / RATE / 10, abs=1e-5)


@given(
    rate=st.floats(1e4, 2e8),
    waits=st.lists(st.floats(0.0, 0.01), min_size=1, max_size=20),
    size=st.integers(1400, 62_000),
)
def test_never_more_than_the_rate_and_a_burst(rate, waits, size):
    pacer = full(rate)
    now, sent = 1.0, 0
    for wait in waits:
        now += wait
        pacer.refill(rate, now)
        while pacer.tokens > 0:
            pacer.tokens -= size
            sent += size
        assert sent <= (now - 1.0) * rate + max(MIN_BURST, burst(rate, WAKE_UP_INTERVAL)) + size
        assert pacer.ready_at() >= now


@given(rate=st.floats(1e3, 1e10), debt=st.integers(1, 10**7), since=st.floats(0, 1e6))
def test_the_pacer_is_open_at_the_time_that_ready_at_gives(rate, debt, since):
    pacer = Pacer(since)
    pacer.refill(rate, since)
    pacer.tokens -= debt
    ready = pacer.ready_at()
    pacer.refill(rate, ready)
    assert pacer.tokens > 0 or pacer.ready_at() - ready < 1e-6
