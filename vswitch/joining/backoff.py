"""How long to wait before trying again: short at first, longer where that helps, never in step.

What kind of loss it was decides: a switch that restarts is back in a second or two and its members
come one by one; silence is asked into all the time, since nobody is bothered by it; what the switch
itself has said no to is asked less and less.

Pure; `now` in seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST = 0.2  # seconds: a switch that restarts is back in one or two
SOON = 2.0  # seconds: the longest pause after what mends itself soon: no route, no name server
CAP = 30.0  # seconds: people wait for a LAN to come back, and give up after a minute
SPREAD = 0.3  # ± share, so that the members of a switch that restarts come one by one
RESTART = (0.1, 2.0)  # seconds, at random, after a switch has said that it stops
# Seconds between two attempts that nobody answers. With those of the inits in an attempt there is
# one every two seconds or so: a path that heals is found within three.
SILENCE = 0.5
PATIENT = 900.0  # seconds of silence after which pauses grow up to the cap


class Backoff:
    """Pauses between attempts, in seconds; none is longer than 30."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._next = FIRST
        self._silent_since: float | None = None

    def pause(self, cap: float = CAP) -> float:
        """After something was said, or went wrong: doubles each time, up to about `cap`."""
        pause = min(cap, self._next) * self._uniform(1 - SPREAD, 1 + SPREAD)
        self._next = min(CAP, 2 * self._next)
        return min(CAP, pause)

    def after_restart(self) -> float:
        """The switch has said that it stops; it may come back with all its members waiting."""
        return self._uniform(*RESTART)

    def after_silence(self, now: float) -> float:
        """Nobody answered an attempt."""
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since >= PATIENT:
            return self.pause()
        return SILENCE * self._uniform(1 - SPREAD, 1 + SPREAD)

    def answered(self) -> None:
        """Somebody did."""
        self._silent_since = None

    def reset(self) -> None:
        """It had worked for a while: the next loss is looked into at once."""
        self._next = FIRST
        self._silent_since = None
