"""Two streams as one connection: what comes on either goes out on the other.

Invariants: at most `CHUNK` bytes a direction are held, and none while nobody sends; a source is
read no further before its sink has taken what was read, so a slow reader slows the writer. The end
of one direction is passed on as such (half-close), and the other direction goes on. A reset on
either side becomes a reset on the other, and cancellation one on both, so that neither takes a
broken stream for a whole one.

Error contract: the streams are closed in any case; `relay` says how it ended and raises nothing of
its own.
"""

from __future__ import annotations

import socket
import struct
from enum import Enum
from typing import Final

import trio
from attrs import define

CHUNK: Final = 128 * 1024  # bytes of one read: half the system calls of 64 KiB, at twice the memory
_LINGER: Final = struct.pack("ii", 1, 0)  # closing sends a reset (SO_LINGER of socket(7))


class End(Enum):
    """How a connection came to its end."""

    DONE = "done"
    RESET = "reset"
    IDLE = "idle"


@define
class Traffic:
    """Bytes that were passed on: `up` to the target, `down` to whoever asked for it."""

    up: int = 0
    down: int = 0


class Silence:
    """How long nothing has passed, on Trio's clock."""

    def __init__(self, limit: float) -> None:
        """`limit` is in seconds, and may be infinite."""
        self._limit = limit
        self.broken()

    def broken(self) -> None:
        """Something has passed now."""
        self._last = trio.current_time()

    async def reached(self) -> None:
        """Wait until it has lasted as long as its limit."""
        while True:
            left = self._last + self._limit - trio.current_time()
            if left <= 0:
                return
            await trio.sleep(left)


def of_socket(sock: trio.socket.SocketType) -> trio.SocketStream:
    """A connected stream socket as a stream that takes a whole chunk at once."""
    stream = trio.SocketStream(sock)
    if sock.family != socket.AF_UNIX:
        # Trio's choice is for programs that want to change their mind about what to send.
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, CHUNK)
    return stream


def reset(stream: trio.abc.AsyncResource) -> None:
    """Have the other end of a socket see a reset when this one is closed."""
    if isinstance(stream, trio.SocketStream) and stream.socket.family != socket.AF_UNIX:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)


async def relay(
    near: trio.abc.HalfCloseableStream,
    far: trio.abc.HalfCloseableStream,
    traffic: Traffic,
    *,
    idle: float,
    early: bytes = b"",
) -> End:
    """Carry both directions until both have ended, and close the streams.

    Args:
        traffic: what is added to.
        idle: seconds without a byte in either direction after which both are reset.
        early: bytes that `near` has sent already.
    """
    silence = Silence(idle)
    ends = [End.DONE]
    going = 2

    async def carry(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
        nonlocal going
        data: bytes | bytearray = early if source is near else b""
        while True:
            if data:
                silence.broken()
                await sink.send_all(data)
                if source is near:
                    traffic.up += len(data)
                else:
                    traffic.down += len(data)
            data = await source.receive_some(CHUNK)
            if not data:
                break
        await sink.send_eof()
        going -= 1
        if not going:
            nursery.cancel_scope.cancel()

    async def watch() -> None:
        await silence.reached()
        ends.append(End.IDLE)
        nursery.cancel_scope.cancel()

    async with near, far:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carry, near, far)
                nursery.start_soon(carry, far, near)
                nursery.start_soon(watch)
        except* trio.BrokenResourceError:
            ends.append(End.RESET)
        finally:
            if going:  # cancelled as well
                reset(near)
                reset(far)
    return ends[-1]
