"""How many bytes may be in flight: a window that follows the path's delay.

KCP would keep its whole window under way; on a slow uplink that is seconds of queue. Here the
window is in bytes and aims at a small standing queue: the smallest round trip seen is taken for
the empty path, and what a round adds to it is queue. Below the target the window grows, above
it shrinks; it doubles per round until the first sign of a queue.

Pure: `now` is an argument, no clock is read. Samples come from `kcp.Conversation.take_acked`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["DelayWindow"]

TARGET: Final = 0.020  # seconds of queue to aim at: keeps a link busy across scheduling jitter
START: Final = 128 * 1024  # bytes; 10 Mbit/s at 100 ms, and harmless on a 5 Mbit/s uplink
SMALLEST: Final = 16 * 1024  # bytes; a few frames and their acknowledgements
LARGEST: Final = 2 * 1024 * 1024  # bytes; below KCP's window in segments, so that never binds
BASE_MEMORY: Final = 10.0  # seconds after which an old minimum of the round trip is forgotten
SHORTEST_ROUND: Final = 0.005  # seconds; a round on a LAN would be noise otherwise


class DelayWindow:
    """The window of one session."""

    __slots__ = (
        "_base",
        "_base_next",
        "_base_since",
        "_limited",
        "_round_end",
        "_round_min",
        "_starting",
        "rtt",
        "window",
    )

    def __init__(self, now: float) -> None:
        self.window = START
        self.rtt: float | None = None  # seconds, smoothed
        self._base = self._base_next = float("inf")
        self._base_since = now
        self._round_end = now
        self._round_min = float("inf")
        self._starting = True
        self._limited = False

    def on_limited(self) -> None:
        """The sender had more to send than the window let through."""
        self._limited = True

    def on_acked(self, acked: Iterable[tuple[int, float]], now: float) -> None:
        """`acked`: (bytes, time of sending) of segments acknowledged just now."""
        sample = min((now - sent for _, sent in acked), default=None)
        if sample is None:
            return
        self.rtt = sample if self.rtt is None else self.rtt + (sample - self.rtt) / 8
        self._round_min = min(self._round_min, sample)
        self._base_next = min(self._base_next, sample)
        self._base = min(self._base, sample)
        if now - self._base_since > BASE_MEMORY:
            self._base, self._base_next = self._base_next, float("inf")
            self._base_since = now
        if now >= self._round_end:
            self._finish_round(now)

    def _finish_round(self, now: float) -> None:
        queue = self._round_min - self._base
        self._round_end = now + max(SHORTEST_ROUND, self._round_min)
        self._round_min = float("inf")
        if queue > TARGET / 2:
            self._starting = False
        # At least a microsecond: under a test's clock a round trip may take no time at all.
        factor = (self._base + TARGET) / max(self._base + queue, 1e-6)
        if factor < 1:
            step = max(0.7, factor)
        elif not self._limited:
            return  # a source that does not fill its window proves nothing about the path
        else:
            step = 2.0 if self._starting else min(1.25, factor)
        if not self._starting:
            step = 1 + (step - 1) / 2  # half steps: the queue answers a round late
        self._limited = False
        self.window = round(min(LARGEST, max(SMALLEST, self.window * step)))
