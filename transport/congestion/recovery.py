"""Loss recovery of the reliable lane: what is in flight, what is lost, what to retransmit.

KCP's own timers are not used: a segment that it has sent is kept here until it is acknowledged.
One counts as lost when another that was sent later has arrived, and a while for reordering has
passed (RACK, RFC 8985); when nothing comes back at all, the oldest is sent again after a timeout,
then the oldest two, then four, so that an acknowledgement tells about the rest. A path that becomes
slow or goes away is thus asked with few segments, instead of with everything at once.

Invariants: `pipe` (RFC 6675) is the bytes that are believed to be in flight, `unacknowledged` those
plus what is lost and waits to be sent again, `span` all from the first that the peer is missing;
they are 0 when everything has arrived. Pure; `now` in seconds, monotonic. Acknowledgements come
from an authentic peer, and at worst harm its own lane: one for a segment that is not under way does
nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from math import inf
from typing import Final

from transport.congestion.controller import SentSegment
from transport.wire.trains import Bytes

MIN_RTO: Final = 0.060  # seconds: scheduling and a delayed acknowledgement, with room
RTO_SLACK: Final = 0.030  # seconds on top of what the round trips seen so far suggest
INITIAL_RTO: Final = 0.300  # seconds, before a round trip was seen
# Seconds, or 2 round trips: how long a healed path may go unnoticed.
MAX_RTO: Final = 0.25
MIN_REORDER_WINDOW: Final = 0.002  # seconds that a segment may come behind one that was sent later
MAX_BACKOFF: Final = 4  # doublings of the timeout, and of the segments that are sent again at one
REORDER_LIFETIME: Final = 16  # losses without a false one, after which less reordering is expected
_SN_MASK: Final = 0xFFFFFFFF


class Segment:
    """One segment of KCP, header and content, that is not acknowledged."""

    __slots__ = (
        "copies",
        "data",
        "excused",
        "first",
        "lost",
        "number",
        "sent",
        "sn",
        "stamp",
    )

    def __init__(self, sn: int, data: Bytes, stamp: int, now: float) -> None:
        self.sn = sn
        self.data = data
        self.first = (stamp, now)  # of the first transmission
        self.copies = 0  # that were sent
        self.excused = 0  # of those, that were lost because the path was down
        self.lost = False  # and waits to be sent again
        self.number = 0  # of its last transmission among all
        self.sent = 0.0
        self.stamp = 0  # KCP's ts of that transmission, ms


class Recovery:
    """All segments of one conversation that are not acknowledged."""

    def __init__(self, now: float) -> None:
        """Nothing is under way."""
        self.pipe = 0
        self.unacknowledged = 0
        self.arrived = 0  # segments since the beginning, up to the first that has not
        self.span = 0  # bytes from the first segment that has not arrived: the peer may hold them
        self._sizes: deque[int] = deque()  # of the segments in the span
        self.rtt: float | None = None  # seconds, smoothed
        self._rttvar = 0.0
        self._min_rtt = inf
        self._segments: dict[int, Segment] = {}
        # By time of the last transmission; without those that wait to be sent again.
        self._in_flight: OrderedDict[int, Segment] = OrderedDict()
        self._retransmissions: deque[Segment] = deque()
        self.repeated = 0  # how often the last one that `repeat` gave was lost, but for outages
        self._una = 0  # all before this sn have arrived
        self._next_sn = 0  # the sn that was not sent yet
        self._transmissions = 0
        self._newest = 0  # transmission, of those that have arrived
        self._newest_sent = 0.0
        self._newest_at = 0.0  # when that became known
        self._reorder_window = MIN_REORDER_WINDOW
        self._true_losses = 0  # since the last false one
        self._idle_since = now  # since then nothing new has left and nothing has arrived
        self._timeouts = 0  # in a row
        self._given_up = False  # all that was under way, since something has arrived
        self._reorder_at = inf
        self._acked: list[SentSegment] = []
        self._lost: list[SentSegment] = []

    # --- Sending ----------------------------------------------------------------------------

    def on_sent(self, sn: int, data: Bytes, stamp: int, now: float) -> None:
        """KCP has sent a segment for the first time. HOT PATH."""
        segment = self._segments[sn] = Segment(sn, data, stamp, now)
        self._next_sn = (sn + 1) & _SN_MASK
        size = len(data)
        self.unacknowledged += size
        self.span += size
        self._sizes.append(size)
        self._transmit(segment, stamp, now)
        self._idle_since = max(self._idle_since, now)

    def leaves_until(self, then: float) -> None:
        """What was sent last takes until `then` to leave: before, no answer is awaited."""
        self._idle_since = max(self._idle_since, then)

    def _transmit(self, segment: Segment, stamp: int, now: float) -> None:
        self._transmissions += 1
        segment.number = self._transmissions
        segment.sent, segment.stamp = now, stamp
        segment.copies += 1
        self._in_flight[segment.sn] = segment
        self.pipe += len(segment.data)

    @property
    def to_repeat(self) -> bool:
        """Whether a lost segment waits to be sent again."""
        return bool(self._retransmissions)

    def repeat(self, stamp: int, now: float) -> Segment | None:
        """The next lost segment, which the caller sends now; None when all have left."""
        while self._retransmissions:
            segment = self._retransmissions.popleft()
            if segment.sn in self._segments:  # else it has arrived after all
                segment.lost = False
                self.repeated = segment.copies - segment.excused
                self._transmit(segment, stamp, now)
                return segment
        return None

    # --- Acknowledgements -------------------------------------------------------------------

    def on_ack(self, sn: int, stamp: int, now: float) -> None:
        """The peer has this one; `stamp` is that of the copy which reached it. HOT PATH."""
        segment = self._segments.pop(sn, None)
        if segment is None:
            return
        rtt: float | None = now - segment.sent
        if segment.copies > 1 and stamp != segment.stamp:
            # An earlier copy: the later one was not needed. Its round trip counts all the same, or
            # a path that became longer than the timeout would never be known as such.
            rtt = now - segment.first[1] if stamp == segment.first[0] else None
            self._reorder_window = min(self._reorder_window * 2, self.rtt or MIN_REORDER_WINDOW)
            self._true_losses = 0
        else:
            self._proves(segment, now)
        self._arrived(segment, rtt)

    def on_una(self, una: int, now: float) -> None:
        """The peer has all before this one. HOT PATH."""
        ahead = (una - self._una) & _SN_MASK
        if ahead > _SN_MASK // 2:
            return  # an old datagram
        ahead = min(ahead, (self._next_sn - self._una) & _SN_MASK)
        self.arrived += ahead
        for _ in range(ahead):
            segment = self._segments.pop(self._una, None)
            self._una = (self._una + 1) & _SN_MASK
            self.span -= self._sizes.popleft()
            if segment is not None:  # its own acknowledgement was lost: it came we know not when
                if segment.copies == 1:
                    self._proves(segment, now)
                self._arrived(segment, None)

    def _proves(self, segment: Segment, now: float) -> None:
        """Whatever was sent before this one should have arrived by now."""
        if segment.number > self._newest:
            self._newest, self._newest_sent = segment.number, segment.sent
            self._newest_at = now

    def _arrived(self, segment: Segment, rtt: float | None) -> None:
        size = len(segment.data)
        self.unacknowledged -= size
        if not segment.lost:
            del self._in_flight[segment.sn]
            self.pipe -= size
        self._acked.append(SentSegment(size, segment.sent, rtt))

    def take_acked(self, now: float) -> list[SentSegment]:
        """What has arrived since the last call; notices what is lost. HOT PATH."""
        acked, self._acked = self._acked, []
        if acked:
            self._idle_since = max(self._idle_since, now)
            self._timeouts = 0
            self._given_up = False
            for _, _, rtt in acked:
                if rtt is not None:
                    self._take_sample(rtt)
            self._find_lost(now)
        return acked

    def _take_sample(self, rtt: float) -> None:
        """Mean and deviation as in RFC 6298."""
        if self.rtt is None:
            self.rtt, self._rttvar = rtt, rtt / 2
        else:
            self._rttvar += (abs(rtt - self.rtt) - self._rttvar) / 4
            self.rtt += (rtt - self.rtt) / 8
        self._min_rtt = min(self._min_rtt, rtt)

    def _find_lost(self, now: float) -> None:
        """What was sent so long before something that has arrived that it should have, too."""
        self._reorder_at = inf
        wait = max(self._reorder_window, 0.0 if self._min_rtt == inf else self._min_rtt / 4)
        while self._in_flight:
            segment = next(iter(self._in_flight.values()))
            if segment.number > self._newest:
                return
            due = self._newest_at + segment.sent - self._newest_sent + wait
            if due > now:
                self._reorder_at = due
                return
            self._lose(segment)
            self._true_losses += 1
            if self._true_losses >= REORDER_LIFETIME:
                self._true_losses = 0
                self._reorder_window = max(MIN_REORDER_WINDOW, self._reorder_window / 2)

    def _lose(self, segment: Segment) -> None:
        size = len(segment.data)
        del self._in_flight[segment.sn]
        self.pipe -= size
        segment.lost = True
        self._retransmissions.append(segment)
        self._lost.append(SentSegment(size, segment.sent, None))

    def take_lost(self) -> list[SentSegment]:
        """What was found lost since the last call."""
        lost, self._lost = self._lost, []
        return lost

    @property
    def overdue(self) -> bool:
        """Whether something was sent again for want of any answer."""
        return self._timeouts > 0

    def lose_all(self) -> None:
        """What is under way will not arrive: the path was another, or was down. Once, until
        something has arrived again: where only large datagrams get lost, it would not help.
        """
        if not self._given_up:
            self._given_up = True
            for segment in list(self._in_flight.values()):
                self._lose(segment)
            for segment in self._segments.values():
                segment.excused = segment.copies

    # --- Time -------------------------------------------------------------------------------

    @property
    def timeout(self) -> float:
        """Seconds without an answer after which the oldest segment is sent again."""
        if self.rtt is None:
            return INITIAL_RTO * (1 + self._timeouts)
        usual = max(MIN_RTO, self.rtt + 4 * self._rttvar + RTO_SLACK)
        longest = max(MAX_RTO, usual, 2 * self.rtt)
        return float(min(usual * 2**self._timeouts, longest))

    def deadline(self) -> float:
        """When `handle_timeout` has something to do; infinite if never."""
        if not self._in_flight:
            return inf
        return min(self._reorder_at, self._idle_since + self.timeout)

    def handle_timeout(self, now: float) -> None:
        """Notice what is lost by now. What it finds is for `repeat`."""
        if now >= self._reorder_at:
            self._find_lost(now)
        if self._in_flight and now >= self._idle_since + self.timeout:
            for segment in list(islice(self._in_flight.values(), 2**self._timeouts)):
                self._lose(segment)
            self._timeouts = min(self._timeouts + 1, MAX_BACKOFF)
            self._idle_since = now
