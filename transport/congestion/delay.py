"""Congestion control by delay: a window that keeps the standing queue at the bottleneck short.

Nothing is known of a path but what comes back: when each acknowledged segment was sent, and how
much is acknowledged in a time. From these, once a round trip:

 min RTT         the shortest round trip of the last 10 to 20 s: the empty path
 queue           the shortest of this round, less the min RTT: what stands in buffers, ours or not
 delivery rate   bytes acknowledged in this round, a second; x min RTT it is the BDP

Slow start doubles the window each round, until a queue shows, the delivery rate reaches a plateau,
or three tenths are lost (which a source that does not use its window would else never notice).

Then one law: the window moves so that the queue becomes `target` seconds long. The target shrinks
as the rate grows, which is what makes flows that share a bottleneck equal: the one with more of it
wants less of the queue. And the window is never more than a quarter above what the path has
delivered (best rate x round trip), so buffers too short to show a queue are not flooded.

Loss plays no part up to a tenth: at 5 % random loss a path is as fast as without. What is lost
beyond that a short buffer has dropped, and both the target and that quarter become smaller.

Every few seconds the window shrinks for a round trip (as in BBR's ProbeRTT), so that our own queue
drains and the min RTT is seen anew; without that, who comes late takes the queue of the others for
a part of the path. A queue that stays through that, and comes and goes, is made by a sender that
fills it until something is dropped: beside such a one `congestion/competing.py` has the window.

Pure: `now` is an argument, monotonic seconds. Sizes in bytes, rates in bytes a second.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from math import inf, sqrt
from typing import Final

from transport.congestion.competing import CompetitiveMode
from transport.congestion.controller import INITIAL_WINDOW, SentSegment
from transport.congestion.pacing import FAST_RATE

MIN_WINDOW: Final = INITIAL_WINDOW // 4
MAX_WINDOW: Final = 6 * 1024 * 1024  # 240 Mbit/s at 200 ms, and less than a receiver holds

# Measuring.
MIN_ROUND: Final = 0.020  # seconds; a round trip on a LAN would be noise
RATE_SLOT: Final = 0.020  # seconds, or a quarter of a round trip, over which a rate is measured
RATE_LIFETIME: Final = 1.0  # seconds that the best rate counts, or 8 round trips
MIN_RTT_LIFETIME: Final = 10.0  # seconds after which an old min RTT is forgotten
COMPETITIVE_MIN_RTT_LIFETIME: Final = 60.0  # the same where the queue seldom runs empty
LOSS_LIFETIME: Final = 2.0  # seconds over which the share of losses is taken
OUTAGE: Final = 0.2  # seconds of a round, or 4 round trips, that are an outage
OUTAGE_ROUNDS: Final = 4
FILLED: Final = 0.8  # of the window, in flight: with less a round proves nothing about the path
# Of the window, in flight: with less the source is app-limited, all of it could leave twice.
APP_LIMITED: Final = 0.4

# The target: seconds of standing queue.
TARGET: Final = 0.006  # at the rate below: hides the jitter of the senders' clocks
TARGET_RATE: Final = 20e6 / 8  # bytes a second
MIN_TARGET: Final = 0.003  # below, the jitter of schedulers looks like a queue
MAX_TARGET: Final = 0.030
MAX_JITTER: Final = 0.012  # of the jitter of a path that the target may leave room for

# The law.
STEP_LIMITS: Final = 0.7, 1.25  # least and most by which a round may change the window
ACCELERATE_AFTER: Final = 4  # rounds in a row without a queue
WINDOW_GAIN: Final = 1.25  # times what the path has delivered, at most
LOSS_TOLERATED: Final = 0.10  # of what is sent: paths lose as much, and it says nothing
LOSS_OF_BUFFER: Final = 0.20  # of what is sent: so much is hardly lost but by our own doing
MIN_LOSS_BACKOFF: Final = 0.1
MIN_SLACK: Final = 0.5  # the same of what is added to the window's bound, or nothing would grow
FAST_SLACK: Final = 0.008  # seconds that the window of a fast path may be larger
QUEUE_SAMPLES: Final = 8  # acknowledgements in a row that show a queue: as good as a round
STANDING_QUEUE: Final = 3.0  # seconds, or 8 round trips, after which a long queue is not ours

# Slow start.
# Of the window, from which on it grows: a TCP above that doubles its own takes any delay of ours
# for the end of the path's room, and then needs a hundred round trips (HyStart, RFC 9406).
SLOW_START_FILLED: Final = 0.6
SLOW_START_WINDOW_GAIN: Final = 2.0
SLOW_START_LOSS: Final = 0.3  # of what is sent: it has gone too far, though no queue shows
SLOW_START_ROUND_LOSS: Final = 0.5  # the same of a single round
PLATEAU_ROUNDS: Final = 3  # without more rate, after which the path is taken to be full

# The drain.
DRAIN_INTERVAL: Final = 6.0  # seconds, more or less
DRAIN_GAIN: Final = 0.6  # times the window, for a round trip
COMPETITIVE_DRAIN_GAIN: Final = 0.75  # times the BDP, beside a loss-based flow
REFILL_ROUNDS: Final = 4  # round trips after a drain, until the queue is what it was

PACING_GAIN: Final = 1.1  # times the window in a round trip: else a burst a round would be a queue
SLOW_START_PACING_GAIN: Final = 2.0


class Mode(enum.Enum):
    """What moves the window."""

    SLOW_START = enum.auto()  # doubling, until the first sign that the path is full
    STEADY = enum.auto()  # the law of this module
    COMPETITIVE = enum.auto()  # CUBIC, beside a loss-based flow


class Drain(enum.Enum):
    """How far the drain of our own queue is; the mode stays what it is meanwhile."""

    IDLE = enum.auto()
    DRAINING = enum.auto()  # less than the window may be in flight
    SETTLING = enum.auto()  # over, but what comes back still tells of it


# On the hot path: an attribute of an enum costs more than a name of the module.
_SLOW_START: Final = Mode.SLOW_START
_DRAINING: Final = Drain.DRAINING
_IDLE: Final = Drain.IDLE


class DelayController:
    """The congestion window and the pacing rate of one sender."""

    __slots__ = (
        "_competition",
        "_delivered",
        "_drain",
        "_drain_until",
        "_empty_rounds",
        "_jitter",
        "_lost_bytes",
        "_max_in_flight",
        "_min_rtt_since",
        "_next_drain",
        "_next_min_rtt",
        "_plateau_rate",
        "_plateau_rounds",
        "_queue_samples",
        "_queues",
        "_rates",
        "_reduced_at",
        "_round_min_rtt",
        "_round_rtts",
        "_round_start",
        "_samples",
        "_settled_at",
        "_short_queue_at",
        "_slot_bytes",
        "_slot_rates",
        "_slot_start",
        "_window",
        "app_limited",
        "delivery_rate",
        "loss",
        "min_rtt",
        "mode",
        "pacing_rate",
        "queue",
        "rtt",
        "window",
    )

    def __init__(self, now: float) -> None:
        self.mode = Mode.SLOW_START
        self._window = float(INITIAL_WINDOW)
        self.rtt: float | None = None  # seconds, smoothed
        self.min_rtt = inf
        self.queue = 0.0  # seconds
        self.delivery_rate = 0.0
        self.loss = 0.0  # share of what was sent, lately
        self.app_limited = True
        self._next_min_rtt = inf
        self._min_rtt_since = now
        # When, and delivery rates of rounds, without those that a later one exceeds: falling.
        self._rates: deque[tuple[float, float]] = deque()
        self._queues: deque[float] = deque([0.0], maxlen=8)  # of the last rounds
        self._jitter = 0.0  # seconds that a round trip takes longer than the shortest of its round
        self._plateau_rate, self._plateau_rounds = 0.0, 0
        self._slot_rates = [0.0, 0.0]  # best of a slot, of the last round and of this one
        self._slot_start, self._slot_bytes = now, 0
        self._empty_rounds = 0  # without a queue, in a row
        self._queue_samples = 0  # acknowledgements that showed one, in a row
        self._short_queue_at = now  # when there was a short queue, or none
        self._competition = CompetitiveMode(now)
        self._lost_bytes = 0  # found lost in this round
        self._reduced_at = -inf  # when the window was last reduced for a loss
        self._drain = Drain.IDLE
        self._next_drain = self._drain_until = self._settled_at = now
        self._begin_round(now)
        # What the sender reads, as of the last acknowledgement or loss.
        self.window = INITIAL_WINDOW  # bytes that may be in flight
        self.pacing_rate = inf  # bytes a second that may leave; before a round trip was seen, all

    def change_path(self, now: float) -> None:
        """Begin anew (RFC 9000 section 9.4), at the pace of the first window in a round trip of the
        old path, since all that was under way is due at once.
        """
        rtt = self.rtt
        self.__init__(now)  # type: ignore[misc]
        self.rtt = rtt
        self._publish()

    def _begin_round(self, now: float) -> None:
        self._round_start = now
        self._round_min_rtt = inf
        self._round_rtts = 0.0  # sum of the samples
        self._samples = 0
        self._delivered = self._max_in_flight = 0

    # --- What the sender reads --------------------------------------------------------------

    def _publish(self) -> None:
        """Window and pace as they are now. HOT PATH."""
        rtt = self.rtt
        self.window = window = int(self._window) if self._drain is _IDLE else self._window_now()
        if rtt is None:
            return
        if self.mode is _SLOW_START:
            self.pacing_rate = SLOW_START_PACING_GAIN * self._window / max(rtt, 1e-4)
        else:
            gain = 1.0 if self._drain is _DRAINING else PACING_GAIN
            self.pacing_rate = gain * window / max(self.min_rtt + self.queue, 1e-4)

    def _window_now(self) -> int:
        """Less than usual may be in flight while our own queue drains."""
        if self._drain is not _DRAINING:
            return int(self._window)
        if self._competition.detected:  # deep: empties a large buffer, if nobody else fills it
            deep = COMPETITIVE_DRAIN_GAIN * self.delivery_rate * self.min_rtt
            return int(max(MIN_WINDOW, min(DRAIN_GAIN * self._window, deep)))
        return int(self._window * DRAIN_GAIN)

    @property
    def target(self) -> float:
        """Seconds of queue to aim at."""
        return max(MIN_TARGET, self._lossless_target * self._loss_backoff)

    @property
    def _loss_backoff(self) -> float:
        """What losses leave of the target, and of the window's gain: with a buffer too short for
        both we would overflow it for ever.
        """
        if self._competition.detected or self.loss < LOSS_TOLERATED:
            return 1.0
        backoff = 1 - (self.loss - LOSS_TOLERATED) / (LOSS_OF_BUFFER - LOSS_TOLERATED)
        return max(MIN_LOSS_BACKOFF, backoff)

    @property
    def _lossless_target(self) -> float:
        """Seconds of queue to aim at where little is lost."""
        rate = self.delivery_rate
        if not rate:
            return MAX_TARGET
        min_rtt = self.min_rtt
        path = 1.2 * (min_rtt if min_rtt < 0.3 else 0.3)
        wanted = TARGET * (1 + path) * sqrt(TARGET_RATE / rate)
        room = 1.5 * self._jitter
        least = MIN_TARGET + (room if room < MAX_JITTER else MAX_JITTER)
        target = wanted if wanted > least else least
        target += MAX_TARGET * (rate / FAST_RATE if rate < FAST_RATE else 1.0) ** 2
        return target if target < MAX_TARGET else MAX_TARGET

    # --- What comes back --------------------------------------------------------------------

    def on_acknowledged(self, acked: Sequence[SentSegment], in_flight: int, now: float) -> None:
        """`in_flight`: bytes that were before these arrived. HOT PATH."""
        if in_flight > self._max_in_flight:
            self._max_in_flight = in_flight
        newest = 0.0
        sample = inf
        size = 0
        for segment in acked:
            size += segment.size
            if segment.sent > newest:
                newest = segment.sent
            rtt = segment.rtt
            if rtt is not None and rtt < sample:
                sample = rtt
        self._delivered += size
        if self.mode is _SLOW_START:
            if now - self._slot_start >= max(RATE_SLOT, (self.rtt or 0) / 4):
                self._end_slot(now)
            self._slot_bytes += size
        if sample < inf:
            self._take_sample(sample, now)
        # What was retransmitted may be acknowledged for what was sent at first: no round is
        # shorter than the path.
        shortest = max(MIN_ROUND, self.min_rtt)
        if newest >= self._round_start and now - self._round_start >= shortest:
            if self._samples:
                self._finish_round(now)
            self._begin_round(now)
        if self._drain is _DRAINING:
            if now >= self._drain_until:
                self._end_drain(now)
        elif now >= self._next_drain and self.mode is not _SLOW_START:
            self._drain = Drain.DRAINING
            self._drain_until = now + max(1.2 * (self.rtt or 0), MIN_ROUND)
        self._publish()

    def on_lost(self, lost: Sequence[SentSegment], now: float) -> None:
        """These were found lost. By itself a loss changes the window beside a loss-based flow only;
        else the share of what is lost does.
        """
        self._lost_bytes += sum([segment.size for segment in lost])
        rtt = self.rtt or 0
        if self._competition.detected and now - self._reduced_at > rtt:
            self._reduced_at = now
            queue = max(self.queue, rtt - self.min_rtt)
            self._window = max(MIN_WINDOW, self._competition.reduced(queue, self._window, rtt, now))
            self._publish()

    def _end_slot(self, now: float) -> None:
        """The rate of a part of a round. In slow start, what is sent fills the path for a part of
        it only, and in that part acknowledgements come as fast as the path is.
        """
        rate = self._slot_bytes / (now - self._slot_start)
        if rate > self._slot_rates[1]:
            self._slot_rates[1] = rate
        self._slot_start, self._slot_bytes = now, 0

    def _take_sample(self, sample: float, now: float) -> None:
        self.rtt = sample if self.rtt is None else self.rtt + (sample - self.rtt) / 8
        if sample < self._round_min_rtt:
            self._round_min_rtt = sample
        self._round_rtts += sample
        self._samples += 1
        if sample < self._next_min_rtt:
            self._next_min_rtt = sample
        if sample < self.min_rtt:
            self.min_rtt = sample
        competing = self._competition.detected
        lifetime = COMPETITIVE_MIN_RTT_LIFETIME if competing else MIN_RTT_LIFETIME
        if now - self._min_rtt_since > lifetime:
            self.min_rtt, self._next_min_rtt, self._min_rtt_since = self._next_min_rtt, inf, now
        # A queue that shows in many acknowledgements in a row need not wait for the round.
        queue, noise = sample - self.min_rtt, 2 * self._jitter
        if queue <= MIN_TARGET + noise:
            self._queue_samples = 0
            return
        target = self.target
        if queue <= max(MIN_TARGET, 0.7 * target) + noise:
            self._queue_samples = 0
            return
        self._queue_samples += 1
        if self._queue_samples == QUEUE_SAMPLES:
            if self.mode is _SLOW_START:
                self._leave_slow_start(now)
            elif self._empty_rounds >= ACCELERATE_AFTER:
                bound = self._best_rate() * (self.min_rtt + target / 2)
                self._window = min(self._window, bound)
                self._empty_rounds = 0

    def _end_drain(self, now: float) -> None:
        self._drain = Drain.SETTLING
        self._settled_at = now + (self.rtt or 0)
        # Not all at once: a number that differs from sender to sender and from time to time.
        self._next_drain = now + DRAIN_INTERVAL * (0.8 + 0.4 * (now * 1000 % 1))

    # --- Once a round -----------------------------------------------------------------------

    def _finish_round(self, now: float) -> None:
        lasted = now - self._round_start
        if lasted > max(OUTAGE, OUTAGE_ROUNDS * (self.rtt or 0)):
            # Nothing came back for long: that tells of an outage, not of the path's rate.
            self._rates = deque([(at + lasted, rate) for at, rate in self._rates])
            self._short_queue_at += lasted
            return
        if self._drain is Drain.SETTLING and now >= self._settled_at:
            self._drain = Drain.IDLE
        delivery_rate = self._delivered / lasted
        window = self._window_now()
        filled = self._max_in_flight >= FILLED * window
        flooded = self._measure_loss(lasted)
        self._measure_path(delivery_rate, window, now, filled=filled)
        queue = self.queue
        self._detect_competition(queue, delivery_rate, now)
        if self.mode is _SLOW_START:
            self._grow_in_slow_start(delivery_rate, now, flooded=flooded)
        elif self.mode is Mode.COMPETITIVE:
            if filled and self._drain is not _DRAINING:
                self._window = self._competition.grown(self._window, self.rtt or 0, now)
        elif self._drain is Drain.IDLE:
            self._approach_target(queue, delivery_rate, filled=filled)
        if filled:
            self._window = min(self._window, self._window_bound())
        self._window = min(max(self._window, MIN_WINDOW), MAX_WINDOW)

    def _measure_loss(self, lasted: float) -> bool:
        """Whether so much is lost that slow start has gone too far."""
        if not (self._lost_bytes or self.loss):  # as on most paths
            return False
        sent = self._lost_bytes + self._delivered
        share = self._lost_bytes / max(1, sent)
        self.loss += (share - self.loss) * min(1.0, lasted / LOSS_LIFETIME)
        self._lost_bytes = 0
        if self.loss >= SLOW_START_LOSS:
            return True
        return sent >= INITIAL_WINDOW and share >= SLOW_START_ROUND_LOSS

    def _measure_path(self, delivery_rate: float, window: int, now: float, *, filled: bool) -> None:
        """Queue, jitter and rates; a round that has not `filled` the window does not lower the
        rate, or by little.
        """
        starting = self.mode is _SLOW_START
        self.app_limited = starting or self._max_in_flight < APP_LIMITED * window
        self.queue = self._round_min_rtt - self.min_rtt
        self._queues.append(self.queue)
        jitter = self._round_rtts / self._samples - self._round_min_rtt
        self._jitter += (jitter - self._jitter) / (8 if self._jitter else 1)
        least = 0.0 if filled else 0.9 * self.delivery_rate
        self.delivery_rate = max(delivery_rate, least)
        while self._rates and self._rates[-1][1] <= delivery_rate:
            self._rates.pop()
        self._rates.append((now, delivery_rate))
        while self._rates[0][0] < now - max(RATE_LIFETIME, 8 * (self.rtt or 0)):
            self._rates.popleft()
        if starting:
            self._slot_rates = [self._slot_rates[1], 0.0]

    def _detect_competition(self, queue: float, delivery_rate: float, now: float) -> None:
        """Whose is the queue: ours, a loss-based flow's, or a part of a path that is longer now?"""
        competition, target, rtt = self._competition, self._lossless_target, self.rtt or 0
        drained = self._drain is not Drain.IDLE or now < self._settled_at + REFILL_ROUNDS * rtt
        competition.on_round(
            queue, target, delivery_rate, now, min_rtt=self.min_rtt, own_drain=drained
        )
        if self._drain is Drain.SETTLING:
            competition.on_drained(queue, target, now)
        if queue <= 2 * MIN_TARGET + MIN_ROUND or queue <= 2 * self.target + MIN_ROUND:
            self._short_queue_at = now
        elif now - self._short_queue_at > max(STANDING_QUEUE, 8 * rtt) and not (
            competition.detected or competition.detect_variation(now, STANDING_QUEUE / 2)
        ):
            self._restart(now)
        if self.mode is not _SLOW_START:
            self._choose_law()

    def _restart(self, now: float) -> None:
        """A queue that stays whatever we do is not ours: the path has become longer, or others
        fill it. The min RTT is forgotten, and slow start begins.
        """
        self.min_rtt = self._next_min_rtt = self._round_min_rtt
        self._min_rtt_since = self._short_queue_at = now
        self._queues.clear()
        self.queue = 0.0
        self.mode = Mode.SLOW_START
        self._plateau_rate, self._plateau_rounds = 0.0, 0

    def _choose_law(self) -> None:
        self.mode = Mode.COMPETITIVE if self._competition.detected else Mode.STEADY

    # --- The window -------------------------------------------------------------------------

    def _grow_in_slow_start(self, delivery_rate: float, now: float, *, flooded: bool) -> None:
        """Double, until too much is lost or there is no more rate. A queue ends it sooner."""
        if flooded:
            self._leave_slow_start(now)  # also where the source does not use the window
        elif self._max_in_flight >= SLOW_START_FILLED * self._window_now():
            higher = delivery_rate > 1.2 * self._plateau_rate
            self._plateau_rounds = 0 if higher else self._plateau_rounds + 1
            self._plateau_rate = max(self._plateau_rate, delivery_rate)
            if self._plateau_rounds >= PLATEAU_ROUNDS:
                self._leave_slow_start(now)
            else:
                self._window *= 2

    def _leave_slow_start(self, now: float) -> None:
        self._choose_law()
        self._next_drain = now + 1.0
        rate = max(self._best_rate(), *self._slot_rates)
        self._window = max(MIN_WINDOW, rate * (self.min_rtt + self.target / 2))

    def _approach_target(self, queue: float, delivery_rate: float, *, filled: bool) -> None:
        """The law; in half steps, since the queue answers a round late."""
        target = self.target
        least, most = STEP_LIMITS
        factor = (self.min_rtt + target) / max(self.min_rtt + queue, 1e-6)
        factor = min(most, max(least, factor))
        self._empty_rounds = self._empty_rounds + 1 if queue < target / 4 and filled else 0
        window = self._window * (1 + (factor - 1) / 2)
        if self._empty_rounds >= ACCELERATE_AFTER:  # the longer it lasts, the larger the steps
            thirds = (self._empty_rounds - ACCELERATE_AFTER) // 3
            window = max(window, self._window * (1 + min(0.5, 0.05 * 2.0**thirds)))
        if queue > 3 * target + MIN_ROUND:  # the path has become slow
            window = min(window, delivery_rate * (self.min_rtt + target))
        if not filled:
            floor = min(self._window, 0.95 * self._best_rate() * self.min_rtt)
            window = max(min(window, self._window), floor)
        self._window = window

    def _window_bound(self) -> float:
        """The most that a window may be, after what the path has delivered."""
        longest = max(self._queues, default=0.0)
        # On a fast path processors are what is shared: a wake-up late is not a queue too long.
        slack = FAST_SLACK * min(1.0, self.delivery_rate / FAST_RATE) ** 4
        bound = self._best_rate() * (self.min_rtt + longest + self._jitter + slack)
        if self.mode is _SLOW_START:
            bound = max(bound, self._slot_rates[0] * self.min_rtt)
            return SLOW_START_WINDOW_GAIN * bound + INITIAL_WINDOW
        backoff = self._loss_backoff
        return (1 + (WINDOW_GAIN - 1) * backoff) * bound + MIN_WINDOW * max(backoff, MIN_SLACK)

    def _best_rate(self) -> float:
        return self._rates[0][1] if self._rates else self.delivery_rate
