"""Pacing: a token bucket in bytes, whose rate is set anew each time it is refilled.

A window alone lets a round trip's worth leave in one burst, which is a queue at the bottleneck and
a loss where its buffer is short. The bucket is as deep as what the rate gives between two wake-ups,
so that timers need not be finer than a scheduler keeps them. It may go into debt: what is sent is
sent whole.

Pure; `now` in seconds.
"""

from __future__ import annotations

from math import inf
from typing import Final

WAKE_UP_INTERVAL: Final = 0.002  # seconds between two looks at the bucket, with a late timer in it
MIN_BURST: Final = 2 * 1400  # bytes: two datagrams may always leave together
# Bytes a second. From here on what bounds a path is processors rather than queues, and they want
# large bursts: the faster, the more.
FAST_RATE: Final = 25e6


def burst(rate: float, seconds: float) -> float:
    """Bytes that may leave at once, where `seconds` of `rate` may on a slow path. HOT PATH."""
    return rate * seconds * (1 + (rate / FAST_RATE) ** 2)


class Pacer:
    """The bucket of one sender."""

    __slots__ = ("_at", "_rate", "tokens")

    def __init__(self, now: float) -> None:
        self.tokens = 0.0  # bytes; whoever sends takes away what leaves, also below zero
        self._rate = inf
        self._at = now

    def refill(self, rate: float, now: float) -> None:
        """Time has passed; from now on bytes come in at `rate` a second. HOT PATH."""
        if rate == inf:
            self.tokens = inf
        else:
            most = rate * WAKE_UP_INTERVAL * (1 + (rate / FAST_RATE) ** 2)  # as `burst` says
            if most < MIN_BURST:
                most = MIN_BURST
            self.tokens = min(self.tokens + (now - self._at) * rate, most)
        self._at, self._rate = now, rate

    def ready_at(self) -> float:
        """When something may leave again, at the rate of the last `refill`."""
        return self._at if self.tokens > 0 else self._at + (1 - self.tokens) / self._rate
