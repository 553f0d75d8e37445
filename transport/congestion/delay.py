"""How many bytes may be under way, and how fast they may leave: a window that follows the path.

Nothing is known of a path but what comes back: when each acknowledged segment was sent, and how
much is acknowledged in a time. From these, once a round trip:

 base     the shortest round trip of the last 10 to 20 s: the empty path
 queue    the shortest of this round, less the base: what we, or others, have standing in buffers
 rate     bytes acknowledged in this round, a second

and one law. The window moves so that the queue becomes `target` seconds long. The target shrinks
as the rate grows, which is what makes flows that share a bottleneck equal: the one with more of it
wants less of the queue. And the window is never more than a quarter above what the path has carried
(best rate x round trip), so buffers that are too short to show a queue are not flooded.

Loss plays no part up to a tenth: at 5 % random loss a path is as fast as without. What is lost
beyond that a short buffer has dropped, and both the target and that quarter become smaller; three
tenths end a start, which a source that does not use its window would never do. Every
few seconds the window shrinks for a round trip, so that our own queue drains and the base is seen
anew; without that, who comes late takes the queue of the others for a part of the path. A queue
that stays through that, and comes and goes, is made by a sender that fills it until something is
dropped: beside such a one `congestion/competing.py` has the window.

Pure: `now` is an argument, monotonic seconds. Sizes in bytes, rates in bytes a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf, sqrt
from typing import Final

from transport.congestion.competing import Rivalry
from transport.congestion.pacing import FAST
from transport.congestion.recovery import Acked

PIECE: Final = 1400  # bytes: about one datagram
START: Final = 16 * PIECE  # 10 to 16 datagrams are what TCP starts with, too (RFC 6928)
SMALLEST: Final = 4 * PIECE
LARGEST: Final = 6 * 1024 * 1024  # bytes; 240 Mbit/s at 200 ms, and less than a receiver holds
SLOT: Final = 0.020  # seconds, or a quarter of a round trip, over which a rate is measured
SHORTEST_ROUND: Final = 0.020  # seconds; a round trip on a LAN would be noise
BASE_MEMORY: Final = 10.0  # seconds after which an old minimum of the round trip is forgotten
RIVAL_MEMORY: Final = 60.0  # the same beside a rival, who seldom lets the queue run empty
RATE_MEMORY: Final = 1.0  # seconds that the best rate counts, or 8 round trips

TARGET: Final = 0.006  # seconds of queue at the rate below: hides the jitter of the senders' clocks
TARGET_RATE: Final = 20e6 / 8  # bytes a second
LEAST_TARGET: Final = 0.003  # seconds: below, the jitter of schedulers looks like a queue
MOST_TARGET: Final = 0.030
JITTER_MOST: Final = 0.012  # seconds of the jitter of a path that the target may leave room for

STEPS: Final = 0.7, 1.25  # least and most by which a round may change the window
CALM: Final = 4  # rounds in a row without a queue, after which growth accelerates
ROOM: Final = 1.25  # times what the path has carried, at most
ROOM_STARTING: Final = 2.0
LOSS_MEMORY: Final = 2.0  # seconds over which the share of losses is taken
LOSS_USUAL: Final = 0.10  # of what is sent: paths lose as much, and it says nothing
LOSS_FULL: Final = 0.20  # of what is sent: so much is hardly lost but by our own doing
LOSS_FLOOD: Final = 0.3  # of what is sent: the start has gone too far, though no queue shows
LOSS_FLOOD_ROUND: Final = 0.5  # the same of a single round
LEAST_EASE: Final = 0.1
LEAST_SLACK: Final = 0.5  # the same of what is added to that room: less, and nothing ever grows
FAST_SLACK: Final = 0.008  # seconds that the window of a fast path may be larger
QUEUED: Final = 8  # acknowledgements in a row that show a queue: as good as a round
FOREIGN: Final = 3.0  # seconds, or 8 round trips, after which a long queue is not ours
STALL: Final = 0.2  # seconds of a round, or 4 round trips, that are an outage
STALL_ROUNDS: Final = 4
FLAT: Final = 3  # rounds without more rate, after which the path is taken to be full

DRAIN_EVERY: Final = 6.0  # seconds, more or less
DRAIN: Final = 0.6  # times the window, for a round trip
REFILL: Final = 4  # round trips after a drain, until the queue is what it was
DRAIN_DEEP: Final = 0.75  # times what the empty path holds at our rate, beside a rival

PACE: Final = 1.1  # times the window in a round trip: else a burst a round would be a queue
PACE_STARTING: Final = 2.0
# Of the window, from which on it grows: a TCP above that doubles its own takes any delay of ours
# for the end of the path's room, and then needs a hundred round trips (HyStart, RFC 9406).
STARTING_USED: Final = 0.6
ROOMY: Final = 0.4  # of the window: so little is used that all of it could leave twice


class Congestion:
    """The window and the pace of one sender."""

    __slots__ = (
        "_base_next",
        "_base_since",
        "_best",
        "_calm",
        "_delivered",
        "_drain_at",
        "_drained_at",
        "_draining",
        "_fastest",
        "_flat",
        "_jitter",
        "_law_from",
        "_lost_at",
        "_lost_bytes",
        "_peak",
        "_queued",
        "_queues",
        "_rates",
        "_rivalry",
        "_round_from",
        "_round_min",
        "_round_rtt",
        "_samples",
        "_short_at",
        "_slot_bytes",
        "_slot_from",
        "_window",
        "base",
        "loss",
        "queue",
        "rate",
        "roomy",
        "rtt",
        "starting",
    )

    def __init__(self, now: float) -> None:
        self._window = float(START)
        self.rtt: float | None = None  # seconds, smoothed
        self.base = inf
        self.queue = 0.0
        self.rate = 0.0
        self.starting = True  # until the first sign that the path is full
        self.roomy = True  # the source uses little of what is there
        self._base_next = inf
        self._base_since = now
        self._rates: deque[tuple[float, float]] = deque()  # (time, rate) of rounds
        self._queues: deque[float] = deque([0.0], maxlen=8)  # of the last rounds
        self._jitter = 0.0  # seconds that a round trip takes longer than the shortest of its round
        self._best = 0.0  # rate while starting
        self._fastest = [0.0, 0.0]  # best rate of a slot, of the last round and of this one
        self._slot_from, self._slot_bytes = now, 0
        self._flat = 0
        self._calm = 0
        self._queued = 0
        self._short_at = now  # when there was a short queue, or none
        self._draining = False
        self._rivalry = Rivalry(now, PIECE)
        self._lost_bytes = 0  # found lost in this round
        self.loss = 0.0  # share of what was sent, lately
        self._lost_at = -inf  # when the window was last reduced for a loss
        self._drain_at = self._drained_at = self._law_from = now
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._round_from = now
        self._round_min = inf
        self._round_rtt = 0.0  # sum of the samples
        self._samples = 0
        self._delivered = self._peak = 0

    @property
    def window(self) -> int:
        """Bytes that may be under way."""
        if not self._draining:
            return int(self._window)
        if self._rivalry.on:  # deep enough to empty a large buffer, if nobody else fills it
            return int(max(SMALLEST, min(DRAIN * self._window, DRAIN_DEEP * self.rate * self.base)))
        return int(self._window * DRAIN)

    @property
    def pace(self) -> float:
        """Bytes a second that may leave; infinite before the first round trip was seen."""
        if self.rtt is None:
            return inf
        if self.starting:
            return PACE_STARTING * self._window / max(self.rtt, 1e-4)
        gain = 1.0 if self._draining else PACE
        return gain * self.window / max(self.base + self.queue, 1e-4)

    @property
    def target(self) -> float:
        """Seconds of queue to aim at."""
        return max(LEAST_TARGET, self._aim * self._ease)

    @property
    def _ease(self) -> float:
        """What losses leave of the queue to aim at, and of the room above what was carried: with
        a buffer too short for both we would overflow it for ever.
        """
        if self._rivalry.on or self.loss < LOSS_USUAL:
            return 1.0
        return max(LEAST_EASE, 1 - (self.loss - LOSS_USUAL) / (LOSS_FULL - LOSS_USUAL))

    @property
    def _aim(self) -> float:
        """Seconds of queue to aim at where little is lost."""
        if not self.rate:
            return MOST_TARGET
        wanted = TARGET * (1 + 1.2 * min(self.base, 0.3)) * sqrt(TARGET_RATE / self.rate)
        least = LEAST_TARGET + min(JITTER_MOST, 1.5 * self._jitter)
        fast = MOST_TARGET * min(1.0, self.rate / FAST) ** 2
        return min(MOST_TARGET, max(least, wanted) + fast)

    # --- What comes back --------------------------------------------------------------------

    def on_acked(self, acked: Sequence[Acked], under_way: int, now: float) -> None:
        """`under_way`: bytes that were before these arrived. HOT PATH."""
        if under_way > self._peak:
            self._peak = under_way
        newest = 0.0
        sample = inf
        for size, sent, rtt in acked:
            self._delivered += size
            if sent > newest:
                newest = sent
            if rtt is not None and rtt < sample:
                sample = rtt
        if self.starting:
            self._measure_slot(acked, now)
        if sample < inf:
            self._take_sample(sample, now)
        # What was sent again may be acknowledged for what was sent at first: no round is shorter
        # than the path.
        least = max(SHORTEST_ROUND, self.base)
        if newest >= self._round_from and now - self._round_from >= least:
            if self._samples:
                self._finish_round(now)
            self._begin_round(now)
        if self._draining:
            if now >= self._drained_at:
                self._end_drain(now)
        elif now >= self._drain_at and not self.starting:
            self._draining = True
            self._drained_at = now + max(1.2 * (self.rtt or 0), SHORTEST_ROUND)

    def _measure_slot(self, acked: Sequence[Acked], now: float) -> None:
        """The rate of a part of a round. While starting, what is sent fills the path for a part of
        it only, and in that part acknowledgements come as fast as the path is.
        """
        lasted = now - self._slot_from
        if lasted >= max(SLOT, (self.rtt or 0) / 4):
            self._fastest[1] = max(self._fastest[1], self._slot_bytes / lasted)
            self._slot_from, self._slot_bytes = now, 0
        self._slot_bytes += sum([size for size, _, _ in acked])

    def on_lost(self, lost: Sequence[Acked], now: float) -> None:
        """These were found lost. For the window it matters beside a rival alone."""
        self._lost_bytes += sum([size for size, _, _ in lost])
        if self._rivalry.on and now - self._lost_at > (self.rtt or 0):
            self._lost_at = now
            queue = max(self.queue, (self.rtt or 0) - self.base)
            self._window = max(
                SMALLEST, self._rivalry.lost(queue, self._window, self.rtt or 0, now)
            )

    def _take_sample(self, sample: float, now: float) -> None:
        self.rtt = sample if self.rtt is None else self.rtt + (sample - self.rtt) / 8
        self._round_min = min(self._round_min, sample)
        self._round_rtt += sample
        self._samples += 1
        self._base_next = min(self._base_next, sample)
        self.base = min(self.base, sample)
        if now - self._base_since > (RIVAL_MEMORY if self._rivalry.on else BASE_MEMORY):
            self.base, self._base_next, self._base_since = self._base_next, inf, now
        # A queue that shows in many acknowledgements in a row need not wait for the round.
        target = self.target
        if sample - self.base <= max(LEAST_TARGET, 0.7 * target) + 2 * self._jitter:
            self._queued = 0
            return
        self._queued += 1
        if self._queued == QUEUED:
            if self.starting:
                self._leave_start(now)
            elif self._calm >= CALM:
                self._window = min(self._window, self._best_rate() * (self.base + target / 2))
                self._calm = 0

    def _end_drain(self, now: float) -> None:
        self._draining = False
        self._law_from = now + (self.rtt or 0)  # what comes back until then tells of the drain
        # Not all at once: a number that differs from sender to sender and from time to time.
        self._drain_at = now + DRAIN_EVERY * (0.8 + 0.4 * (now * 1000 % 1))

    def _best_rate(self) -> float:
        return max((rate for _, rate in self._rates), default=self.rate)

    def _leave_start(self, now: float) -> None:
        self.starting = False
        self._drain_at = now + 1.0
        rate = max(self._best_rate(), *self._fastest)
        self._window = max(SMALLEST, rate * (self.base + self.target / 2))

    def _finish_round(self, now: float) -> None:
        lasted = now - self._round_from
        if lasted > max(STALL, STALL_ROUNDS * (self.rtt or 0)):
            # Nothing came back for long: that tells of an outage, not of the path's rate.
            self._rates = deque((at + lasted, rate) for at, rate in self._rates)
            self._short_at += lasted
            return
        delivered = self._delivered / lasted
        share = self._lost_bytes / max(1, self._lost_bytes + self._delivered)
        self.loss += (share - self.loss) * min(1.0, lasted / LOSS_MEMORY)
        overflows = self.loss >= LOSS_FLOOD
        if self._lost_bytes + self._delivered >= START:
            overflows |= share >= LOSS_FLOOD_ROUND
        self._lost_bytes = 0
        queue = self._round_min - self.base
        jitter = self._round_rtt / self._samples - self._round_min
        self._jitter += (jitter - self._jitter) / (8 if self._jitter else 1)
        limited = self._peak < 0.8 * self.window  # by the source: proves nothing about the path
        self.roomy = self.starting or self._peak < ROOMY * self.window
        self.queue = queue
        self.rate = max(delivered, 0.9 * self.rate) if limited else delivered
        self._rates.append((now, delivered))
        if self.starting:
            self._fastest = [self._fastest[1], 0.0]
        while self._rates[0][0] < now - max(RATE_MEMORY, 8 * (self.rtt or 0)):
            self._rates.popleft()
        self._queues.append(queue)
        ours = self._draining or now < self._law_from + REFILL * (self.rtt or 0)
        self._rivalry.saw(queue, self._aim, delivered, now, base=self.base, ours=ours)
        if now < self._law_from and not self._draining:
            self._rivalry.drained(queue, self._aim, now)
        if queue <= 2 * self.target + SHORTEST_ROUND:
            self._short_at = now
        elif now - self._short_at > max(FOREIGN, 8 * (self.rtt or 0)) and not (
            self._rivalry.on or self._rivalry.suspects(now, FOREIGN / 2)
        ):
            self._forget_base(now)
        if self.starting and overflows:
            self._leave_start(now)  # also where the source does not use the window
        elif self.starting:
            if self._peak >= STARTING_USED * self.window:
                self._grow_fast(delivered, now)
        elif self._rivalry.on:
            if not (limited or self._draining):
                self._window = self._rivalry.grown(self._window, self.rtt or 0, now)
        elif now >= self._law_from and not self._draining:
            self._follow(queue, delivered, limited)
        longest = max(self._queues, default=0.0)
        # On a fast path processors are what is shared: a wake-up late is not a queue too long.
        slack = FAST_SLACK * min(1.0, self.rate / FAST) ** 4
        room = self._best_rate() * (self.base + longest + self._jitter + slack)
        if self.starting:
            room = ROOM_STARTING * max(room, self._fastest[0] * self.base) + START
        else:
            ease = self._ease
            room = (1 + (ROOM - 1) * ease) * room + SMALLEST * max(ease, LEAST_SLACK)
        if not limited:
            self._window = min(self._window, room)
        self._window = min(max(self._window, SMALLEST), LARGEST)

    def _forget_base(self, now: float) -> None:
        """A queue that stays whatever we do is not ours: the path has become longer, or others
        fill it.
        """
        self.base = self._base_next = self._round_min
        self._base_since = self._short_at = now
        self._queues.clear()
        self.queue = 0.0
        self.starting, self._best, self._flat = True, 0.0, 0

    def _grow_fast(self, delivered: float, now: float) -> None:
        """Double, until there is a queue or no more rate."""
        self._flat = 0 if delivered > 1.2 * self._best else self._flat + 1
        self._best = max(self._best, delivered)
        if self._flat >= FLAT:
            self._leave_start(now)
        else:
            self._window *= 2

    def _follow(self, queue: float, delivered: float, limited: bool) -> None:
        """The law; in half steps, since the queue answers a round late."""
        target = self.target
        least, most = STEPS
        factor = (self.base + target) / max(self.base + queue, 1e-6)
        factor = min(most, max(least, factor))
        self._calm = self._calm + 1 if queue < target / 4 and not limited else 0
        window = self._window * (1 + (factor - 1) / 2)
        if self._calm >= CALM:  # there is room: the longer it lasts, the larger the steps
            boost = 1 + min(0.5, 0.05 * 2.0 ** ((self._calm - CALM) // 3))
            window = max(window, self._window * boost)
        if queue > 3 * target + SHORTEST_ROUND:  # the path has become slow
            window = min(window, delivered * (self.base + target))
        if limited:
            floor = min(self._window, 0.95 * self._best_rate() * self.base)
            window = max(min(window, self._window), floor)
        self._window = window
