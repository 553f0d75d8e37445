"""When acknowledgements stop: when it asks, and when it has everything sent again."""

import itertools

import pytest

from transport.constants import (
    STALL_AFTER,
    STALL_AFTER_ROUND_TRIPS,
    STALL_AGAIN,
    STALL_AGAIN_TIMES,
    STALL_PROBE,
    STALL_REPEAT_CAP,
    STALL_REPEAT_FIRST,
)
from transport.stall import Stall


def stalled(at=10.0):
    stall = Stall()
    stall.sent(at)
    return stall


def test_nothing_under_way_is_no_stall():
    stall = Stall()
    assert stall.deadline(0.1) == float("inf")
    assert not stall.ask(1e9, 0.1)
    assert not stall.answered(1e9, 0.1)


def test_it_asks_when_overdue_and_then_twice_a_second():
    stall, asked = stalled(), []
    while stall.deadline(0.02) < 20.0:
        asked.append(stall.deadline(0.02))
        assert not stall.ask(asked[-1] - 0.001, 0.02)
        assert stall.ask(asked[-1], 0.02)
    first = 10.0 + STALL_AFTER
    assert asked == pytest.approx([first + STALL_PROBE * n for n in range(len(asked))])


def test_a_long_round_trip_is_waited_for():
    assert stalled().deadline(2.0) == 10.0 + STALL_AFTER_ROUND_TRIPS * 2.0


def test_later_sending_is_not_progress():
    stall = stalled()
    stall.sent(10.9)
    assert stall.deadline(0.0) == 10.0 + STALL_AFTER


def test_an_acknowledgement_in_time_is_no_reason_to_repeat():
    stall = stalled()
    assert not stall.acknowledged(10.5, 0.1, more=True)
    assert stall.deadline(0.1) == 10.5 + STALL_AFTER
    assert not stall.acknowledged(11.0, 0.1, more=False)
    assert stall.deadline(0.1) == float("inf")


def test_one_that_comes_late_is():
    assert stalled().acknowledged(12.0, 0.1, more=True)
    assert not stalled().acknowledged(12.0, 0.1, more=False)  # nothing to repeat


def test_answers_that_bring_no_progress_cause_fewer_and_fewer_repetitions():
    stall = stalled()
    times = [n / 100 for n in range(1000, 10_000) if stall.answered(n / 100, 0.01)]
    gaps = [round(later - earlier, 2) for earlier, later in itertools.pairwise(times)]
    assert times[0] == 10.0 + STALL_AFTER
    assert gaps[:4] == [STALL_REPEAT_FIRST * 2**n for n in range(4)]
    assert set(gaps[6:]) == {STALL_REPEAT_CAP}
    stall.acknowledged(100.0, 0.01, more=True)
    assert stall.answered(110.0, 0.01)
    assert stall.answered(110.0 + STALL_REPEAT_FIRST, 0.01)


@pytest.mark.parametrize("goal", [100, 5, 2**31, 0])
def test_a_repetition_is_repeated_until_it_has_arrived(goal):
    stall = stalled()
    stall.repeated(20.0, 0.01, goal)
    behind = (goal - 3) % 2**32
    times = [n / 100 for n in range(2000, 4000) if stall.again(n / 100, 0.01, behind)]
    assert len(times) == STALL_AGAIN_TIMES
    assert times[0] == 20.0 + STALL_AGAIN
    stall.repeated(50.0, 0.01, goal)
    assert not stall.again(60.0, 0.01, goal)  # all has arrived
    assert not stall.again(70.0, 0.01, behind)
