"""From datagrams to sessions: the core of an endpoint, both as responder and as initiator.

    receive_datagrams(batch, now)    sort by type and receiver index, hand on; or receive_trains
    datagrams_to_send(now)           replies, inits, and what the touched sessions have
    settle(now)                      when that has left: whether there is more
    deadline(), handle_timeout(now)
    next_event()                     Accepted, Connected, Refused, GaveUp
    failures                         what went wrong inside, for the log

The receiver index selects the session, the address never does. Only sessions that something
happened to are looked at (`touch`), so idle ones cost nothing here.

Bulkheads: whatever a session or a handshake raises ends that one, with one Close to its peer, is
counted as `core_failed` and put into `failures`; all others go on.

Pure: no I/O, no clock. Error contract: whatever comes in is handled, answered or counted in
`drops`; nothing is raised for it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from attrs import frozen

from transport.congestion.choice import DEFAULT_CONFIG, TransportConfig
from transport.constants import (
    HYBRID_INIT_SIZE,
    MAX_SESSIONS,
    MEMORY_LIMIT,
    RESET_SIZE,
    SEALED_OVERHEAD,
)
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum
from transport.endpoint.budget import MemoryBudget
from transport.endpoint.timers import TimerHeap
from transport.errors import BadPacket
from transport.handshake.admission import Authority, ReplyDue
from transport.handshake.attempt import Negotiation
from transport.handshake.cookie import MAC_BYTES
from transport.handshake.floodgate import OPEN, FloodGate
from transport.handshake.indices import IndexTable
from transport.handshake.initiator import Connected, GaveUp, Initiator, Refused
from transport.handshake.messages import Peer
from transport.handshake.responder import Accepted, HalfOpen, Responder
from transport.session.outbox import Outgoing
from transport.session.session import Session
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    CONTROL,
    COOKIE,
    DATA,
    DATAGRAM,
    INIT,
    INIT_SLICE,
    RESET,
    RESPONSE,
    RESPONSE_SLICE,
    Suite,
    decode_cookie_index_untrusted,
    decode_response_untrusted,
    decode_slice_untrusted,
)
from transport.wire.trains import Address, Bytes, PipeAddress, Refusal, Train, cut

_SEALED = frozenset((DATA, CONTROL, DATAGRAM))
_TYPES = _SEALED | {INIT, RESPONSE, COOKIE, RESET, INIT_SLICE, RESPONSE_SLICE}

DemuxEvent = Accepted | Connected | Refused | GaveUp
# Trains with the size of their datagrams, of one session and from one address each, in order.
Runs = list[tuple[Session, list[tuple[Bytes, int]], Address]]


@frozen(eq=False)
class Failure:
    """Something of ours has raised; it cost one session or handshake, and nobody else anything."""

    reference: str  # the peer is told this, and no more
    error: Exception
    session: Session | None  # None where it has not come to one


class Demux:
    """All sessions and handshakes of one endpoint."""

    def __init__(
        self,
        identity: PrivateKey,
        *,
        authority: Authority | None,
        now: float,
        random_bytes: Callable[[int], bytes],
        timestamp_ns: Callable[[], int],
        suite: Suite,
        max_sessions: int = MAX_SESSIONS,
        silent: bool = False,
        memory_limit: int = MEMORY_LIMIT,
        config: TransportConfig = DEFAULT_CONFIG,
        post_quantum: PostQuantum = PostQuantum.AUTO,
    ) -> None:
        """Without `authority` the endpoint only initiates, and inits are dropped.

        `silent`: what is for no session gets no stateless reset.
        """
        self.drops: Counter[str] = Counter()
        self.received = 0  # datagrams
        self.failures: deque[Failure] = deque()  # the shell takes them out in each turn
        self._random = random_bytes
        self._indices: IndexTable[Session | HalfOpen | Negotiation] = IndexTable(random_bytes)
        self._responder: Responder | None = None
        if authority is not None:
            self._responder = Responder(
                identity,
                authority,
                self._indices,
                now=now,
                random_bytes=random_bytes,
                max_sessions=max_sessions,
                config=config,
                silent=silent,
                post_quantum=post_quantum,
            )
        self._initiator = Initiator(
            identity,
            self._indices,
            suite=suite,
            random_bytes=random_bytes,
            timestamp_ns=timestamp_ns,
            config=config,
            post_quantum=post_quantum,
        )
        self.gate = FloodGate(now)
        self._budget: MemoryBudget[Session] = MemoryBudget(memory_limit)
        self._timers: TimerHeap[Session | Negotiation] = TimerHeap()
        # Sessions that something happened to since the last `datagrams_to_send`.
        self.touched: dict[Session, None] = {}
        self._unsettled: list[tuple[Session, Outgoing]] = []  # and what of each leaves now
        self._due: list[Negotiation] = []  # may have an init to send
        self._replies: Outgoing = []
        self._accepted: deque[Accepted] = deque()
        self._blocked: dict[Address, dict[Session, None]] = {}  # until their pipe has room

    def allow_sessions(self, number: int) -> None:
        """How many sessions others may begin, those that are there among them."""
        if self._responder is not None:
            self._responder.max_sessions = number

    def set_identities(self, identities: Sequence[PrivateKey]) -> None:
        """As `Endpoint.set_identities`."""
        if not identities:
            raise ValueError("an endpoint needs an identity")
        if self._responder is not None:
            self._responder.set_identities(identities)

    @property
    def sessions(self) -> int:
        responding = 0 if self._responder is None else len(self._responder.sessions)
        return responding + len(self._initiator)

    @property
    def half_open(self) -> int:
        return 0 if self._responder is None else len(self._responder.half_open)

    def live_sessions(self) -> list[Session]:
        responding = [] if self._responder is None else list(self._responder.sessions.values())
        return responding + self._initiator.sessions

    def connect(self, peer: Peer, address: Address, now: float, give_up_at: float) -> Negotiation:
        """Start a session; ends in Connected, Refused or GaveUp. ValueError: impossible key."""
        return self._initiator.connect(peer, address, now, give_up_at)

    def abandon(self, negotiation: Negotiation) -> None:
        """Nobody wants that session any more; no event follows."""
        self._initiator.abandon(negotiation)
        self._timers.cancel(negotiation)

    def forget_credential(self, session: Session) -> None:
        """From now on a session that we initiated shows its key alone."""
        self._initiator.forget_credential(session)

    def expect(self, session: Session, key: PublicKey) -> None:
        """As `Channel.expect`."""
        self._initiator.expect(session, key)

    def seek(
        self,
        session: Session,
        addresses: Sequence[Address],
        now: float,
        *,
        elsewhere: bool = False,
    ) -> None:
        """A session that we initiated may be reached at other addresses: ask at all of them, and
        where it was unless it should go `elsewhere`.
        """
        self._initiator.seek(session, addresses, now, elsewhere=elsewhere)

    def touch(self, session: Session) -> None:
        """The program above gave `session` something to do. HOT PATH."""
        self.touched[session] = None

    def too_big(self, refused: Iterable[Refusal], sessions: Iterable[Session], now: float) -> None:
        """The local interface did not take what is `refused` of what leaves now. Those of
        `sessions` whose path that is learn of it.
        """
        total: Counter[tuple[Address, int]] = Counter()
        for address, size, datagrams, _ in refused:
            total[address, size] += datagrams
        leaving = dict(self._unsettled)
        for (address, size), left in total.items():
            for session in sessions:
                if session.paths.current != address:
                    continue
                mine = octets = 0
                for data, to, step in leaving.get(session, ()):
                    if to == address and size in (step, len(data) % step):  # the last is shorter
                        count = min(left - mine, -(-len(data) // step) if step == size else 1)
                        mine += count
                        octets += min(len(data), count * size)
                left -= mine
                try:
                    session.too_big(size, mine, octets, now)
                    self.touched[session] = None
                except Exception as error:
                    self.failed(session, error, now)
            if left and size == HYBRID_INIT_SIZE:
                asking = self._initiator.too_big(address, now)
                self._due += asking
                left = 0 if asking else left
            if left:
                self.drops["too_big"] += left

    def addresses(self) -> set[Address]:
        """Those that a session uses, or at which we ask for one."""
        used = {session.paths.current for session in self.live_sessions()}
        return used | self._initiator.addresses()

    def pipe_writable(self, address: Address) -> None:
        """There is room in a pipe again: sessions that waited for it go on."""
        for session in self._blocked.pop(address, ()):
            if session.blocked and not session.finished:
                session.unblock()
                self.touched[session] = None

    def pipe_closed(self, address: Address, now: float) -> None:
        """A pipe is gone, and what was in it with it: whoever used it needs another way."""
        self._blocked.pop(address, None)
        for session in self.live_sessions():
            if session.paths.current == address and session.ended is None:
                session.path_closed(now)
                self.touched[session] = None

    def obstructed(self, address: Address, now: float) -> None:
        """Whoever we have connected to at this address is said to be out of reach."""
        for session in self._initiator.sessions:
            if session.paths.current == address:
                session.doubt(now)
                self.touched[session] = None

    def hurry(self, negotiation: Negotiation, now: float) -> None:
        """Do not wait with its next init."""
        negotiation.hurry(now)
        self._due.append(negotiation)

    # --- Receiving ----------------------------------------------------------------------------

    def receive_datagrams(self, batch: Sequence[tuple[bytes, Address]], now: float) -> None:
        """Datagrams one by one, in order."""
        self.receive_trains(
            [(datagram, address, len(datagram)) for datagram, address in batch], now
        )

    def receive_trains(self, trains: Sequence[Train], now: float) -> None:
        """What the socket gave, in order, worked on at once."""
        for session, run, address in self.sort_trains(trains, now):
            self.receive_run(session, run, address, now)

    def receive_run(
        self, session: Session, trains: list[tuple[Bytes, int]], address: Address, now: float
    ) -> None:
        """Trains of one session from one address. HOT PATH."""
        try:
            session.receive_trains(trains, address, now)
            self.touched[session] = None
        except Exception as error:
            self.failed(session, error, now)

    def sort_trains(self, trains: Sequence[Train], now: float) -> Runs:
        """What the socket gave: handshakes are worked on, what is for sessions is given back, in
        order, for `receive_run`. HOT PATH.
        """
        owners = self._indices.owners
        runs: Runs = []
        run_session: Session | None = None
        run_address: Address = ()
        run: list[tuple[Bytes, int]] = []
        for data, address, size in trains:
            end = len(data)
            kind = data[0] if data else 0
            owner = owners.get(int.from_bytes(data[4:8], "little")) if kind in _SEALED else None
            if size < end:
                last = (end - 1) // size * size
                # The kernel joins what has one size and sender, whomever it is for. And it is
                # one datagram that confirms a handshake.
                if (
                    kind not in _SEALED
                    or data[4:8] != data[last + 4 : last + 8]
                    or end - last < SEALED_OVERHEAD
                    or isinstance(owner, HalfOpen)
                ):
                    junk = _TYPES.isdisjoint(data[::size])
                    if junk or size < RESET_SIZE:  # all of it, at once
                        count = -(-end // size)
                        self.received += count
                        self.drops["unknown_type" if junk else "malformed"] += count
                        continue
                    singly = [(datagram, address) for datagram in cut((data, address, size))]
                    runs += self.sort_trains(
                        [(each, whence, len(each)) for each, whence in singly], now
                    )
                    run_session = None
                    continue
                self.received += last // size
            self.received += 1
            if kind not in _SEALED:
                if kind not in _TYPES:
                    self.drops["unknown_type"] += 1
                    continue
                self._receive_handshake(kind, bytes(data), address, now)
                continue
            if size < SEALED_OVERHEAD:
                self.drops["malformed"] += 1
                continue
            if owner is run_session and address == run_address and owner is not None:
                run.append((data, size))
            elif isinstance(owner, Session):
                run, run_session, run_address = [(data, size)], owner, address
                runs.append((owner, run, address))
            elif isinstance(owner, HalfOpen):
                self._confirm(owner, bytes(data), address, now)
            else:
                self.drops["unknown_index"] += 1 + (end - 1) // size
                if owner is None and self._responder is not None:
                    self._answer_unknown(data, address, now)
        return runs

    def _answer_unknown(self, data: Bytes, address: Address, now: float) -> None:
        """A sealed datagram for a session that is over, or that was lost with our memory."""
        assert self._responder is not None
        index = int.from_bytes(data[4:8], "little")
        reset = self._responder.resets.answer(index, address, now)
        if reset is not None:
            self._replies.append((reset, address, len(reset)))

    def _receive_handshake(self, kind: int, datagram: bytes, address: Address, now: float) -> None:
        try:
            self._receive_handshake_untrusted(kind, datagram, address, now)
        except BadPacket as bad:
            self.drops[bad.reason] += 1
            if isinstance(bad, ReplyDue):
                self._replies += [(each, address, len(each)) for each in bad.replies]
        except Exception as error:
            owner = self._indices.owners.get(int.from_bytes(datagram[4:8], "little"))
            answers = (RESPONSE, RESPONSE_SLICE, COOKIE)
            if kind in answers and isinstance(owner, Negotiation):
                self._negotiation_failed(owner, error)
            else:
                self._record(error, None)

    def _receive_handshake_untrusted(
        self, kind: int, datagram: bytes, address: Address, now: float
    ) -> None:
        if kind in (INIT, INIT_SLICE):
            if not isinstance(address, PipeAddress):  # which the kernel cannot hold back
                self.gate.saw(proven=any(datagram[-MAC_BYTES:]), now=now)
            if self._responder is None:
                raise BadPacket("unexpected")
            if kind == INIT:
                response = self._responder.receive_init_untrusted(datagram, address, now)
            else:
                response = self._responder.receive_slice_untrusted(datagram, address, now)
            self._replies += [(each, address, len(each)) for each in response]
        elif kind == RESPONSE:
            index = decode_response_untrusted(datagram).receiver_index
            self._receive_response_untrusted(self._negotiation_untrusted(index), datagram, now)
        elif kind == RESPONSE_SLICE:
            index = decode_slice_untrusted(datagram).sender_index
            negotiation = self._negotiation_untrusted(index)
            whole = negotiation.receive_slice_untrusted(datagram, now)
            if whole is not None:
                self._receive_response_untrusted(negotiation, whole, now)
        elif kind == COOKIE:
            negotiation = self._negotiation_untrusted(decode_cookie_index_untrusted(datagram))
            negotiation.receive_cookie_untrusted(datagram, now)
            self._due.append(negotiation)
        else:
            self._due.append(self._initiator.receive_reset_untrusted(datagram, now))

    def _receive_response_untrusted(
        self, negotiation: Negotiation, datagram: bytes, now: float
    ) -> None:
        session = self._initiator.receive_response_untrusted(negotiation, datagram, now)
        if self._initiator.is_live(negotiation):  # it goes on
            self._due.append(negotiation)
            return
        self._timers.cancel(negotiation)
        if session is not None:
            self.touched[session] = None

    def _negotiation_untrusted(self, index: int) -> Negotiation:
        owner = self._indices.owners.get(index)
        if not isinstance(owner, Negotiation):
            raise BadPacket("unexpected")
        return owner

    def _confirm(self, entry: HalfOpen, datagram: bytes, address: Address, now: float) -> None:
        assert self._responder is not None
        try:
            session, accepted, replaced = self._responder.confirm(entry, datagram, address, now)
        except BadPacket as bad:
            self.drops[bad.reason] += 1
            return
        except Exception as error:
            owner = self._indices.owners.get(entry.pair.local_index)
            if owner is entry:
                self._responder.discard(entry)
            # Its new session, or the one that it renews or replaces.
            begun = owner if isinstance(owner, Session) else None
            begun = begun or self._responder.sessions.get(entry.peer.raw)
            if begun is None:
                self._record(error, None)
            else:
                self.failed(begun, error, now)
            return
        self.touched[session] = None
        if replaced is not None:
            self.touched[replaced] = None
        if accepted is not None:
            self._accepted.append(accepted)

    # --- Time and sending ---------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `handle_timeout` wants to be called, once all is settled. HOT PATH."""
        due = self._timers.next()
        if self._responder is not None:
            half_open = self._responder.half_open.deadline()
            if half_open is not None and (due is None or half_open < due):
                due = half_open
        if self.gate.shares != OPEN:
            gate = self.gate.deadline()
            due = gate if due is None else min(due, gate)
        return due

    def handle_timeout(self, now: float) -> None:
        self.gate.handle_timeout(now)
        if self._responder is not None:
            self._responder.expire(now)
        for timed in self._timers.due(now):
            if isinstance(timed, Session):
                try:
                    timed.handle_timeout(now)
                    self.touched[timed] = None
                except Exception as error:
                    self.failed(timed, error, now)
            elif not self._initiator.is_live(timed):
                pass  # its session has ended meanwhile
            elif now >= timed.give_up_at:
                self._initiator.give_up(timed)
            else:
                self._due.append(timed)

    def datagrams_to_send(self, now: float, only: Session | None = None) -> Outgoing:
        """Everything that has to leave now, in trains; of sessions, that of `only`, if there is
        one. When it has left, `settle`. HOT PATH.
        """
        if self._unsettled:
            self.settle(now)
        out, self._replies = self._replies, []
        touched = self.touched
        if only is not None:
            touched.pop(only, None)
            touched = {only: None}
        while touched:
            session, _ = touched.popitem()
            try:
                trains = session.datagrams_to_send(now)
            except Exception as error:
                self.failed(session, error, now)
                continue
            if trains:
                out += trains
            self._unsettled.append((session, trains))
        if self._initiator.started:
            self._due += self._initiator.started
            self._initiator.started.clear()
        while self._due:
            negotiation = self._due.pop()
            if self._initiator.is_live(negotiation):
                try:
                    datagrams = negotiation.datagrams_to_send(now)
                    self._timers.schedule(negotiation)
                except Exception as error:
                    self._negotiation_failed(negotiation, error)
                    continue
                out += [(each, negotiation.address, len(each)) for each in datagrams]
        if self._replies:  # the last words of sessions that have failed just now
            out += self._replies
            self._replies = []
        return out

    def settle(self, now: float) -> bool:
        """Bring tables and timers in line with what the sessions have become that were touched; no
        datagram waits for that. True if there is more to send. HOT PATH.
        """
        budget, responder = self._budget, self._responder
        unsettled, self._unsettled = self._unsettled, []
        for session, sent in unsettled:
            try:
                ending, bulk = session.ending, session.bulk
                if ending.finished:
                    self._forget(session)
                    continue
                if bulk.unlearned is not None:
                    bulk.learn()
                    if bulk.flush_due:
                        self.touched[session] = None
                if session.blocked:
                    self._await_room(session)
                if session.initiator and session.wants_handshake(now):
                    self._initiator.rekey(session, now)
                due = self._timers.schedule(session)
                if due <= now and not sent and session.prompted != now:
                    # What need not be waited for, nor be waited for by what has just left: an
                    # acknowledgement. Once, and if it is still due, the timer's.
                    session.prompted = now
                    session.handle_timeout(now)
                    self.touched[session] = None
                held = 0  # after the end: what can still be read is the program's
                if ending.ended is None:
                    held = session.lanes.held + session.reassembly.held + session.held_above
                else:
                    session.reassembly.clear()
                budget.account(session, held)
                if budget.total > budget.full_above:
                    self._relieve(now)
                if session.keys.retired:
                    self._release(session)
            except Exception as error:
                self.failed(session, error, now)
        if responder is not None:
            responder.tight = budget.total > budget.tight_above
        return bool(self.touched or self._replies or self._initiator.started or self._due)

    def _await_room(self, session: Session) -> None:
        """What it has waits for room in its pipe: by now there may be some."""
        address = session.paths.current
        if not isinstance(address, PipeAddress) or address.room(session.bulk.pace) > 0:
            session.unblock()
            self.touched[session] = None
        elif not address.closed:
            self._blocked.setdefault(address, {})[session] = None

    def _release(self, session: Session) -> None:
        for index in session.keys.retired:
            self._indices.release(index)
        session.keys.retired.clear()

    def _forget(self, session: Session) -> None:
        session.keys.retire_all()
        self._release(session)
        session.reassembly.clear()
        self._timers.cancel(session)
        self._initiator.forget(session)
        self._budget.account(session, 0)
        if self._responder is not None:
            self._responder.forget(session)
            self._responder.tight = self._budget.total > self._budget.tight_above

    # --- Bulkheads ----------------------------------------------------------------------------

    def close(
        self, session: Session, code: int, reason: str, now: float, *, keep: bool = False
    ) -> None:
        """End a session, and tell its peer. `keep`: what has arrived can still be read."""
        try:
            session.close(code, reason, now)
            if not keep:
                session.throw_away()
            self.touched[session] = None
        except Exception as error:
            self.failed(session, error, now)

    def failed(self, session: Session, error: Exception, now: float) -> None:
        """Something of `session`, here or in the program above, has raised: it is over, at once."""
        if not session.finished:
            reason = f"internal error, reference {self._record(error, session)}"
            with suppress(Exception):  # the peer is told if that much still works
                self._replies += session.abandon(CloseCode.SHUTDOWN, reason, now)
            with suppress(Exception):
                session.throw_away()
        self.touched.pop(session, None)
        self._unsettled = [each for each in self._unsettled if each[0] is not session]
        self._forget(session)

    def _negotiation_failed(self, negotiation: Negotiation, error: Exception) -> None:
        self._record(error, None)
        self._timers.cancel(negotiation)
        if self._initiator.is_live(negotiation):
            self._initiator.give_up(negotiation)

    def _record(self, error: Exception, session: Session | None) -> str:
        self.drops["core_failed"] += 1
        reference = self._random(4).hex()
        self.failures.append(Failure(reference, error, session))
        return reference

    def _relieve(self, now: float) -> None:
        """End the session that holds most: it neither reads nor acknowledges."""
        victim = self._budget.largest()
        self.drops["memory"] += 1
        self._budget.account(victim, 0)
        self.close(victim, CloseCode.SHUTDOWN, "held too much memory", now)

    def next_event(self) -> DemuxEvent | None:
        if self._accepted:
            return self._accepted.popleft()
        return self._initiator.events.popleft() if self._initiator.events else None
