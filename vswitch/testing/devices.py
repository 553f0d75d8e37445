"""`FakeDevice`: a device whose other side is the test; and what `check_device` needs of a device.

Put frames in with `feed`, find what the switch wrote in `written`, limit it with `capacity`, break
it with `fail`. It keeps all rules of `vswitch/switch/device.py`.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Protocol

import attrs
import trio

from vswitch.frames.records import frame_of, frame_record
from vswitch.switch.device import Device, Waiter


class DevicePeer(Protocol):
    """The other side of a device, in the hands of the suite."""

    async def put(self, frames: list[bytes]) -> None:
        """Send frames that the device will read."""

    async def get(self) -> list[bytes]:
        """At least one of the frames that the device has written, in order."""

    def close(self) -> None:
        """Go away, after what was put has been sent."""


@attrs.frozen
class DevicePair:
    """A device and its other side."""

    device: Device
    peer: DevicePeer


class FakeDevice:
    """A device in memory. Implements `vswitch.switch.device.Device`.

    `capacity` is how many written records it holds before it is full; None is no limit. The test
    makes room with `take`. `feed` never blocks: a test knows how much it puts in.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        mtu: int = 1500,
        superframes: bool = False,
        capacity: int | None = None,
    ) -> None:
        self.name = name
        self.mtu = mtu
        self.superframes = superframes
        self.capacity = capacity
        self.written: list[bytes] = []  # records, in order, not yet taken
        self.closed = False
        self._incoming: deque[bytes] = deque()
        self._error: Exception | None = None
        self._readable = Waiter()
        self._writable = Waiter()

    def feed(self, *frames: bytes) -> None:
        """The other side sends frames, which the switch will read."""
        self.feed_records([frame_record(frame) for frame in frames])

    def feed_records(self, records: list[bytes]) -> None:
        """The other side sends records as they are."""
        self._incoming.extend(records)
        self._readable.wake()

    def take(self, limit: int | None = None) -> list[bytes]:
        """The frames written so far, at most `limit`; makes room for as many."""
        count = len(self.written) if limit is None else limit
        frames = [frame_of(record) for record in self.written[:count]]
        del self.written[:count]
        self._writable.wake()
        return frames

    def fail(self, error: Exception) -> None:
        """The other side is gone: raise this, on reading after what had been fed."""
        self._error = error
        self._readable.wake()
        self._writable.wake()

    async def wait_readable(self) -> None:
        await self._readable.wait(self._can_read)

    def read_nowait(self, limit: int) -> list[bytes]:
        if not self._can_read():
            raise trio.WouldBlock
        incoming = self._incoming
        return [incoming.popleft() for _ in range(min(limit, len(incoming)))]

    async def wait_writable(self) -> None:
        await self._writable.wait(self._can_write)

    def write_nowait(self, records: list[bytes]) -> int:
        if not self._can_write():
            return 0
        if self.capacity is None:
            self.written += records
            return len(records)
        taken = min(len(records), self.capacity - len(self.written))
        self.written.extend(islice(records, taken))
        return taken

    def close(self) -> None:
        self.closed = True
        self._readable.wake()
        self._writable.wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _can_read(self) -> bool:
        if self.closed:
            raise trio.ClosedResourceError("the device was closed")
        if self._error is not None and not self._incoming:
            raise self._error
        return bool(self._incoming)

    def _can_write(self) -> bool:
        if self.closed:
            raise trio.ClosedResourceError("the device was closed")
        if self._error is not None:
            raise self._error
        return self.capacity is None or len(self.written) < self.capacity
