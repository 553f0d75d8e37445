"""A port inside the process: a program takes part in the LAN without an interface of the kernel.

`local_pair` makes two ends. The switch holds the `LocalDevice`; the program, the `LocalPort`, whose
`send` and `receive` speak of plain Ethernet frames. Between them lie two bounded lanes:

    program ── send ──▶ lane ──▶ LocalDevice ──▶ switch      `send` waits while the lane is full
    program ◀─ receive ── lane ◀── LocalDevice ◀── switch    the port's egress queue fills behind a
                                                             full lane, drops at its tail, counts

Errors: those of `device.py` on both ends. Each end closed makes the other broken, after what
was already in the lane has been read.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from types import TracebackType

import trio

from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE, max_frame
from vswitch.frames.records import HEADER_SIZE, MAX_BODY, frame_of, frame_record
from vswitch.switch.device import Waiter

# One batch of the switch. The egress queue behind it is the buffer that is meant to be one; a
# second long one would only add delay.
LANE_FRAMES = 64


class _Lane:
    """One direction: a bounded queue of records with one writing and one reading end."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a lane holds at least one frame")
        self._capacity = capacity
        self._records: deque[bytes] = deque()
        self._readable = Waiter()
        self._writable = Waiter()
        self._reader_closed = False
        self._writer_closed = False

    async def wait_readable(self) -> None:
        await self._readable.wait(self._can_read)

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    def read_nowait(self, limit: int) -> list[bytes]:
        if not self._can_read():
            raise trio.WouldBlock
        taken = [self._records.popleft() for _ in range(min(limit, len(self._records)))]
        self._writable.wake()
        return taken

    def write_nowait(self, records: list[bytes]) -> int:
        if not self._can_write():
            return 0
        taken = min(len(records), self._capacity - len(self._records))
        self._records.extend(islice(records, taken))
        self._readable.wake()
        return taken

    def close_reader(self) -> None:
        self._reader_closed = True
        self._records.clear()
        self._wake()

    def close_writer(self) -> None:
        self._writer_closed = True
        self._wake()

    def _can_read(self) -> bool:
        if self._reader_closed:
            raise trio.ClosedResourceError("this end was closed")
        if not self._records and self._writer_closed:
            raise trio.BrokenResourceError("the other end was closed")
        return bool(self._records)

    def _can_write(self) -> bool:
        if self._writer_closed:
            raise trio.ClosedResourceError("this end was closed")
        if self._reader_closed:
            raise trio.BrokenResourceError("the other end was closed")
        return len(self._records) < self._capacity

    def _wake(self) -> None:
        self._readable.wake()
        self._writable.wake()


class _End:
    """What both ends have: two lanes that end with it."""

    def __init__(self, name: str, mtu: int, incoming: _Lane, outgoing: _Lane) -> None:
        self.name = name
        self.mtu = mtu
        self._incoming = incoming
        self._outgoing = outgoing

    def close(self) -> None:
        """Unplug. What was sent before still reaches the other end. Idempotent."""
        self._incoming.close_reader()
        self._outgoing.close_writer()

    async def aclose(self) -> None:
        """`close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


class LocalDevice(_End):
    """The switch's end. Implements `vswitch.switch.device.Device`."""

    superframes = False  # the program at the other end wants frames that fit the MTU

    async def wait_readable(self) -> None:
        await self._incoming.wait_readable()

    def read_nowait(self, limit: int) -> list[bytes]:
        return self._incoming.read_nowait(limit)

    async def wait_writable(self) -> None:
        await self._outgoing.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        return self._outgoing.write_nowait(records)


class LocalPort(_End):
    """The program's end: send and receive Ethernet frames, without FCS, as `bytes`.

    One task at a time may send, one may receive. `async for frame in port` gives single frames, and
    ends when the switch lets go of the port.
    """

    async def send(self, frame: bytes) -> None:
        """Send one frame; waits while the switch has not taken what was sent before."""
        await self.send_batch([frame])

    async def send_batch(self, frames: list[bytes]) -> None:
        """Send frames in order. A cancelled call may have sent the first of them."""
        records = [self._record(frame) for frame in frames]
        await self._outgoing.wait_writable()
        sent = self._outgoing.write_nowait(records)
        while sent < len(records):
            await self._outgoing.wait_writable()
            sent += self._outgoing.write_nowait(records[sent:])

    def send_nowait(self, frame: bytes) -> None:
        """Send one frame now, or raise `trio.WouldBlock`."""
        if not self._outgoing.write_nowait([self._record(frame)]):
            raise trio.WouldBlock

    async def receive(self, limit: int = LANE_FRAMES) -> list[bytes]:
        """All frames that have arrived, at least one and at most `limit`, in order."""
        if limit < 1:
            raise ValueError("limit is at least 1")
        await self._incoming.wait_readable()
        return [frame_of(record) for record in self._incoming.read_nowait(limit)]

    async def receive_frame(self) -> bytes:
        """One frame."""
        (frame,) = await self.receive(1)
        return frame

    def receive_nowait(self, limit: int = LANE_FRAMES) -> list[bytes]:
        """The frames that are there, at most `limit`, or `trio.WouldBlock`."""
        return [frame_of(record) for record in self._incoming.read_nowait(limit)]

    async def __aenter__(self) -> LocalPort:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> LocalPort:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.receive_frame()
        except trio.BrokenResourceError:
            raise StopAsyncIteration from None

    def _record(self, frame: bytes) -> bytes:
        # The switch would drop and count these; whoever wrote the program wants to know where.
        if len(frame) < ETHERNET_HEADER_SIZE:
            raise ValueError(f"a frame of {len(frame)} bytes has no Ethernet header")
        if len(frame) > max_frame(self.mtu):
            raise ValueError(f"a frame of {len(frame)} bytes exceeds the MTU of {self.mtu}")
        return frame_record(frame)


def local_pair(
    name: str, *, mtu: int = 1500, capacity: int = LANE_FRAMES
) -> tuple[LocalDevice, LocalPort]:
    """Two connected ends with lanes of `capacity` frames; no task, nothing to clean up."""
    if not 0 < mtu <= MAX_BODY - HEADER_SIZE:
        raise ValueError(f"no usable MTU: {mtu}")
    inwards, outwards = _Lane(capacity), _Lane(capacity)
    device = LocalDevice(name, mtu, incoming=inwards, outgoing=outwards)
    return device, LocalPort(name, mtu, incoming=outwards, outgoing=inwards)
