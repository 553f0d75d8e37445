"""A switch with settings: features on its ports, as long as the ports are there.

Made once for a switch. It watches ports come and go, gives each the stages that its settings ask
for, joins what features say about who reaches whom, and ticks them once a second. Settings can be
changed while everything runs.

Error contract: `ConfigError` for settings that are wrong; then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import trio

from vswitch.errors import NotFound
from vswitch.features.base import Feature
from vswitch.features.guards import Guards
from vswitch.features.impair import Impairments
from vswitch.features.loops import Loops
from vswitch.features.macs import Macs
from vswitch.features.mirror import Mirrors
from vswitch.features.multicast import Multicast
from vswitch.features.port_events import PortEvents
from vswitch.features.rates import Rates
from vswitch.features.settings import ANY_PORT, Settings
from vswitch.features.storms import Storms
from vswitch.features.vlans import Vlans
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

# In the order in which frames that come in pass them; those that leave, the other way round.
FEATURES: tuple[Callable[[Switch], Feature], ...] = (
    Impairments,  # the wire, before which nothing is
    Mirrors,
    Loops,  # looks at frames as the wire has them, and comes first in what it shuts
    Vlans,  # before all that looks into frames: inside, every frame has the tag of its VLAN
    Guards,
    Rates,
    Storms,  # where the FDB is asked: behind the VLANs
    Macs,
    PortEvents,
    Multicast,  # last: what others have dropped is not believed
)

TICK = 1.0  # seconds

F = TypeVar("F", bound=Feature)


class FeatureManager:
    """The features of one switch."""

    def __init__(self, switch: Switch, settings: Settings | None = None) -> None:
        self.switch = switch
        self.settings = Settings() if settings is None else settings
        self.features = tuple(make(switch) for make in FEATURES)
        for feature in self.features:
            feature.check(self.settings)
            feature.changed(self.settings.switch)
            feature.heard(self.settings)
        switch.rewire = self._rewire
        switch.add_watcher(self._watch)
        for port in switch.ports:
            self._equip(port)
        self._rewire()

    def change_port(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change settings of the port of that name, attached or not."""
        changed = self.settings.with_port(name, changes)
        for feature in self.features:
            feature.check(changed)
        self.settings = changed
        anew = [feature.heard(self.settings) for feature in self.features]
        for port in self.switch.ports:
            if any(anew) or name in (port.name, port.group, ANY_PORT):
                self._equip(port)
        self._rewire()

    def change_switch(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the whole switch."""
        self.settings = self.settings.with_switch(changes)
        for feature in self.features:
            feature.changed(self.settings.switch)
            feature.heard(self.settings)
        for port in self.switch.ports:
            self._equip(port)
        self._rewire()

    def feature(self, kind: type[F]) -> F:
        """The feature of that class; `NotFound` for none."""
        for feature in self.features:
            if isinstance(feature, kind):
                return feature
        raise NotFound(f"this switch has no {kind.__name__}")

    def port(self, name: str) -> Port:
        """The attached port of that name, or of that number; `NotFound` if there is none."""
        for port in self.switch.ports:
            if name in (port.name, str(port.number)):
                return port
        raise NotFound(f"no port {name!r}: see `vswitch status`")

    async def run(self) -> None:
        """Tick, and run what features have to run, until cancelled."""
        async with trio.open_nursery() as nursery:
            for feature in self.features:
                nursery.start_soon(feature.run)
            nursery.start_soon(self._tick)

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            for feature in self.features:
                feature.tick(now)

    def _watch(self, port: Port) -> None:
        if port.attached:
            self._equip(port)
        else:
            for feature in self.features:
                feature.gone(port.number)

    def _equip(self, port: Port) -> None:
        settings = self.settings.of_port(port.name, port.group)
        coming = [feature.ingress(port, settings) for feature in self.features]
        leaving = [feature.egress(port, settings) for feature in reversed(self.features)]
        port.ingress_stages = tuple(stage for stage in coming if stage is not None)
        port.egress_stages = tuple(stage for stage in leaving if stage is not None)

    def _rewire(self) -> None:
        """Who hears whom may have changed; where no feature has a say, the switch asks nobody."""
        self._apart = tuple(feature for feature in self.features if feature.keeps_apart)
        self._groups = tuple(feature for feature in self.features if feature.knows_groups)
        self.switch.set_reach(self if self._apart or self._groups else None)

    # --- vswitch.core.stages.Reach ----------------------------------------------------------

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """All features agree."""
        return all(feature.reaches(ingress, egress, vlan) for feature in self._apart)

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """What the first feature says that knows."""
        for feature in self._groups:
            wanted = feature.group_ports(ingress, vlan, mac, now)
            if wanted is not None:
                return wanted
        return None
