"""Takes what comes to listening sockets: connections in a task each, and datagrams in associations.

Invariants: a fault in one connection or association ends that one, and is logged with its
traceback; neither are there more than their limit, and each ends when nothing has passed for its
idle time. A connection too many is reset at once, a datagram of a client too many is dropped.

Error contract: `VswitchError` of a network that is not there any more; nothing else.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, NamedTuple, NoReturn

import trio
from attrs import define

from vswitch.errors import VswitchError
from vswitch.foreign.sockets import answering
from vswitch.logs import event
from vswitch.proxy.counts import Counts, Gate
from vswitch.proxy.relay import End, Silence, of_socket, relay, reset
from vswitch.proxy.sides import CannotConnect

MAX_DATAGRAM: Final = 65535  # bytes
QUEUE: Final = 64  # datagrams of one client that wait for its association to begin
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ANCILLARY: Final = 128  # bytes: room for in_pktinfo or in6_pktinfo
_PAUSE: Final = 0.1  # seconds until more descriptors or memory may be there

log = logging.getLogger(__name__)


@define
class Limits:
    """Of all listeners that share it; times are in seconds, infinite for none."""

    connections: Gate
    associations: Gate
    idle: float  # of a connection
    udp_idle: float  # of an association


Dial = Callable[[], Awaitable[trio.SocketStream]]
DialDatagrams = Callable[[], AbstractAsyncContextManager[trio.socket.SocketType]]


@asynccontextmanager
async def contained(counts: Counts, gate: Gate, client: str) -> AsyncIterator[None]:
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
        gate.leave(client)


async def serve_streams(
    listener: trio.socket.SocketType,
    handle: Callable[[trio.SocketStream], Awaitable[None]],
    limits: Limits,
    counts: Counts,
) -> NoReturn:
    """Give each connection to a task that handles it."""
    gate, unix = limits.connections, listener.family == socket.AF_UNIX

    async def run(stream: trio.SocketStream, client: str) -> None:
        async with contained(counts, gate, client):
            async with stream:
                await handle(stream)

    async with trio.open_nursery() as nursery:
        while True:
            try:
                sock, address = await listener.accept()
            except OSError as error:
                # What the peer did to its connection meanwhile is told here, too: accept(2).
                if error.errno in _SHORT:
                    event(log, "proxy-short", logging.WARNING, reason=error.strerror)
                    await trio.sleep(_PAUSE)
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
    """Give each client, by its address, a socket to the target of its own."""
    inbox, gate = _Inbox(listener), limits.associations
    clients: dict[_Client, trio.MemorySendChannel[bytes]] = {}

    async def run(client: _Client, waiting: trio.MemoryReceiveChannel[bytes]) -> None:
        async with contained(counts, gate, client.address[0]):
            try:
                async with dial() as sock:
                    await _associate(inbox, client, waiting, sock, limits.udp_idle, counts)
            finally:
                clients.pop(client).close()
                waiting.close()

    async with trio.open_nursery() as nursery:
        while True:
            try:
                data, client = await inbox.receive()
            except OSError as error:
                event(log, "proxy-short", logging.WARNING, reason=error.strerror)
                await trio.sleep(_PAUSE)
                continue
            if client not in clients:
                if (reason := gate.enter(client.address[0])) is not None:
                    counts.drops[reason] += 1
                    continue
                clients[client], waiting = trio.open_memory_channel[bytes](QUEUE)
                nursery.start_soon(run, client, waiting)
            try:
                clients[client].send_nowait(data)
            except trio.WouldBlock:
                counts.drops["queue_full"] += 1


class _Client(NamedTuple):
    """Where datagrams come from, and which of our addresses they were for, as ancillary data."""

    address: Any
    asked: tuple[tuple[int, int, bytes], ...]


class _Inbox:
    """A UDP socket of `Side.listen` that answers from the address that was asked, also where it is
    at all of them: a host with several would choose by its routes, and the client not know it.
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self._everywhere = sock.getsockname()[0] in ("0.0.0.0", "::")

    async def receive(self) -> tuple[bytes, _Client]:
        """The next datagram; raises `OSError`."""
        if not self._everywhere:
            data, address = await self._sock.recvfrom(MAX_DATAGRAM)
            return data, _Client(address, ())
        data, said, _, address = await self._sock.recvmsg(MAX_DATAGRAM, _ANCILLARY)
        return data, _Client(address, tuple(answering(said)))

    async def answer(self, data: bytes, client: _Client) -> None:
        """Raises `OSError`."""
        if client.asked:
            await self._sock.sendmsg([data], client.asked, 0, client.address)
        else:
            await self._sock.sendto(data, client.address)


async def _associate(
    inbox: _Inbox,
    client: _Client,
    waiting: trio.MemoryReceiveChannel[bytes],
    sock: trio.socket.SocketType,
    idle: float,
    counts: Counts,
) -> None:
    silence = Silence(idle)

    async def up() -> None:
        async for data in waiting:
            silence.broken()
            try:
                await sock.send(data)
            except OSError:  # of this one or, by ICMP, of one before
                counts.drops["send_failed"] += 1
            else:
                counts.traffic.up += len(data)

    async def down() -> None:
        while True:
            try:
                data = await sock.recv(MAX_DATAGRAM)
            except OSError:
                counts.drops["refused"] += 1
                continue
            silence.broken()
            try:
                await inbox.answer(data, client)
            except OSError:
                counts.drops["send_failed"] += 1
            else:
                counts.traffic.down += len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(up)
        nursery.start_soon(down)
        await silence.reached()
        nursery.cancel_scope.cancel()
