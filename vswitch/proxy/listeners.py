"""Takes what comes to listening sockets: connections in a task each, and datagrams in associations.

Invariants: a fault in one connection or association ends that one, and is logged with its
traceback; neither are there more than their limit, and each ends when nothing has passed for its
idle time. A connection too many is reset at once, a datagram of a client too many is dropped.

Error contract: `VswitchError` of a network that is not there any more; nothing else.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NoReturn

import trio
from attrs import frozen

from vswitch.errors import VswitchError
from vswitch.logs import event
from vswitch.proxy.counts import Counts, Limit
from vswitch.proxy.relay import End, Silence, of_socket, relay, reset
from vswitch.proxy.sides import CannotConnect

MAX_DATAGRAM: Final = 65535  # bytes
QUEUE: Final = 64  # datagrams of one client that wait for its association to begin
_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.1  # seconds until more descriptors or memory may be there
_TOLD: Final = 60.0  # seconds between two lines of log about it

log = logging.getLogger(__name__)


@frozen
class Limits:
    """Of all listeners together; times are in seconds, infinite for none."""

    connections: Limit
    associations: Limit
    idle: float  # of a connection
    udp_idle: float  # of an association


Dial = Callable[[], Awaitable[trio.SocketStream]]


@asynccontextmanager
async def contained(counts: Counts, limit: Limit) -> AsyncIterator[None]:
    """Around one connection or association, whose place in the limit is taken: its bulkhead."""
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
        limit.leave()


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

    async def run(stream: trio.SocketStream) -> None:
        async with contained(counts, limits.connections):
            async with stream:
                await handle(stream)

    shortage = _Shortage()
    async with trio.open_nursery() as nursery:
        while True:
            try:
                sock, _ = await listener.accept()
            except OSError as error:
                # What the peer did to its connection meanwhile is told here, too: accept(2).
                if error.errno in _SHORT:
                    await shortage.over(error)
                continue
            stream = of_socket(sock)
            if limits.connections.enter():
                nursery.start_soon(run, stream)
            else:
                counts.failed["full"] += 1
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
    listener: trio.socket.SocketType,
    dial: Callable[[], Awaitable[trio.socket.SocketType]],
    limits: Limits,
    counts: Counts,
) -> NoReturn:
    """Give each client, by its address, a socket to the target of its own."""
    clients: dict[Any, trio.MemorySendChannel[bytes]] = {}

    async def run(client: Any, waiting: trio.MemoryReceiveChannel[bytes]) -> None:
        async with contained(counts, limits.associations):
            try:
                with await dial() as sock:
                    await _associate(listener, client, waiting, sock, limits.udp_idle, counts)
            finally:
                clients.pop(client).close()
                waiting.close()

    shortage = _Shortage()
    async with trio.open_nursery() as nursery:
        while True:
            try:
                data, client = await listener.recvfrom(MAX_DATAGRAM)
            except OSError as error:
                await shortage.over(error)
                continue
            if client not in clients:
                if not limits.associations.enter():
                    counts.drops["full"] += 1
                    continue
                clients[client], waiting = trio.open_memory_channel[bytes](QUEUE)
                nursery.start_soon(run, client, waiting)
            try:
                clients[client].send_nowait(data)
            except trio.WouldBlock:
                counts.drops["queue_full"] += 1


async def _associate(
    listener: trio.socket.SocketType,
    client: Any,
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
                await listener.sendto(data, client)
            except OSError:
                counts.drops["send_failed"] += 1
            else:
                counts.traffic.down += len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(up)
        nursery.start_soon(down)
        await silence.reached()
        nursery.cancel_scope.cancel()
