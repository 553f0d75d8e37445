"""A window for when others fill the queue whatever we do: grows like theirs, shrinks like theirs.

A sender that keeps the queue short gets next to nothing beside one that grows until something is
dropped, as most TCP on the Internet does. Where a queue stays long through all our own drains
somebody else makes it, and then this takes the place of the delay law: CUBIC's curve (RFC 9438), so
both get about the same.

A loss counts only while the queue is long, about as long as it ever gets: what a path loses by
chance is no sign of a full buffer. Pure; `now` in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["Rivalry"]

C: Final = 0.4  # RFC 9438 §5.1
BETA: Final = 0.8  # less is lost here than beside it: what is paced meets a full buffer more seldom
LOOK: Final = 8.0  # seconds of queues that are looked at: one drain of our own at least
LEAST: Final = 0.008  # seconds of queue that never goes: with less between us we do well enough
RANGE: Final = 0.15  # of the queue, that it comes and goes at least
LEAST_RANGE: Final = 0.003  # seconds: the jitter of schedulers
LEAVE: Final = 2  # drains in a row that showed an empty queue: nobody else is there
FULL: Final = 0.6  # of the longest queue seen lately, from which on a loss is one of a full buffer


class Rivalry:
    """Whether there is a rival, and the window beside it."""

    __slots__ = ("_best", "_emptied", "_epoch", "_longest", "_piece", "_rounds", "on")

    def __init__(self, now: float, piece: int) -> None:
        """`piece`: bytes of a packet, the unit of CUBIC's curve."""
        self.on = False
        self._piece = piece
        # The last rounds: when, seconds of queue, bytes of window.
        self._rounds: deque[tuple[float, float, float]] = deque()
        self._emptied = 0
        self._longest = 0.0
        self._best = 0.0  # window before the last reduction
        self._epoch = now

    def saw(self, queue: float, target: float, window: float, now: float) -> None:
        """A round has shown a queue of so many seconds at the least."""
        self._longest = max(queue, self._longest * 0.98)
        rounds = self._rounds
        rounds.append((now, queue, window))
        if rounds[0][0] >= now - LOOK:
            return
        while rounds[0][0] < now - LOOK:
            rounds.popleft()
        if not self.on and min(queue for _, queue, _ in rounds) > max(LEAST, target / 2):
            self.suspects(now, LOOK)

    def suspects(self, now: float, seconds: float) -> bool:
        """The queue has been long for so long: is that a rival, whose queue comes and goes, or is
        it the path that has become longer? If a rival, `on` from now on.
        """
        queues = [queue for at, queue, _ in self._rounds if at > now - seconds]
        if not queues or max(queues) - min(queues) < max(LEAST_RANGE, RANGE * max(queues)):
            return False
        self.on = True
        self._emptied = 0
        # Back to what we had before we gave way.
        self._best, self._epoch = max(window for _, _, window in self._rounds), now
        return True

    def drained(self, queue: float, target: float) -> None:
        """What our own drain has left of the queue."""
        self._emptied = self._emptied + 1 if queue <= target else 0
        if self._emptied >= LEAVE:
            self.on = False

    def lost(self, queue: float, window: float, now: float) -> float:
        """The window after a loss; call it once a round trip."""
        if queue < FULL * self._longest:
            return window
        self._best, self._epoch = window, now
        return window * BETA

    def grown(self, window: float, rtt: float, now: float) -> float:
        """The window now, if nothing was lost."""
        best, since = self._best / self._piece, now - self._epoch
        turn = float((best * (1 - BETA) / C) ** (1 / 3))
        curve = C * (since + rtt - turn) ** 3 + best
        reno = best * BETA + 0.53 * since / max(rtt, 1e-3)
        return min(max(window, self._piece * max(curve, reno)), 1.25 * window)
