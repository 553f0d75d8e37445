"""When somebody else fills the queue, and what the window does beside him."""

import pytest

from transport.congestion.competing import (
    AGAIN,
    BETA,
    LEAVE,
    LOOK,
    MOST_LEAVE,
    SEARCH,
    SEARCHES,
    SOON,
    SWINGS_IN,
    Rivalry,
)

PIECE, TARGET, RTT = 1400, 0.010, 0.060
WINDOW = 200_000.0
RATE = WINDOW / RTT  # bytes a second, what the path has carried


def watch(rivalry, queues, *, since=0.0):
    """A round of 60 ms for each queue; when it ended."""
    now = since
    for queue in queues:
        now += RTT
        rivalry.saw(queue, TARGET, RATE, now)
    return now


def sawtooth(seconds, low=0.020, high=0.029, period=80):
    rounds = round(seconds / RTT)
    return [low + (high - low) * (number % period) / period for number in range(rounds)]


def test_a_queue_that_comes_and_goes_and_is_never_short_is_a_rivals():
    rivalry = Rivalry(0.0, PIECE)
    now = watch(rivalry, sawtooth(LOOK - 1))
    assert not rivalry.on
    watch(rivalry, sawtooth(2), since=now)
    assert rivalry.on


def test_one_short_queue_after_a_drain_says_that_it_is_our_own():
    rivalry = Rivalry(0.0, PIECE)
    now = 0.0
    for _ in range(5):
        now = watch(rivalry, sawtooth(LOOK / 2), since=now) + RTT
        rivalry.saw(0.002, TARGET, RATE, now, ours=True)
    assert not rivalry.on


def test_a_queue_that_never_changes_is_a_longer_path():
    rivalry = Rivalry(0.0, PIECE)
    now = watch(rivalry, [0.040, 0.041] * 200)
    assert not rivalry.on
    assert not rivalry.suspects(now, LOOK)


def beside_a_rival():
    rivalry = Rivalry(0.0, PIECE)
    now = watch(rivalry, sawtooth(LOOK + 2))
    assert rivalry.on
    return rivalry, now


def drain(rivalry, queues, now):
    for queue in queues:
        rivalry.drained(queue, TARGET, now)


def test_a_queue_that_swings_is_a_rivals_though_it_is_short_in_between():
    """Who has come late never saw the path empty, and takes a part of the queue for its length."""
    rivalry = Rivalry(0.0, PIECE)
    now = watch(rivalry, sawtooth(SWINGS_IN / 4, low=0.0, high=0.030))
    assert not rivalry.on
    watch(rivalry, sawtooth(SWINGS_IN / 2, low=0.0, high=0.030), since=now)
    assert rivalry.on


def test_swings_of_our_own_drains_and_lonely_ones_are_none():
    rivalry = Rivalry(0.0, PIECE)
    now = 0.0
    for number in range(2000):
        now += RTT
        ours = number % 100 < 20
        rivalry.saw(0.0 if ours else 0.018, 0.030, RATE, now, ours=ours)
        if number % 500 == 0:
            rivalry.saw(0.200, 0.030, RATE, now + RTT / 2)  # a processor was late
    assert not rivalry.on


def test_it_ends_when_two_drains_found_nobody():
    rivalry, now = beside_a_rival()
    drain(rivalry, [0.002, 0.030, 0.002], now)
    assert rivalry.on
    drain(rivalry, [0.002], now)
    assert not rivalry.on


def test_if_that_was_wrong_it_is_seen_sooner_and_believed_later():
    rivalry, now = beside_a_rival()
    drain(rivalry, [0.002] * LEAVE, now)
    now = watch(rivalry, sawtooth(SOON + 1), since=now)
    assert rivalry.on
    drain(rivalry, [0.002] * (MOST_LEAVE - 1), now)
    assert rivalry.on
    drain(rivalry, [0.002], now)
    assert not rivalry.on


def test_long_afterwards_it_takes_as_long_as_at_first():
    rivalry, now = beside_a_rival()
    drain(rivalry, [0.002] * LEAVE, now)
    now = watch(rivalry, sawtooth(SOON + 1), since=now + AGAIN)
    assert not rivalry.on
    now = watch(rivalry, sawtooth(LOOK), since=now)
    assert rivalry.on
    drain(rivalry, [0.002] * LEAVE, now)
    assert not rivalry.on


def found(rivalry, now):
    """Enough losses of a full buffer to know what is ours."""
    for _ in range(SEARCHES):
        rivalry.lost(0.050, WINDOW, RTT, now)


def test_it_searches_until_losses_show_what_is_ours():
    rivalry, now = beside_a_rival()
    assert rivalry.grown(WINDOW, RTT, now) == SEARCH * WINDOW
    found(rivalry, now)
    assert rivalry.grown(WINDOW, RTT, now + RTT) < SEARCH * WINDOW


def test_a_loss_does_not_count_below_half_of_what_was_ours():
    rivalry, now = beside_a_rival()
    assert rivalry.lost(0.050, 0.4 * WINDOW, RTT, now) == 0.4 * WINDOW
    assert rivalry.lost(0.050, 0.6 * WINDOW, RTT, now) == BETA * 0.6 * WINDOW


def test_the_curve_is_cubic():
    """Back where it was, quickly first, then slowly, then faster and faster."""
    rivalry, now = beside_a_rival()
    found(rivalry, now)
    window = BETA * WINDOW
    windows = []
    for number in range(200):
        window = rivalry.grown(window, RTT, now + RTT * (number + 1))
        windows.append(window)
    assert windows == sorted(windows)
    gains = [later - sooner for sooner, later in zip(windows, windows[20:], strict=False)]
    middle = min(gains)
    assert 0 < gains.index(middle) < len(gains) - 1
    assert min(gains[0], gains[-1]) > 2 * middle
    assert windows[-1] > WINDOW


@pytest.mark.parametrize(("queue", "reduces"), [(0.048, True), (0.005, False)])
def test_a_loss_counts_only_when_the_queue_is_long(queue, reduces):
    rivalry, now = beside_a_rival()
    assert (rivalry.lost(queue, WINDOW, RTT, now) < WINDOW) is reduces
