"""Has this machine slept? The clock that counts sleep against the one that does not.

While a machine is suspended its monotonic clock stands still, and so do all our timers: after hours
a session looks as if it had just been used, though the switch has long let go of it. So the gap
between both clocks is looked at twice a second, and when it has grown, somebody is told.

Error contract: nothing is raised. Where the system has no such clock nothing is ever noticed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["SleepDetector", "watch_sleep"]

NOTICEABLE: Final = 5.0  # seconds: less is survived by the session's own timers
INTERVAL: Final = 0.5  # seconds between two looks; a waking machine has to be back in two


class SleepDetector:
    """Pure; both clocks in seconds."""

    def __init__(self, boottime: float, monotonic: float) -> None:
        self._gap = boottime - monotonic

    def slept(self, boottime: float, monotonic: float) -> float:
        """Seconds slept since this last said so; 0 for what is too short to matter."""
        gap = boottime - monotonic
        slept = gap - self._gap
        if 0 <= slept < NOTICEABLE:
            return 0.0  # kept: many short ones make a long one
        self._gap = gap
        return max(0.0, slept)


def read_clocks() -> tuple[float, float]:
    """Boot time and monotonic time."""
    monotonic = time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME), monotonic
    except (AttributeError, OSError):  # a system without
        return monotonic, monotonic


async def watch_sleep(
    woke: Callable[[float], None],
    clocks: Callable[[], tuple[float, float]] = read_clocks,
) -> None:
    """Call `woke(seconds)` after each sleep; for ever."""
    detector = SleepDetector(*clocks())
    while True:
        await trio.sleep(INTERVAL)
        slept = detector.slept(*clocks())
        if slept:
            woke(slept)
