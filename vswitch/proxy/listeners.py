"""Takes what comes to listening sockets: connections in a task each, and datagrams in associations.

Invariants: a fault in one connection or association ends that one, and is logged with its
traceback; neither are there more than their limit, and each ends when nothing has passed for its
idle time. A connection too many is reset at once. A UDP client too many takes the place of the
oldest one that has not sent again since it was answered, as in conntrack: source addresses are
easily forged, and one datagram of each must keep nobody out. Where there is none, it is dropped.

Error contract: `VswitchError` of a network that is not there any more; nothing else.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

import trio
from attrs import define, field

from vswitch.errors import VswitchError
from vswitch.foreign.sockets import answering, enlarge
from vswitch.logs import event
from vswitch.proxy.counts import Counts, Gate
from vswitch.proxy.relay import End, IdleLimit, Silence, of_socket, relay, reset
from vswitch.proxy.sides import CannotConnect

MAX_DATAGRAM: Final = 65535  # bytes
BATCH: Final = 32  # datagrams that are moved in a row
QUEUE: Final = 64  # datagrams of one client that wait for its association to begin
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ANCILLARY: Final = 128  # bytes: room for in_pktinfo or in6_pktinfo
_PAUSE: Final = 0.1  # seconds until more descriptors or memory may be there
_TOLD: Final = 60.0  # seconds between two lines of log about it

log = logging.getLogger(__name__)


@define
class Limits:
    """Of all listeners that share it; times are in seconds, infinite for none."""

    connections: Gate
    associations: Gate
    idle: IdleLimit = field(converter=IdleLimit)  # of a connection
    udp_idle: IdleLimit = field(converter=IdleLimit)  # of an association
    unproven: dict[_Flow, None] = field(factory=dict, init=False)  # associations, oldest first


Dial = Callable[[], Awaitable[trio.SocketStream]]
DialDatagrams = Callable[[], AbstractAsyncContextManager[trio.socket.SocketType]]


@asynccontextmanager
async def contained(counts: Counts, leave: Callable[[], None]) -> AsyncIterator[None]:
    """Around one connection or association, which was let in at the gate: its bulkhead."""
    counts.open += 1
    counts.total += 1
    try:
        yield
    except CannotConnect as error:
        counts.failed[error.reason] += 1
        event(log, "proxy-failed", logging.DEBUG, listen=counts.listen, reason=error.reason)
    except VswitchError:
        raise
    except Exception as fault:
        counts.failed["fault"] += 1
        event(log, "proxy-fault", logging.ERROR, listen=counts.listen, exc_info=fault)
    finally:
        counts.open -= 1
        leave()


class _Shortage:
    """The kernel has no more descriptors, or memory: told once a minute while it lasts."""

    def __init__(self) -> None:
        self._told = -_TOLD

    async def over(self, error: OSError) -> None:
        """Wait until it may be over."""
        if trio.current_time() - self._told >= _TOLD:
            self._told = trio.current_time()
            event(log, "proxy-short", logging.WARNING, reason=error.strerror)
        await trio.sleep(_PAUSE)


async def serve_streams(
    listener: trio.socket.SocketType,
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    limits: Limits,
    counts: Counts,
) -> NoReturn:
    """Give each connection to a task that handles it."""
    gate, unix = limits.connections, listener.family == socket.AF_UNIX

    async def run(stream: trio.SocketStream, client: str) -> None:
        async with contained(counts, partial(gate.leave, client)):
            async with stream:
                await handle(stream)

    shortage = _Shortage()
    async with trio.open_nursery() as nursery:
        while True:
            try:
                sock, address = await listener.accept()
            except OSError as error:
                # What the peer did to its connection meanwhile is told here, too: accept(2).
                if error.errno in _SHORT:
                    await shortage.over(error)
                continue
            stream, client = of_socket(sock), "" if unix else address[0]
            if (reason := gate.enter(client)) is None:
                nursery.start_soon(run, stream, client)
            else:
                counts.failed[reason] += 1
                reset(stream)
                await trio.aclose_forcefully(stream)


async def carry(
    near: trio.SocketStream, dial: Dial, limits: Limits, counts: Counts, early: bytes = b""
) -> None:
    """Connect, and relay; whoever cannot be connected sees a reset."""
    try:
        far = await dial()
    except BaseException:
        reset(near)
        raise
    await pass_on(near, far, limits, counts, early)


async def pass_on(
    near: trio.SocketStream,
    far: trio.SocketStream,
    limits: Limits,
    counts: Counts,
    early: bytes = b"",
) -> None:
    """Relay until the end, and count what is none."""
    end = await relay(near, far, counts.traffic, idle=limits.idle, early=early)
    if end is not End.DONE:
        counts.failed[end.value] += 1


async def serve_datagrams(
    listener: trio.socket.SocketType, dial: DialDatagrams, limits: Limits, counts: Counts
) -> NoReturn:
    """Give each client, by its address, a socket to the target of its own. The listener is taken
    over, and closed at the end.
    """
    gate, flows, unproven = limits.associations, dict[_Client, _Flow](), limits.unproven

    async def run(client: _Client, flow: _Flow) -> None:
        async with contained(counts, flow.leave):
            try:
                with flow.scope:
                    async with dial() as far:
                        await flow.run(_taken_over(far), limits.udp_idle)
            finally:
                del flows[client]

    def enter(client: str) -> str | None:
        reason = gate.enter(client)
        if reason == "full" and unproven:
            next(iter(unproven)).give_way()
            reason = gate.enter(client)
        return reason

    shortage = _Shortage()
    with _taken_over(listener) as sock:
        inbox = _Inbox(sock)
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(sock)
                for _ in range(BATCH):
                    try:
                        data, client = inbox.receive()
                    except BlockingIOError:
                        break
                    except OSError as error:
                        await shortage.over(error)
                        break
                    flow = flows.get(client)
                    if flow is None:
                        if (reason := enter(client.address[0])) is not None:
                            counts.drops[reason] += 1
                            continue
                        flow = flows[client] = _Flow(inbox, client, counts, limits)
                        nursery.start_soon(run, client, flow)
                    flow.up(data)


def _taken_over(sock: trio.socket.SocketType) -> socket.socket:
    """The same without Trio around each datagram: what can be moved at once is, or is dropped."""
    taken = socket.socket(fileno=sock.detach())
    taken.setblocking(False)
    enlarge(taken)
    return taken


class _Client(NamedTuple):
    """Where datagrams come from, and which of our addresses they were for, as ancillary data."""

    address: Any
    asked: tuple[tuple[int, int, bytes], ...]


class _Inbox:
    """A UDP socket of `Side.listen` that answers from the address that was asked, also where it is
    at all of them: a host with several would choose by its routes, and the client not know it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._everywhere = sock.getsockname()[0] in ("0.0.0.0", "::")

    def receive(self) -> tuple[bytes, _Client]:
        """The next datagram; raises `OSError`."""
        if not self._everywhere:
            data, address = self._sock.recvfrom(MAX_DATAGRAM)
            return data, _Client(address, ())
        data, said, _, address = self._sock.recvmsg(MAX_DATAGRAM, _ANCILLARY)
        return data, _Client(address, tuple(answering(said)))

    def answer(self, data: bytes, client: _Client) -> None:
        """Raises `OSError`."""
        if client.asked:
            self._sock.sendmsg([data], client.asked, 0, client.address)
        else:
            self._sock.sendto(data, client.address)


class _Flow:
    """One association: a client, and a socket to the target once there is one."""

    def __init__(self, inbox: _Inbox, client: _Client, counts: Counts, limits: Limits) -> None:
        self.scope = trio.CancelScope()
        self._inbox = inbox
        self._client = client
        self._counts = counts
        self._limits = limits
        self._waiting: list[bytes] = []
        self._sock: socket.socket | None = None
        self._answered = self._proven = self._left = False
        limits.unproven[self] = None

    def give_way(self) -> None:
        """End it, for another one in its place at once."""
        self._counts.failed["gave_way"] += 1
        self.scope.cancel()
        self.leave()

    def leave(self) -> None:
        """Give its place at the gate back, once."""
        if not self._left:
            self._left = True
            self._limits.unproven.pop(self, None)
            self._limits.associations.leave(self._client.address[0])

    def up(self, data: bytes) -> None:
        """Send it to the target, or keep it until that can be done."""
        if self._sock is None:
            if len(self._waiting) < QUEUE:
                self._waiting.append(data)
            else:
                self._counts.drops["queue_full"] += 1
            return
        self._silence.broken()
        if self._answered and not self._proven:
            self._proven = True
            self._limits.unproven.pop(self, None)
        try:
            self._sock.send(data)
        except OSError:  # of this one or, by ICMP, of one before
            self._counts.drops["send_failed"] += 1
        else:
            self._counts.traffic.up += len(data)

    async def run(self, sock: socket.socket, idle: IdleLimit) -> None:
        """Until nothing has passed for as long as `idle` says."""
        self._silence = Silence(idle)
        with sock:
            self._sock = sock
            for data in self._waiting:
                self.up(data)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._down, sock)
                await self._silence.reached()
                nursery.cancel_scope.cancel()

    async def _down(self, sock: socket.socket) -> NoReturn:
        drops, traffic = self._counts.drops, self._counts.traffic
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(BATCH):
                try:
                    data = sock.recv(MAX_DATAGRAM)
                except BlockingIOError:
                    break
                except OSError:
                    drops["refused"] += 1
                    continue
                self._silence.broken()
                try:
                    self._inbox.answer(data, self._client)
                except OSError:
                    drops["send_failed"] += 1
                else:
                    self._answered = True
                    traffic.down += len(data)
