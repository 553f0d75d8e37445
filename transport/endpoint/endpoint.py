"""One socket and all its sessions, run by two tasks: one receives, one keeps the deadlines.

    async with open_endpoint(open_udp(port=7450), identity, authority=authority) as endpoint:
        await endpoint.serve(handler)                      # a task for each channel
        channel = await endpoint.connect(Peer(key), addresses)

Everything between a wake-up and the next wait is plain calls: drain a bounded batch, let the
core work, wake the channels that something happened to, send what has to leave.

Leaving the context closes all sessions, tells the peers (three times, within 0.2 s) and closes
the socket. Error contract: what comes from the network never raises here. A handler's exception
ends its own channel, as one of a session's core does: it is logged with a traceback and a
reference, which the peer is told.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from transport.congestion.choice import DEFAULT_CONFIG, TransportConfig
from transport.constants import (
    ACCEPT_BACKLOG,
    CLOSE_REPEATS,
    MAX_SESSIONS,
    PIPE_UNUSED,
    RECEIVE_BATCH,
)
from transport.crypto.identity import PrivateKey, PublicKey
from transport.crypto.kem import PostQuantum, usable_post_quantum
from transport.crypto.noise import preferred_suite
from transport.endpoint.channel import Channel, ChannelBroken
from transport.endpoint.connecting import Attempts
from transport.endpoint.demux import Demux, Runs
from transport.endpoint.fairness import READS_WHEN_BEHIND, TURN, FairQueue
from transport.endpoint.pipes import Pipe, Pipes
from transport.endpoint.udp import DatagramSocket, format_address
from transport.handshake.admission import Authority
from transport.handshake.floodgate import OPEN
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import Peer
from transport.handshake.responder import Accepted
from transport.ratelimit import TokenBucket
from transport.session.events import PathChanged, Silent
from transport.session.session import Session
from transport.stats import EndpointStatistics
from transport.wire.control import CloseCode
from transport.wire.datagrams import Credential, Suite
from transport.wire.trains import Address, Bytes, Train

# Tracebacks in the log, a second and at once: whoever can cause one may do so again and again.
FAILURE_LINES: Final = 0.2
FAILURE_LINE_BURST: Final = 10.0

# To move Trio's deadline costs two microseconds, a needless wake-up at least ten times as much. In
# a stream it moves a little with each turn, so for less than this it stays.
LATE: Final = 0.0005  # seconds; half of the shortest delay of an acknowledgement

logger = logging.getLogger("transport.endpoint.endpoint")


class Endpoint:
    """All sessions behind one socket. Made by `open_endpoint`."""

    def __init__(self, sock: DatagramSocket, demux: Demux) -> None:
        self._sock = sock
        self._demux = demux
        self._clock = trio.lowlevel.current_clock().current_time  # as trio's, in fewer steps
        self._channels: dict[Session, Channel] = {}
        self._attempts = Attempts(demux)
        self._accept_send, self._accept_receive = trio.open_memory_channel[Channel](ACCEPT_BACKLOG)
        self._timer_scope = trio.CancelScope()
        self._due = math.inf  # its deadline
        self._shares = OPEN  # of the inits that the socket lets in
        self._sent = 0
        self._failure_lines = TokenBucket(FAILURE_LINES, FAILURE_LINE_BURST, self._clock())
        self._serving = False
        self._receiving = False  # what channels send meanwhile leaves at the end of the turn
        self._turn = 0.0  # when this turn began
        self._waiting = FairQueue()  # what was received and has to wait for others
        self._pipes = Pipes()
        self._piped = trio.Event()  # there has been one

    @property
    def local_address(self) -> Address:
        return self._sock.local_address

    def allow_sessions(self, number: int) -> None:
        """How many sessions there may be from now on. Those that are there stay."""
        self._demux.allow_sessions(number)

    def set_identities(self, identities: Sequence[PrivateKey]) -> None:
        """Who we are from now on to those that connect, the newest identity first; each init is
        for one of them. Sessions go on, whatever identity they were made with (`Channel.identity`);
        handshakes for one that is no more are met with silence. What we initiate ourselves goes on
        with the identity that the endpoint was opened with.
        """
        self._demux.set_identities(identities)

    def statistics(self) -> EndpointStatistics:
        return EndpointStatistics(
            sessions=self._demux.sessions,
            half_open=self._demux.half_open,
            received_datagrams=self._demux.received,
            sent_datagrams=self._sent,
            drops=dict(Counter(self._demux.drops) + self._sock.drops),
        )

    # --- Sessions -----------------------------------------------------------------------------

    async def connect(
        self, peer: Peer, addresses: Sequence[Address], *, patience: float = 10.0
    ) -> Channel:
        """A channel to `peer`, from the first of `addresses` that answers.

        All are tried side by side, so a family that leads nowhere costs little time; each a moment
        after the one before, so that of many good ones the first is taken, and at once where the
        one before is out of reach. Raises `HandshakeRefused`, `HandshakeTimeout` after `patience`
        seconds or (`PeerUnreachable`) when all are out of reach, and ValueError for a public key
        that nobody can own.
        """
        attempt = self._attempts.begin(peer, addresses, self.now(), patience)
        try:
            self.pump()
            await attempt.over.wait()
        except BaseException:
            if isinstance(attempt.outcome, Connected):  # cancelled, and answered just now
                self.close(attempt.outcome.session, CloseCode.NORMAL, "")
            raise
        finally:
            self._attempts.end(attempt)
        return self._channel(attempt.result(patience), peer.credential)

    async def serve(
        self,
        handler: Callable[[Channel], Awaitable[object]],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run `handler(channel)` in a task of its own for each peer that connects; for ever."""
        async with trio.open_nursery() as nursery:
            self._serving = True
            task_status.started()
            try:
                async for channel in self._accept_receive:
                    nursery.start_soon(_handle, handler, channel)
            finally:
                self._serving = False

    def _channel(self, session: Session, credential: Credential) -> Channel:
        channel = Channel(self, session, credential)
        if session.ended is None:  # else nobody would take it out again
            self._channels[session] = channel
        return channel

    # --- What channels ask for ----------------------------------------------------------------

    def now(self) -> float:
        """Seconds on Trio's clock; one moment for a whole turn of receiving. HOT PATH."""
        return self._turn if self._receiving else self._clock()

    def transmit(self, session: Session) -> None:
        """Send what `session` has. HOT PATH."""
        self._demux.touch(session)
        if not self._receiving:
            self.pump()

    def close(self, session: Session, code: int, reason: str) -> None:
        """End `session` and tell its peer."""
        self._demux.close(session, code, reason, self.now())
        if not self._receiving:
            self.pump()

    def failed(self, session: Session, error: Exception) -> None:
        """What the program does with `session` has raised, so it is over."""
        self._demux.failed(session, error, self.now())
        if not self._receiving:
            self.pump()

    def rebind(self) -> None:
        """Interfaces may have come and gone."""
        self._sock.rebind()

    def seek(
        self, session: Session, addresses: Sequence[Address], *, elsewhere: bool = False
    ) -> None:
        self._demux.seek(session, addresses, self.now(), elsewhere=elsewhere)
        if not self._receiving:
            self.pump()

    def forget_credential(self, session: Session) -> None:
        self._demux.forget_credential(session)

    def expect(self, session: Session, key: PublicKey) -> None:
        self._demux.expect(session, key)

    # --- Pipes --------------------------------------------------------------------------------

    def add_pipe(self, pipe: Pipe) -> Address:
        """The address that this pipe has from now on: to connect to, to seek, and where what comes
        from its other end comes from. It is let go of (`Pipe.abort`) at the endpoint's end, and
        when no session or handshake has used it for `PIPE_UNUSED` seconds or twice that.
        """
        address = self._pipes.add(pipe)
        self._piped.set()
        return address

    def pipe_received(self, address: Address, datagrams: Sequence[Bytes]) -> bool:
        """A pipe has brought these, in order: whether any was of a session that is on it. Nothing
        of a pipe waits for the turn of its session or is dropped for want of one, as it would not
        come again: its reader has its own turns, and is to hold back what is of no session.
        """
        if address not in self._pipes:
            return False
        demux, now = self._demux, self._clock()
        self._turn = now
        trains = [(each, address, len(each)) for each in datagrams if each]
        for run in demux.sort_trains(trains, now):
            demux.receive_run(*run, now)
        used = False
        for session in demux.touched:
            if session.paths.current == address:
                used = True
        self._deliver(demux.touched)
        self.pump()
        return used

    def pipe_writable(self, address: Address) -> None:
        """Its backlog has fallen below `PIPE_BACKLOG`."""
        self._demux.pipe_writable(address)
        self.pump()

    def close_pipe(self, address: Address) -> None:
        """It is broken, or over: sessions on it look for another way. Idempotent."""
        if self._pipes.remove(address) is not None:
            now = self.now()
            self._demux.pipe_closed(address, now)
            self._attempts.obstruct(address, f"{format_address(address)} is closed", now, shut=True)
            self.pump()

    async def pipes_task(self) -> None:
        """Let go of pipes that nobody uses; sleeps while there has been none."""
        await self._piped.wait()
        while True:
            await trio.sleep(PIPE_UNUSED)
            for pipe in self._pipes.sweep(self._demux.addresses() if self._pipes else ()):
                pipe.abort()

    def abort_pipes(self) -> None:
        """The endpoint is over."""
        self._pipes.abort()

    # --- The engine ---------------------------------------------------------------------------

    def pump(self) -> None:
        """After anything happened: events, datagrams, wake-ups, the timer. HOT PATH."""
        demux, now = self._demux, self.now()
        while (event := demux.next_event()) is not None:
            self._take(event)
        touched = list(demux.touched)
        if self._waiting.total:
            self._send_charged(touched, now)
        more = True
        while more:  # again for probes of other sizes, and what settling has begun
            trains = demux.datagrams_to_send(now)
            if trains:
                self._send(trains, now)
            more = demux.settle(now)
        for session in touched:  # last, since sending ends a session whose keys are used up
            channel = self._channels.get(session)
            try:
                if channel is not None:
                    channel.update()
                while session.events:
                    self._report(session, session.next_event())
            except Exception as error:
                demux.failed(session, error, now)
        if demux.gate.shares != self._shares:
            self._shares = demux.gate.shares
            self._sock.limit_inits(self._shares)
        due = demux.deadline()
        due = math.inf if due is None else due
        if not self._due <= due <= self._due + LATE:
            self._timer_scope.deadline = self._due = due
        if demux.failures:
            self._mourn(now)
            self.pump()  # their last words

    def _send_charged(self, sessions: Iterable[Session], now: float) -> None:
        """Send what they have while others wait for their turn: that is of their time, too."""
        demux, before = self._demux, self._clock()
        for session in sessions:
            trains = demux.datagrams_to_send(now, session)
            if trains:
                self._send(trains, now)
            demux.settle(now)
            after = self._clock()
            self._waiting.spend(session, after - before)
            before = after

    def _send(self, trains: list[Train], now: float) -> None:
        sock = self._sock
        self._sent += len(trains)
        for data, _, size in trains:
            if len(data) > size:
                self._sent += (len(data) - 1) // size
        if self._pipes:
            trains, lost = self._pipes.send(trains)
            if lost:
                self._sent -= lost
                self._demux.drops["pipe_closed"] += lost
        sock.send_nowait(trains)
        if sock.refused:
            self._heed(now)

    def _heed(self, now: float) -> None:
        """Some of what was sent is too big for the interface, or on the way to nowhere."""
        demux, refused = self._demux, list(self._sock.refused)
        self._sock.refused.clear()
        self._sent -= sum([datagrams for _, _, datagrams, _ in refused])
        too_big = [each for each in refused if not each[-1]]
        if too_big:
            demux.too_big(too_big, demux.live_sessions(), now)
        for address, _, datagrams, why in refused:
            if why:
                demux.obstructed(address, now)
                self._attempts.obstruct(address, why, now, shut=bool(datagrams))

    def _mourn(self, now: float) -> None:
        """Something of ours has failed: say so, and let go of the sessions that it cost."""
        for failure in self._demux.failures:
            session = failure.session
            if self._failure_lines.allow(now):
                logger.error(
                    "core-failed reference=%s key=%s",
                    failure.reference,
                    "-" if session is None else session.peer.fingerprint(),
                    exc_info=failure.error,
                )
            channel = None if session is None else self._channels.pop(session, None)
            if channel is not None:
                channel.update()
        self._demux.failures.clear()

    def _take(self, event: Accepted | Connected | Refused | GaveUp) -> None:
        if isinstance(event, Accepted):
            session = event.session
            try:
                if not self._serving:
                    raise trio.WouldBlock
                self._accept_send.send_nowait(self._channel(session, event.credential))
            except trio.WouldBlock:
                self._channels.pop(session, None)
                self._demux.close(session, CloseCode.SHUTDOWN, "not accepting now", self.now())
        else:
            self._attempts.take(event)

    def _report(self, session: Session, change: object) -> None:
        peer = session.peer.fingerprint()
        if isinstance(change, PathChanged):
            logger.info("path-changed key=%s via=%s", peer, format_address(change.address))
        elif isinstance(change, Silent) and session in self._channels:
            self._channels[session].doubt()
        if session.ended is not None:
            self._channels.pop(session, None)

    async def receive_task(self) -> None:
        """Drain, work, send; one checkpoint a batch."""
        sock, demux, waiting = self._sock, self._demux, self._waiting
        while True:
            if waiting.total:
                await trio.lowlevel.checkpoint()
            else:
                await sock.wait_readable()
            trains = sock.receive_nowait(RECEIVE_BATCH)
            if trains or waiting.total:
                self._turn = self._clock()
                runs = demux.sort_trains(trains, self._turn)
                if waiting.total or not sock.drained:
                    self._share(runs)
                else:  # all that had come is at hand: there is time for everybody
                    for run in runs:
                        demux.receive_run(*run, self._turn)
                    self._deliver(demux.touched)
                self.pump()
            elif sock.refused:
                self._heed(self.now())
                self.pump()

    def _share(self, runs: Runs) -> None:
        """Work on what waits, in the order of who has used the least time, for a turn."""
        sock, demux, waiting, now = self._sock, self._demux, self._waiting, self._turn
        behind = bool(waiting)
        if behind:  # what nobody reads now, the kernel drops, whosever it is
            self._queue(runs, keep=True)
            for _ in range(READS_WHEN_BEHIND):
                if sock.drained:
                    break
                trains = sock.receive_nowait(RECEIVE_BATCH)
                self._queue(demux.sort_trains(trains, now), keep=True)
        else:
            self._queue(runs)
        others = dict.fromkeys(demux.touched)  # in order, so that a seed decides a whole run
        begun = before = self._clock()
        while waiting and before - begun <= TURN:
            session, (run, address) = waiting.pop()
            others.pop(session, None)
            if not session.finished:  # it may have ended while this waited
                demux.receive_run(session, run, address, now)
                self._deliver((session,))
            after = self._clock()
            waiting.charge(session, after - before)
            before = after
        if not behind:
            waiting.keep()
        self._deliver(others)

    def _queue(self, runs: Runs, *, keep: bool = False) -> None:
        """Sort into the fair queue. `keep`: the socket is read again before they are worked on."""
        for session, trains, address in runs:
            for data, size in trains:
                train = (bytes(data), size) if keep else (data, size)
                if not self._waiting.add(session, train, address):
                    self._demux.drops["cpu_share"] += -(-len(data) // size)

    def _deliver(self, sessions: Iterable[Session]) -> None:
        """Let the channels that something came in for handle it, before anything leaves: answers
        go along with acknowledgements. HOT PATH.
        """
        channels = self._channels
        self._receiving = True
        try:
            for session in list(sessions):
                channel = channels.get(session)
                if channel is not None:
                    try:
                        channel.deliver()
                    except Exception as error:
                        self._demux.failed(session, error, self._turn)
        finally:
            self._receiving = False

    async def timer_task(self) -> None:
        """Sleep until the earliest deadline; `pump` moves it, so that one which has become later
        wakes nobody.
        """
        while True:
            due = self._demux.deadline()
            self._due = math.inf if due is None else due
            self._timer_scope = trio.CancelScope(deadline=self._due)
            with self._timer_scope:
                await trio.sleep_forever()
            self._demux.handle_timeout(self.now())
            self.pump()

    async def shut_down(self) -> None:
        """Tell every peer, more than once; there is nobody to hear an answer."""
        now = self.now()
        for session in self._demux.live_sessions():
            self._demux.close(session, CloseCode.SHUTDOWN, "shutting down", now, keep=True)
        if self._demux.sessions:
            self.pump()
            # By ourselves: the timer task has been cancelled, when the whole program was.
            for delay in CLOSE_REPEATS[1:]:
                await trio.sleep(max(0, now + delay - self.now()))
                self._demux.handle_timeout(self.now())
                self.pump()


async def _handle(handler: Callable[[Channel], Awaitable[object]], channel: Channel) -> None:
    try:
        await handler(channel)
        channel.close()
    except ChannelBroken:
        channel.close()
    except Exception as error:
        channel.abort(error)
    except BaseException:
        channel.close(CloseCode.SHUTDOWN, "shutting down")
        raise


def _leaves(error: BaseException) -> set[int]:
    if isinstance(error, BaseExceptionGroup):
        return set().union(*map(_leaves, error.exceptions))
    return {id(error)}


def _timestamp_ns() -> int:
    """The wall clock, whatever it says, as an init can carry it."""
    return min(max(time.time_ns(), 0), (1 << 64) - 1)


@asynccontextmanager
async def open_endpoint(
    sock: DatagramSocket,
    identity: PrivateKey,
    *,
    authority: Authority | None = None,
    suite: Suite | None = None,
    max_sessions: int = MAX_SESSIONS,
    silent: bool = False,
    config: TransportConfig = DEFAULT_CONFIG,
    post_quantum: PostQuantum = PostQuantum.AUTO,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    timestamp_ns: Callable[[], int] = _timestamp_ns,
) -> AsyncIterator[Endpoint]:
    """Run an endpoint on `sock`, which it owns from now on.

    `authority` decides who may connect; without one the endpoint only connects. `suite`: what
    this side initiates with, by default AES-GCM where the processor has instructions for it.
    `silent`: peers of sessions that were lost in a restart are not told, and find out by silence.
    `config`: what all its sessions do alike, such as their congestion control. `post_quantum`:
    whether handshakes are hybrid, with ML-KEM-768 beside X25519; `TransportError` where that is
    required and cannot be had.
    """
    demux = Demux(
        identity,
        authority=authority,
        now=trio.current_time(),
        random_bytes=random_bytes,
        timestamp_ns=timestamp_ns,
        suite=preferred_suite() if suite is None else suite,
        max_sessions=max_sessions,
        silent=silent,
        config=config,
        post_quantum=usable_post_quantum(post_quantum),
    )
    endpoint = Endpoint(sock, demux)
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(endpoint.receive_task)
            nursery.start_soon(endpoint.timer_task)
            nursery.start_soon(endpoint.pipes_task)
            try:
                yield endpoint
            except BaseException as error:
                body_error = error
                raise
            finally:
                with trio.CancelScope(shield=True):
                    await endpoint.shut_down()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The endpoint's own tasks raise nothing, so the body's error comes out as it is. Trio may
        # have made a new group of one that was a group, with the same exceptions in it.
        if body_error is None or _leaves(group) != _leaves(body_error):
            raise
    finally:
        endpoint.abort_pipes()
        sock.close()
    if body_error is not None:
        try:
            raise body_error
        finally:
            del body_error  # or its traceback and this frame would keep each other alive
