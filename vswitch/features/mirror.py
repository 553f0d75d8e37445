"""Monitors: ports that get a copy of all that passes others. Setting `mirror` of the monitor.

A monitor takes no part in the LAN: nothing is forwarded to it, and what it sends is dropped before
anything is learned. So it cannot make a loop, and a monitor of a monitor, which would have nothing
to see, is refused. Ports are named, and may come and go.

Copies are made of what comes in, as it arrived, and of what goes out, as it leaves forwarding; they
count as `flood_copies` of the monitor. A monitor that is too slow loses copies and holds up nobody.

Error contract: `ConfigError` for a monitor of itself, of a monitor, or for any port.
"""

from __future__ import annotations

from vswitch.errors import ConfigError
from vswitch.features.base import Feature
from vswitch.features.settings import ANY_PORT, PortSettings, Settings
from vswitch.frames.load import load_of
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained, Stage
from vswitch.switch.switch import Switch


class _Silence:
    """What a monitor sends goes nowhere, and what the switch itself sends not to a monitor; copies
    pass it by. Implements `vswitch.core.stages.Stage`.
    """

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """Nothing."""
        counters.drop(DropReason.MONITOR_PORT, load_of(records).frames)
        return []

    def explain(self, record: bytes, now: float) -> Explained:
        """Nothing."""
        said = "the port is a monitor, and takes no part"
        return Explained(None, said, DropReason.MONITOR_PORT)


class Mirrors(Feature):
    """The monitors of one switch. Implements `vswitch.core.stages.Observer`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._asked = False  # whether any port is told to be one
        self._ports: dict[int, Port] = {}
        self._monitors: dict[int, tuple[str, ...]] = {}  # by number: names of the ports it copies
        self._copies: dict[int, tuple[Port, ...]] = {}  # by number of the port that is copied

    @property
    def keeps_apart(self) -> bool:
        """See `Feature`."""
        return self._asked

    def check(self, settings: Settings) -> None:
        """See `Feature`."""
        if settings.of_port(ANY_PORT).mirror:
            raise ConfigError('port."*".mirror: name the port that is to be the monitor')
        for name in settings.ports:
            for copied in settings.of_port(name).mirror:
                if copied == name:
                    raise ConfigError(f"port.{name}.mirror: a port cannot be its own monitor")
                if settings.of_port(copied).mirror:
                    raise ConfigError(f"port.{name}.mirror: {copied} is a monitor itself")

    def heard(self, settings: Settings) -> bool:
        """See `Feature`."""
        self._asked = any(settings.of_port(name).mirror for name in settings.ports)
        return False

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """See `Feature`."""
        self._ports[port.number] = port
        self._monitors.pop(port.number, None)
        if settings.mirror:
            self._monitors[port.number] = settings.mirror
            self._switch.flush_fdb(port=port)  # whoever was there is out of reach now
        self._wire()
        return _Silence() if settings.mirror else None

    def egress(self, port: Port, settings: PortSettings) -> Stage | None:
        """See `Feature`."""
        return _Silence() if settings.mirror else None

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """See `Feature`."""
        return ingress not in self._monitors and egress not in self._monitors

    def gone(self, number: int) -> None:
        """See `Feature`."""
        self._ports.pop(number, None)
        self._monitors.pop(number, None)
        self._wire()

    def _wire(self) -> None:
        copies: dict[int, tuple[Port, ...]] = {}
        for monitor, names in self._monitors.items():
            for number, port in self._ports.items():
                if port.name in names and number not in self._monitors:
                    copies[number] = (*copies.get(number, ()), self._ports[monitor])
        if bool(copies) != bool(self._copies):
            (self._switch.add_observer if copies else self._switch.remove_observer)(self)
        self._copies = copies

    # --- vswitch.core.stages.Observer -------------------------------------------------------

    def saw_ingress(self, port: int, records: list[bytes], now: float) -> None:
        """Copy what came in. HOT PATH while there is a monitor."""
        for monitor in self._copies.get(port, ()):
            self._switch.send_copy(monitor, records)

    def saw_egress(self, port: int, records: list[bytes], now: float) -> None:
        """Copy what goes out."""
        for monitor in self._copies.get(port, ()):
            self._switch.send_copy(monitor, records)
