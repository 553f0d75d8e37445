"""The reliable lane of a session: messages in order, through KCP, in sealed units of fitting size.

Joins the conversation, what it has under way, the window and the pace, the size of units and the
timing of acknowledgements. What comes in has passed the AEAD; what goes out is plaintext for the
session to seal. KCP is flushed after every batch of inputs and of outputs, so nothing waits for a
timer on its way but what the pace of the path holds back, and a lone acknowledgement for 5 ms.

Pure; `now` in seconds. Error contract: bad segments are counted in `drops`; `broken` is set when
the peer can never be understood again; ValueError for a message over `max_message`.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Sequence
from math import inf

from transport.congestion.choice import CONTROLLERS, DEFAULT_CONFIG, TransportConfig
from transport.congestion.controller import Controller
from transport.congestion.pacing import Pacer
from transport.congestion.recovery import REBUILT, Segment
from transport.constants import (
    ACK_BYTES,
    ACK_DELAY,
    INBOX_BYTES,
    KCP_HEADER_SIZE,
    RECEIVE_BYTES,
    SEND_WINDOW,
    SHUT_INTERVAL,
    SLICE_SIZE,
    STALL_PROBE,
    STREAM_ACK_DELAY,
    SUSPECT_SEND_INTERVAL,
    TAG_SIZE,
)
from transport.errors import BadPacket
from transport.lanes.kcp import Conversation
from transport.lanes.parity import MIN_PACE, Groups, Rebuilder
from transport.lanes.redundancy import Redundancy
from transport.lanes.segments import only_acknowledgements
from transport.lanes.units import BURST, UnitSize, unit_bytes

SPLIT_AFTER_LOSSES = 2  # of one unit: then its datagrams leave one by one
MOST_SPACING_DOUBLINGS = 3  # of the time between them: 8 ms are 1.4 Mbit/s
UNANSWERED = 3  # acknowledgements in a row that nothing has carried: then one does not wait that
QUIET = 0.020  # seconds after the last comes
COPY_WITHIN = 0.25  # of a round trip: a copy that leaves later saves little of the stall
# Seconds after the first loss in which the share that is lost is not known, and share until then.
YOUNG, YOUNG_LOSS = 2.0, 0.03
BUFFER_LOSS = 0.08  # share of losses from which on a buffer may be what drops
BUFFER_LOSS_APP_LIMITED = 0.25  # the same where little is sent: paths hardly lose as much


class ReliableLane:
    """One KCP conversation with all that paces it."""

    def __init__(
        self,
        number: int,
        *,
        kcp_mtu: int,
        receive_window: int,
        drops: Counter[str],
        now: float,
        config: TransportConfig = DEFAULT_CONFIG,
        beside: ReliableLane | None = None,
        parity: bool = False,
    ) -> None:
        """`number`: KCP's conversation number; `kcp_mtu`: bytes of the largest unit; `beside`:
        another lane on the same path, which is as wide for this one as that one has found it;
        `parity`: the peer takes it.
        """
        self._beside = beside
        self.kcp = Conversation(
            number,
            mtu=kcp_mtu,
            send_window=SEND_WINDOW,
            receive_window=receive_window,
            drops=drops,
            now=now,
            takes_parity=True,
        )
        self.flush_due = False
        self.sent = 0  # messages, or the segments of larger ones, given to `send`
        self.lost_at = -inf  # when something was found lost, last
        self._first_lost_at = inf
        self.closed = False
        self.broken = False  # the peer sends what never makes a message
        self._drops = drops
        self._units = UnitSize(kcp_mtu)
        self.congestion: Controller = CONTROLLERS[config.congestion](now)
        self._pacer = Pacer(now)
        self._recovery = self.kcp.recovery
        self._arrivals = self.kcp.arrivals
        self.slice_size = self._units.slice_size  # bytes of a sealed unit that one datagram carries
        # Datagrams of the units that `units_to_send` just gave that may leave at once.
        self.burst = 1
        self._staged: deque[bytes] = deque()  # messages that the pace holds back
        self._staged_bytes = 0
        self.inbox: deque[bytes] = deque()  # messages that have arrived, for `take_messages`
        self._inbox_bytes = 0
        self._last_flush = now
        # On the bulk lane, acknowledgements of a lone packet that have come with something for the
        # program above, with the bytes that had been under way, and when: what they say of the
        # path is learned when the answer to that has left, by `learn`, before the turn is over.
        self.unlearned: tuple[list[Segment], int, float] | None = None
        self._unacknowledged = 0  # bytes of segments since the last flush
        self._ack_at = inf
        self._unanswered = 0  # acknowledgements in a row that have waited, and left alone
        self._lone_ack_at = -inf  # when one has not waited, last
        self._came_at = now  # when a little came, last
        self._pace_at = inf
        self.probe_allowed_at = 0.0  # towards a peer that is silent
        self._ping_at = 0.0
        self._redundancy = Redundancy()
        self._groups = Groups() if parity else None
        self._rebuilder = Rebuilder()
        self.in_pipe = False  # the path is a pipe: it loses nothing, and copies are of no use
        self.path_room = inf  # bytes of what is new or repeated that it takes in the next flush
        self._pongs = 0  # while acknowledgements are overdue in a pipe
        self._split = 0  # how hard it is to get a unit through that was lost repeatedly

    # --- The program above ------------------------------------------------------------------

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one sealed unit, as large as they are now."""
        return self._units.message_size

    @property
    def mtu(self) -> int:
        """Bytes of the largest unit."""
        return self.kcp.mtu

    @property
    def max_message(self) -> int:
        """Bytes of the largest message."""
        return self.kcp.max_message

    def resize(self, slice_size: int) -> None:
        """The path takes datagrams of another size from now on."""
        self._units.resize(slice_size)
        self.slice_size = slice_size

    @property
    def credit(self) -> int:
        """Bytes that may be given to `send` now; none if zero or less. HOT PATH."""
        # With what is lost and waits: what a silent peer makes us hold is one window, not two.
        window = self.congestion.window if self._beside is None else self.window
        return window - self._recovery.unacknowledged - self.kcp.queued - self._staged_bytes

    @property
    def window(self) -> int:
        """Bytes that may be in flight."""
        window = self.congestion.window
        return window if self._beside is None else max(window, self._beside.window)

    @property
    def spacing(self) -> float:
        """Seconds between two such bursts of one unit."""
        return float(BURST * 2**self._split)

    @property
    def pace(self) -> float:
        """Bytes a second that leave at most; may be infinite."""
        pace = self.congestion.pacing_rate
        return pace if self._beside is None else max(pace, self._beside.pace)

    @property
    def in_flight(self) -> int:
        """Bytes given to `send` and not yet acknowledged, with KCP's headers."""
        return self.kcp.unacknowledged + self._staged_bytes

    @property
    def held(self) -> int:
        """Bytes that are kept: unread and unacknowledged. HOT PATH."""
        received = self._inbox_bytes + self._arrivals.held + self._rebuilder.held
        return received + self._recovery.unacknowledged + self.kcp.queued + self._staged_bytes

    @property
    def has_work(self) -> bool:
        """Whether something is not acknowledged. HOT PATH."""
        return bool(self._recovery.unacknowledged or self.kcp.queue or self._staged)

    @property
    def rtt(self) -> float | None:
        """Seconds, smoothed, from acknowledgements; None before the first."""
        return self.congestion.rtt

    @property
    def lossy(self) -> bool:
        """The path has lost something, and has not shown since that this was all."""
        return self._redundancy.path_lossy

    @property
    def arrived(self) -> int:
        """Of what was `sent`: so many of the first have reached the peer. HOT PATH."""
        return self._recovery.arrived

    @property
    def overdue(self) -> bool:
        """Whether acknowledgements have not come for longer than they should take."""
        return self._recovery.overdue

    @property
    def oldest(self) -> int | None:
        """Number of the segment that has been on its way for longest; None if none is."""
        return self._recovery.oldest

    @property
    def readable(self) -> bool:
        return bool(self.inbox)

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages; after the end, none. HOT PATH."""
        if self.closed:
            return
        sizes = list(map(len, messages))
        segment, most = self.kcp.message_size, self.kcp.max_message
        largest = max(sizes, default=0)
        if largest > most:
            raise ValueError(f"a message of {largest} bytes; at most {most}")
        self._staged.extend(messages)
        self._staged_bytes += sum(sizes)
        self.sent += len(sizes)
        if largest > segment:
            self.sent += sum((size - 1) // segment for size in sizes if size)
        if now - self._lone_ack_at <= ACK_DELAY:
            self._unanswered = 0
        self.flush_due = True

    def take_messages(self) -> list[bytes]:
        """All messages that have arrived; KCP goes on with what it was held back with. HOT PATH."""
        messages = list(self.inbox)
        self.inbox.clear()
        full = self._inbox_bytes >= INBOX_BYTES
        self._inbox_bytes = 0
        if full and not self.closed:
            self._drain()
            self.flush_due = True  # tells the peer that there is room
        return messages

    def close(self) -> None:
        """Nothing more comes or goes; what was held back is acknowledged, so it can be read. All
        else is let go. Idempotent.
        """
        self.closed = True
        self.kcp.close()
        self._staged.clear()
        self._staged_bytes = 0
        self._redundancy.clear()
        self._rebuilder.clear()
        self._inbox_bytes += self._arrivals.held
        self.inbox.extend(self.kcp.receive(sys.maxsize))

    def throw_away(self) -> None:
        """After the end: nobody will read what has arrived."""
        self.inbox.clear()
        self._inbox_bytes = 0

    # --- Receiving --------------------------------------------------------------------------

    def receive_units(self, units: list[bytes], now: float) -> bool:
        """Plaintexts of sealed units, each one KCP datagram. Whether they say that something of
        ours has reached the peer. HOT PATH.
        """
        recovery, arrivals = self._recovery, self._arrivals
        under_way = recovery.pipe + self.kcp.queued
        try:
            self.kcp.input_untrusted(units, now)
        except BadPacket as bad:
            self._drops[bad.reason] += 1
            self.broken |= arrivals.broken
        if self._rebuilder.active or self.kcp.parity:
            self._rebuild(units)
        # Acknowledge much at once, and a little together with the answer to it, if one comes soon:
        # a datagram less for each lone frame, and a wake-up less for the peer. Where none comes,
        # waiting costs a wake-up here.
        self._unacknowledged = owed = self._unacknowledged + sum(map(len, units))
        if only_acknowledgements(units[-1]):
            if self._waits:
                self.flush_due = True  # it may leave now
            else:
                self._unacknowledged = 0
        elif owed >= ACK_BYTES:
            self.flush_due = True
        else:
            quiet, self._came_at = now - self._came_at, now
            if owed > SLICE_SIZE:
                self._unanswered = 0
                self._ack_at = min(self._ack_at, now + STREAM_ACK_DELAY)
            elif quiet < QUIET or self._unanswered < UNANSWERED:
                self._ack_at = min(self._ack_at, now + ACK_DELAY)
            else:
                self._ack_at = self._lone_ack_at = now  # behind all that leaves in this turn
        acked = recovery.take_acked(now)
        if acked:
            if self.unlearned is not None:
                self.learn()
            self.unlearned = acked, under_way, now
            lone = under_way <= SLICE_SIZE and not self._staged and self._beside is None
            if not (lone and arrivals.ready):
                self.learn()
        if arrivals.ready:
            self._drain()
        if self.kcp.told:
            self.kcp.told = False
            return True
        return bool(acked)

    def learn(self) -> None:
        """Take in what is `unlearned`. HOT PATH."""
        assert self.unlearned is not None
        (acked, under_way, now), self.unlearned = self.unlearned, None
        recovery = self._recovery
        self.congestion.on_acknowledged(acked, under_way, now)
        if self._redundancy.path_lossy:
            self._redundancy.on_acked(len(acked))
        if recovery.found_lost:
            self._notice_losses(now)
        if self._staged or recovery.to_repeat:
            self.flush_due = True

    @property
    def _waits(self) -> bool:
        """Whether there is something that a flush could send. HOT PATH."""
        arrivals = self._arrivals
        return bool(
            arrivals.acks
            or arrivals.tell
            or self._staged
            or self.kcp.queue
            or self._recovery.to_repeat
            or self._redundancy.waiting
        )

    def _rebuild(self, units: list[bytes]) -> None:
        """Compute what is missing, as far as parity says it. HOT PATH where the path loses."""
        rebuilder, arrivals, parity = self._rebuilder, self._arrivals, self.kcp.parity
        try:
            rebuilder.keep(units, SLICE_SIZE)
            for row in parity:
                rebuilder.take_untrusted(*row, SLICE_SIZE)
            for number, fragment, content in rebuilder.rebuilt():
                if arrivals.misses(number):
                    arrivals.take_untrusted(number, fragment, REBUILT, content, 0, len(content))
        except BadPacket as bad:
            self._drops[bad.reason] += 1
            self.broken |= arrivals.broken
        parity.clear()

    def _notice_losses(self, now: float) -> None:
        if self.in_pipe:  # the peer has thrown it away, which says nothing of the path
            self._recovery.take_lost()
            return
        self.lost_at = now
        self._first_lost_at = min(self._first_lost_at, now)
        self.congestion.on_lost(self._recovery.take_lost(), now)
        self._redundancy.on_lost()
        self._units.on_lost()

    def heard(self) -> None:
        """Something authentic came in: the peer is not silent, so there is no need to wait until
        `probe_allowed_at`.
        """
        self.probe_allowed_at = 0.0
        if self._staged or self._recovery.to_repeat:
            self.flush_due = True

    def wants_ping(self, now: float) -> bool:
        """Acknowledgements are overdue: the peer should be asked with a ping, now."""
        if not self.overdue or now < self._ping_at:
            return False
        self._ping_at = now + STALL_PROBE
        return True

    def on_pong(self, now: float) -> None:
        """A ping was answered: if acknowledgements are overdue, the path has healed."""
        if not self.overdue:
            self._pongs = 0
        elif not self.in_pipe or self._pongs:
            self.repeat(now)
        else:  # in a pipe this one may have overtaken acknowledgements, but not the next
            self._pongs = 1

    def repeat(self, now: float) -> None:
        """Send all that is under way again, at the pace of the path: it is lost."""
        self._recovery.lose_all()
        self._look_for_losses(now)

    def change_path(self, *, in_pipe: bool, now: float) -> None:
        """The path is a pipe from now on, or none any more: all that was under way is due on it."""
        self.in_pipe = in_pipe
        self.path_room = inf
        self._pongs = 0
        recovery = self._recovery
        recovery.change_path(in_pipe=in_pipe)
        recovery.take_lost()
        self.congestion.change_path(now)
        self._redundancy = Redundancy()
        self._units.change_path(in_pipe=in_pipe)
        if self._staged or recovery.to_repeat:
            self.flush_due = True

    @property
    def waiting(self) -> bool:
        """Whether something could leave, if there were room and the pace allowed it."""
        return bool(self._staged or self._recovery.to_repeat)

    def _look_for_losses(self, now: float) -> None:
        """Something was found lost, perhaps; what is to be sent leaves with the next flush."""
        if self._recovery.found_lost:
            self._notice_losses(now)
        if self._staged or self._recovery.to_repeat:
            self.flush_due = True

    def _drain(self) -> None:
        """Take what can be read, as far as there is room. HOT PATH."""
        room = INBOX_BYTES - self._inbox_bytes
        if room > 0:
            arrivals = self._arrivals
            before = arrivals.ready
            self.inbox.extend(arrivals.read(room))
            self._inbox_bytes += before - arrivals.ready  # each with `MESSAGE_COST`

    # --- Time and sending -------------------------------------------------------------------

    def leaves_until(self, then: float) -> None:
        """The unit that `units_to_send` gave last takes until then to leave, in pieces."""
        self.kcp.recovery.leaves_until(then)

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called; infinite if never. HOT PATH."""
        recovery, kcp = self._recovery, self.kcp
        due = min(self._ack_at, recovery.deadline(), self._pace_at)
        if recovery.overdue:
            due = min(due, self._ping_at)
        if kcp.queue and kcp.shut:
            due = min(due, self._last_flush + SHUT_INTERVAL)
        return due

    def handle_timeout(self, now: float) -> None:
        recovery = self._recovery
        if now >= recovery.deadline():
            recovery.handle_timeout(now)
            self._look_for_losses(now)
        if now >= self._ack_at:
            self._unanswered += 1
        if now >= min(self._ack_at, self._pace_at) or self.kcp.shut:
            self.flush_due = True

    def units_to_send(self, now: float, *, suspect: bool, busy: bool = False) -> list[bytes]:
        """Plaintexts for sealed units that have to leave now. Towards a `suspect` peer, which
        owes an answer for long, only as much as shows when the path heals; while those from
        before are still leaving (`busy`), acknowledgements alone. HOT PATH.
        """
        recovery, size, redundancy = self._recovery, self._units, self._redundancy
        self.flush_due = False
        self._last_flush = now
        self._unacknowledged, self._ack_at = 0, inf
        pace = self.congestion.pacing_rate if self._beside is None else self.pace
        self._pacer.refill(pace, now)
        if pace != size.pace:
            size.on_pace(pace)
        units: list[bytes] = []
        self._pace_at = inf
        self._split = 0
        if busy:
            pass  # whoever says so sets `flush_due` when that is over
        elif not suspect:
            if recovery.to_repeat:
                self._repeat(units, now)
            if self._staged and not recovery.to_repeat:
                self._send_staged()
        elif now >= self.probe_allowed_at:
            self._probe(units, now)
        elif self._staged or recovery.to_repeat:
            self._pace_at = self.probe_allowed_at
        acknowledged = self.kcp.acknowledgements
        # In a pipe, where no part of a unit gets lost, it has all segments that leave now.
        whole = self.in_pipe or size.slices == size.most
        most = self.kcp.mtu if whole else size.slices * self.slice_size - TAG_SIZE
        flushed = self.kcp.flush(now, most)
        if flushed:
            if acknowledged and self._arrivals.ahead and not self.in_pipe:
                self._acknowledge_twice(flushed, acknowledged)
            units += flushed
        if units:
            sent = sum(map(len, units))
            size.clean += sent
            if size.clean >= size.grows_at and not self._covered:
                size.grow()
            if redundancy.spent:
                redundancy.on_sent(sent)
        self.burst = 1 if self._split else size.allowed
        copies = redundancy.path_lossy or redundancy.waiting
        if copies and not (suspect or busy or self._split):
            parity = [] if self._groups is None else self._parity_units(self._groups, now)
            self._copy(units, flushed, now)
            if parity:
                redundancy.on_parity(sum(map(len, parity)))
                units += parity
        return units

    def _parity_units(self, groups: Groups, now: float) -> list[bytes]:
        """The rows of groups that are complete with what leaves now. HOT PATH where the path loses.

        The window pays for them: it follows what arrives, and the queue in which they wait, too.
        """
        recovery = self._recovery
        segments, end = recovery.segments, recovery.next
        largest = min(unit_bytes(1, self.slice_size) - KCP_HEADER_SIZE, SLICE_SIZE)
        loss, under_way = self.congestion.loss, recovery.under_way
        if now - self._first_lost_at < YOUNG:
            loss = max(loss, YOUNG_LOSS)
        if self.pace < MIN_PACE or (loss >= BUFFER_LOSS and not self._roomy):
            loss = 0.0
        units: list[bytes] = []
        while groups.next != end:
            segment = segments.get(groups.next)
            if segment is None or segment.first_sent < now:  # left while there was no parity
                groups.begin(end)
                break
            rows = groups.add(segment.fragment, segment.content, largest, loss, under_way)
            units += [self.kcp.parity_unit(*row) for row in rows]
        return units

    @property
    def _covered(self) -> bool:
        """What leaves has parity, for which units have to stay small."""
        return self._groups is not None and self._groups.covering and self._redundancy.path_lossy

    @property
    def _roomy(self) -> bool:
        """So little of the path is used that what is lost is not lost in its buffer."""
        return self.congestion.app_limited and self.congestion.loss < BUFFER_LOSS_APP_LIMITED

    def _copy(self, units: list[bytes], flushed: list[bytes], now: float) -> None:
        """Add the copies of what has been repeated, and those that have waited until nothing new
        wants to leave. HOT PATH where the path loses.
        """
        redundancy, pacer = self._redundancy, self._pacer
        if redundancy.path_lossy and units:
            loss, roomy = self.congestion.loss, self._roomy
            # Much loss where there is no room is that of a buffer, which copies would fill again;
            # and while more has to be repeated, they would only hold that up.
            if not self._recovery.to_repeat and (roomy or loss < BUFFER_LOSS):
                again = redundancy.duplicates(units[: len(units) - len(flushed)])
                pacer.tokens -= sum(map(len, again))
                units += again
            if roomy and not self._covered:
                new = [unit for unit in flushed if not only_acknowledgements(unit)]
                redundancy.defer(new, now + COPY_WITHIN * (self.rtt or 0), self.window)
        while redundancy.waiting and not self._staged:
            if pacer.tokens <= 0:
                self._pace_at = min(self._pace_at, pacer.ready_at())
                break
            unit = redundancy.take(now)
            if unit is not None:
                pacer.tokens -= len(unit)
                units.append(unit)

    def _repeat(self, units: list[bytes], now: float) -> None:
        """Lost segments, as far as the pace allows."""
        recovery, pacer = self._recovery, self._pacer
        while recovery.to_repeat:
            if pacer.tokens <= 0:
                self._pace_at = pacer.ready_at()
                return
            if self.path_room <= 0:
                return
            unit = self.kcp.repeat(now)
            if unit is not None:
                pacer.tokens -= len(unit)
                self.path_room -= len(unit)
                units.append(unit)
                self._split_if_lost_again(unit)
                if self._split:
                    return

    def _split_if_lost_again(self, unit: bytes) -> None:
        """A large unit that was lost twice may be longer than the queue of a path that has become
        slow, and then it would never get through as one burst: it leaves ever more slowly.
        """
        lost = self._recovery.repeated
        if lost >= SPLIT_AFTER_LOSSES and len(unit) > unit_bytes(1):
            doublings = min(lost - SPLIT_AFTER_LOSSES + 1, MOST_SPACING_DOUBLINGS)
            self._split = max(self._split, doublings)

    def _send_staged(self) -> None:
        """Give KCP what pace and window allow. HOT PATH."""
        staged, pacer, recovery = self._staged, self._pacer, self._recovery
        messages: list[bytes] = []
        window = self.congestion.window if self._beside is None else self.window
        # Behind a gap the peer has to hold all that comes, and drops what is more.
        room: float = min(window - recovery.pipe, RECEIVE_BYTES - recovery.span) - self.kcp.queued
        if self.path_room < room:
            room = self.path_room
        while staged and room > 0:
            if pacer.tokens <= 0:
                self._pace_at = pacer.ready_at()
                break
            message = staged.popleft()
            size = len(message)
            messages.append(message)
            self._staged_bytes -= size
            room -= size
            pacer.tokens -= size
        self.kcp.send(messages)

    def _probe(self, units: list[bytes], now: float) -> None:
        """One segment towards a peer that may not be there, and then none for a while."""
        unit = self.kcp.repeat(now)
        if unit is not None:
            units.append(unit)
            self._split_if_lost_again(unit)
            size = len(unit)
        elif self._staged and not self.kcp.unacknowledged:
            message = self._staged.popleft()
            self._staged_bytes -= len(message)
            self.kcp.send((message,))
            size = len(message)
        else:
            return
        self.probe_allowed_at = now + -(-size // self.slice_size) * SUSPECT_SEND_INTERVAL

    def _acknowledge_twice(self, flushed: list[bytes], acknowledged: bytes) -> None:
        """KCP acknowledges a segment once. While something is missing here, `una` stands still, and
        an acknowledgement that is lost would have its segment sent again for nothing: so each goes
        out twice, in two datagrams, where all that leaves now is small.
        """
        size = len(acknowledged) + sum(map(len, flushed))
        if size <= min(self.mtu, unit_bytes(1, self.slice_size)):
            flushed[0] = acknowledged + flushed[0]
