"""Competitive mode: when a loss-based flow is detected, and the window beside it."""

import pytest

from transport.congestion.competing import (
    BETA,
    DETECTION_TIME,
    DRAINS_AFTER_RELAPSE,
    DRAINS_TO_LEAVE,
    RELAPSE,
    RELAPSE_DETECTION_TIME,
    SEARCH_GAIN,
    SEARCH_LOSSES,
    SWING_PERIOD,
    CompetitiveMode,
)

TARGET, RTT = 0.010, 0.060
WINDOW = 200_000.0
RATE = WINDOW / RTT  # bytes a second, what the path has carried


def watch(mode, queues, *, since=0.0):
    """A round of 60 ms for each queue; when it ended."""
    now = since
    for queue in queues:
        now += RTT
        mode.on_round(queue, TARGET, RATE, now)
    return now


def sawtooth(seconds, low=0.020, high=0.029, period=80):
    rounds = round(seconds / RTT)
    return [low + (high - low) * (number % period) / period for number in range(rounds)]


def test_a_standing_queue_that_comes_and_goes_is_a_loss_based_flows():
    mode = CompetitiveMode(0.0)
    now = watch(mode, sawtooth(DETECTION_TIME - 1))
    assert not mode.detected
    watch(mode, sawtooth(2), since=now)
    assert mode.detected


def test_a_queue_that_is_short_after_our_drain_is_our_own():
    mode = CompetitiveMode(0.0)
    now = 0.0
    for _ in range(5):
        now = watch(mode, sawtooth(DETECTION_TIME / 2), since=now) + RTT
        mode.on_round(0.002, TARGET, RATE, now, own_drain=True)
    assert not mode.detected


def test_a_standing_queue_that_never_changes_is_a_longer_path():
    mode = CompetitiveMode(0.0)
    now = watch(mode, [0.040, 0.041] * 200)
    assert not mode.detected
    assert not mode.detect_variation(now, DETECTION_TIME)


def detected_mode():
    mode = CompetitiveMode(0.0)
    now = watch(mode, sawtooth(DETECTION_TIME + 2))
    assert mode.detected
    return mode, now


def drain(mode, queues, now):
    for queue in queues:
        mode.on_drained(queue, TARGET, now)


def test_a_queue_that_swings_is_a_loss_based_flows_though_it_is_short_in_between():
    """Who has come late never saw the path empty, and takes a part of the queue for its length."""
    mode = CompetitiveMode(0.0)
    now = watch(mode, sawtooth(SWING_PERIOD / 4, low=0.0, high=0.030))
    assert not mode.detected
    watch(mode, sawtooth(SWING_PERIOD / 2, low=0.0, high=0.030), since=now)
    assert mode.detected


def test_swings_of_our_own_drains_and_single_late_rounds_are_not_counted():
    mode = CompetitiveMode(0.0)
    now = 0.0
    for number in range(2000):
        now += RTT
        ours = number % 100 < 20
        mode.on_round(0.0 if ours else 0.018, 0.030, RATE, now, own_drain=ours)
        if number % 500 == 0:
            mode.on_round(0.200, 0.030, RATE, now + RTT / 2)  # a processor was late
    assert not mode.detected


def test_competitive_mode_ends_after_two_drains_with_an_empty_queue():
    mode, now = detected_mode()
    drain(mode, [0.002, 0.030, 0.002], now)
    assert mode.detected
    drain(mode, [0.002], now)
    assert not mode.detected


def test_after_a_relapse_detection_is_faster_and_leaving_takes_more_drains():
    mode, now = detected_mode()
    drain(mode, [0.002] * DRAINS_TO_LEAVE, now)
    now = watch(mode, sawtooth(RELAPSE_DETECTION_TIME + 1), since=now)
    assert mode.detected
    drain(mode, [0.002] * (DRAINS_AFTER_RELAPSE - 1), now)
    assert mode.detected
    drain(mode, [0.002], now)
    assert not mode.detected


def test_long_after_leaving_detection_takes_as_long_as_at_first():
    mode, now = detected_mode()
    drain(mode, [0.002] * DRAINS_TO_LEAVE, now)
    now = watch(mode, sawtooth(RELAPSE_DETECTION_TIME + 1), since=now + RELAPSE)
    assert not mode.detected
    now = watch(mode, sawtooth(DETECTION_TIME), since=now)
    assert mode.detected
    drain(mode, [0.002] * DRAINS_TO_LEAVE, now)
    assert not mode.detected


def found(mode, now):
    """Enough losses of a full buffer to know what is ours."""
    for _ in range(SEARCH_LOSSES):
        mode.reduced(0.050, WINDOW, RTT, now)


def test_the_window_grows_fast_until_losses_have_shown_our_share():
    mode, now = detected_mode()
    assert mode.grown(WINDOW, RTT, now) == SEARCH_GAIN * WINDOW
    found(mode, now)
    assert mode.grown(WINDOW, RTT, now + RTT) < SEARCH_GAIN * WINDOW


def test_a_loss_below_half_of_the_former_rate_is_ignored_while_searching():
    mode, now = detected_mode()
    assert mode.reduced(0.050, 0.4 * WINDOW, RTT, now) == 0.4 * WINDOW
    assert mode.reduced(0.050, 0.6 * WINDOW, RTT, now) == BETA * 0.6 * WINDOW


def test_the_window_follows_the_curve_of_cubic():
    """Back where it was, quickly first, then slowly, then faster and faster."""
    mode, now = detected_mode()
    found(mode, now)
    window = BETA * WINDOW
    windows = []
    for number in range(200):
        window = mode.grown(window, RTT, now + RTT * (number + 1))
        windows.append(window)
    assert windows == sorted(windows)
    gains = [later - sooner for sooner, later in zip(windows, windows[20:], strict=False)]
    middle = min(gains)
    assert 0 < gains.index(middle) < len(gains) - 1
    assert min(gains[0], gains[-1]) > 2 * middle
    assert windows[-1] > WINDOW


@pytest.mark.parametrize(("queue", "reduces"), [(0.048, True), (0.005, False)])
def test_a_loss_reduces_the_window_only_when_the_queue_is_long(queue, reduces):
    mode, now = detected_mode()
    assert (mode.reduced(queue, WINDOW, RTT, now) < WINDOW) is reduces
