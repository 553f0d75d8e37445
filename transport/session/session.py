"""A session: keys, lanes, path and liveness of one association with a peer, behind five verbs.

    receive_datagrams(batch, address, now)   what came for its receiver indices, or receive_trains
    datagrams_to_send(now)                   what has to leave now, by address
    deadline()                               when handle_timeout wants to be called
    handle_timeout(now)
    next_event()                             what its owner should know

The program above has three lanes, objects with one face (`lanes/lanes.py`): `bulk`, `sparse`,
which does not wait behind it, and `datagrams`, which repeats nothing, once `open_datagrams` was
called. And `close`.

A datagram passes: slices are put together, opened by the key that they name, and what was inside
goes to its lane, or as control items to the parts of the session that they concern. What leaves is
taken from the lanes, sealed, and laid in trains; what is said about the session goes first.

Rules. No I/O, no clock: `now` is monotonic seconds. Everything from outside has passed the AEAD and
the replay window before anything else looks at it. KCP is flushed after every batch of inputs and
of outputs, so nothing waits for a timer on its way. A session without unacknowledged data wakes for
its keepalive, its rekey and the search for the path's size alone.

Error contract: bad datagrams are counted in `drops` and forgotten. A lane's `send` raises
ValueError for a message over `max_message`. After the end it does nothing, no lane gets anything,
what has arrived can be read until `throw_away`, nothing else is kept, and `ended` says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import inf

from transport.congestion.choice import DEFAULT_CONFIG, TransportConfig
from transport.constants import CONFIRM_INTERVAL, DATA_HEADER_SIZE, MAX_DATAGRAM, TAG_SIZE
from transport.crypto.cipher import conversation_number
from transport.crypto.identity import PublicKey
from transport.errors import BadPacket, KeyExhausted
from transport.lanes.datagram import DatagramLane
from transport.lanes.lanes import Lanes
from transport.path.address import PathTable
from transport.path.keepalive import Action, Liveness
from transport.path.mtu import Probing
from transport.session.closing import Ending
from transport.session.events import Ended, Event, PathChanged, Rekeyed, Silent
from transport.session.exchange import PING_BACK_INTERVAL, ControlExchange
from transport.session.keyring import KeyPair, Keyring
from transport.session.outbox import Outbox, Outgoing
from transport.session.reassembly import Reassembly
from transport.stats import SessionStatistics
from transport.wire.control import (
    Arrivals,
    Close,
    CloseCode,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Pong,
    Rekey,
)
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM
from transport.wire.trains import Address, Bytes, PipeAddress


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
        parity: bool = False,
    ) -> None:
        """`initiator`: it starts the handshakes, its datagrams confirm new keys, and it goes on
        sending where it connected to, whatever comes from where. `kcp_mtu`: bytes of the largest
        unit; `max_slices`: of a unit that the peer takes; `parity`: it takes that, too.
        """

        def jitter() -> float:
            return int.from_bytes(random_bytes(4), "little") / 2**31 - 1

        self.initiator = initiator
        self.peer = peer
        # Of a responder: which public key of ours the peer asked for in its latest handshake.
        self.identity: PublicKey | None = None
        self.association = association
        self.time_used = 0.0  # the endpoint's: seconds, on the scale of its fair queue
        self.timer: float | None = None  # of the demux, as the next two: in its heap
        self.entry: float | None = None
        self.prompted = -inf  # when it was last asked before its timer
        self.held_above = 0  # bytes that the program has taken out of the lanes and keeps
        # What it has waits for room in its pipe, until `unblock`.
        self.blocked = False
        self._pipe: PipeAddress | None = None  # the path, where that is a pipe
        self.drops = Counter[str]()
        self.events = deque[Event]()  # what `next_event` gives
        self._born = now
        self._received_datagrams = self._received_bytes = 0  # UDP payload, of all that has opened
        self.paths = PathTable(address, random_bytes)
        self.keys = Keyring(pair, now, jitter)
        self.lanes = Lanes(
            conversation_number(pair.handshake_hash),
            kcp_mtu=kcp_mtu,
            receive_window=receive_window,
            drops=self.drops,
            now=now,
            config=config,
            parity=parity,
        )
        self.bulk, self.sparse = self.lanes.bulk, self.lanes.sparse
        self.reassembly = Reassembly(kcp_mtu + TAG_SIZE, self.drops, self.keys.seen)
        self._probing = Probing(address, now, largest_unit=kcp_mtu, max_slices=max_slices)
        self.lanes.resize(self._probing.slice_size)
        self._lanes_fit = self._probing.size  # the datagrams that lanes were told the path takes
        self._quiet = False  # lanes have held back, since the peer was a suspect
        self._liveness = Liveness(now, initiator=initiator, jitter=jitter)
        self._exchange = ControlExchange(now, random_bytes, initiator=initiator)
        self._outbox = Outbox(self.keys, self.paths, self._liveness)
        self.ending = Ending(self.lanes, self._exchange, self._outbox.paced, self.events)
        if isinstance(address, PipeAddress):
            self._pipe = address
            self.lanes.change_path(address, now)
        # The first datagram of an initiator is what confirms its keys to the responder.
        if initiator:
            self._exchange.ping(now)
        else:
            self._probing.begin(now)

    # --- The program above ------------------------------------------------------------------

    @property
    def datagrams(self) -> DatagramLane | None:
        """The datagram lane; None before `open_datagrams`."""
        return self.lanes.datagrams

    def open_datagrams(self, now: float) -> DatagramLane:
        """From now on both sides take messages of the unreliable lane. Idempotent."""
        return self.lanes.open_datagrams(self._probing.slice_size, now)

    @property
    def readable(self) -> bool:
        """Something of a lane waits to be taken. HOT PATH."""
        lanes = self.lanes
        sparse, datagrams = lanes.sparse.reliable, lanes.datagrams
        if lanes.bulk.inbox and not (lanes.hold_bulk and self.ending.ended is None):
            return True
        if sparse is not None and sparse.inbox:
            return True
        return datagrams is not None and datagrams.readable

    @property
    def writable(self) -> bool:
        """There is credit for bulk messages, and for those of the datagram lane."""
        datagrams = self.lanes.datagrams
        return self.bulk.credit > 0 and (datagrams is None or datagrams.credit > 0)

    @property
    def in_flight(self) -> int:
        """Bytes given to the reliable lanes and not yet acknowledged."""
        return self.lanes.in_flight

    @property
    def drained(self) -> bool:
        """All messages given to the reliable lanes, empty ones too, are acknowledged."""
        return not self.lanes.has_work

    @property
    def round_trip(self) -> float | None:
        """Seconds, smoothed, from acknowledgements or from pings; None before the first."""
        rtt = self.lanes.rtt
        return self._exchange.round_trip if rtt is None else rtt

    def measure(self, now: float) -> None:
        """Ask how far the peer is, for whoever reads the statistics in a moment."""
        if self.ended is None and now - self._exchange.pinged_at >= PING_BACK_INTERVAL:
            self._exchange.ping(now)

    def probe(self, now: float) -> None:
        """The way to the peer may have changed: show ourselves, and repeat what is under way."""
        if self.ended is None:
            self._exchange.ping(now)
            if self._pipe is None:
                self.lanes.repeat(now)

    def silent(self, now: float) -> bool:
        """The peer owes an answer for seconds."""
        return self.ended is None and self._liveness.suspect(now)

    @property
    def path_kind(self) -> str:
        """How the peer is reached: `udp`, or what the pipe is called."""
        return "udp" if self._pipe is None else self._pipe.description

    def statistics(self, now: float) -> SessionStatistics:
        """What its parts have counted."""
        datagrams = self.lanes.datagrams
        return SessionStatistics(
            suite=self.keys.current.suite.name,
            hybrid=self.keys.current.hybrid,
            rtt=self._exchange.shortest(now) or self.lanes.rtt,
            measuring=self._exchange.asking,
            sent_datagrams=self._outbox.sent_datagrams,
            sent_bytes=self._outbox.sent_bytes,
            received_datagrams=self._received_datagrams,
            received_bytes=self._received_bytes,
            in_flight=self.lanes.in_flight,
            window=self.bulk.window,
            datagram_size=self.datagram_size,
            rekeys=self.keys.rekeys,
            path_changes=self.paths.changes,
            age=now - self._born,
            idle=self._liveness.idle(now),
            drops=dict(self.drops),
            datagram_sent=0 if datagrams is None else datagrams.sent,
            datagram_received=0 if datagrams is None else datagrams.received,
            datagram_lost=0 if datagrams is None else datagrams.meter.lost,
        )

    def next_event(self) -> Event | None:
        return self.events.popleft() if self.events else None

    # --- Receiving --------------------------------------------------------------------------

    def receive_datagrams(self, batch: Sequence[bytes], address: Address, now: float) -> None:
        """Datagrams one by one; see `receive_trains`."""
        self.receive_trains([(datagram, len(datagram)) for datagram in batch], address, now)

    def receive_trains(
        self, trains: Sequence[tuple[Bytes, int]], address: Address, now: float
    ) -> None:
        """Datagrams whose receiver index is one of ours, all from one address. What comes in one
        batch reaches a reliable lane as one batch. HOT PATH.
        """
        bulk: list[bytes] = []
        sparse: list[bytes] = []
        keys, lanes = self.keys, self.lanes
        is_sparse, datagrams = lanes.is_sparse_untrusted, lanes.datagrams
        opened = newest = size = 0
        take = self.reassembly.take_untrusted
        if len(trains) == 1:
            units = take(*trains[0])
        else:
            units = [unit for train, step in trains for unit in take(train, step)]
        for header, sealed in units:
            try:
                pair = keys.find_untrusted(header, now)
                opener = pair.opener
                before = opener.newest
                plaintext = opener.open_unit_untrusted(header, sealed)
                opened += header[2]  # slices
                size += len(sealed) + DATA_HEADER_SIZE * header[2]
                if opener.newest != before and pair is keys.current:
                    newest = len(sealed) + DATA_HEADER_SIZE
                kind = header[0]
                if kind == DATA:
                    if plaintext:
                        (sparse if is_sparse(plaintext) else bulk).append(plaintext)
                elif kind == CONTROL:
                    self._receive_control_untrusted(plaintext, address, now)
                elif datagrams is None:
                    raise BadPacket("loose_unasked")
                elif not datagrams.closed:
                    datagrams.receive_untrusted(plaintext, header[2], now)
            except BadPacket as bad:
                self.drops[bad.reason] += header[2]
        if not opened:
            return
        self._received_datagrams += opened
        self._received_bytes += size
        self._liveness.received(now)
        if self._quiet:
            self._quiet = False
            lanes.heard()
        if self.ending.ended is not None:
            self.ending.heard(now)
            return
        if newest and address != self.paths.current and not self.initiator:
            challenge = self.paths.observe(address, newest, now)
            if challenge is not None:
                self._exchange.queue(PathChallenge(challenge), address)
        if sparse and lanes.sparse.receive_units(sparse, now):
            self._liveness.answered()
        if bulk and lanes.bulk.receive_units(bulk, now):
            self._liveness.answered()
        reliable = lanes.sparse.reliable
        if lanes.bulk.broken or (reliable is not None and reliable.broken):
            self._close_broken(now)

    def confirmed_by(self, datagram: bytes, plaintext: bytes, address: Address, now: float) -> None:
        """The datagram that confirmed this session's newest keys, opened by the demux. Where it
        came from proves nothing: it may be a copy.
        """
        self._received_datagrams += 1
        self._received_bytes += len(datagram)
        self._liveness.received(now)
        lanes, kind = self.lanes, datagram[0]
        try:
            if kind == CONTROL:
                self._receive_control_untrusted(plaintext, address, now)
            elif kind == DATAGRAM:
                if lanes.datagrams is None:
                    raise BadPacket("loose_unasked")
                lanes.datagrams.receive_untrusted(plaintext, datagram[2], now)
            elif not plaintext:
                pass
            else:
                lane = lanes.sparse if lanes.is_sparse_untrusted(plaintext) else lanes.bulk
                if lane.receive_units([plaintext], now):
                    self._liveness.answered()
        except BadPacket as bad:
            self.drops[bad.reason] += 1
        if lanes.broken:
            self._close_broken(now)

    def _receive_control_untrusted(self, plaintext: bytes, address: Address, now: float) -> None:
        """Items that came from `address`. Where an answer is due the exchange gives it. One that
        comes again changes nothing more, and whatever one says can only change how we send to who
        wrote it.
        """
        for item in self._exchange.receive_untrusted(plaintext, address, now):
            match item:
                case PathResponse(data):
                    if self.paths.answered(data, address, now):
                        self._liveness.answered()
                        self._change_path(address, now)
                case Pong():
                    self._liveness.answered()
                    if self.lanes.overdue:
                        self._outbox.paced.clear()  # what leaves so slowly is sent again, too
                    self.lanes.on_pong(now)
                    self._probing.begin(now)
                case MtuProbe(epoch):
                    self._probing.peer_searches(epoch, now)
                case MtuAck(size, epoch):
                    self._liveness.answered()
                    self._probing.acknowledged(size, epoch, now)
                    self._fit_lanes()
                case Close(code, reason):
                    self.ending.closed_by_peer(code, reason)
                case Rekey():
                    self.keys.wanted = True
                case Arrivals(received, expected):
                    self._liveness.answered()
                    if self.lanes.datagrams is not None:
                        self.lanes.datagrams.reported_untrusted(
                            received,
                            expected,
                            sealed=self.keys.totals()[0],
                            unanswered=self._probing.unanswered,
                            now=now,
                        )

    # --- Sending ----------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> Outgoing:
        """Sealed datagrams that have to leave now, in trains. HOT PATH."""
        lanes, paced, probing = self.lanes, self._outbox.paced, self._probing
        bulk, sparse = lanes.bulk, lanes.sparse.reliable
        if bulk.broken or (sparse is not None and sparse.broken):
            self._close_broken(now)
        try:
            if self.ending.ended is None:
                flush = bulk.flush_due or (sparse is not None and sparse.flush_due)
                if not (
                    flush
                    or self._exchange.queued
                    or paced.at < inf
                    or now >= probing.due
                    or self.paths.current is not probing.path
                    or lanes.datagrams is not None
                ):
                    return []  # as when it has only received what goes on to another
                self._seal_due(now, flush=flush)
            elif (close := self.ending.last_word(now)) is not None:
                self._outbox.seal_control([(None, close)], now)
        except KeyExhausted:
            self.ending.fail(CloseCode.TIMEOUT, "the keys are used up", by_peer=False)
        return self._outbox.take()

    def _seal_due(self, now: float, *, flush: bool) -> None:
        """What is said about the session goes first, since it is small and much depends on it:
        control items, and then the probes of the path. After them come the datagram lane, the next
        piece of a unit that leaves slowly, the sparse lane, and bulk, which has most and would hold
        up all others. Raises `KeyExhausted`; what was sealed before leaves. HOT PATH.
        """
        outbox, lanes, probing, liveness = self._outbox, self.lanes, self._probing, self._liveness
        paced, bulk, datagrams = outbox.paced, lanes.bulk, lanes.datagrams
        suspect = liveness.awaiting is not None and liveness.suspect(now)
        if datagrams is not None:
            self._look_after_datagrams(datagrams, now)
        if (flush or paced.at < inf) and self.initiator and self.keys.current.opener.newest < 0:
            self._confirm_keys(now)
        if self._exchange.queued:
            outbox.seal_control(self._exchange.take(), now)
        if now >= probing.due or self.paths.current is not probing.path:
            probes = probing.plaintexts(self.paths.current, now, self.round_trip, suspect=suspect)
            for plaintext, size in probes:
                outbox.seal_probe(plaintext, size)
        if flush:
            if now >= probing.watch_at:
                probing.watch(lanes.oldest, now, self.round_trip)
                if not self.initiator and self.keys.should_request(now):
                    self._exchange.queue(Rekey())
            if probing.size != self._lanes_fit:
                self._fit_lanes()
        if datagrams is not None and datagrams.flush_due:
            datagrams.slice_size = probing.slice_size
            if self._pipe is None:
                units = datagrams.take_units(now, suspect=suspect)
                outbox.seal_datagrams(units, datagrams.slice_size, now)
            elif suspect or self._pipe.room(bulk.pace) > outbox.waiting:
                outbox.seal_whole(DATAGRAM, datagrams.take_units(now, suspect=suspect), now)
        if self._pipe is not None:
            self._fill_pipe(self._pipe, now, suspect=suspect)
            return
        if now >= paced.at:
            outbox.next_piece(now)
            if paced.at == inf:
                bulk.flush_due = True  # for what has waited for that
        sparse = lanes.sparse.reliable
        if sparse is not None and sparse.flush_due:
            units = lanes.sparse.units_to_send(now, suspect=suspect)
            outbox.seal_units(sparse, units, bulk, now)
        if bulk.flush_due:
            units = bulk.units_to_send(now, suspect=suspect, busy=paced.at < inf)
            outbox.seal_units(bulk, units, bulk, now)
        self._quiet |= suspect

    def _fill_pipe(self, pipe: PipeAddress, now: float, *, suspect: bool) -> None:
        """The reliable lanes, as far as there is room; what is sparse does not wait for that. What
        waits then waits in the lanes.
        """
        outbox, lanes, rate = self._outbox, self.lanes, self.lanes.bulk.pace
        for lane in (lanes.sparse.reliable, lanes.bulk):
            if lane is None or not lane.flush_due:
                continue
            lane.path_room = pipe.room(rate) - outbox.waiting if lane is lanes.bulk else inf
            units = lane.units_to_send(now, suspect=suspect)
            outbox.seal_whole(DATA, units, now, wants_answer=lane.has_work)
        self.blocked = lanes.waiting and pipe.room(rate) <= outbox.waiting
        self._quiet |= suspect

    def _fit_lanes(self) -> None:
        """The path takes datagrams of another size."""
        self._lanes_fit = self._probing.size
        self.lanes.resize(self._probing.slice_size)

    def _look_after_datagrams(self, datagrams: DatagramLane, now: float) -> None:
        """What the datagram lane needs of the other parts before anything is sealed."""
        if datagrams.report_due(now):
            _, opened, expected = self.keys.totals()
            self._exchange.queue(Arrivals(opened, expected))
        if datagrams.flush_due:
            if self.initiator and self.keys.current.opener.newest < 0:
                self._confirm_keys(now)
            if datagrams.black_hole_suspected(now, self.round_trip):
                self._probing.doubt(now)

    def _confirm_keys(self, now: float) -> None:
        """Ping again while nothing has come under new keys of an initiator: the ping that confirms
        them may be lost, and the slices of a large unit confirm nothing.
        """
        if now - self._exchange.pinged_at >= CONFIRM_INTERVAL:
            self._exchange.ping(now)

    def too_big(self, size: int, datagrams: int, octets: int, now: float) -> None:
        """The local interface does not take datagrams of this size on our path: of those that had
        to leave now it has refused so many, with so many bytes.
        """
        if not datagrams:
            self._probing.too_big(size, now)
            return
        self._outbox.refused(datagrams, octets)
        datagrams = self._probing.refused(size, datagrams, now)
        if datagrams:
            self.drops["too_big"] += datagrams

    # --- Keys -------------------------------------------------------------------------------

    def adopt(self, pair: KeyPair, now: float) -> None:
        """Use new keys of the same association; the old ones still open for a while."""
        self.keys.adopt(pair, now)
        self.events.append(Rekeyed())
        if self.initiator:
            self._exchange.ping(now)

    def moved(self, address: Address, now: float) -> None:
        """A handshake has proven another address of the peer: everything goes there now."""
        self.paths.moved(address, now)
        self._change_path(address, now)

    def _change_path(self, address: Address, now: float) -> None:
        """All that is under way went to the old address, and is due at the new one."""
        before = self._pipe
        self._pipe = address if isinstance(address, PipeAddress) else None
        if before is self._pipe:  # from one address of the socket to another
            self.lanes.repeat(now)
        else:
            self.blocked = False
            self._outbox.paced.clear()
            self.lanes.change_path(self._pipe, now)
        self.events.append(PathChanged(address))

    def path_closed(self, now: float) -> None:
        """The pipe that is our path is gone. Whoever has connected is told at once, to seek another
        way; the other side waits for that.
        """
        if self.initiator:
            self._liveness.doubt(now)
            self.events.append(Silent())

    @property
    def datagram_size(self) -> int:
        """Bytes of UDP payload that the path takes, as far as is known."""
        return self._probing.size if self._pipe is None else MAX_DATAGRAM

    def unblock(self) -> None:
        """There may be room in our pipe."""
        self.blocked = False
        self.lanes.go_on()

    def doubt(self, now: float) -> None:
        """Somebody says that the peer is out of reach: if it does not answer now, it is silent."""
        if self.ended is None and self._liveness.doubt(now):
            self._exchange.ping(now)

    def renew(self) -> None:
        """Time may have passed that nobody here has noticed: shake hands again, now."""
        self.keys.wanted = True

    def wants_handshake(self, now: float) -> bool:
        """Whether the demux should start a handshake that resumes this association. HOT PATH of an
        initiator.
        """
        if not self.initiator or self.ending.ended is not None:
            return False
        liveness = self._liveness
        return self.keys.due(now) or (
            liveness.awaiting is not None and liveness.wants_reconnect(now)
        )

    # --- Time -------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called, or something to be sent. HOT PATH."""
        if self.ending.ended is not None:
            return self.ending.deadline()
        keys = self.keys
        due = min(
            self._liveness.due,
            keys.expires_at,
            self.lanes.deadline(),
            self._outbox.paced.at,
            self._probing.due,
        )
        return min(due, keys.rekey_at) if self.initiator else due

    def handle_timeout(self, now: float) -> None:
        """Before the end: keys become too old, the peer is asked for a sign of life or given up,
        new keys and overdue acknowledgements are asked for. After it: the last word is said.
        """
        if self.ending.ended is not None:
            self.ending.handle_timeout(now)
            return
        if not self.keys.expire(now):
            self.ending.fail(CloseCode.TIMEOUT, "no new keys in time", by_peer=False)
            return
        match self._liveness.poll(now):
            case Action.DEAD:
                self.ending.peer_silent(now)
                return
            case Action.PING:
                self._exchange.ping(now)
                if self.initiator and self._liveness.awaiting is not None:
                    self.events.append(Silent())
            case Action.NOTHING:
                pass
        if self.lanes.wants_ping(now):
            self._exchange.ping(now)
        self.keys.handle_timeout(now)
        if not self.initiator and self.keys.should_request(now):
            self._exchange.queue(Rekey())
        self.lanes.handle_timeout(now)

    # --- The end ----------------------------------------------------------------------------

    @property
    def ended(self) -> Ended | None:
        """Why it is over; None before."""
        return self.ending.ended

    @property
    def finished(self) -> bool:
        """The last word is said and the demux may forget the session."""
        return self.ending.finished

    def close(self, code: int, reason: str, now: float) -> None:
        """End it and tell the peer. Idempotent."""
        self.ending.close(code, reason, now)

    def fail(self, code: int, reason: str) -> None:
        """It has turned out to be over; the peer knows, or cannot be told. Idempotent."""
        self.ending.fail(code, reason, by_peer=True)

    def abandon(self, code: int, reason: str, now: float) -> Outgoing:
        """One of its parts has failed; none is asked any more. Gives one Close for the peer."""
        self.ending.abandon(code, reason)
        self._outbox.take()
        self._outbox.seal_control([(None, Close(code, reason))], now)
        return self._outbox.take()

    def throw_away(self) -> None:
        """It is over, and nobody will read what has arrived: nothing is kept. Idempotent."""
        self._outbox.paced.clear()
        self.reassembly.clear()
        self.lanes.throw_away()

    def _close_broken(self, now: float) -> None:
        self.close(CloseCode.PROTOCOL, "a reliable lane that never makes a message", now)
        self.throw_away()
