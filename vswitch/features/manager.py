"""The features of one switch, on all its ports, with their settings.

Made once for a switch. It watches ports come and go, gives each the stages that its settings ask
for, joins what features say about who reaches whom, and ticks them once a second. Settings can be
changed while everything runs.

An exception that a feature raises unforeseen is noted in `Switch.faults`: at a port it takes that
port down, which is never left open without a guard; in `tick` or `run` it ends what the feature
does by itself, on the whole switch.

Error contract: `ConfigError` for settings that are wrong; then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import trio

from vswitch.errors import NotFound
from vswitch.features.base import ANY_PORT, Feature
from vswitch.features.guards import Guards
from vswitch.features.impair import Impairments
from vswitch.features.loops import Loops
from vswitch.features.macs import Macs
from vswitch.features.mirror import Mirrors
from vswitch.features.multicast import Multicast
from vswitch.features.port_events import PortEvents
from vswitch.features.rates import Rates
from vswitch.features.settings import PortSettings, Settings, SwitchSettings
from vswitch.features.storms import Storms
from vswitch.features.vlans import Vlans
from vswitch.switch.port import Port
from vswitch.switch.stages import Reach
from vswitch.switch.switch import Switch

AnyFeature = Feature[SwitchSettings, PortSettings]

# In the order in which frames that come in pass them; those that leave, the other way round.
FEATURES: tuple[Callable[[Switch], AnyFeature], ...] = (
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

F = TypeVar("F", bound=Feature[Any, Any])
T = TypeVar("T")


class FeatureManager:
    """The features of one switch. Implements `vswitch.switch.stages.Reach`."""

    def __init__(self, switch: Switch, settings: Settings | None = None) -> None:
        self.switch = switch
        self.features = tuple(make(switch) for make in FEATURES)
        self._ended: set[AnyFeature] = set()  # that have raised in `tick` or `run`
        self._adopt(Settings() if settings is None else settings)
        switch.set_policy(
            reach=self._reach,
            learning=_first(feature.learning for feature in self.features),
            moved=_first(feature.moved for feature in self.features),
        )
        switch.add_watcher(self._watch)
        for port in switch.ports:
            self._watch(port)
        switch.rewire()

    def change_port(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change settings of the port of that name, attached or not."""
        self._change(self.settings.with_port(name, changes), name)

    def change_switch(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the whole switch."""
        self._change(self.settings.with_switch(changes), ANY_PORT)

    def reserve_macs(self, owners: Mapping[bytes, str]) -> None:
        """Have features keep these MACs, and no others, for the ports of those names."""
        for feature in self.features:
            feature.macs_reserved(owners)

    def _change(self, settings: Settings, name: str) -> None:
        """Go by settings that are new for the ports of that name."""
        anew = self._adopt(settings)
        for port in self.switch.ports:
            if anew or name in (port.name, port.group, ANY_PORT):
                self._equip(port)
        self.switch.rewire()

    def _adopt(self, settings: Settings) -> bool:
        """Have the features check settings and go by them; whether that concerns every port."""
        switch, ports = settings.switch, settings.by_name()
        for feature in self.features:
            feature.validate(switch, ports)
        self.settings = settings
        anew = [feature.settings_changed(switch, ports) for feature in self.features]
        return any(anew)

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
                nursery.start_soon(self._run, feature)
            nursery.start_soon(self._tick)

    async def _run(self, feature: AnyFeature) -> None:
        try:
            await feature.run()
        except Exception as error:
            self._end(feature, error)

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            for feature in self.features:
                if feature not in self._ended:
                    try:
                        feature.tick(now)
                    except Exception as error:
                        self._end(feature, error)

    def _end(self, feature: AnyFeature, error: Exception) -> None:
        """It does nothing by itself any more. Its stages stay, so that no guard is opened; what one
        holds would never go on, and ends with the ports that hold it.
        """
        self._ended.add(feature)
        self.switch.faults.note(type(feature).__name__, "", error, self.switch.now())
        for port in self.switch.ports:
            if port.held_frames:
                self.switch.detach(port)

    def _watch(self, port: Port) -> None:
        begins = port.attached
        for feature in self.features:
            try:
                if begins:
                    feature.port_up(port)
                else:
                    feature.port_down(port.number)
            except Exception as error:
                self._give_up(feature, port, error)
                if begins:
                    return
        if begins:
            self._equip(port)

    def _give_up(self, feature: AnyFeature, port: Port, error: Exception) -> None:
        """A feature has raised at a port, which is not left open without it."""
        self.switch.faults.note(type(feature).__name__, port.name, error, self.switch.now())
        self.switch.detach(port)

    def _equip(self, port: Port) -> None:
        """Give the port the stages that its settings ask for."""
        settings = self.settings.of_port(port.name, port.group)
        made = []
        for feature in self.features:
            try:
                made.append(feature.port_stages(port, settings))
            except Exception as error:
                self._give_up(feature, port, error)
                return
        port.ingress_stages = tuple(each.ingress for each in made if each.ingress is not None)
        port.egress_stages = tuple(
            each.egress for each in reversed(made) if each.egress is not None
        )
        port.shape(_first(each.shaper for each in made))

    def _reach(self) -> Reach | None:
        """Whom the switch is to ask who hears whom: nobody, where no feature has a say."""
        self._apart = tuple(feature for feature in self.features if feature.keeps_apart)
        self._groups = tuple(feature for feature in self.features if feature.knows_groups)
        return self if self._apart or self._groups else None

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


def _first(given: Iterable[T | None]) -> T | None:
    return next((each for each in given if each is not None), None)
