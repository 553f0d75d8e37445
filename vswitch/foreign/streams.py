"""A connection that carries frames, as a device: framed TCP, and QEMU's stream over TCP or UNIX.

Nothing here waits for the peer: what its socket does not take stays in the queue of the port, which
drops when it is full. The rest of a record of which the kernel has taken a part is kept, goes
before everything else, and is at most one record; `on_blocked` says that there is one.

Errors: `ConnectionEnded` when the connection ends, carries what cannot be followed, or loses the
step too often.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

import trio

from vswitch.errors import BadRecord
from vswitch.foreign.formats import longest_frame
from vswitch.frames.records import HEADER_SIZE, frame_of
from vswitch.switch.bucket import Bucket
from vswitch.switch.device import Description

RECEIVE = 64 * 1024  # bytes of one read: about 40 frames
LOST_STEPS = 16.0  # a second, and at once: who loses the step more often speaks something else
OUT_OF_STEP = "out of step again and again: something else is sent here"


class ConnectionEnded(trio.BrokenResourceError):
    """The other side has ended it, or has sent what cannot be followed."""


class Codec(Protocol):
    """How frames lie in the stream."""

    lost_steps: int  # how often something else stood where a frame was to begin

    def feed_untrusted(self, data: bytes) -> list[bytes]:
        """The records that `data` completes; `BadRecord` if there can be none any more."""

    def encode(self, records: list[bytes]) -> list[bytes]:
        """What to send for each record."""


class StepLimit:
    """How often a stream may lose the step. `now` in seconds."""

    def __init__(self) -> None:
        self._steps = Bucket(LOST_STEPS, LOST_STEPS)
        self._lost = 0  # that the bucket knows of

    def exceeded(self, lost: int, now: float) -> bool:
        """Whether a stream that has lost it so often by now is something else. HOT PATH."""
        if lost == self._lost:
            return False
        fresh = lost - self._lost
        self._lost = lost
        return self._steps.grant(now, fresh) < fresh


def tune(sock: socket.socket) -> None:
    """Frames leave at once, and a host that has vanished is noticed within two minutes."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)


def _ignore() -> None:
    pass


class StreamDevice:
    """One connection. Implements `vswitch.switch.device.Device`."""

    superframes = False

    def __init__(
        self, sock: socket.socket, name: str, codec: Codec, mtu: int, dropped: Counter[str]
    ) -> None:
        """`sock` is connected, non-blocking, and the device's from here on; `dropped` is that of
        the codec.
        """
        self.name = name
        self.mtu = mtu
        self.dropped = dropped
        self.on_blocked: Callable[[], None] = _ignore
        self.on_first: Callable[[bytes], None] | None = None  # gets the first frame, once
        self._sock = sock
        self._codec = codec
        self._longest = HEADER_SIZE + longest_frame(mtu)  # bytes of a record that is sent
        self._ready: deque[bytes] = deque()  # records of one read
        self._held = b""  # the rest of a record
        self.heard = trio.current_time()  # when something came last
        self._steps = StepLimit()
        self._gone: str | None = None  # why, once the connection has ended

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"foreign-{self.name}", self.dropped)

    async def wait_readable(self) -> None:
        self._check_reading()
        if self._ready:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.wait_readable(self._sock)
        self._receive()
        self._check_reading()

    def read_nowait(self, limit: int) -> list[bytes]:
        # HOT PATH
        self._check_reading()
        ready = self._ready
        if not ready:
            self._receive()
            self._check_reading()
            if not ready:
                raise trio.WouldBlock
        return [ready.popleft() for _ in range(min(limit, len(ready)))]

    async def wait_writable(self) -> None:
        self._check()
        while True:
            await trio.lowlevel.wait_writable(self._sock)
            self._check()
            self._send_held()
            if not self._held:
                return

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        self._check()
        self._send_held()
        if self._held:
            self.on_blocked()
            return 0
        if not records:
            return 0
        if max(map(len, records)) > self._longest:
            return self._write_fitting(records)
        pieces = self._codec.encode(records)
        data = b"".join(pieces)
        sent = self._send(data)
        if sent == len(data):
            return len(records)
        end = 0
        for number, piece in enumerate(pieces):
            if end == sent:
                return number
            end += len(piece)
            if end > sent:
                self._held = data[sent:end]
                self.on_blocked()
                return number + 1
        return len(records)

    def _write_fitting(self, records: list[bytes]) -> int:
        """Write without those that are too long, as far as the socket takes them; how many."""
        for at, record in enumerate(records):
            if len(record) > self._longest:
                self.dropped["oversize"] += 1
            elif not self.write_nowait([record]):
                return at
        return len(records)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        self._ready.clear()
        self._held = b""

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self._sock.fileno() < 0:
            raise trio.ClosedResourceError(f"{self.name} is closed")
        if self._gone is not None:
            raise ConnectionEnded(self._gone)

    def _check_reading(self) -> None:
        if not self._ready:
            self._check()

    def _receive(self) -> None:
        """Read once. HOT PATH."""
        try:
            data = self._sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone = f"the connection has ended: {error.strerror}"
            return
        if not data:
            self._gone = "the other side has closed the connection"
            return
        self.heard = trio.current_time()
        try:
            self._ready.extend(self._codec.feed_untrusted(data))
        except BadRecord as error:
            self._gone = str(error)
        if self.on_first is not None and self._ready:
            first, self.on_first = self.on_first, None
            first(frame_of(self._ready[0]))
        if self._steps.exceeded(self._codec.lost_steps, self.heard):
            self._gone = OUT_OF_STEP

    def _send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._gone = f"the connection has ended: {error.strerror}"
            raise ConnectionEnded(self._gone) from None

    def _send_held(self) -> None:
        if self._held:
            self._held = self._held[self._send(self._held) :]
