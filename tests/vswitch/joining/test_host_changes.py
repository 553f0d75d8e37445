"""A machine that sleeps: its clocks tell, and its member asks at once. Clocks are the test's."""

import pytest
import trio

from vswitch.joining.host_changes import (
    INTERVAL,
    NOTICEABLE,
    SleepDetector,
    read_clocks,
    watch_sleep,
)


def test_a_sleep_is_reported_once():
    detector = SleepDetector(1000.0, 900.0)
    assert detector.slept(1010.0, 910.0) == 0.0
    assert detector.slept(29_810.5, 910.5) == pytest.approx(28_800)
    assert detector.slept(29_811.0, 911.0) == 0.0


def test_short_sleeps_are_reported_when_they_add_up():
    detector = SleepDetector(0.0, 0.0)
    assert detector.slept(NOTICEABLE - 0.1, 0.0) == 0.0
    assert detector.slept(2 * NOTICEABLE - 0.2, 0.0) == pytest.approx(2 * NOTICEABLE - 0.2)


def test_clocks_that_go_backwards_report_no_sleep():
    detector = SleepDetector(100.0, 0.0)
    assert detector.slept(90.0, 0.0) == 0.0
    assert detector.slept(90.0 + NOTICEABLE, 0.0) == NOTICEABLE


def test_the_clocks_of_this_system_show_no_sleep_in_a_test():
    boottime, monotonic = read_clocks()
    assert boottime >= monotonic - 0.1
    assert SleepDetector(*read_clocks()).slept(*read_clocks()) == 0.0


async def test_the_watch_calls_back_after_each_sleep(autojump_clock, nursery):
    asleep, heard = 0.0, []

    def clocks():
        now = trio.current_time()
        return now + asleep, now

    nursery.start_soon(
        watch_sleep, lambda slept: heard.append((trio.current_time(), slept)), clocks
    )
    await trio.sleep(10)
    assert heard == []
    asleep, woke = 600.0, trio.current_time()
    await trio.sleep(10)
    ((when, slept),) = heard
    assert when - woke <= INTERVAL
    assert slept == pytest.approx(600)
