"""Moving records from one device to another, as a member does between its TAP and its session.

 Pump         session ─▶ TAP: nothing is read while the sink is full; the source has the backlog

 QueuedPump   TAP ─▶ session, with a queue that is fair between flows:
     reading   TAP ─▶ session, while it takes them ─▶ else the egress queue (and a pause)
     writing   the session has room ─▶ the queue's next records, flow by flow

Without that queue the kernel's would hold the backlog, a thousand superframes of one transfer, with
the ping behind them. With it a flow that begins goes first, and the fattest flow loses its oldest
record when the queue is full or stands for long, which tells its TCP to slow down. When something
had to be dropped nothing more is read until the session has taken some: what would be dropped
anyway is left to the kernel to drop, which costs less.

The two meet: a kernel answers a frame before the write of it returns, so a `Pump` that has written
to the TAP calls `QueuedPump.take` (its `given`), and the answer need not wait for a wake-up.

Order is kept within a flow. Nothing is lost uncounted: what was on its way when a device ended,
what a queue gave up, and what cannot be cut is in the `Tally`. For a sink that takes no superframes
they are cut on the way. Whatever a device raises comes out of `run`, `read` or `write`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from vswitch.frames.load import load_of
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.switch.device import Device, Distant, Overtaking, patience_with, read_each
from vswitch.switch.egress import EgressQueue
from vswitch.switch.port import FLUSH_BYTES

BATCH = 64  # records in one turn: about 100 µs of work, then others have theirs


@attrs.define
class Tally:
    """What went one way, through any number of pumps; counted as `frames/load.py` says."""

    frames: int = 0  # taken by a sink
    bytes: int = 0  # of those frames
    lost: int = 0  # frames read from a source whose sink ended before it took them
    dropped: int = 0  # frames that a full queue gave up
    delayed: int = 0  # frames that had waited too long in it
    refused: int = 0  # frames of superframes that were to be cut and cannot be


class Pump:
    """One direction between two devices, counted in `tally`."""

    def __init__(
        self,
        source: Device,
        sink: Device,
        tally: Tally,
        given: Callable[[], object] = lambda: None,
    ) -> None:
        """`given` is called when the sink has taken something."""
        self._source = source
        self._sink = sink
        self._tally = tally
        self._given = given
        self._rest: list[bytes] = []  # of a batch, while the sink is full

    async def run(self, early: list[bytes]) -> None:
        """Move `early`, then whatever the source gives, until cancelled."""
        try:
            if early:
                self._give(early)
            while True:
                if self._rest:
                    await self._sink.wait_writable()
                    self._write(self._rest)
                else:
                    await read_each(self._source, self._take)
        finally:
            self._tally.lost += load_of(self._rest).frames

    def _take(self) -> bool:
        """Move a batch; whether the sink took all of it. HOT PATH."""
        try:
            records = self._source.read_nowait(BATCH)
        except trio.WouldBlock:
            return True
        return self._give(records)

    def _give(self, records: list[bytes]) -> bool:
        if self._source.superframes and not self._sink.superframes:
            records = _cut(self._tally, records, self._source, self._sink)
        return self._write(records)

    def _write(self, records: list[bytes]) -> bool:
        """What the sink does not take is the rest. HOT PATH."""
        self._rest = records
        taken = self._sink.write_nowait(records)
        self._rest = records[taken:]
        _count(self._tally, records[:taken] if self._rest else records)
        self._given()
        return not self._rest


class QueuedPump:
    """One direction between two devices with a queue, counted in `tally`. Two tasks run it: `read`
    and `write`.
    """

    def __init__(
        self, source: Device, sink: Device, tally: Tally, queue: EgressQueue | None = None
    ) -> None:
        self._source = source
        self._sink = sink
        self._overtaking = sink if isinstance(sink, Overtaking) else None
        self._distant = sink if isinstance(sink, Distant) else None
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
            records = _cut(self._tally, records, source, self._sink)
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
            _count(self._tally, records[:taken])
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
        _count(self._tally, passing)
        return rest

    async def write(self) -> None:
        """Empty the queue as fast as the sink takes it, until cancelled."""
        queue, sink = self._queue, self._sink
        while True:
            if not queue:
                await self._backlog.wait()
            self._backlog = trio.Event()
            await sink.wait_writable()
            records = queue.take(FLUSH_BYTES, trio.current_time(), patience_with(self._distant))
            late = queue.take_late()
            if late:
                self._tally.delayed += load_of(late).frames
            try:
                taken = sink.write_nowait(records)
            except BaseException:
                queue.put_back(records)
                raise
            queue.put_back(records[taken:])
            _count(self._tally, records[:taken])
            if self._taken is not None:
                self._taken.set()

    def flush_soon(self) -> None:
        """The sink holds something itself, and wants to be written to when it is writable."""
        self._backlog.set()

    def close(self) -> None:
        """Both tasks have ended: what still waits is lost."""
        self._tally.lost += self._queue.frames
        self._queue.clear()


def _cut(tally: Tally, records: list[bytes], source: Device, sink: Device) -> list[bytes]:
    records, refused = without_superframes_untrusted(records, min(source.mtu, sink.mtu))
    tally.refused += refused
    return records


def _count(tally: Tally, records: list[bytes]) -> None:
    """A sink has taken these."""
    load = load_of(records)
    tally.frames += load.frames
    tally.bytes += load.bytes
