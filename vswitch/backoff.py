"""How long to wait before trying again: short at first, longer each time, never in step."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]

FIRST = 0.2  # seconds: a switch that restarts is back in one or two
CAP = 30.0  # seconds: people wait for a LAN to come back, and give up after a minute
SPREAD = 0.3  # ± share, so that the members of a switch that restarts come one by one


class Backoff:
    """Pauses between attempts."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._next = FIRST

    def pause(self) -> float:
        """Seconds to wait before the next attempt; at most 30."""
        pause = self._next * self._uniform(1 - SPREAD, 1 + SPREAD)
        self._next = min(CAP, 2 * self._next)
        return min(CAP, pause)

    def reset(self) -> None:
        """It had worked for a while: the next loss is looked into at once."""
        self._next = FIRST
