"""Monitors: ports that get a copy of all that passes others. Setting `mirror` of the monitor.

A monitor takes no part in the LAN: nothing is forwarded to it, and what it sends is dropped before
anything is learned. So it cannot make a loop, and a monitor of a monitor, which would have nothing
to see, is refused. Ports are named, and may come and go.

Copies are made of what comes in, as it arrived, and of what goes out, as it leaves forwarding; they
count as `flood_copies` of the monitor. A monitor that is too slow loses copies and holds up nobody.

Error contract: `ConfigError` for a monitor of itself, of a monitor, or for any port.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from vswitch.config.sources import option
from vswitch.config.words import to_port_names
from vswitch.errors import ConfigError
from vswitch.features.base import ANY_PORT, Feature, Stages
from vswitch.frames.load import load_of
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch


@attrs.frozen(kw_only=True, slots=False)
class MirrorSettings:
    """Of a port."""

    mirror: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_port_names,
        metadata=option("a monitor: gets copies of what passes these ports, or none", "PORT,..."),
    )


class MonitorDrop(Drop):
    """On either way."""

    MONITOR_PORT = "monitor_port"  # from a port that gets copies of others, and takes no part


class _Silence:
    """What a monitor sends goes nowhere, and what the switch itself sends not to a monitor; copies
    pass it by. Implements `vswitch.switch.stages.Stage`.
    """

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """Nothing."""
        counters.drop(MonitorDrop.MONITOR_PORT, load_of(records).frames)
        return []

    def explain(self, record: bytes, now: float) -> Explained:
        """Nothing."""
        said = "the port is a monitor, and takes no part"
        return Explained(None, said, MonitorDrop.MONITOR_PORT)


class Mirrors(Feature[object, MirrorSettings]):
    """The monitors of one switch. Implements `vswitch.switch.stages.Observer`."""

    guards = False

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._ports: dict[int, Port] = {}
        self._monitors: dict[int, tuple[str, ...]] = {}  # by number: names of the ports it copies
        self._copies: dict[int, tuple[Port, ...]] = {}  # by number of the port that is copied

    def validate(self, switch: object, ports: Mapping[str, MirrorSettings]) -> None:
        """A monitor is named, and copies other ports that are none."""
        if ANY_PORT in ports and ports[ANY_PORT].mirror:
            raise ConfigError('port."*".mirror: name the port that is to be the monitor')
        for name, settings in ports.items():
            for copied in settings.mirror:
                if copied == name:
                    raise ConfigError(f"port.{name}.mirror: a port cannot be its own monitor")
                if copied in ports and ports[copied].mirror:
                    raise ConfigError(f"port.{name}.mirror: {copied} is a monitor itself")

    def settings_changed(self, switch: object, ports: Mapping[str, MirrorSettings]) -> bool:
        """Whether there is to be a monitor, attached or not."""
        self.keeps_apart = any(settings.mirror for settings in ports.values())
        return False

    def port_up(self, port: Port) -> None:
        """One that may be copied."""
        self._ports[port.number] = port

    def port_stages(self, port: Port, settings: MirrorSettings) -> Stages:
        """A monitor has stages that let nothing pass."""
        self._monitors.pop(port.number, None)
        if settings.mirror:
            self._monitors[port.number] = settings.mirror
            self._switch.flush_fdb(port=port)  # whoever was there is out of reach now
        self._wire()
        return Stages(_Silence(), _Silence()) if settings.mirror else Stages()

    def port_down(self, number: int) -> None:
        """Neither a monitor nor one that is copied."""
        self._ports.pop(number, None)
        self._monitors.pop(number, None)
        self._wire()

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Nothing goes to a monitor, or comes from one."""
        return ingress not in self._monitors and egress not in self._monitors

    def _wire(self) -> None:
        copies: dict[int, tuple[Port, ...]] = {}
        for monitor, names in self._monitors.items():
            for number, port in self._ports.items():
                if port.name in names and number not in self._monitors:
                    copies[number] = (*copies.get(number, ()), self._ports[monitor])
        if bool(copies) != bool(self._copies):
            (self._switch.add_observer if copies else self._switch.remove_observer)(self)
        self._copies = copies

    def saw_ingress(self, port: int, records: list[bytes], now: float) -> None:
        """Copy what came in. HOT PATH while there is a monitor."""
        for monitor in self._copies.get(port, ()):
            self._switch.send_copy(monitor, records)

    def saw_egress(self, port: int, records: list[bytes], now: float) -> None:
        """Copy what goes out."""
        for monitor in self._copies.get(port, ()):
            self._switch.send_copy(monitor, records)
