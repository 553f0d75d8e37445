"""A WebSocket that carries datagrams: binary messages, each a datagram, several in a write.

wsproto makes the handshake at both ends, `frames.py` the frames. `accept` is the server's side of
it, `vswitch/web/client.py` the client's.

Invariants: what waits to be sent is bounded by `WAITING_LIMIT`, and who is given more than that has
broken down; one pong waits at most. `run` ends when either side does, and leaves no task; the
stream belongs to its caller.

Error contract: `run` returns why it has ended, and raises nothing for what the other side does.
"""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import RemoteProtocolError

from vswitch.errors import BadRecord
from vswitch.web import frames
from vswitch.web.frames import Bytes, FrameReader
from vswitch.web.tls import TlsStream

RECEIVE: Final = 256 * 1024  # bytes of one read
WAITING_LIMIT: Final = 1 << 20  # bytes; the transport stops at its `PIPE_MOST`
_WRITE = 128 * 1024  # bytes of one write, but for the last datagram in it
_NOT_SENT = 32 * 1024  # bytes in the kernel that have not left yet: 13 ms of 20 Mbit/s
_SEGMENT = 1220  # bytes of a TCP segment: with its headers 1,280, which each path of IPv6 takes
# What is of nobody whom the receiver knows is read slowly, after as much as a handshake takes and a
# member that changes its path has under way; a read of it is short, since tiny frames cost most.
_UNKNOWN = 8 * 1024  # bytes
_UNKNOWN_RATE = 1024.0  # bytes a second
_UNKNOWN_READ = 2048  # bytes
_NORMAL = (1000).to_bytes(2, "big")  # reason of a close, RFC 6455 section 7.4.1
_CLOSE_PATIENCE = 1.0  # seconds for a close to leave


def tune(stream: trio.abc.Stream) -> None:
    """What is sent leaves at once; little waits in the kernel, where nothing can overtake it."""
    if isinstance(stream, trio.SocketStream) and stream.socket.family != socket.AF_UNIX:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)


def keep_small(listener: trio.SocketListener) -> None:
    """Packets of its connections pass every IPv6 path, and most tunnels: some swallow larger ones
    without a word, and the kernel does not look for the size by itself. Both sides go by it.
    """
    listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)


def accept(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The answer to a request for a WebSocket; None if it is none, or of another version."""
    handshake = WSConnection(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(headers), target)
        if not any(isinstance(each, Request) for each in handshake.events()):
            return None
        return handshake.send(AcceptConnection())
    except (RemoteProtocolError, ValueError):
        return None


class WebSocket:
    """One WebSocket, open. Implements `transport.endpoint.pipes.Pipe`."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        client: bool,
        description: str,
        mark: int = 32 * 1024,
        received: bytes = b"",
    ) -> None:
        """
        Args:
            stream: the connection; its caller closes it when `run` has returned.
            client: whose end this is.
            description: for people.
            mark: bytes of backlog below which `writable` is called, see `run`.
            received: bytes that came right behind the handshake.
        """
        self._stream = stream
        self._now = stream if isinstance(stream, TlsStream) else None
        self._client = client
        self._description = description
        self._mark = mark
        self._received = received
        self._reader = FrameReader(masked=not client)
        self._waiting: deque[bytes] = deque()
        self._backlog = 0
        self._pong: bytes | bytearray | None = None
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._sending = False  # a write has begun, of which a part may have left
        self._leaving = 0  # bytes of datagrams in it
        self._why = "let go of"
        self._heard_at = trio.current_time()

    def send_nowait(self, datagrams: Sequence[Bytes]) -> None:
        """Queue all, and write what leaves at once. HOT PATH."""
        if self._scope.cancel_called:
            return
        idle = not (self._waiting or self._sending)  # so nobody waits for room
        for each in datagrams:
            self._waiting.append(bytes(each))
            self._backlog += len(each)
        if idle and self._now is not None:
            self._write_now(self._now)
        if self._backlog > WAITING_LIMIT:
            self._end("the other side does not read")
        if self._waiting or self._sending:
            self._wake.set()

    @property
    def backlog(self) -> int:
        return self._backlog

    @property
    def description(self) -> str:
        return self._description

    def abort(self) -> None:
        self._scope.cancel()

    async def run(
        self,
        receive: Callable[[list[bytes | bytearray]], bool],
        writable: Callable[[], None],
        *,
        idle: float = math.inf,
    ) -> str:
        """Read and write until either side has ended it; why, for people.

        Args:
            receive: gets what came, in order; must not wait. Says whether that is of somebody
                known; the rest is read slowly.
            writable: the backlog has fallen below the mark.
            idle: seconds without a byte from the other side after which it is over.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, writable)
                nursery.start_soon(self._watch, idle)
                await self._read(receive)
                nursery.cancel_scope.cancel()
        self._waiting.clear()
        if not self._sending:
            with trio.move_on_after(_CLOSE_PATIENCE), suppress(trio.BrokenResourceError):
                await self._stream.send_all(b"".join(self._frame(frames.CLOSE, _NORMAL)))
        return self._why

    def _end(self, why: str) -> None:
        if not self._scope.cancel_called:
            self._why = why
            self._scope.cancel()

    def _frame(self, kind: int, data: bytes | bytearray) -> list[Bytes]:
        return frames.encode(kind, data, frames.fresh_key() if self._client else None)

    async def _read(self, receive: Callable[[list[bytes | bytearray]], bool]) -> None:
        data: bytes | bytearray = self._received
        self._received = b""
        unknown, size = 0, _UNKNOWN_READ
        while True:
            if data:
                # HOT PATH
                whole = self._reader.held + len(data)
                try:
                    messages = self._reader.feed_untrusted(data)
                except BadRecord as error:
                    self._end(str(error))
                    return
                came = [body for kind, body in messages if kind == frames.BINARY]
                if came and receive(came):
                    unknown, size = 0, RECEIVE
                else:
                    whole -= self._reader.held
                    unknown += whole
                if len(came) < len(messages) and self._control(messages):
                    self._end("the other side has closed it")
                    return
                if unknown > _UNKNOWN:
                    size = _UNKNOWN_READ
                    await trio.sleep(whole / _UNKNOWN_RATE)
            self._heard_at = trio.current_time()
            try:
                data = await self._stream.receive_some(size)
            except trio.BrokenResourceError:
                self._end("the connection is broken")
                return
            if not data:
                self._end("the connection has ended")
                return

    async def _watch(self, idle: float) -> None:
        """To move a deadline with each read would cost more than to look now and then."""
        while (left := self._heard_at + idle - trio.current_time()) > 0:  # noqa: ASYNC110
            await trio.sleep(left)
        self._end("nothing came any more")

    def _control(self, messages: Iterable[frames.Message]) -> bool:
        """Whether there is a close. Of several pings the last one is answered."""
        for kind, body in messages:
            if kind == frames.CLOSE:
                return True
            if kind == frames.PING:
                self._pong = body
                self._wake.set()
        return False

    def _next_write(self) -> bytes:
        """What is to be sent next, of which `_leaving` bytes are datagrams. HOT PATH."""
        waiting, batch, size = self._waiting, [], 0
        while waiting and size < _WRITE:
            batch.append(waiting.popleft())
            size += len(batch[-1])
        data = frames.encode_all(batch, client=self._client)
        if self._pong is not None:
            data = b"".join(self._frame(frames.PONG, self._pong)) + data
            self._pong = None
        self._leaving = size
        return data

    def _write_now(self, stream: TlsStream) -> None:
        """As far as the kernel takes it: a task less that is woken. HOT PATH."""
        try:
            while self._waiting and not self._sending:
                self._sending = not stream.send_nowait(self._next_write())
                if not self._sending:
                    self._backlog -= self._leaving
        except trio.BrokenResourceError:
            self._sending = True
            self._end("the connection is broken")

    async def _write(self, writable: Callable[[], None]) -> None:
        try:
            while True:
                if self._sending:  # what has begun to leave
                    await self._stream.send_all(b"")
                elif self._waiting or self._pong is not None:
                    # HOT PATH
                    data = self._next_write()
                    self._sending = True
                    await self._stream.send_all(data)
                else:
                    self._wake = trio.Event()
                    await self._wake.wait()
                    continue
                self._sending = False
                full = self._backlog >= self._mark
                self._backlog -= self._leaving
                if full and self._backlog < self._mark:
                    writable()
        except trio.BrokenResourceError:
            self._end("the connection is broken")
