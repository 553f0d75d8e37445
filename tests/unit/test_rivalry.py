"""When somebody else fills the queue, and what the window does beside him."""

import pytest

from transport.rivalry import BETA, LOOK, Rivalry

PIECE, TARGET, RTT = 1400, 0.010, 0.060
WINDOW = 200_000.0


def watch(rivalry, queues, *, since=0.0, window=WINDOW):
    """A round of 60 ms for each queue; when it ended."""
    now = since
    for queue in queues:
        now += RTT
        rivalry.saw(queue, TARGET, window, now)
    return now


def sawtooth(seconds, low=0.020, high=0.050, period=80):
    rounds = round(seconds / RTT)
    return [low + (high - low) * (number % period) / period for number in range(rounds)]


def test_a_queue_that_comes_and_goes_and_is_never_short_is_a_rivals():
    rivalry = Rivalry(0.0, PIECE)
    now = watch(rivalry, sawtooth(LOOK - 1))
    assert not rivalry.on
    watch(rivalry, sawtooth(2), since=now)
    assert rivalry.on


def test_one_short_queue_in_that_time_says_that_it_is_our_own():
    rivalry = Rivalry(0.0, PIECE)
    now = 0.0
    for _ in range(5):
        now = watch(rivalry, [*sawtooth(LOOK / 2), 0.002], since=now)
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


def test_it_ends_when_two_drains_found_nobody():
    rivalry, _ = beside_a_rival()
    rivalry.drained(0.002, TARGET)
    rivalry.drained(0.030, TARGET)
    rivalry.drained(0.002, TARGET)
    assert rivalry.on
    rivalry.drained(0.002, TARGET)
    assert not rivalry.on


def test_the_curve_is_cubic():
    """Back where it was, quickly first, then slowly, then faster and faster."""
    rivalry, now = beside_a_rival()
    window = rivalry.lost(0.050, WINDOW, now)
    assert window == BETA * WINDOW
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
    assert (rivalry.lost(queue, WINDOW, now) < WINDOW) is reduces
