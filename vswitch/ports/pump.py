"""Moving records from one device to another, as a member does between its TAP and its session.

Nothing is read while the sink is full, so the source's own queue holds the backlog: a kernel
that finds its TAP unread drops there, and TCP hears of it. Nothing is lost or reordered here.

Whatever a device raises comes out of `run`.
"""

from __future__ import annotations

import trio

from vswitch.core.counters import frame_bytes
from vswitch.ports.device import Device

__all__ = ["Pump"]

BATCH = 64  # records in one turn: about 100 µs of work, then others have theirs


class Pump:
    """One direction between two devices."""

    def __init__(self, source: Device, sink: Device) -> None:
        self.frames = 0  # taken by the sink
        self.bytes = 0  # of frames, without record headers
        self._source = source
        self._sink = sink

    async def run(self) -> None:
        """Move records until cancelled. HOT PATH."""
        source = self._source
        while True:
            await source.wait_readable()
            try:
                records = source.read_nowait(BATCH)
            except trio.WouldBlock:
                continue
            await self.give(records)

    async def give(self, records: list[bytes]) -> None:
        """Write all of a batch, waiting as long as the sink is full. HOT PATH."""
        sink = self._sink
        while True:
            taken = sink.write_nowait(records)
            if taken == len(records):
                self._count(records)
                return
            self._count(records[:taken])
            records = records[taken:]
            await sink.wait_writable()

    def _count(self, records: list[bytes]) -> None:
        self.frames += len(records)
        self.bytes += frame_bytes(records)
