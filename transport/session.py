"""A session: the keys, the lanes and the liveness of one peer, behind five verbs.

    receive_datagrams(batch, address, now)   what came for its receiver indices, or receive_trains
    datagrams_to_send(now)                   what has to leave now, by address
    deadline()                               when handle_timeout wants to be called
    handle_timeout(now)
    next_event()                             what its owner should know

and, for the program above, `send`, `take_messages`, `credit` and `close`;
`send_sparse` and `take_sparse_messages` for the lane that does not wait behind the first;
`open_loose`, and then `send_loose` and `take_loose_messages`, for the one that repeats nothing.

Rules. No I/O, no clock: `now` is monotonic seconds. Everything from outside has passed the AEAD
and the replay window before anything else looks at it. KCP is flushed after every batch of
inputs and of outputs, so nothing waits for a timer on its way. Only a session with
unacknowledged data is ticked; an idle one wakes for its keepalive and its rekey.

Error contract: bad datagrams are counted in `drops` and forgotten. `send` raises ValueError for
a message over `max_message`. After the end, `send` does nothing and `ended` says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from transport.assembly import Assembly
from transport.constants import (
    CLOSE_REPEATS,
    CONFIRM_INTERVAL,
    CONTROL_PER_SECOND,
    DATA_HEADER_SIZE,
    SEALED_OVERHEAD,
    TAG_SIZE,
    TOMBSTONE,
)
from transport.control import (
    Arrivals,
    Close,
    CloseCode,
    ControlItem,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    decode_control_untrusted,
)
from transport.dispatch import Dispatch, Outgoing
from transport.errors import BadPacket, KeyExhausted
from transport.events import Ended, Event, PathChanged, Rekeyed
from transport.handshake import conversation_number
from transport.identity import PublicKey
from transport.keyring import KeyPair, Keyring
from transport.lanes import Lanes
from transport.liveness import Action, Liveness
from transport.loose import LooseLane
from transport.paths import Address, PathTable
from transport.probing import Probing
from transport.ratelimit import TokenBucket
from transport.stats import SessionStatistics
from transport.trains import Bytes
from transport.wire import CONTROL, DATA

__all__ = ["Outgoing", "Session"]


class Session:
    """One association with one peer."""

    def __init__(
        self,
        *,
        initiator: bool,
        peer: PublicKey,
        association: int,
        pair: KeyPair,
        kcp_mtu: int,
        max_slices: int,
        receive_window: int,
        address: Address,
        now: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`kcp_mtu`: bytes of the largest unit; `max_slices`: of a unit that the peer takes."""
        self.initiator = initiator
        self.peer = peer
        self.association = association
        self.paths = PathTable(address, random_bytes)
        self.drops: Counter[str] = Counter()
        self.ended: Ended | None = None
        self.timer: float | None = None  # the demux's: when its heap has this session next
        self._random = random_bytes
        self.keys = Keyring(pair, now, self._jitter)
        self.lanes = Lanes(
            conversation_number(pair.handshake_hash),
            kcp_mtu=kcp_mtu,
            receive_window=receive_window,
            drops=self.drops,
            now=now,
        )
        self.lane = self.lanes.bulk
        self._assembly = Assembly(kcp_mtu + TAG_SIZE, self.drops, self.keys.seen)
        self._liveness = Liveness(now, initiator=initiator, jitter=self._jitter)
        self._dispatch = Dispatch(self.keys, self.paths, self._liveness)
        self._trickle = self._dispatch.trickle
        self._probing = Probing(address, now, largest_unit=kcp_mtu, max_slices=max_slices)
        self.lanes.resize(self._probing.slice_size)
        self._control_bucket = TokenBucket(CONTROL_PER_SECOND, CONTROL_PER_SECOND, now)
        self._events: deque[Event] = deque()
        self._control: list[tuple[Address | None, ControlItem]] = []
        self._ping = (b"", now)
        self._ping_rtt: float | None = None
        self._close_at: deque[float] = deque()
        self._tombstone_until = 0.0
        self._born = now
        self._received = [0, 0]  # datagrams, bytes
        # The first datagram of an initiator is what confirms its keys to the responder.
        if initiator:
            self._send_ping(now)
        else:
            self._probing.begin(now)

    def _jitter(self) -> float:
        return int.from_bytes(self._random(4), "little") / 2**31 - 1

    # --- The program above ------------------------------------------------------------------

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one sealed unit, as large as they are now."""
        return self.lane.message_size

    @property
    def max_message(self) -> int:
        return self.lane.kcp.max_message

    @property
    def credit(self) -> int:
        """Bytes that may be given to `send` now; none if zero or less."""
        return self.lane.credit

    @property
    def writable(self) -> bool:
        """There is credit for bulk messages, and for those of the datagram lane."""
        loose = self.lanes.loose
        return self.credit > 0 and (loose is None or loose.credit > 0)

    @property
    def in_flight(self) -> int:
        """Bytes given to `send` and not yet acknowledged."""
        return self.lanes.in_flight

    @property
    def drained(self) -> bool:
        """All messages given to `send`, empty ones too, are acknowledged."""
        return not self.lanes.has_work

    @property
    def readable(self) -> bool:
        """Something of either lane waits to be taken."""
        if self.lane.readable and not (self.lanes.hold_bulk and self.ended is None):
            return True
        return self.lanes.sparse_readable or self.lanes.loose_readable

    def send(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages; reliable, in order. HOT PATH."""
        if self.ended is None:
            self.lane.send(messages)

    def send_sparse(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages on the lane of their own; reliable, in order among themselves."""
        if self.ended is None:
            self.lanes.send_sparse(messages, now)

    def take_sparse_messages(self, now: float) -> list[bytes]:
        """All messages of the sparse lane that have arrived, in order."""
        if self.lanes.sparse is None:
            return []
        messages = self.lanes.sparse.take_messages(more=self.ended is None)
        self._check_lane(now)
        return messages

    def take_messages(self, now: float) -> list[bytes]:
        """All messages of the bulk lane that have arrived, in order. HOT PATH."""
        messages = self.lane.take_messages(more=self.ended is None)
        self._check_lane(now)
        return messages

    def open_loose(self, now: float) -> LooseLane:
        """From now on both sides take datagrams of the unreliable lane. Idempotent."""
        return self.lanes.open_loose(self._probing.slice_size, now)

    def send_loose(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages for the datagram lane, each a unit; they leave in this turn. HOT PATH."""
        if self.ended is None and self.lanes.loose is not None:
            self.lanes.loose.send(messages)

    def take_loose_messages(self) -> list[bytes]:
        """All messages of the datagram lane that have come."""
        return [] if self.lanes.loose is None else self.lanes.loose.take_messages()

    def close(self, code: int, reason: str, now: float) -> None:
        """End it and tell the peer. Idempotent."""
        if self.ended is None:
            self._end(code, reason, by_peer=False)
            self._close_at.extend(now + delay for delay in CLOSE_REPEATS)
            self._tombstone_until = now + TOMBSTONE

    def fail(self, code: int, reason: str) -> None:
        """It has turned out to be over; the peer knows, or cannot be told. Idempotent."""
        if self.ended is None:
            self._end(code, reason, by_peer=True)

    def probe(self, now: float) -> None:
        """The way to the peer may have changed: show ourselves, and repeat what is under way."""
        if self.ended is None:
            self._send_ping(now)
            self.lanes.repeat(now)

    def renew(self) -> None:
        """Time may have passed that nobody here has noticed: shake hands again, now."""
        self.keys.wanted = True

    @property
    def finished(self) -> bool:
        """The last word is said and the demux may forget the session."""
        return self.ended is not None and self._tombstone_until == 0.0

    def statistics(self, now: float) -> SessionStatistics:
        return SessionStatistics(
            suite=self.keys.current.suite.name,
            rtt=self.round_trip,
            sent_datagrams=self._dispatch.sent_datagrams,
            sent_bytes=self._dispatch.sent_bytes,
            received_datagrams=self._received[0],
            received_bytes=self._received[1],
            in_flight=self.lanes.in_flight,
            window=self.lane.window,
            datagram_size=self._probing.size,
            rekeys=self.keys.rekeys,
            path_changes=self.paths.changes,
            age=now - self._born,
            idle=self._liveness.idle(now),
            drops=dict(self.drops),
            loose_sent=0 if self.lanes.loose is None else self.lanes.loose.sent,
            loose_received=0 if self.lanes.loose is None else self.lanes.loose.received,
            loose_lost=0 if self.lanes.loose is None else self.lanes.loose.meter.lost,
        )

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed, from acknowledgements or from pings; None before the first."""
        return self._ping_rtt if self.lanes.rtt is None else self.lanes.rtt

    # --- Receiving --------------------------------------------------------------------------

    def receive_datagrams(self, batch: Sequence[bytes], address: Address, now: float) -> None:
        """Datagrams one by one; see `receive_trains`."""
        self.receive_trains([(datagram, len(datagram)) for datagram in batch], address, now)

    def receive_trains(
        self, trains: Sequence[tuple[Bytes, int]], address: Address, now: float
    ) -> None:
        """Datagrams whose receiver index is one of ours, all from one address. HOT PATH."""
        plaintexts: list[bytes] = []
        sparse: list[bytes] = []
        is_sparse = self.lanes.is_sparse_untrusted
        opened = newest = size = 0
        take = self._assembly.take_untrusted
        for header, sealed in [unit for train, step in trains for unit in take(train, step)]:
            try:
                pair = self.keys.find_untrusted(header, now)
                opener = pair.opener
                before = opener.newest
                plaintext = opener.open_unit_untrusted(header, sealed)
                opened += header[2]  # slices
                size += len(sealed) + DATA_HEADER_SIZE * header[2]
                if opener.newest != before and pair is self.keys.current:
                    newest = len(sealed) + DATA_HEADER_SIZE
                if header[0] != DATA:
                    self._receive_other_untrusted(header, plaintext, address, now)
                elif plaintext:
                    (sparse if is_sparse(plaintext) else plaintexts).append(plaintext)
            except BadPacket as bad:
                self.drops[bad.reason] += header[2]
        if not opened:
            return
        self._received[0] += opened
        self._received[1] += size
        self._liveness.received(now)
        self.lanes.heard()
        if self.ended is not None:
            if self._tombstone_until and not self._close_at:
                self._close_at.append(now)  # it has not heard yet
            return
        if newest and address != self.paths.current and not self.initiator:
            challenge = self.paths.observe(address, newest, now)
            if challenge is not None:
                self._control.append((address, PathChallenge(challenge)))
        if sparse:
            self.lanes.receive_sparse_units(sparse, now)
        if plaintexts:
            self.lane.receive_units(plaintexts, now)
        if self.lanes.broken:
            self._check_lane(now)

    def confirmed_by(self, datagram: bytes, plaintext: bytes, address: Address, now: float) -> None:
        """The datagram that confirmed this session's newest keys, opened by the demux."""
        self._received[0] += 1
        self._received[1] += len(datagram)
        self._liveness.received(now)
        try:
            if datagram[0] != DATA:
                self._receive_other_untrusted(datagram, plaintext, address, now)
            elif plaintext:
                if self.lanes.is_sparse_untrusted(plaintext):
                    self.lanes.receive_sparse_units([plaintext], now)
                else:
                    self.lane.receive_units([plaintext], now)
                self._check_lane(now)
        except BadPacket as bad:
            self.drops[bad.reason] += 1

    def _receive_other_untrusted(
        self, header: bytes, plaintext: bytes, address: Address, now: float
    ) -> None:
        if header[0] == CONTROL:
            self._receive_control_untrusted(plaintext, address, now)
        elif self.lanes.loose is None:
            raise BadPacket("loose_unasked")
        elif self.ended is None:
            self.lanes.loose.receive_untrusted(plaintext, header[2], now)

    def _check_lane(self, now: float) -> None:
        if self.lanes.broken:
            self.close(CloseCode.PROTOCOL, "fragments that never make a message", now)

    def _receive_control_untrusted(self, plaintext: bytes, address: Address, now: float) -> None:
        items = decode_control_untrusted(plaintext)
        if not self._control_bucket.allow(now):
            raise BadPacket("control_limited")
        for item in items:
            match item:
                case PathChallenge(data):
                    self._control.append((address, PathResponse(data)))
                case PathResponse(data):
                    if self.paths.answered(data, address, now):
                        self.lanes.repeat(now)  # it went to the old address
                        self._events.append(PathChanged(address))
                case Ping(data):
                    self._control.append((None, Pong(data)))
                    if not self.initiator and now - self._ping[1] >= 1:
                        self._send_ping(now)  # so that both sides know the round trip
                case Pong(data):
                    if self.lane.kcp.recovery.overdue:
                        self._trickle.clear()  # what leaves so slowly is sent again, too
                    self.lanes.answered(now)
                    self._probing.begin(now)
                    if data == self._ping[0]:
                        rtt = now - self._ping[1]
                        old = self._ping_rtt
                        self._ping_rtt = rtt if old is None else old + (rtt - old) / 4
                        self._ping = (b"", self._ping[1])
                case MtuProbe(epoch):
                    size = SEALED_OVERHEAD + len(plaintext)
                    self._control.append((None, MtuAck(size, epoch)))
                    self._probing.peer_searches(epoch, now)
                case MtuAck(size, epoch):
                    self._probing.acknowledged(size, epoch, now)
                    self.lanes.resize(self._probing.slice_size)
                case Close(code, reason):
                    if self.ended is None:
                        self._end(code, reason, by_peer=True)
                    self._tombstone_until = 0.0
                    self._close_at.clear()
                case Rekey():
                    self.keys.wanted = True
                case Arrivals(received, expected):
                    if self.lanes.loose is not None:
                        self.lanes.loose.reported_untrusted(
                            received,
                            expected,
                            sealed=self.keys.totals()[0],
                            unanswered=self._probing.unanswered,
                            now=now,
                        )

    # --- Keys -------------------------------------------------------------------------------

    def adopt(self, pair: KeyPair, now: float) -> None:
        """Use new keys of the same association; the old ones still open for a while."""
        self.keys.adopt(pair, now)
        self._events.append(Rekeyed())
        if self.initiator:
            self._send_ping(now)

    def wants_handshake(self, now: float) -> bool:
        """Whether the demux should start a handshake that resumes this association."""
        if self.ended is not None or not self.initiator:
            return False
        return self.keys.due(now) or self._liveness.wants_reconnect(now)

    # --- Time -------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called, at the latest."""
        if self.ended is not None:
            return self._close_at[0] if self._close_at else self._tombstone_until
        due = min(self._liveness.deadline(), self.keys.deadline(), self.lanes.deadline())
        due = min(due, self._trickle.at, self._probing.due)
        if self.initiator:
            due = min(due, self.keys.rekey_at)
        return due

    def handle_timeout(self, now: float) -> None:
        if self.ended is not None:
            if now >= self._tombstone_until:
                self._tombstone_until = 0.0
            return
        if not self.keys.expire(now):
            self._end(CloseCode.TIMEOUT, "no new keys in time", by_peer=False)
            return
        match self._liveness.poll(now):
            case Action.DEAD:
                self._end(CloseCode.TIMEOUT, "the peer has fallen silent", by_peer=False)
                # Perhaps it is only we who hear nothing.
                self._close_at.append(now)
                self._tombstone_until = now
                return
            case Action.PING:
                self._send_ping(now)
            case Action.NOTHING:
                pass
        if self.lanes.asks(now):
            self._send_ping(now)
        self.keys.handle_timeout(now)
        if not self.initiator and self.keys.asks(now):
            self._control.append((None, Rekey()))
        self.lanes.handle_timeout(now)

    def _send_ping(self, now: float) -> None:
        self._ping = (self._random(8), now)
        self._control.append((None, Ping(self._ping[0])))

    def _end(self, code: int, reason: str, *, by_peer: bool) -> None:
        self.ended = Ended(code, reason, by_peer)
        self._events.append(self.ended)
        self._control.clear()
        self._trickle.clear()
        self.lanes.close()

    # --- Sending ----------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Sealed datagrams that have to leave now, in trains. HOT PATH."""
        dispatch = self._dispatch
        try:
            if self.ended is None:
                loose = self.lanes.loose
                if loose is not None:
                    self._look_after_loose(loose, now)
                if (self.lanes.flush_due or self._trickle) and self._unconfirmed(now):
                    self._send_ping(now)
                if self._control:
                    queued, self._control = self._control, []
                    dispatch.seal_control(queued, now)
                if self._probing.due_on(self.paths.current, now):
                    self._seal_probes(now)
                if self.lanes.flush_due:
                    self._probing.watch(self.lanes.oldest, now, self.round_trip)
                    self.lanes.resize(self._probing.slice_size)
                if loose is not None and loose.flush_due:
                    loose.slice_size = self._probing.slice_size
                    units = loose.take_units(now, suspect=self._liveness.suspect(now))
                    dispatch.seal_loose(units, loose.slice_size, now)
                if now >= self._trickle.at:
                    dispatch.next_piece(now)
                    if not self._trickle:
                        self.lane.flush_due = True  # for what has waited for that
                sparse = self.lanes.sparse
                if sparse is not None and sparse.flush_due:
                    suspect = self._liveness.suspect(now)
                    units = self.lanes.sparse_units_to_send(now, suspect=suspect)
                    dispatch.seal_units(sparse, units, self.lane, now)
                if self.lane.flush_due:
                    units = self.lane.units_to_send(
                        now, suspect=self._liveness.suspect(now), busy=bool(self._trickle)
                    )
                    dispatch.seal_units(self.lane, units, self.lane, now)
            elif self._close_at and now >= self._close_at[0]:
                while self._close_at and now >= self._close_at[0]:
                    self._close_at.popleft()
                last = Close(self.ended.code, self.ended.reason)
                dispatch.seal_control([(None, last)], now)
        except KeyExhausted:
            if self.ended is None:
                self._end(CloseCode.TIMEOUT, "the keys are used up", by_peer=False)
        return dispatch.take()

    def _unconfirmed(self, now: float) -> bool:
        """Whether the ping that confirms new keys may be lost: nothing has come under them, and
        the slices of a large unit confirm nothing.
        """
        return (
            self.initiator
            and self.keys.current.opener.newest < 0
            and now - self._ping[1] >= CONFIRM_INTERVAL
        )

    def _seal_probes(self, now: float) -> None:
        """Datagrams that nobody needs, to learn the size of the path."""
        suspect = self._liveness.suspect(now)
        probes = self._probing.plaintexts(self.paths.current, now, self.round_trip, suspect=suspect)
        for plaintext, size in probes:
            self._dispatch.seal_probe(plaintext, size)

    def too_big(self, size: int, datagrams: int, now: float) -> None:
        """The local interface has refused so many datagrams of this size, sent to our path."""
        self._dispatch.refused(size, datagrams)
        datagrams = self._probing.refused(size, datagrams, now)
        if datagrams:
            self.drops["too_big"] += datagrams

    def _look_after_loose(self, loose: LooseLane, now: float) -> None:
        """What the datagram lane needs of the other parts before anything is sealed."""
        if loose.report_due(now):
            _, opened, expected = self.keys.totals()
            self._control.append((None, Arrivals(opened, expected)))
        if loose.flush_due:
            if self._unconfirmed(now):
                self._send_ping(now)
            if loose.shaken(now, self.round_trip):
                self._probing.doubt(now)

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None
