"""The features of one switch, on all its ports, with their settings.

Made once for a switch. It watches ports come and go, gives each the stages that its settings ask
for, joins what features say about who reaches whom, and ticks them once a second. Settings can be
changed while everything runs.

An exception that a feature raises unforeseen is noted in `Switch.faults`. At a port it takes that
port down, which is never left open without a guard; about new settings it refuses these; anywhere
else it ends the feature, on the whole switch. An ended feature is asked for nothing any more and
its stages go, unless it `guards`: then its stages stay, and it is asked what it keeps out, no more.

Error contract: `ConfigError` for settings that are wrong, `VswitchError` for those that a feature
cannot take by a fault of its own; then nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from vswitch.errors import NotFound, Problem, VswitchError
from vswitch.features.base import ANY_PORT, Feature
from vswitch.features.guards import Guards
from vswitch.features.impair import Impairments
from vswitch.features.loops import Loops
from vswitch.features.macs import Macs
from vswitch.features.mirror import Mirrors
from vswitch.features.multicast import Multicast
from vswitch.features.port_events import PortEvents
from vswitch.features.rates import Rates
from vswitch.features.rule_set import RuleSet
from vswitch.features.rules import PortRules
from vswitch.features.settings import PortSettings, Settings, SwitchSettings
from vswitch.features.storms import Storms
from vswitch.features.trust import Served
from vswitch.features.vlans import Vlans
from vswitch.switch.counters import Drop
from vswitch.switch.fdb import LearningPolicy
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
    Multicast,  # what others have dropped is not believed
    PortRules,  # last, and so the first where frames leave: nothing has been said to them yet
)

TICK = 1.0  # seconds

F = TypeVar("F", bound=Feature[Any, Any])
T = TypeVar("T")


class FeatureManager:
    """The features of one switch. Implements `vswitch.switch.stages.Reach`."""

    def __init__(self, switch: Switch, settings: Settings | None = None) -> None:
        self.switch = switch
        self.features = tuple(make(switch) for make in FEATURES)
        self._ended: set[AnyFeature] = set()
        self._parting = False  # some have since the last tick
        self._apart: tuple[AnyFeature, ...] = ()  # that are asked who reaches whom
        self._groups: tuple[AnyFeature, ...] = ()  # and who wants a group
        self.settings = Settings()
        self._adopt(self.settings if settings is None else settings)
        told = any(feature.moved for feature in self.features)
        switch.set_policy(
            reach=self._reach,
            learning=_first(self._learning(feature) for feature in self.features),
            moved=self._moved if told else None,
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

    def change_rules(self, rules: RuleSet) -> None:
        """Go by other rules."""
        self._change(self.settings.with_rules(rules), ANY_PORT)

    def reserve(self, macs: Mapping[bytes, str], addresses: Mapping[bytes, str]) -> None:
        """Have features keep these MACs and packed IP addresses, and no others, for the ports of
        those names.
        """
        for feature in self._asked():
            try:
                feature.reserved(macs, addresses)
            except Exception as error:
                self._end(feature, error)

    def go_by(self, settings: Settings) -> None:
        """Go by all of these, in place of those that there are."""
        before = self.settings
        if settings.switch.rules.table == before.switch.rules.table:
            settings = settings.with_rules(before.switch.rules)  # which have counted
        settings = attrs.evolve(settings, served=before.served)
        if settings.switch != before.switch:
            self._change(settings, ANY_PORT)
            return
        said = settings.ports, before.ports
        names = [
            name
            for name in said[0].keys() | said[1].keys()
            if said[0].get(name) != said[1].get(name)
        ]
        if names:
            self._change(settings, *names)

    def renamed(self, former: Mapping[str, str]) -> None:
        """Have features know members by these names, too, that they had before."""
        for feature in self._asked():
            try:
                feature.renamed(former)
            except Exception as error:
                self._end(feature, error)

    def serve(self, served: Served) -> None:
        """Go by what the switch itself does on its LAN, and by nothing that it did before."""
        self.settings = attrs.evolve(self.settings, served=served)
        for feature in self._asked():
            try:
                feature.served(self.settings.served)
            except Exception as error:
                self._end(feature, error)
        for port in self.switch.ports:
            self._equip(port)
        self.switch.rewire()

    def rebound(self, port: Port) -> None:
        """Something else is known of the host behind a port: `Port.bound`."""
        if port.attached:
            self._equip(port)

    def _change(self, settings: Settings, *names: str) -> None:
        """Go by settings that are new for the ports of these names."""
        anew = self._adopt(settings) or ANY_PORT in names
        for port in self.switch.ports:
            if anew or port.name in names or port.group in names:
                self._equip(port)
        self.switch.rewire()

    def _adopt(self, settings: Settings) -> bool:
        """Have the features check settings and go by them; whether that concerns every port."""
        switch, ports = settings.switch, settings.by_name()
        asked, anew = self._asked(), False
        for feature in asked:
            try:
                feature.validate(switch, ports)
            except VswitchError:
                raise
            except Exception as error:
                raise self._refusal(feature, error) from None
        for number, feature in enumerate(asked, 1):
            try:
                anew = feature.settings_changed(switch, ports) or anew
            except Exception as error:
                refusal = self._refusal(feature, error)
                self._go_back(asked[:number])
                raise refusal from None
        self.settings = settings
        return anew

    def _refusal(self, feature: AnyFeature, error: Exception) -> VswitchError:
        name = type(feature).__name__
        fault = self.switch.faults.note(f"new settings of {name}", "", error, self.switch.now())
        return VswitchError(
            f"{name} cannot take these settings, by a fault of vswitch ({fault.error}), and "
            f"nothing has changed: see the log for {fault.reference}"
        )

    def _go_back(self, told: Iterable[AnyFeature]) -> None:
        """Have those who were told of new settings go by the old ones."""
        switch, ports = self.settings.switch, self.settings.by_name()
        for feature in told:
            try:
                feature.settings_changed(switch, ports)
            except Exception as error:
                self._end(feature, error)
        for port in self.switch.ports:
            self._equip(port)
        self.switch.rewire()

    def feature(self, kind: type[F]) -> F:
        """The feature of that class; `NotFound` for none, `VswitchError` for one that has ended."""
        for feature in self.features:
            if isinstance(feature, kind):
                if feature in self._ended:
                    name = kind.__name__
                    raise VswitchError(
                        f"{name} has ended, by a fault of vswitch: see `vswitch status`; it is "
                        "back when the switch is started again"
                    )
                return feature
        raise NotFound(f"this switch has no {kind.__name__}")

    def port(self, name: str) -> Port:
        """The attached port of that name, or of that number; `NotFound` if there is none."""
        for port in self.switch.ports:
            if name in (port.name, str(port.number)):
                return port
        said = f"no port {name!r}: see `vswitch status`"
        raise NotFound(said).of(Problem.NO_PORT, name=name)

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
            self._part()
            for feature in self.features:
                if feature not in self._ended:
                    try:
                        feature.tick(now)
                    except Exception as error:
                        self._end(feature, error)

    def _end(self, feature: AnyFeature, error: Exception) -> None:
        """A feature has raised, and has ended. May be called while frames pass."""
        if feature in self._ended:
            return  # it guards, and what it raises now was met
        self._ended.add(feature)
        self._parting = True
        self._groups = tuple(each for each in self._groups if each is not feature)
        self.switch.faults.end(type(feature).__name__, error, self.switch.now())

    def _part(self) -> None:
        """Take the stages of features that have ended since from all ports, but those that guard.
        What one holds would never go on, and ends with the ports that hold it.
        """
        if not self._parting:
            return
        self._parting = False
        for port in self.switch.ports:
            if port.held_frames:
                self.switch.detach(port)
            else:
                self._equip(port)
        self.switch.rewire()

    def _asked(self) -> tuple[AnyFeature, ...]:
        """Those that are asked about ports and settings."""
        return tuple(each for each in self.features if each.guards or each not in self._ended)

    def _watch(self, port: Port) -> None:
        begins = port.attached
        for feature in self._asked():
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
        for feature in self._asked():
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
        self._apart = tuple(feature for feature in self._asked() if feature.keeps_apart)
        self._groups = tuple(
            each for each in self.features if each.knows_groups and each not in self._ended
        )
        return self if self._apart or self._groups else None

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """All features agree; where one raises, nothing is reached."""
        for feature in self._apart:
            try:
                if not feature.reaches(ingress, egress, vlan):
                    return False
            except Exception as error:
                self._end(feature, error)
                return False
        return True

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """What the first feature says that knows."""
        for feature in self._groups:
            try:
                wanted = feature.group_ports(ingress, vlan, mac, now)
            except Exception as error:
                self._end(feature, error)
            else:
                if wanted is not None:
                    return wanted
        return None

    def _moved(self, mac: bytes, before: int, now: int) -> None:
        for feature in self.features:
            if feature.moved is not None and feature not in self._ended:
                try:
                    feature.moved(mac, before, now)
                except Exception as error:
                    self._end(feature, error)

    def _learning(self, feature: AnyFeature) -> LearningPolicy | None:
        policy = feature.learning
        return None if policy is None else _Learning(policy, partial(self._end, feature))


@attrs.frozen
class _Learning:
    """A policy of a feature. What it raises about an address takes down that port."""

    _policy: LearningPolicy
    _end: Callable[[Exception], None]

    def admits(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        return self._policy.admits(vlan, mac, port, known, now)

    def judges(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        return self._policy.judges(vlan, mac, port, known, now)

    def thaw(self) -> None:
        try:
            self._policy.thaw()
        except Exception as error:
            self._end(error)


def _first(given: Iterable[T | None]) -> T | None:
    return next((each for each in given if each is not None), None)
