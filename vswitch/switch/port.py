"""A port: one device, the queue of frames that wait for it, and its counters.

This is the synchronous half; `switch.py` and `port_lifecycle.py` run the tasks and decide what a
failure means.
Invariant: a frame given to `send` is counted exactly once, as sent, as dropped, or as queued; a
superframe as the frames that it stands for.
Errors: whatever the device raises passes through, after the accounts have been put right.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from vswitch.frames.load import Load, load_of
from vswitch.switch.counters import CounterSnapshot, DropReason, PortCounters
from vswitch.switch.device import Device, Distant, Overtaking, patience_with
from vswitch.switch.egress import EgressQueue
from vswitch.switch.fdb import FdbStatistics
from vswitch.switch.shaper import Shaper
from vswitch.switch.stages import Stage, behind

# Bytes taken from the queue for one write: enough for a good batch, little to put back when the
# device takes only a part. One record more than that at most.
FLUSH_BYTES = 64 * 1024


@attrs.frozen
class PortStatistics:
    """One port at one moment."""

    number: int
    name: str
    device: str  # the device's own name
    mtu: int
    attached_at: float  # seconds on the clock of the switch
    queued_frames: int  # that the queued records stand for
    queued_bytes: int  # with record headers
    held_frames: int  # that a stage delays, on either way
    counters: CounterSnapshot


@attrs.frozen
class SwitchStatistics:
    """The whole switch at one moment. `totals` includes the ports that are gone."""

    mtu: int
    ports: tuple[PortStatistics, ...]
    fdb: FdbStatistics
    totals: CounterSnapshot
    queued_frames: int
    held_frames: int


@attrs.frozen
class Bound:
    """What is known of the one host behind a port, for guards."""

    mac: bytes | None = None  # that it has announced
    address: str | None = None  # that the switch has given it, without a prefix length
    vouched: bool = False  # the MAC is the one that derives from its key
    address6: str | None = None  # as `address`
    networks: tuple[str, ...] = ()  # behind it, in which there may be who sends through it
    lan: tuple[str, ...] = ()  # in which there is nobody behind it


class Port:
    """An attachment point of the switch; made by `Switch.attach`.

    `error` is what took the port down: None while it is up, and after an orderly detach.
    """

    def __init__(
        self,
        number: int,
        name: str,
        device: Device,
        queue: EgressQueue,
        attached_at: float,
        clock: Callable[[], float] = trio.current_time,
        bound: Bound | None = None,
    ) -> None:
        self.number = number
        self.bound = bound
        self.name = name
        self.device = device
        self.attached_at = attached_at
        self.bridge = False  # a LAN with hosts of its own is behind it
        self.group = ""  # what settings of its kind are called, besides its name
        self.counters = PortCounters()
        self.attached = True  # whether frames still pass
        self.error: Exception | None = None
        self.blocked: str | None = None  # why nothing passes for a while: "loop", "bpdu"
        self.ingress_stages: tuple[Stage, ...] = ()
        self.egress_stages: tuple[Stage, ...] = ()
        self.held_frames = 0  # that stages delay; they say so themselves
        self._overtaking = device if isinstance(device, Overtaking) else None
        self._distant = device if isinstance(device, Distant) else None
        self._shaper: Shaper | None = None
        self._queue = queue
        self._clock = clock
        self._backlog = trio.Event()
        self._detached = trio.Event()

    def __repr__(self) -> str:
        return f"<Port {self.number} {self.name!r} {'up' if self.attached else 'down'}>"

    def now(self) -> float:
        """The clock of the switch."""
        return self._clock()

    async def wait_detached(self) -> None:
        """Return when the port is down; `error` says why."""
        await self._detached.wait()

    def statistics(self) -> PortStatistics:
        """Counters and queue now, frozen."""
        return PortStatistics(
            number=self.number,
            name=self.name,
            device=self.device.name,
            mtu=self.device.mtu,
            attached_at=self.attached_at,
            queued_frames=self._queue.frames,
            queued_bytes=self._queue.bytes,
            held_frames=self.held_frames,
            counters=self.counters.snapshot(),
        )

    def send(self, records: list[bytes], load: Load, after: Stage | None = None) -> None:
        """Write a batch of that load through to the device, and queue what it does not take; one
        that a stage has held goes on behind that.
        """
        # HOT PATH
        if self.egress_stages:
            now, came = self._clock(), records
            stages = self.egress_stages
            for stage in stages if after is None else behind(stages, after):
                if not records:
                    return
                records = stage.take(records, now, self.counters)
            if not records:
                return
            if records is not came:
                load = load_of(records)
        if self._queue:
            self._enqueue(self._overtake(records))
            return
        shaper = self._shaper
        if shaper is not None:
            if shaper.room(self._clock()) < load.bytes:
                self._enqueue(self._overtake(records))
                return
            shaper.spend(records)
        try:
            taken = self.device.write_nowait(records)
        except BaseException:
            self.counters.drop(DropReason.PORT_DETACHED, load.frames)
            raise
        if taken < len(records):
            load = load_of(records[:taken])
        self.counters.tx_frames += load.frames
        self.counters.tx_bytes += load.bytes
        if taken < len(records):
            if shaper is not None:
                shaper.refund(records[taken:])
            self._enqueue(self._overtake(records[taken:]))

    def flush(self) -> None:
        """Write what waits, until the device is full. Writes once even when nothing waits."""
        queue, now, shaper, most = self._queue, self._clock(), self._shaper, FLUSH_BYTES
        patience = patience_with(self._distant, slow=shaper is not None)
        while True:
            if shaper is not None and queue:
                most = min(FLUSH_BYTES, shaper.room(now))
                if not most:
                    return
            records = queue.take(most, now, patience)
            late = queue.take_late()
            if late:
                self.counters.drop(DropReason.QUEUE_DELAY, load_of(late).frames)
            try:
                taken = self.device.write_nowait(records)
            except BaseException:
                queue.put_back(records)
                raise
            full = taken < len(records)
            if shaper is not None:
                shaper.spend(records[:taken])
            if full:
                queue.put_back(records[taken:])
                records = records[:taken]
            load = load_of(records)
            self.counters.tx_frames += load.frames
            self.counters.tx_bytes += load.bytes
            if full or not queue:
                return

    def shape(self, shaper: Shaper | None) -> None:
        """Have what leaves wait for its turn at a rate, from now on."""
        self._shaper = shaper
        self._backlog.set()

    def flush_soon(self) -> None:
        """Have the port's task wait until the device is writable, and flush then."""
        self._backlog.set()

    async def flush_when_writable(self) -> None:
        """Wait for a backlog, then for the device. The caller flushes, and calls again."""
        if not self._queue:
            await self._backlog.wait()
        self._backlog = trio.Event()
        if self._shaper is not None and (delay := self._shaper.delay(self._clock())):
            await trio.sleep(delay)
        await self.device.wait_writable()

    def shut(self, error: Exception | None) -> None:
        """The port is down, its backlog dropped. Closing the device is left to the caller."""
        self.error = error
        self.counters.drop(DropReason.PORT_DETACHED, self._queue.frames)
        self._queue.clear()
        self.attached = False
        self._detached.set()

    def _overtake(self, records: list[bytes]) -> list[bytes]:
        """Write what may pass the queue; the rest."""
        if self._overtaking is None:
            return records
        try:
            passing, rest = self._overtaking.overtake_nowait(records, self._queue.waits)
        except BaseException:
            self.counters.drop(DropReason.PORT_DETACHED, load_of(records).frames)
            raise
        if passing:
            if self._shaper is not None:
                self._shaper.spend(passing)
            load = load_of(passing)
            self.counters.tx_frames += load.frames
            self.counters.tx_bytes += load.bytes
        return rest

    def _enqueue(self, records: list[bytes]) -> None:
        refused = self._queue.offer(records, self._clock())
        self.counters.drop(DropReason.QUEUE_FULL, load_of(refused).frames)
        self._backlog.set()


def switch_statistics(
    mtu: int, ports: tuple[Port, ...], fdb: FdbStatistics, departed: PortCounters
) -> SwitchStatistics:
    """Everything that is counted, frozen; `departed` are the counters of ports that are gone."""
    totals = PortCounters()
    totals.add(departed)
    for port in ports:
        totals.add(port.counters)
    each = tuple(port.statistics() for port in ports)
    return SwitchStatistics(
        mtu=mtu,
        ports=each,
        fdb=fdb,
        totals=totals.snapshot(),
        queued_frames=sum(port.queued_frames for port in each),
        held_frames=sum(port.held_frames for port in each),
    )
