"""Loss recovery of the reliable lane: what is in flight, what is lost, what to retransmit.

KCP's own timers are not used: a segment that has left is kept here until it is acknowledged.
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
from transport.constants import KCP_HEADER_SIZE

MIN_RTO: Final = 0.060  # seconds: scheduling and a delayed acknowledgement, with room
RTO_SLACK: Final = 0.030  # seconds on top of what the round trips seen so far suggest
INITIAL_RTO: Final = 0.300  # seconds, before a round trip was seen
# Seconds, or 2 round trips: how long a healed path may go unnoticed.
MAX_RTO: Final = 0.25
MIN_REORDER_WINDOW: Final = 0.002  # seconds that a segment may come behind one that was sent later
MAX_BACKOFF: Final = 4  # doublings of the timeout, and of the segments that are sent again at one
REORDER_LIFETIME: Final = 16  # losses without a false one, after which less reordering is expected
# In a pipe, where nothing gets lost: seconds until something that the peer does not acknowledge is
# asked about, since it may have thrown it away, as what came when its key was too old.
PIPE_TIMEOUT: Final = 1.0
_SN_MASK: Final = 0xFFFFFFFF
# In place of the time of a copy: none has come, the peer has computed the segment from parity.
REBUILT: Final = 0xFFFFFFFF


class Segment(SentSegment):
    """One segment that the peer is not known to have."""

    __slots__ = (
        "acked",
        "content",
        "copies",
        "excused",
        "first_sent",
        "first_stamp",
        "fragment",
        "lost",
        "number",
        "sn",
        "stamp",
    )

    def __init__(
        self, sn: int, fragment: int, content: bytes, stamp: int, now: float, number: int
    ) -> None:
        self.size = KCP_HEADER_SIZE + len(content)
        self.sent = self.first_sent = now
        self.rtt = None
        self.sn = sn
        self.fragment = fragment  # how many follow of the same message
        self.content = content
        self.stamp = self.first_stamp = stamp  # KCP's time of a transmission, ms
        self.number = number  # of its last transmission among all
        self.copies = 1  # that were sent
        self.excused = 0  # of those, that were lost because the path was down
        self.lost = False  # and waits to be sent again
        self.acked = False


class Recovery:
    """All segments of one conversation that are not acknowledged."""

    def __init__(self, now: float, first: int = 0, ack_delay: float = RTO_SLACK) -> None:
        """Nothing is under way; `first` is the number of what leaves first, `ack_delay` the seconds
        that the peer may keep an acknowledgement back, with room.
        """
        self.pipe = 0
        self.unacknowledged = 0
        self.arrived = 0  # segments since the beginning, up to the first that has not
        self.span = 0  # bytes from the first segment that has not arrived: the peer may hold them
        self.una = first  # all before this sn have arrived
        self.rtt: float | None = None  # seconds, smoothed
        # Seconds without an answer after which the oldest segment is sent again.
        self.timeout = self._usual_timeout = INITIAL_RTO
        self._rttvar = 0.0
        self._ack_delay = ack_delay
        self._in_pipe = False
        self._min_rtt = inf
        self.segments: dict[int, Segment] = {}  # from `una` on, by sn; those that arrived, too
        # By time of the last transmission; without those that wait to be sent again.
        self._in_flight: OrderedDict[int, Segment] = OrderedDict()
        self.to_repeat: deque[Segment] = deque()  # what was lost and waits to be sent again
        self.found_lost: list[Segment] = []  # since the last `take_lost`
        self.repeated = 0  # how often the last one that `repeat` gave was lost, but for outages
        self._first = first  # no sn before this one is under way
        self._next_sn = first  # the sn that was not sent yet
        self._transmissions = 0
        self._newest = 0  # transmission, of those that have arrived
        self._newest_sent = 0.0
        self._newest_at = 0.0  # when that became known
        self._reorder_window = MIN_REORDER_WINDOW
        self._true_losses = 0  # since the last false one
        self._idle_since = now  # since then nothing new has left and nothing has arrived
        self._timeouts = 0  # in a row
        self.overdue = False  # whether something was sent again for want of any answer
        self._given_up = False  # all that was under way, since something has arrived
        self._reorder_at = inf
        self._acked: list[Segment] = []
        # Arrived by parity, oldest first: until when it may come itself, or it was lost.
        self._rebuilt: OrderedDict[int, tuple[float, Segment]] = OrderedDict()

    # --- Sending ----------------------------------------------------------------------------

    def on_sent(self, fragment: int, content: bytes, stamp: int, now: float) -> int:
        """A segment leaves for the first time; returns the number that it has. HOT PATH."""
        sn = self._next_sn
        self._next_sn = (sn + 1) & _SN_MASK
        self._transmissions += 1
        segment = Segment(sn, fragment, content, stamp, now, self._transmissions)
        self.segments[sn] = self._in_flight[sn] = segment
        size = segment.size
        self.pipe += size
        self.unacknowledged += size
        self.span += size
        if now > self._idle_since:
            self._idle_since = now
        return sn

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest; None if none is."""
        first, segments = self._first, self.segments
        while (segment := segments.get(first)) is not None and segment.acked:
            first = (first + 1) & _SN_MASK
        self._first = first
        return None if segment is None else first

    @property
    def next(self) -> int:
        """The number of the next segment that leaves for the first time."""
        return self._next_sn

    @property
    def under_way(self) -> int:
        """Segments that are believed to be in flight."""
        return len(self._in_flight)

    @property
    def outstanding(self) -> int:
        """Numbers from the oldest on that were given."""
        oldest = self.oldest
        return 0 if oldest is None else (self._next_sn - oldest) & _SN_MASK

    def leaves_until(self, then: float) -> None:
        """What was sent last takes until `then` to leave: before, no answer is awaited."""
        self._idle_since = max(self._idle_since, then)

    def repeat(self, stamp: int, now: float) -> Segment | None:
        """The next lost segment, which the caller sends now; None when all have left."""
        while self.to_repeat:
            segment = self.to_repeat.popleft()
            if not segment.acked:  # else it has arrived after all
                segment.lost = False
                self.repeated = segment.copies - segment.excused
                self._transmissions += 1
                segment.number = self._transmissions
                segment.sent, segment.stamp = now, stamp
                segment.copies += 1
                self._in_flight[segment.sn] = segment
                self.pipe += segment.size
                return segment
        return None

    # --- Acknowledgements -------------------------------------------------------------------

    def on_ack(self, sn: int, stamp: int, now: float) -> None:
        """The peer has this one; `stamp` is that of the copy which reached it. HOT PATH."""
        segment = self.segments.get(sn)
        if segment is None or segment.acked:
            if self._rebuilt and stamp != REBUILT:
                self._rebuilt.pop(sn, None)  # it was only late
            return
        if stamp == REBUILT:
            if segment.copies == 1 and not segment.lost:
                self._rebuilt[sn] = now + self._patience, segment
        elif stamp != segment.stamp:
            # An earlier copy: the later one was not needed, but on another path. Its round trip
            # counts all the same, or a path that became longer than the timeout would never be
            # known as such.
            if stamp == segment.first_stamp:
                segment.rtt = now - segment.first_sent
            self._reorder_window = min(self._reorder_window * 2, self.rtt or MIN_REORDER_WINDOW)
            self._true_losses = 0
        else:
            segment.rtt = now - segment.sent
            if segment.number > self._newest:
                # Whatever was sent before this one should have arrived by now.
                self._newest, self._newest_sent = segment.number, segment.sent
                self._newest_at = now
        self._arrived(segment)

    def on_una(self, una: int, now: float) -> None:
        """The peer has all before this one. HOT PATH."""
        ahead = (una - self.una) & _SN_MASK
        if ahead > _SN_MASK // 2:
            return  # an old datagram
        ahead = min(ahead, len(self.segments))
        self.arrived += ahead
        for _ in range(ahead):
            segment = self.segments.pop(self.una)
            self.una = (self.una + 1) & _SN_MASK
            self.span -= segment.size
            if not segment.acked:  # its own acknowledgement was lost: it came we know not when
                if segment.copies == 1 and segment.number > self._newest:
                    self._newest, self._newest_sent = segment.number, segment.sent
                    self._newest_at = now
                self._arrived(segment)
        if (self.una - self._first) & _SN_MASK <= _SN_MASK // 2:
            self._first = self.una

    def _arrived(self, segment: Segment) -> None:
        size = segment.size
        segment.acked = True
        segment.content = b""
        self.unacknowledged -= size
        if not segment.lost:
            del self._in_flight[segment.sn]
            self.pipe -= size
        self._acked.append(segment)

    def take_acked(self, now: float) -> list[Segment]:
        """What has arrived since the last call; notices what is lost. HOT PATH."""
        acked = self._acked
        if acked:
            self._acked = []
            self._idle_since = max(self._idle_since, now)
            self._timeouts = 0
            self.overdue = self._given_up = False
            mean, deviation = self.rtt, self._rttvar  # as in RFC 6298
            for segment in acked:
                rtt = segment.rtt
                if rtt is None:
                    continue
                if mean is None:
                    mean, deviation = rtt, rtt / 2
                else:
                    deviation += (abs(rtt - mean) - deviation) / 4
                    mean += (rtt - mean) / 8
                if rtt < self._min_rtt:
                    self._min_rtt = rtt
            self.rtt, self._rttvar = mean, deviation
            if mean is not None:
                least = PIPE_TIMEOUT if self._in_pipe else MIN_RTO
                self._usual_timeout = max(least, mean + 4 * deviation + self._ack_delay)
            self.timeout = self._usual_timeout
            while self._rebuilt and next(iter(self._rebuilt.values()))[0] <= now:
                self.found_lost.append(self._rebuilt.popitem(last=False)[1][1])
            if self._in_flight:
                self._find_lost(now)
            else:
                self._reorder_at = inf
        return acked

    @property
    def _patience(self) -> float:
        """Seconds that a segment may come behind one that was sent later."""
        if self._in_pipe:
            return PIPE_TIMEOUT
        return max(self._reorder_window, 0.0 if self._min_rtt == inf else self._min_rtt / 4)

    def _find_lost(self, now: float) -> None:
        """What was sent so long before something that has arrived that it should have, too."""
        self._reorder_at = inf
        wait = self._patience
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
        del self._in_flight[segment.sn]
        self.pipe -= segment.size
        segment.lost = True
        self.to_repeat.append(segment)
        self.found_lost.append(segment)

    def take_lost(self) -> list[Segment]:
        """What was found lost since the last call."""
        lost, self.found_lost = self.found_lost, []
        return lost

    def lose_all(self) -> None:
        """What is under way will not arrive: the path was another, or was down. Once, until
        something has arrived again: where only large datagrams get lost, it would not help.
        """
        if not self._given_up:
            self._given_up = True
            for segment in list(self._in_flight.values()):
                self._lose(segment)
            for segment in self.segments.values():
                segment.excused = segment.copies

    def change_path(self, *, in_pipe: bool) -> None:
        """What is under way went another way, and is lost; times are of that one. In a pipe nothing
        is lost, so nothing is repeated but what the peer has thrown away.
        """
        self._in_pipe = in_pipe
        self._given_up = self.overdue = False
        self._timeouts = 0
        self.lose_all()
        for segment in self.segments.values():
            # So that an answer to what went there says nothing of the new path.
            segment.stamp = segment.first_stamp = -1
        self.rtt, self._rttvar, self._min_rtt = None, 0.0, inf
        self._reorder_window, self._reorder_at = MIN_REORDER_WINDOW, inf
        self.timeout = self._usual_timeout = PIPE_TIMEOUT if in_pipe else INITIAL_RTO

    def close(self) -> None:
        """Nobody waits for what is under way; what has arrived stays known."""
        self.pipe = self.unacknowledged = self.span = 0
        self._rebuilt.clear()
        for each in (self.segments, self._in_flight, self.to_repeat, self.found_lost, self._acked):
            each.clear()

    # --- Time -------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `handle_timeout` has something to do; infinite if never."""
        if not self._in_flight:
            return inf
        return min(self._reorder_at, self._idle_since + self.timeout)

    def handle_timeout(self, now: float) -> None:
        """Notice what is lost by now. What it finds is for `repeat`."""
        if now >= self._reorder_at:
            self._find_lost(now)
        if self._in_pipe and now >= self._idle_since + self.timeout:
            self.overdue = True  # the peer is asked, and `lose_all` if it only has not got it
            self._idle_since = now
        elif self._in_flight and now >= self._idle_since + self.timeout:
            for segment in list(islice(self._in_flight.values(), 2**self._timeouts)):
                self._lose(segment)
            self._back_off()
            self._idle_since = now

    def _back_off(self) -> None:
        """Nothing came back at all: the next timeout is longer."""
        self._timeouts = min(self._timeouts + 1, MAX_BACKOFF)
        self.overdue = True
        usual = self._usual_timeout
        if self.rtt is None:
            self.timeout = usual * (1 + self._timeouts)
        else:
            self.timeout = min(usual * 2**self._timeouts, max(MAX_RTO, usual, 2 * self.rtt))
