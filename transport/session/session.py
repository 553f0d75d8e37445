"""A session: the keys, the lanes and the liveness of one peer, behind five verbs.

    receive_datagrams(batch, address, now)   what came for its receiver indices, or receive_trains
    datagrams_to_send(now)                   what has to leave now, by address
    deadline()                               when handle_timeout wants to be called
    handle_timeout(now)
    next_event()                             what its owner should know

and, for the program above, `send`, `take_messages`, `credit` and `close`;
`send_sparse` and `take_sparse_messages` for the lane that does not wait behind the first;
`open_loose`, and then `send_loose` and `take_loose_messages`, for the one that repeats nothing.

What comes in is the work of `session/receive.py`, what leaves that of `scheduler.py`, and time
that of
`timeouts.py`. Here they are joined with all that they share. What is asked of a lane alone, and
does not depend on how the session is, is asked of `lanes`.

Rules. No I/O, no clock: `now` is monotonic seconds. KCP is flushed after every batch of inputs and
of outputs, so nothing waits for a timer on its way. Only a session with unacknowledged data is
ticked; an idle one wakes for its keepalive and its rekey.

Error contract: bad datagrams are counted in `drops` and forgotten. `send` raises ValueError for
a message over `max_message`. After the end, `send` does nothing and `ended` says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence

from transport.config import DEFAULT_CONFIG, TransportConfig
from transport.crypto.cipher import conversation_number
from transport.crypto.identity import PublicKey
from transport.errors import KeyExhausted
from transport.lanes.datagram import LooseLane
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.liveness import Liveness
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.events import Ended, Event, Rekeyed
from transport.session.exchange import ControlExchange
from transport.session.keyring import KeyPair, Keyring
from transport.session.outbox import Dispatch, Outgoing
from transport.session.reactions import Reactions
from transport.session.receive import Intake
from transport.session.scheduler import Scheduler
from transport.session.timeouts import Timeouts
from transport.stats import SessionStatistics
from transport.wire.control import CloseCode
from transport.wire.trains import Address, Bytes


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
        config: TransportConfig = DEFAULT_CONFIG,
    ) -> None:
        """`kcp_mtu`: bytes of the largest unit; `max_slices`: of a unit that the peer takes."""

        def jitter() -> float:
            return int.from_bytes(random_bytes(4), "little") / 2**31 - 1

        self.initiator = initiator
        self.peer = peer
        self.association = association
        self.timer: float | None = None  # the demux's: when its heap has this session next
        self.drops = drops = Counter[str]()
        self._events = events = deque[Event]()
        self._born = now
        self.paths = paths = PathTable(address, random_bytes)
        self.keys = keys = Keyring(pair, now, jitter)
        self.lanes = lanes = Lanes(
            conversation_number(pair.handshake_hash),
            kcp_mtu=kcp_mtu,
            receive_window=receive_window,
            drops=drops,
            now=now,
            config=config,
        )
        self.lane = lanes.bulk
        self._probing = probing = Probing(address, now, largest_unit=kcp_mtu, max_slices=max_slices)
        lanes.resize(probing.slice_size)
        self._liveness = liveness = Liveness(now, initiator=initiator, jitter=jitter)
        self._dispatch = dispatch = Dispatch(keys, paths, liveness)
        trickle = dispatch.trickle
        self._exchange = exchange = ControlExchange(now, random_bytes, initiator=initiator)
        self._ending = ending = Ending(lanes, exchange, trickle, events)
        reactions = Reactions(keys, paths, lanes, probing, trickle, ending, events)
        self._intake = Intake(
            keys, paths, lanes, liveness, exchange, reactions, ending, drops, initiator=initiator
        )
        self._scheduler = Scheduler(
            keys, paths, lanes, liveness, probing, exchange, dispatch, initiator=initiator
        )
        self._timeouts = Timeouts(
            keys, lanes, liveness, probing, trickle, exchange, ending, initiator=initiator
        )
        # The first datagram of an initiator is what confirms its keys to the responder.
        if initiator:
            exchange.ping(now)
        else:
            probing.begin(now)

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
        if self._ending.ended is None:
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
        self._check_lanes(now)
        return messages

    def take_messages(self, now: float) -> list[bytes]:
        """All messages of the bulk lane that have arrived, in order. HOT PATH."""
        messages = self.lane.take_messages(more=self._ending.ended is None)
        self._check_lanes(now)
        return messages

    def open_loose(self, now: float) -> LooseLane:
        """From now on both sides take datagrams of the unreliable lane. Idempotent."""
        return self.lanes.open_loose(self._probing.slice_size, now)

    def send_loose(self, messages: Sequence[bytes], now: float) -> None:
        """Queue messages for the datagram lane, each a unit; they leave in this turn. HOT PATH."""
        if self._ending.ended is None and self.lanes.loose is not None:
            self.lanes.loose.send(messages)

    def take_loose_messages(self) -> list[bytes]:
        """All messages of the datagram lane that have come."""
        return [] if self.lanes.loose is None else self.lanes.loose.take_messages()

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed, from acknowledgements or from pings; None before the first."""
        return self._scheduler.round_trip

    def probe(self, now: float) -> None:
        """The way to the peer may have changed: show ourselves, and repeat what is under way."""
        if self.ended is None:
            self._exchange.ping(now)
            self.lanes.repeat(now)

    def statistics(self, now: float) -> SessionStatistics:
        """What its parts have counted."""
        loose = self.lanes.loose
        return SessionStatistics(
            suite=self.keys.current.suite.name,
            rtt=self.round_trip,
            sent_datagrams=self._dispatch.sent_datagrams,
            sent_bytes=self._dispatch.sent_bytes,
            received_datagrams=self._intake.received_datagrams,
            received_bytes=self._intake.received_bytes,
            in_flight=self.lanes.in_flight,
            window=self.lane.window,
            datagram_size=self._probing.size,
            rekeys=self.keys.rekeys,
            path_changes=self.paths.changes,
            age=now - self._born,
            idle=self._liveness.idle(now),
            drops=dict(self.drops),
            loose_sent=0 if loose is None else loose.sent,
            loose_received=0 if loose is None else loose.received,
            loose_lost=0 if loose is None else loose.meter.lost,
        )

    # --- The end ----------------------------------------------------------------------------

    @property
    def ended(self) -> Ended | None:
        """Why it is over; None before."""
        return self._ending.ended

    @property
    def finished(self) -> bool:
        """The last word is said and the demux may forget the session."""
        return self._ending.finished

    def close(self, code: int, reason: str, now: float) -> None:
        """End it and tell the peer. Idempotent."""
        self._ending.close(code, reason, now)

    def fail(self, code: int, reason: str) -> None:
        """It has turned out to be over; the peer knows, or cannot be told. Idempotent."""
        self._ending.fail(code, reason, by_peer=True)

    def _check_lanes(self, now: float) -> None:
        if self.lanes.broken:
            self.close(CloseCode.PROTOCOL, "fragments that never make a message", now)

    # --- Keys -------------------------------------------------------------------------------

    def adopt(self, pair: KeyPair, now: float) -> None:
        """Use new keys of the same association; the old ones still open for a while."""
        self.keys.adopt(pair, now)
        self._events.append(Rekeyed())
        if self.initiator:
            self._exchange.ping(now)

    def renew(self) -> None:
        """Time may have passed that nobody here has noticed: shake hands again, now."""
        self.keys.wanted = True

    def wants_handshake(self, now: float) -> bool:
        """Whether the demux should start a handshake that resumes this association."""
        if not self.initiator or self._ending.ended is not None:
            return False
        return self.keys.due(now) or self._liveness.wants_reconnect(now)

    # --- Time -------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called, at the latest."""
        return self._timeouts.deadline()

    def handle_timeout(self, now: float) -> None:
        self._timeouts.handle_timeout(now)

    # --- Datagrams --------------------------------------------------------------------------

    def receive_datagrams(self, batch: Sequence[bytes], address: Address, now: float) -> None:
        """Datagrams one by one; see `receive_trains`."""
        self.receive_trains([(datagram, len(datagram)) for datagram in batch], address, now)

    def receive_trains(
        self, trains: Sequence[tuple[Bytes, int]], address: Address, now: float
    ) -> None:
        """Datagrams whose receiver index is one of ours, all from one address. HOT PATH."""
        self._intake.receive_trains(trains, address, now)
        if self.lanes.broken:
            self._check_lanes(now)

    def confirmed_by(self, datagram: bytes, plaintext: bytes, address: Address, now: float) -> None:
        """The datagram that confirmed this session's newest keys, opened by the demux."""
        self._intake.receive_confirmation(datagram, plaintext, address, now)
        self._check_lanes(now)

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Sealed datagrams that have to leave now, in trains. HOT PATH."""
        try:
            if self._ending.ended is None:
                self._scheduler.seal_due(now)
            elif (close := self._ending.last_word(now)) is not None:
                self._dispatch.seal_control([(None, close)], now)
        except KeyExhausted:
            self._ending.fail(CloseCode.TIMEOUT, "the keys are used up", by_peer=False)
        return self._dispatch.take()

    def too_big(self, size: int, datagrams: int, now: float) -> None:
        """The local interface has refused so many datagrams of this size, sent to our path."""
        self._dispatch.refused(size, datagrams)
        datagrams = self._probing.refused(size, datagrams, now)
        if datagrams:
            self.drops["too_big"] += datagrams

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None
