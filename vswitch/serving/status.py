"""What `vswitch status` shows of a running switch.

Error contract: `VswitchError` where the registry cannot be read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import trio
from attrs import Factory, define, field

from transport import Endpoint
from vswitch.api.table import Subject
from vswitch.clocks import uptime
from vswitch.errors import VswitchError
from vswitch.features.impair import Impairments, said
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.foreign.serve import Listener
from vswitch.management.handlers.publish import publish_status
from vswitch.management.status import (
    FaultStatus,
    ForeignStatus,
    PortStatus,
    RekeyStatus,
    SwitchStatus,
)
from vswitch.members.device import measured
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.services.publish import Publisher
from vswitch.serving.connected_member import ConnectedMember
from vswitch.serving.reception import Reception
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.device import description_of
from vswitch.switch.faults import Fault
from vswitch.switch.port import Port, SwitchStatistics
from vswitch.switch.switch import Switch
from vswitch.version import VERSION

FRESH = 1.0  # seconds


@define(eq=False)
class Underlay:
    """What the networks of one `serve` have in common."""

    endpoint: Endpoint
    networks: Sequence[str] = (DEFAULT_NETWORK,)
    https: str | None = None  # where it listens, while it does
    api: str | None = None  # the same, in plain HTTP on this host
    subject: Subject = field(kw_only=True)
    web: dict[str, Counter[str]] = Factory(dict)  # why clients were refused, by listener


@define(eq=False)
class ServeStatus:
    """Reads the status of one network, which sets its `listeners` when they are open."""

    network: str
    served: LastServed
    underlay: Underlay
    switch: Switch
    reception: Reception
    registry: Registry
    managed: FeatureManager
    started: float = Factory(uptime)
    listeners: list[Listener] = Factory(list)
    publisher: Publisher | None = None
    # What `_settings` found in the settings that were in force then.
    _shown: WeakKeyDictionary[Port, dict[str, Any]] = Factory(WeakKeyDictionary)
    _shown_of: Settings | None = None
    _measuring: trio.Lock = Factory(trio.Lock)
    _measured: float = -math.inf  # when the round trips were, on Trio's clock

    async def read(self) -> SwitchStatus:
        """As it is now, but for round trips, which may be `FRESH` seconds old: many who look cost
        the members no more than one.
        """
        async with self._measuring:
            if trio.current_time() - self._measured >= FRESH:
                await measured([each.channel for each in self.reception.connected.values()])
                self._measured = trio.current_time()
        impaired = self._impaired()
        connected = {each.port: each for each in self.reception.connected.values()}
        reached = [each.text() for each in self.served.reached_at(self.served.public)]
        return SwitchStatus(
            version=VERSION,
            uptime_s=uptime() - self.started,
            listen=self.served.listen[0].text(),
            listens=[each.text() for each in self.served.listen],
            subnet=str(self.served.subnet),
            mtu=self.switch.mtu,
            members=self.registry.count(),
            public=reached[0] if reached else None,
            publics=reached,
            network=self.network,
            networks=list(self.underlay.networks),
            https=self.underlay.https,
            api=self.underlay.api,
            web={name: dict(counts) for name, counts in self.underlay.web.items()},
            key=None if self.served.key is None else self.served.key.fingerprint(),
            rekey=await self._rekey(),
            transport_drops=dict(self.underlay.endpoint.statistics().drops),
            foreign=[
                ForeignStatus(
                    name=each.name,
                    kind=each.kind,
                    listen=each.listen,
                    ended=each.ended,
                    refused=dict(each.refused),
                )
                for each in self.listeners
            ],
            published=[
                publish_status(each)
                for each in (() if self.publisher is None else self.publisher.rules)
            ],
            ports=[
                attrs.evolve(
                    _port_status(port, connected.get(port)),
                    impaired=impaired.get(port.number),
                    settings=self._settings(port),
                )
                for port in self.switch.ports
            ],
            totals=totals_of(self.switch.statistics()),
            faults=[_fault_status(each) for each in self.switch.faults.latest],
            ended=[_fault_status(each) for each in self.switch.faults.ended],
        )

    async def _rekey(self) -> RekeyStatus | None:
        if self.served.grace is None:
            return None
        rekeying = self.underlay.subject.rekeying
        return None if rekeying is None else await rekeying.status()

    def _impaired(self) -> dict[int, str]:
        try:
            active = self.managed.feature(Impairments).active
        except VswitchError:  # it has ended, which `ended` says
            return {}
        return {number: said(each.orders) for number, each in active.items()}

    def _settings(self, port: Port) -> dict[str, Any]:
        """Read once, since that takes 100 µs a port, and frames wait meanwhile."""
        settings = self.managed.settings
        if self._shown_of is not settings:
            self._shown_of = settings
            self._shown.clear()
        found = self._shown.get(port)
        if found is None:
            in_force = settings.in_force(port.name, port)
            found = {each.key: each.value for each in in_force if each.source}
            self._shown[port] = found
        return found


def _fault_status(fault: Fault) -> FaultStatus:
    return FaultStatus(
        ended=fault.what, port=fault.port, error=fault.error, reference=fault.reference
    )


def totals_of(statistics: SwitchStatistics) -> dict[str, int]:
    """The counters of all ports together, those that are gone included."""
    totals = statistics.totals
    return {
        "rx_frames": totals.rx_frames,
        "rx_bytes": totals.rx_bytes,
        "tx_frames": totals.tx_frames,
        "tx_bytes": totals.tx_bytes,
        "flood_copies": totals.flood_copies,
        "dropped": totals.dropped,
        "queued_frames": statistics.queued_frames,
        "held_frames": statistics.held_frames,
    }


def _port_status(port: Port, member: ConnectedMember | None) -> PortStatus:
    counters, statistics = port.counters.snapshot(), port.statistics()
    about = description_of(port.device)
    drops = Counter({reason.value: count for reason, count in counters.drops.items()})
    facts: dict[str, Any] = {"via": about.via} if member is None else member.status()
    return PortStatus(
        port=port.number,
        name=port.name,
        state=("blocked" if port.blocked else "up") if port.attached else "down",
        blocked=port.blocked,
        rx_frames=counters.rx_frames,
        rx_bytes=counters.rx_bytes,
        tx_frames=counters.tx_frames,
        tx_bytes=counters.tx_bytes,
        flood_copies=counters.flood_copies,
        queued_frames=statistics.queued_frames,
        queued_bytes=statistics.queued_bytes,
        held_frames=port.held_frames,
        drops=dict(drops + Counter(about.dropped)),
        **facts,
    )
