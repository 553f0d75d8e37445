"""The switch: ports with their tasks around the forwarding core.

A frame travels by plain calls. A port's reading task wakes and drains a bounded batch from its
device; `Switch.ingress` forwards it, and writes to the other ports' devices before it returns:

 device.read_nowait ─▶ ingress ─▶ Forwarder ─▶ for each port out: device.write_nowait
                                                └▶ what it does not take: the port's egress queue

There is no await between, and no port waits for another: what a device does not take is queued, and
what the queue does not take is dropped and counted. Superframes are cut for the devices that take
none (`delivery.py`).

A device that fails, in whichever task, takes down its own port only: the port is detached, its
stations are forgotten, the reason is logged once and kept in `port.error`. So does a stage: its
port is shut, never left open without it. An observer that fails is left out from then on. Plugging
it in again is a decision for whoever attached it. Nothing that a port does ends the switch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from vswitch.errors import RefusedError, VswitchError
from vswitch.frames.load import load_of
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.switch.delivery import Parcel, explain, parcels
from vswitch.switch.device import Device
from vswitch.switch.egress import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, EgressQueue, Pool
from vswitch.switch.events import EventLog
from vswitch.switch.faults import Faults, is_ordinary
from vswitch.switch.fdb import (
    AGEING_TIME,
    CAPACITY,
    Fdb,
    FdbEntry,
    LearningPolicy,
    MoveListener,
)
from vswitch.switch.forwarding import Forwarder
from vswitch.switch.local import LocalPort, local_pair
from vswitch.switch.port import Bound, Port, SwitchStatistics, switch_statistics
from vswitch.switch.port_lifecycle import READ_BATCH, DetachListener, begin_port, end_port, run_port
from vswitch.switch.stages import Decision, Observer, Reach, Stage, behind

MAX_PORTS = 1024  # a broadcast costs as many writes; bounds sessions and memory too
AGEING_INTERVAL = 10.0  # seconds; a look-up never uses an aged entry, so this frees memory only


class Switch:
    """A learning Ethernet switch; made by `open_switch`. All methods that move frames are sync."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        mtu: int = 1500,
        max_ports: int = MAX_PORTS,
        fdb: Fdb | None = None,
        max_queued_frames: int = MAX_QUEUED_FRAMES,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.max_ports = max_ports
        self.events = EventLog()  # what features of a managed switch have noticed
        self.faults = Faults(self.events)
        self._nursery = nursery
        self._forwarder = Forwarder(mtu=mtu, fdb=fdb)
        self._reach: Callable[[], Reach | None] = lambda: None  # see `set_policy`
        self._queue_limits = (max_queued_frames, max_queued_bytes)
        self._pool = Pool()  # what all ports have queued
        self._clock = clock
        self._ports: dict[int, Port] = {}
        self._scopes: dict[Port, trio.CancelScope] = {}
        self._listeners: dict[Port, DetachListener] = {}
        self._departed = PortCounters()  # what ports that are gone have counted
        self._observers: tuple[Observer, ...] = ()
        self._watchers: tuple[Callable[[Port], None], ...] = ()
        self._writing = False
        self._lost = False  # frames that something had in hand when it raised
        self._closed = False

    @property
    def mtu(self) -> int:
        """Bytes of Ethernet payload that a frame through the switch may have."""
        return self._forwarder.mtu

    @property
    def fdb(self) -> Fdb:
        """The MAC table, for features of a managed switch."""
        return self._forwarder.fdb

    @property
    def ports(self) -> tuple[Port, ...]:
        """The attached ports, by number."""
        return tuple(port for _, port in sorted(self._ports.items()))

    def port(self, number: int) -> Port | None:
        """The attached port of that number."""
        return self._ports.get(number)

    def attach(
        self,
        device: Device,
        *,
        name: str,
        on_detach: DetachListener | None = None,
        bridge: bool = False,
        group: str = "",
        bound: Bound | None = None,
        number: int | None = None,
    ) -> Port:
        """Plug a device in, under the lowest free number, or under `number`, which is free. The
        device is the switch's from here on.

        `bridge` says that a LAN is behind it, `group` whose settings it has besides those of its
        name, `bound` what is known of the host behind it. `on_detach(port)` is called once, when
        the port is down and its device closed. Raises
        `RefusedError` when all ports are taken, `trio.ClosedResourceError` after `close`; the
        device then stays with the caller.
        """
        if self._closed:
            raise trio.ClosedResourceError("the switch is closed")
        if len(self._ports) >= self.max_ports:
            raise RefusedError(f"all {self.max_ports} ports of the switch are taken")
        if number is None:
            number = next(n for n in range(1, self.max_ports + 1) if n not in self._ports)
        elif number in self._ports:
            raise RefusedError(f"port {number} of the switch is taken")
        queue = EgressQueue(*self._queue_limits, self._pool)
        port = Port(number, name, device, queue, self._clock(), self._clock, bound)
        port.bridge, port.group = bridge, group
        self._forwarder.add_port(number, port.counters)
        self._ports[number] = port
        self._scopes[port] = scope = trio.CancelScope()
        if on_detach is not None:
            self._listeners[port] = on_detach
        self._nursery.start_soon(self._run, port, scope, name=f"<port {number} {name}>")
        for watcher in self._watchers:
            watcher(port)
        begin_port(port)
        return port

    def detach(self, port: Port) -> None:
        """Unplug a port and close its device. Does nothing when it is down already."""
        self._take_down(port, None)

    def ingress(self, port: Port, records: list[bytes]) -> None:
        """Forward a batch of frame and superframe records that came in on `port`, and write it out.

        What a port's stages or device raise is that port's business and takes it down. Raises
        `RuntimeError` for a call from inside a device's `write_nowait` (rule 3 of `device.py`).
        """
        # HOT PATH
        if not port.attached:
            self._departed.refuse(records, DropReason.PORT_DETACHED)
            return
        self._enter()
        try:
            load, now, counters = load_of(records), self._clock(), port.counters
            counters.rx_frames += load.frames
            counters.rx_bytes += load.bytes
            if self._observers:
                self._show_ingress(port.number, records, now)
            came = records
            for stage in port.ingress_stages:
                if not records:
                    return
                records = stage.take(records, now, counters)
            if records is not came:
                load = load_of(records)
            batches = self._forwarder.ingress(port.number, records, now, load)
            # Ports are looked up before the first write: one that fails may be gone, and its number
            # taken by another, before the last.
            sent = parcels(batches, records, load, self._ports, self._forwarder.mtu, counters)
            self._send(sent, now)
        except Exception as error:
            self._fail(port, error)
        finally:
            self._writing = False
            if self._lost:
                self._count_lost()

    def resume(self, port: Port, records: list[bytes], stage: Stage) -> None:
        """Have records go on that a stage of the port has held, on the way that it is on; they were
        counted when they came in.
        """
        if not port.attached:
            self._departed.drop(DropReason.PORT_DETACHED, load_of(records).frames)
            return
        self._enter()
        try:
            if stage in port.egress_stages:
                port.send(records, load_of(records), stage)
            else:
                self._resume_ingress(port, records, behind(port.ingress_stages, stage))
        except Exception as error:
            self._fail(port, error)
        finally:
            self._writing = False
            if self._lost:
                self._count_lost()

    def _resume_ingress(self, port: Port, records: list[bytes], stages: tuple[Stage, ...]) -> None:
        now, counters = self._clock(), port.counters
        self._show_ingress(port.number, [], now)
        for stage in stages:
            if not records:
                return
            records = stage.take(records, now, counters)
        load = load_of(records)
        batches = self._forwarder.ingress(port.number, records, now, load)
        self._send(parcels(batches, records, load, self._ports, self.mtu, counters), now)

    def _send(self, sent: list[Parcel], now: float) -> None:
        for egress, batch, weight in sent:
            try:
                if egress.attached:
                    egress.send(batch, weight)
                    if self._observers:
                        self._show_egress(egress.number, batch, now)
                else:
                    self._departed.drop(DropReason.PORT_DETACHED, weight.frames)
            except Exception as error:
                self._fail(egress, error)

    def _show_ingress(self, number: int, records: list[bytes], now: float) -> None:
        for observer in self._observers:
            try:
                observer.saw_ingress(number, records, now)
            except Exception as error:
                self._blind(observer, error)

    def _show_egress(self, number: int, records: list[bytes], now: float) -> None:
        for observer in self._observers:
            try:
                observer.saw_egress(number, records, now)
            except Exception as error:
                self._blind(observer, error)

    def _blind(self, observer: Observer, error: Exception) -> None:
        """It shows nothing that passes any more; what passes is not concerned."""
        self.remove_observer(observer)
        self.faults.note(type(observer).__name__, "", error, self._clock())

    def _fail(self, port: Port, error: Exception) -> None:
        """What a port's device or stages raise takes it down: nothing passes unguarded. What they
        had in hand is missing from the accounts, and counted when the batch is through.
        """
        self._lost = True
        self._take_down(port, error)

    def _count_lost(self) -> None:
        """A batch is through, and something had some of it in hand when it raised."""
        self._lost = False
        counted = self.statistics()
        totals = counted.totals
        missing = totals.rx_frames + totals.flood_copies - totals.tx_frames - totals.dropped
        missing -= counted.queued_frames + counted.held_frames
        self._departed.drop(DropReason.FEATURE_FAILED, max(0, missing))

    def send_copy(self, port: Port, records: list[bytes]) -> None:
        """Write copies of frames that pass out on a port besides, as they are; for observers. Past
        forwarding and the stages of that port, and no observer sees them.
        """
        if not records or not port.attached:
            return
        load = load_of(records)
        port.counters.flood_copies += load.frames
        out, stages = {port.number: records}, port.egress_stages
        sent = parcels(out, records, load, self._ports, self._forwarder.mtu, port.counters)
        for _, batch, weight in sent:
            try:
                port.send(batch, weight, stages[-1] if stages else None)
            except Exception as error:
                self._fail(port, error)

    def originate(
        self, record: bytes, numbers: Sequence[int], counters: PortCounters | None = None
    ) -> None:
        """Send a frame of the switch's own to ports, or with the counters of a port, what one of
        its stages has taken out of a batch. May be called from a stage.
        """
        batches = {number: [record] for number in numbers if number in self._ports}
        if not batches:
            return
        load, now = load_of((record,)), self._clock()
        if counters is None:
            counters = self._departed
            counters.rx_frames += load.frames
            counters.rx_bytes += load.bytes
        counters.flood_copies += (len(batches) - 1) * load.frames
        inside, self._writing = self._writing, True
        try:
            self._send(parcels(batches, [record], load, self._ports, self.mtu, counters), now)
        finally:
            self._writing = inside

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Whether frames of a VLAN go from one port to the other."""
        reach = self._forwarder.reach
        return reach is None or reach.reaches(ingress, egress, vlan)

    def set_policy(
        self,
        *,
        reach: Callable[[], Reach | None],
        learning: LearningPolicy | None = None,
        moved: MoveListener | None = None,
    ) -> None:
        """What features decide about forwarding, in place of what they have said before.

        Args:
            reach: gives who says which port hears which, None for all of all; asked at `rewire`.
            learning: is asked about addresses that are new on a port.
            moved: is called with each station that is heard on another port than before.
        """
        self._reach = reach
        self._forwarder.fdb.set_policy(learning, moved)
        self.rewire()

    def rewire(self) -> None:
        """Who hears whom has changed."""
        self._forwarder.set_reach(self._reach())

    def now(self) -> float:
        """Seconds, on the clock of the switch."""
        return self._clock()

    def count_ports(self) -> int:
        """How many ports are attached."""
        return len(self._ports)

    def look_up(self, vlan: int, mac: bytes, now: float) -> int | None:
        """The port where a station was last heard, None for one that frames are flooded to."""
        return self._forwarder.fdb.lookup(vlan, mac, now)

    def thaw_stations(self) -> None:
        """Hold no station any longer where it was before it moved."""
        self._forwarder.fdb.thaw()

    def add_watcher(self, watcher: Callable[[Port], None]) -> None:
        """Call it with each port that was attached, before its first frame, and with each that is
        down. It raises nothing.
        """
        self._watchers = (*self._watchers, watcher)

    def remove_watcher(self, watcher: Callable[[Port], None]) -> None:
        """Call it no more."""
        self._watchers = tuple(each for each in self._watchers if each != watcher)

    def add_observer(self, observer: Observer) -> None:
        """Show it everything that passes, until `remove_observer`."""
        self._observers = (*self._observers, observer)

    def remove_observer(self, observer: Observer) -> None:
        """Stop that."""
        self._observers = tuple(each for each in self._observers if each is not observer)

    def explain(self, port: Port, record: bytes) -> Decision:
        """What would happen to a record that came in on `port` now, and why. Changes nothing.
        Raises `VswitchError` where a stage or a policy cannot say it, by a mistake in a program.
        """
        now = self._clock()
        try:
            return explain(port, record, self._forwarder, self._ports, now)
        except Exception as error:
            fault = self.faults.note("trace", port.name, error, now)
            raise VswitchError(
                f"a fault of vswitch ({fault.error}) has ended the question, and nothing else: see "
                f"the log for {fault.reference}"
            ) from None

    def fdb_entries(self) -> list[FdbEntry]:
        """The stations that the switch knows, by port."""
        return self._forwarder.fdb.entries(self._clock())

    def flush_fdb(self, *, port: Port | None = None, vlan: int | None = None) -> int:
        """Forget the stations of a port, of a VLAN, or all. How many."""
        if port is not None and not port.attached:
            return 0
        return self._forwarder.fdb.flush(port=None if port is None else port.number, vlan=vlan)

    def statistics(self) -> SwitchStatistics:
        """Everything that is counted, now, frozen."""
        fdb = self._forwarder.fdb.statistics()
        return switch_statistics(self.mtu, self.ports, fdb, self._departed)

    @asynccontextmanager
    async def open_port(self, name: str) -> AsyncIterator[LocalPort]:
        """A port for this program, for as long as the context lasts."""
        device, handle = local_pair(name, mtu=self.mtu)
        port = self.attach(device, name=name)
        try:
            yield handle
        finally:
            handle.close()
            # What was sent inside the context is forwarded, also when it ends by cancellation.
            while port.attached:
                try:
                    self.ingress(port, device.read_nowait(READ_BATCH))
                except trio.BrokenResourceError:
                    self.detach(port)

    def close(self) -> None:
        """Detach all ports; none can be attached any more. Idempotent."""
        self._closed = True
        for port in self.ports:
            self.detach(port)

    def _enter(self) -> None:
        if self._writing:
            raise RuntimeError("a device called back into the switch from its write_nowait")
        self._writing = True

    def _flush(self, port: Port) -> None:
        self._enter()
        try:
            port.flush()
        finally:
            self._writing = False
            if self._lost:
                self._count_lost()

    def _take_down(self, port: Port, error: Exception | None) -> None:
        """Everything that the end of a port means; once, and without an await."""
        if not port.attached:
            return
        del self._ports[port.number]
        self._forwarder.remove_port(port.number)
        port.shut(error)
        self._departed.add(port.counters)
        for watcher in self._watchers:
            watcher(port)
        reference = None
        if error is not None and not is_ordinary(error):
            reference = self.faults.add("port", port.name, error, self._clock()).reference
        end_port(port, self._listeners.pop(port, None), reference)
        self._scopes.pop(port).cancel()

    async def _run(self, port: Port, scope: trio.CancelScope) -> None:
        with scope:
            await run_port(port, self.ingress, self._flush, self._take_down)

    async def _age(self) -> None:
        while True:
            await trio.sleep(AGEING_INTERVAL)
            self._forwarder.fdb.expire(self._clock())


@asynccontextmanager
async def open_switch(
    *,
    mtu: int = 1500,
    max_ports: int = MAX_PORTS,
    fdb_capacity: int = CAPACITY,
    ageing_time: float = AGEING_TIME,
    max_queued_frames: int = MAX_QUEUED_FRAMES,
    max_queued_bytes: int = MAX_QUEUED_BYTES,
) -> AsyncIterator[Switch]:
    """A running switch. At the end of the context all ports are detached and all tasks gone.

    `ageing_time` is in seconds, the queue limits are per port. An exception of the body comes out
    as it is, not in a group: the switch's own tasks raise none.
    """
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            switch = Switch(
                nursery,
                clock=trio.lowlevel.current_clock().current_time,  # as trio's, in fewer steps
                mtu=mtu,
                max_ports=max_ports,
                fdb=Fdb(capacity=fdb_capacity, ageing_time=ageing_time),
                max_queued_frames=max_queued_frames,
                max_queued_bytes=max_queued_bytes,
            )
            nursery.start_soon(switch._age)
            try:
                yield switch
            except BaseException as error:
                body_error = error
                raise
            finally:
                switch.close()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if group.exceptions != (body_error,):
            raise
    if body_error is not None:
        try:
            raise body_error
        finally:
            del body_error  # or its traceback and this frame would keep each other alive
