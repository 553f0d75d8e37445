"""The MAC table under management: static addresses, limits, sticky and bound ports, flushing.

Settings of a port: `mac_limit`, `sticky`, `macs`, `static_macs`. What they mean is in
`vswitch/core/stations.py`. Nothing here is a step that frames take: the FDB asks about addresses
that are new on a port, and about no others.

A static address belongs to its port while that is not attached, too: another port cannot take it
in the meantime. Those of `mac add` last until the switch ends, those of settings are in the file.

Error contract: `ConfigError` and `NotFound` for what `mac add` and `mac del` cannot do.
"""

from __future__ import annotations

from vswitch.core.stages import Stage
from vswitch.core.stations import BRIDGE_LIMIT, MAC_LIMIT, PortRules, Stations
from vswitch.errors import ConfigError, NotFound
from vswitch.features.feature import Feature
from vswitch.features.vlan import membership_of, vlans_on
from vswitch.settings import ANY_PORT, PortSettings, Settings
from vswitch.switch import Port, Switch
from vswitch.vlan_values import parse_station

__all__ = ["MAX_STATIC", "Macs"]

MAX_STATIC = 1024  # live ones; an eighth of the table

_Key = tuple[int, bytes]


class Macs(Feature):
    """The MAC table of one switch."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._fdb = switch.fdb
        self._stations = Stations(switch.fdb, switch.events)
        self._settings = Settings()
        self._said: dict[_Key, str] = {}  # static by settings
        self._added: dict[_Key, str] = {}  # static by `mac add`

    def heard(self, settings: Settings) -> bool:
        """See `Feature`."""
        self._settings = settings
        said: dict[_Key, str] = {}
        for name in settings.ports:
            if name != ANY_PORT:
                for text in settings.of_port(name).static_macs:
                    mac, vlan = parse_station(text)
                    said[self._vlan(name) or 0 if vlan is None else vlan, mac] = name
        self._said = said
        self._pin()
        return False

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """No step of its own: the rules of the port."""
        bound = frozenset(parse_station(text)[0] for text in settings.macs)
        self._stations.set_rules(
            port.number,
            PortRules(
                name=port.name,
                limit=settings.mac_limit or (BRIDGE_LIMIT if port.bridge else MAC_LIMIT),
                sticky=settings.sticky,
                bound=bound if bound else None,
            ),
        )
        self._pin()
        return None

    def gone(self, number: int) -> None:
        """The port is down."""
        self._stations.gone(number)

    def add(self, name: str, mac: bytes, vlan: int | None) -> int:
        """Make an address that of a port by name, attached or not; the VLAN that it is in."""
        if mac[0] & 1 or not any(mac):
            raise ConfigError("a station has a unicast address, and not that of all zeros")
        where = self._vlan(name) if vlan is None else vlan
        if where is None:
            raise ConfigError(f"port {name} is a trunk without a native VLAN: name the VLAN")
        if len(self._added) >= MAX_STATIC:
            raise ConfigError(f"there are {MAX_STATIC} static addresses, and that is the limit")
        self._added[where, mac] = name
        self._pin()
        return where

    def remove(self, mac: bytes, vlan: int | None) -> int:
        """Undo `add`, in one VLAN or in all. How many."""
        found = [key for key in self._added if key[1] == mac and vlan in (None, key[0])]
        if not found:
            said = [self._said[key] for key in self._said if key[1] == mac]
            if said:
                raise ConfigError(f"it is one of static_macs of port {said[0]}: change them")
            raise NotFound("no static address like that: see `vswitch mac`")
        for key in found:
            del self._added[key]
        self._pin()
        return len(found)

    def flush(self, port: str | None = None, vlan: int | None = None) -> int:
        """Forget what was learned, sticky or not, at a port, in a VLAN, or all. How many."""
        released = self._stations.release(name=port, vlan=vlan)
        numbers = [each for each in self._switch.ports if port in (None, each.name)]
        if port is not None and not numbers and not released:
            raise NotFound(f"no port {port!r}: see `vswitch status`")
        return sum(self._fdb.flush(port=each.number, vlan=vlan) for each in numbers)

    def kind(self, vlan: int, mac: bytes) -> str:
        """`static`, `sticky` or `learned`."""
        if (vlan, mac) in self._owners():
            return "static"
        return "learned" if self._stations.owner(vlan, mac) is None else "sticky"

    def _vlan(self, name: str) -> int | None:
        """The VLAN of what is untagged at a port; 0 where the switch has none."""
        if not vlans_on(self._settings):
            return 0
        return membership_of(self._settings.of_port(name)).untagged

    def _owners(self) -> dict[_Key, str]:
        return {**self._said, **self._added}

    def _pin(self) -> None:
        """Have exactly the static entries that are to be there: of ports that are attached."""
        owners = self._owners()
        self._stations.set_static(owners)
        numbers = {port.name: port.number for port in self._switch.ports}
        wanted = {key: numbers[name] for key, name in owners.items() if name in numbers}
        pinned = self._fdb.pinned()
        for key in pinned.keys() - wanted.keys():
            self._fdb.unpin(*key)
        for key, number in wanted.items():
            if pinned.get(key) != number:
                self._fdb.pin(*key, number)
        for key, name in owners.items():
            if name not in numbers:
                self._fdb.unlearn(*key)  # where another port has it
