"""The two clocks that people see: how long something has lasted, and what the date is.

Durations come from the kernel's boot clock, which counts sleep and which nobody sets; the wall
clock may say anything, before 1970 or after 2100, and jump. A moment that is shown as a date is
kept on the boot clock and becomes a date when it is asked for, by what the wall clock says then.
It is the same date each time, until the wall clock has been set by more than `_SET`.

Nothing here raises.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

from transport.platform import boot_time

_SET = 0.1  # seconds; less lies between the two readings, or is a clock that is slewed
_began = 0.0  # when the system began, by the wall clock


def uptime() -> float:
    """Seconds since the system began, sleep included where the system counts it."""
    return boot_time()


def wall_time_of(moment: float) -> float:
    """Seconds of the epoch, by the wall clock of now, of a moment of `uptime`."""
    global _began
    began = time.time() - uptime()
    if abs(began - _began) > _SET:
        _began = began
    return _began + moment


def utc(seconds: float, form: str) -> str:
    """Seconds of the epoch as text by `strftime`; the bare number for what has no date."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # before year 1 or after year 9999, or no number
        return f"second {seconds:g}"


def stamp(seconds: float) -> str:
    """Seconds of the epoch as a time stamp of ISO 8601 with milliseconds."""
    whole, rest = divmod(math.floor(seconds * 1000), 1000)
    return utc(whole, f"%Y-%m-%dT%H:%M:%S.{rest:03d}Z")
