"""When a flow that waits for its device has waited too long, and loses a record for it.

CoDel (RFC 8289): a queue that is short now and then absorbs bursts, and may be long in between; one
that has been longer than `target` for a whole `interval` stands, and only adds delay. Then one
record is dropped, and more of them, ever sooner, while that lasts: a TCP behind it slows down until
the queue moves again.

Both times follow the path of the device. What is lost on it is sent again, which holds up
everything behind it for a round trip and more; such a stall is no queue.

Pure: `now` in seconds, monotonic. No errors.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import Final

# Seconds. More than the 5 ms of RFC 8289: what takes records here takes them in batches, as an
# event loop has its turns, and a transfer has no other buffer that keeps the session busy.
SLACK: Final = 0.030
LEAST_INTERVAL: Final = 0.100  # seconds: RFC 8289 §4.2, a round trip of most paths
INTERVAL_TRIPS: Final = 2  # round trips of the device's path: a loss, and that of its repetition
# Round trips more where things are lost all the time: all that a stall has held up is answered at
# once, and then a TCP sends as much at once, though in the long run it is slower than the path.
STALL_TRIPS: Final = 2
MEMORY: Final = 16  # intervals after which the rate of dropping starts anew (RFC 8289 §5.4)


class Patience:
    """How long records may wait for one device."""

    __slots__ = ("interval", "target")

    def __init__(self, round_trip: float | None, *, lossy: bool = False) -> None:
        """`round_trip`: seconds of the device's path; None while that is not known, or where there
        is none: then nothing is ever too old. `lossy`: things are lost on it.
        """
        if round_trip is None:
            self.target = self.interval = inf
        else:
            stalls = STALL_TRIPS * round_trip if lossy else 0.0
            self.target = SLACK + round_trip + stalls
            self.interval = LEAST_INTERVAL + INTERVAL_TRIPS * round_trip + stalls


class Codel:
    """The state of one flow."""

    __slots__ = ("_above_since", "_count", "_drop_next", "_dropping", "_last_count")

    def __init__(self) -> None:
        self._above_since = inf
        self._dropping = False
        self._drop_next = 0.0
        self._count = 0  # dropped since dropping began
        self._last_count = 0

    def drops(self, waited: float, patience: Patience, now: float, *, last: bool) -> bool:
        """Whether the record that is taken now is dropped instead; then ask for the next one. It
        has waited so many seconds; the `last` one of a flow never is. HOT PATH of a queue.
        """
        if waited < patience.target or last:
            self._above_since = inf
            self._dropping = False
            return False
        if self._above_since == inf:
            self._above_since = now
        if now - self._above_since < patience.interval:
            return False
        if not self._dropping:
            self._dropping = True
            # It was not enough last time, not long ago: go on from there.
            recent = now - self._drop_next < MEMORY * patience.interval
            since = self._count - self._last_count
            self._count = since if recent and since > 1 else 1
            self._last_count = self._count
            self._drop_next = now + patience.interval / sqrt(self._count)
            return True
        if now < self._drop_next:
            return False
        self._count += 1
        self._drop_next += patience.interval / sqrt(self._count)
        return True
