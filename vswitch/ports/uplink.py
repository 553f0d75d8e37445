"""From a member's TAP to its session: a pump with a queue, fair between flows.

    reading   TAP ─▶ session, while it takes them ─▶ else the egress queue (and a pause)
    writing   the session has room ─▶ the queue's next records, flow by flow

Without the queue the kernel's would hold the backlog, a thousand superframes of one transfer, with
the ping behind them. With it a flow that begins goes first, and the fattest flow loses its oldest
record when the queue is full or stands for long, which tells its TCP to slow down.

When something had to be dropped nothing more is read until the session has taken some: what would
be dropped anyway is left to the kernel to drop, which costs less. Order is kept within a flow.

What a device raises comes out of `read` or `write`; two tasks run them.
"""

from __future__ import annotations

import trio

from vswitch.core.egress import EgressQueue
from vswitch.core.load import load_of
from vswitch.core.segment import without_superframes_untrusted
from vswitch.ports.device import Device, Overtaking, patience_with
from vswitch.ports.port import FLUSH_BYTES
from vswitch.ports.pump import BATCH, Tally

__all__ = ["Uplink"]


class Uplink:
    """One direction between two devices, counted in `tally`."""

    def __init__(
        self, source: Device, sink: Device, tally: Tally, queue: EgressQueue | None = None
    ) -> None:
        self._source = source
        self._sink = sink
        self._overtaking = sink if isinstance(sink, Overtaking) else None
        self._tally = tally
        self._queue = EgressQueue() if queue is None else queue
        self._backlog = trio.Event()
        self._taken: trio.Event | None = None  # while nothing more is read

    async def read(self) -> None:
        """Take what the source gives, until cancelled."""
        while True:
            await self._source.wait_readable()
            self.take()
            if self._taken is not None:
                await self._taken.wait()
                self._taken = None

    def take(self) -> None:
        """Take what the source gives now, if that is anything. HOT PATH.

        For whoever has just written to the source, too: a kernel answers a frame before the write
        of it returns, and its answer need not wait for this to be noticed.
        """
        source = self._source
        if self._taken is not None:
            return
        try:
            records = source.read_nowait(BATCH)
        except trio.WouldBlock:
            return
        if source.superframes and not self._sink.superframes:
            mtu = min(source.mtu, self._sink.mtu)
            records, refused = without_superframes_untrusted(records, mtu)
            self._tally.refused += refused
        if self._offer(records):
            self._taken = trio.Event()

    def _offer(self, records: list[bytes]) -> bool:
        """Write through or queue; whether something was dropped for it. HOT PATH."""
        if not self._queue:
            try:
                taken = self._sink.write_nowait(records)
            except BaseException:
                self._tally.lost += load_of(records).frames
                raise
            self._count(records[:taken])
            if taken == len(records):
                return False
            records = records[taken:]
        if self._overtaking is not None:
            records = self._overtake(self._overtaking, records)
        dropped = self._queue.offer(records, trio.current_time())
        self._backlog.set()
        if not dropped:
            return False
        self._tally.dropped += load_of(dropped).frames
        return True

    def _overtake(self, sink: Overtaking, records: list[bytes]) -> list[bytes]:
        """Write what may pass the queue; the rest."""
        try:
            passing, rest = sink.overtake_nowait(records, self._queue.waits)
        except BaseException:
            self._tally.lost += load_of(records).frames
            raise
        self._count(passing)
        return rest

    async def write(self) -> None:
        """Empty the queue as fast as the sink takes it, until cancelled."""
        queue, sink = self._queue, self._sink
        while True:
            if not queue:
                await self._backlog.wait()
            self._backlog = trio.Event()
            await sink.wait_writable()
            records = queue.take(FLUSH_BYTES, trio.current_time(), patience_with(sink))
            late = queue.take_late()
            if late:
                self._tally.delayed += load_of(late).frames
            try:
                taken = sink.write_nowait(records)
            except BaseException:
                queue.put_back(records)
                raise
            queue.put_back(records[taken:])
            self._count(records[:taken])
            if self._taken is not None:
                self._taken.set()

    def flush_soon(self) -> None:
        """The sink holds something itself, and wants to be written to when it is writable."""
        self._backlog.set()

    def close(self) -> None:
        """Both tasks have ended: what still waits is lost."""
        self._tally.lost += self._queue.frames
        self._queue.clear()

    def _count(self, records: list[bytes]) -> None:
        load = load_of(records)
        self._tally.frames += load.frames
        self._tally.bytes += load.bytes
