"""A window for when others fill the queue whatever we do: grows like theirs, shrinks like theirs.

A sender that keeps the queue short gets next to nothing beside one that grows until something is
dropped, as most TCP on the Internet does. Two signs tell of such a one, where our own drains have
their part in both: a queue that comes and goes and never ends; and one that goes up and down again
and again, by more than senders like us would. Then this takes the place of the delay law: first a
search for what is ours, then CUBIC's curve (RFC 9438), so both get about the same. It ends when our
drains find the queue empty.

A loss counts only while the queue is long, about as long as it ever gets: what a path loses by
chance is no sign of a full buffer. Pure; `now` in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

C: Final = 0.4  # RFC 9438 §5.1
BETA: Final = 0.8  # less is lost here than beside it: what is paced meets a full buffer more seldom
SEARCH: Final = 1.25  # times the window in a round trip, until losses have shown what is ours
SEARCHES: Final = 2  # such losses: the first may be one that the rival's own search has made
LOOK: Final = 8.0  # seconds of queues that are looked at: one drain of our own at least
LEAST: Final = 0.008  # seconds of queue that never goes: with less between us we do well enough
RANGE: Final = 0.15  # of the queue, that it comes and goes at least
LEAST_RANGE: Final = 0.003  # seconds: the jitter of schedulers
FLOOR: Final = 0.5  # seconds of which the shortest queue counts, for how it comes and goes
SWING: Final = 0.010  # seconds of queue that it rises or falls at once, or
SWING_TARGET: Final = 0.7  # of the target, or
SWING_BASE: Final = 0.25  # of the empty path's round trip; senders like us are steadier
SWINGS: Final = 4  # up and down, twice, in
SWINGS_IN: Final = 30.0  # seconds
LEAVE: Final = 2  # drains in a row that showed an empty queue: nobody else is there
MOST_LEAVE: Final = 4  # the same when that was wrong before: its own pauses empty the queue, too
AGAIN: Final = 30.0  # seconds in which it shows soon that it was wrong
SOON: Final = 2.0  # seconds of queues that are enough then
FULL: Final = 0.6  # of the longest queue seen lately, from which on a loss is one of a full buffer


class Rivalry:
    """Whether there is a rival, and the window beside it."""

    __slots__ = (
        "_best",
        "_emptied",
        "_epoch",
        "_extreme",
        "_floor",
        "_floor_from",
        "_leave",
        "_left_at",
        "_longest",
        "_piece",
        "_rounds",
        "_search",
        "_share",
        "_swings",
        "_up",
        "on",
    )

    def __init__(self, now: float, piece: int) -> None:
        """`piece`: bytes of a packet, the unit of CUBIC's curve."""
        self.on = False
        self._piece = piece
        # The last rounds: when, seconds of queue, bytes a second.
        self._rounds: deque[tuple[float, float, float]] = deque()
        self._floor = self._extreme = inf  # seconds of queue: of this while, and since it turned
        self._floor_from = now
        self._up = False
        self._swings: deque[float] = deque()  # when it turned
        self._emptied = 0
        self._leave = LEAVE
        self._left_at = -inf
        self._longest = 0.0
        self._search = 0  # losses until we know how much of the path is ours
        self._share = 0.0  # bytes a second that are, as far as is known
        self._best = 0.0  # window before the last reduction
        self._epoch = now

    def saw(
        self,
        queue: float,
        target: float,
        rate: float,
        now: float,
        *,
        base: float = 0.0,
        ours: bool = False,
    ) -> None:
        """A round has shown a queue of so many seconds at the least, above a round trip of `base`,
        and carried so many bytes a second. `ours`: it was made short by our own drain.
        """
        self._longest = max(queue, self._longest * 0.98)
        rounds = self._rounds
        rounds.append((now, queue, rate))
        while rounds[0][0] < now - LOOK:
            rounds.popleft()
        if self.on:
            return
        if not ours:
            self._floor = min(self._floor, queue)
        if now - self._floor_from >= FLOOR:
            self._follow(self._floor, max(SWING, SWING_TARGET * target, SWING_BASE * base), now)
            self._floor, self._floor_from = inf, now
        look = SOON if now - self._left_at < AGAIN else LOOK
        if not self.on and rounds[0][0] <= now - 0.98 * look:
            recent = [queue for at, queue, _ in rounds if at > now - look]
            if min(recent) > max(LEAST, target / 2):
                self.suspects(now, look)

    def _follow(self, floor: float, swing: float, now: float) -> None:
        """How the queue comes and goes, also where it is short in between: who has come late never
        saw the path empty, and takes a part of the queue for its length.
        """
        if floor == inf:
            return
        turned = self._extreme - floor if self._up else floor - self._extreme
        if self._extreme == inf or turned < 0:
            self._extreme = floor
        elif turned >= swing:
            self._up = not self._up
            self._extreme = floor
            swings = self._swings
            swings.append(now)
            while swings[0] < now - SWINGS_IN:
                swings.popleft()
            if len(swings) >= SWINGS:
                self._begin(now)

    def suspects(self, now: float, seconds: float) -> bool:
        """The queue has been long for so long: is that a rival, whose queue comes and goes, or is
        it the path that has become longer? If a rival, `on` from now on.
        """
        queues = [queue for at, queue, _ in self._rounds if at > now - seconds]
        if not queues or max(queues) - min(queues) < max(LEAST_RANGE, RANGE * max(queues)):
            return False
        self._begin(now)
        return True

    def _begin(self, now: float) -> None:
        self.on = True
        self._search = SEARCHES
        self._emptied = 0
        self._swings.clear()
        self._leave = MOST_LEAVE if now - self._left_at < AGAIN else LEAVE
        # Half of what we had before we gave way is ours.
        self._share = max(rate for _, _, rate in self._rounds) / 2

    def drained(self, queue: float, target: float, now: float) -> None:
        """What our own drain has left of the queue."""
        self._emptied = self._emptied + 1 if queue <= target else 0
        if self.on and self._emptied >= self._leave:
            self.on = False
            self._left_at = self._floor_from = now
            self._floor = self._extreme = inf
            self._rounds.clear()

    def lost(self, queue: float, window: float, rtt: float, now: float) -> float:
        """The window after a loss; call it once a round trip."""
        if queue < FULL * self._longest or (self._search and window < self._share * rtt):
            return window
        self._search = max(0, self._search - 1)
        self._best, self._epoch = window, now
        return window * BETA

    def grown(self, window: float, rtt: float, now: float) -> float:
        """The window now, if nothing was lost."""
        if self._search:
            return SEARCH * window
        best, since = self._best / self._piece, now - self._epoch
        turn = float((best * (1 - BETA) / C) ** (1 / 3))
        curve = C * (since + rtt - turn) ** 3 + best
        reno = best * BETA + 0.53 * since / max(rtt, 1e-3)
        return min(max(window, self._piece * max(curve, reno)), 1.25 * window)
