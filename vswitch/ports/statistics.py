"""The switch at one moment: what `Switch.statistics` gives."""

from __future__ import annotations

import attrs

from vswitch.core.counters import CounterSnapshot, PortCounters
from vswitch.core.fdb import FdbStatistics
from vswitch.ports.port import Port, PortStatistics

__all__ = ["SwitchStatistics", "switch_statistics"]


@attrs.frozen
class SwitchStatistics:
    """The switch at one moment. `totals` includes the ports that are gone."""

    mtu: int
    ports: tuple[PortStatistics, ...]
    fdb: FdbStatistics
    totals: CounterSnapshot
    queued_frames: int
    held_frames: int


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
