"""Competitive mode (cf. Copa, BBRv2): CUBIC, while a loss-based flow shares the bottleneck.

A sender that keeps the queue short gets next to nothing beside one that grows until something is
dropped, as most TCP on the Internet does. Two signs tell of such a flow, where our own drains have
their part in both: a standing queue that comes and goes and never ends; and one that goes up and
down again and again, by more than senders like us would. Then this takes the place of the delay
law: first a search for our share, then CUBIC's curve (RFC 9438), so both get about the same. It
ends when our drains find the queue empty.

A loss counts only while the queue is long, about as long as it ever gets: what a path loses by
chance is no sign of a full buffer. Pure; `now` in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from transport.congestion.controller import DATAGRAM

C: Final = 0.4  # RFC 9438 §5.1
BETA: Final = 0.8  # less is lost here than beside it: what is paced meets a full buffer more seldom
SEARCH_GAIN: Final = 1.25  # times the window in a round trip, until losses have shown our share
SEARCH_LOSSES: Final = 2  # such losses: the first may be one that the other flow's search has made

DETECTION_TIME: Final = 8.0  # seconds of queues that are looked at: one drain of our own at least
MIN_STANDING_QUEUE: Final = 0.008  # seconds; with less between us we do well enough
MIN_VARIATION: Final = 0.15  # of the queue, that it comes and goes at least
MIN_VARIATION_SECONDS: Final = 0.003  # the jitter of schedulers

FLOOR_INTERVAL: Final = 0.5  # seconds of which the shortest queue counts, for its swings
MIN_SWING: Final = 0.010  # seconds of queue that it rises or falls at once, or
SWING_PER_TARGET: Final = 0.7  # of the target delay, or
SWING_PER_RTT: Final = 0.25  # of the min RTT; senders like us are steadier
SWINGS: Final = 4  # up and down, twice, in
SWING_PERIOD: Final = 30.0  # seconds

DRAINS_TO_LEAVE: Final = 2  # in a row that showed an empty queue: nobody else is there
DRAINS_AFTER_RELAPSE: Final = 4  # the same when that was wrong: its pauses empty the queue, too
RELAPSE: Final = 30.0  # seconds in which it shows soon that it was wrong
RELAPSE_DETECTION_TIME: Final = 2.0  # seconds of queues that are enough then
FULL_QUEUE: Final = 0.6  # of the longest queue seen lately: from here on a loss is a full buffer's


class CompetitiveMode:
    """Whether a loss-based flow competes, and the congestion window beside it."""

    __slots__ = (
        "_best",
        "_drains_to_leave",
        "_empty_drains",
        "_epoch",
        "_extreme",
        "_floor",
        "_floor_from",
        "_left_at",
        "_longest",
        "_rounds",
        "_search_losses",
        "_share",
        "_swings",
        "_up",
        "detected",
    )

    def __init__(self, now: float) -> None:
        self.detected = False
        # The last rounds: when, seconds of queue, delivery rate.
        self._rounds: deque[tuple[float, float, float]] = deque()
        self._floor = self._extreme = inf  # seconds of queue: of this interval; since it turned
        self._floor_from = now
        self._up = False
        self._swings: deque[float] = deque()  # when it turned
        self._empty_drains = 0
        self._drains_to_leave = DRAINS_TO_LEAVE
        self._left_at = -inf
        self._longest = 0.0
        self._search_losses = 0  # until we know how much of the path is ours
        self._share = 0.0  # bytes a second that are, as far as is known
        self._best = 0.0  # window before the last reduction: CUBIC's W_max
        self._epoch = now

    # --- Detection --------------------------------------------------------------------------

    def on_round(
        self,
        queue: float,
        target: float,
        delivery_rate: float,
        now: float,
        *,
        min_rtt: float = 0.0,
        own_drain: bool = False,
    ) -> None:
        """A round has shown a queue of so many seconds at the least, and delivered so many bytes a
        second. `own_drain`: our own drain has made it short.
        """
        self._longest = max(queue, self._longest * 0.98)
        rounds = self._rounds
        rounds.append((now, queue, delivery_rate))
        while rounds[0][0] < now - DETECTION_TIME:
            rounds.popleft()
        if self.detected:
            return
        if not own_drain:
            self._floor = min(self._floor, queue)
        if now - self._floor_from >= FLOOR_INTERVAL:
            swing = max(MIN_SWING, SWING_PER_TARGET * target, SWING_PER_RTT * min_rtt)
            self._count_swing(self._floor, swing, now)
            self._floor, self._floor_from = inf, now
        time = RELAPSE_DETECTION_TIME if now - self._left_at < RELAPSE else DETECTION_TIME
        if not self.detected and rounds[0][0] <= now - 0.98 * time:
            recent = [queue for at, queue, _ in rounds if at > now - time]
            if min(recent) > max(MIN_STANDING_QUEUE, target / 2):
                self.detect_variation(now, time)

    def _count_swing(self, floor: float, swing: float, now: float) -> None:
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
            while swings[0] < now - SWING_PERIOD:
                swings.popleft()
            if len(swings) >= SWINGS:
                self._enter(now)

    def detect_variation(self, now: float, seconds: float) -> bool:
        """The queue has been standing for so long: does it come and go, as a loss-based flow makes
        it, or has the path become longer? `detected` from now on in the first case.
        """
        queues = [queue for at, queue, _ in self._rounds if at > now - seconds]
        least = max(MIN_VARIATION_SECONDS, MIN_VARIATION * max(queues, default=0.0))
        if not queues or max(queues) - min(queues) < least:
            return False
        self._enter(now)
        return True

    def _enter(self, now: float) -> None:
        self.detected = True
        self._search_losses = SEARCH_LOSSES
        self._empty_drains = 0
        self._swings.clear()
        relapsed = now - self._left_at < RELAPSE
        self._drains_to_leave = DRAINS_AFTER_RELAPSE if relapsed else DRAINS_TO_LEAVE
        # Half of what we had before we gave way is ours.
        self._share = max(rate for _, _, rate in self._rounds) / 2

    def on_drained(self, queue: float, target: float, now: float) -> None:
        """What our own drain has left of the queue."""
        self._empty_drains = self._empty_drains + 1 if queue <= target else 0
        if self.detected and self._empty_drains >= self._drains_to_leave:
            self.detected = False
            self._left_at = self._floor_from = now
            self._floor = self._extreme = inf
            self._rounds.clear()

    # --- The window -------------------------------------------------------------------------

    def reduced(self, queue: float, window: float, rtt: float, now: float) -> float:
        """The window after a loss; call it once a round trip."""
        searching = self._search_losses and window < self._share * rtt
        if queue < FULL_QUEUE * self._longest or searching:
            return window
        self._search_losses = max(0, self._search_losses - 1)
        self._best, self._epoch = window, now
        return window * BETA

    def grown(self, window: float, rtt: float, now: float) -> float:
        """The window after a round in which nothing was lost."""
        if self._search_losses:
            return SEARCH_GAIN * window
        best, since = self._best / DATAGRAM, now - self._epoch
        turn = float((best * (1 - BETA) / C) ** (1 / 3))
        curve = C * (since + rtt - turn) ** 3 + best
        reno = best * BETA + 0.53 * since / max(rtt, 1e-3)
        return min(max(window, DATAGRAM * max(curve, reno)), 1.25 * window)
