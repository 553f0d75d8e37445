"""The MAC table under management: static addresses, limits, sticky and bound ports, flushing.

Nothing here is a step that frames take: the FDB asks about addresses that are new on a port, and
about no others, so established stations cost nothing. The rules of ports:

 owned    an address that belongs to a port by name, attached or not, is refused everywhere else:
          static ones, and those that a sticky port has learned
 bound    a port with a list takes no other sources
 limit    a port at its limit learns no more; what it has goes on
 moves    an address that moves `MOVES` times in `MOVES_WINDOW` stays where it is for `mac_freeze`
          seconds, as RFC 7432 15.1 has it for Ethernet over IP networks: somebody claims another's
          address, or there is a loop, and learning each frame would let the faster one win
 reserved what derives from a member's key sticks to no other port, and is held at no other one

A static address belongs to its port while that is not attached, too: another port cannot take it
in the meantime. Those of `mac add` last until the switch ends, those of settings are in the file.
All tables are bounded. Events go to the log of the switch, which bounds them.

Error contract: `ConfigError` and `NotFound` for what `mac add` and `mac del` cannot do.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping

import attrs

from vswitch.config.addressing import parse_station, to_macs, to_stations
from vswitch.config.quantities import to_mac_limit, to_optional_duration
from vswitch.config.sources import option
from vswitch.config.words import to_bool
from vswitch.errors import ConfigError, NotFound, Problem
from vswitch.features.base import ANY_PORT, Feature, Stages
from vswitch.features.trust import GuardSwitchSettings, TrustSettings
from vswitch.features.vlans import VlanSettings, VlanSwitchSettings, port_vlans, vlans_on
from vswitch.frames.ethernet import format_mac
from vswitch.switch.counters import Drop, DropReason
from vswitch.switch.events import EventLog, Fact
from vswitch.switch.fdb import Fdb
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

MAC_LIMIT = 32  # stations of a port: a host with its containers
BRIDGE_LIMIT = 256  # the same where a LAN is behind it
MAX_OWNED = 8192  # addresses of all sticky ports, attached or not: the capacity of the FDB
MOVES = 5  # in
MOVES_WINDOW = 180.0  # seconds, the N and M of RFC 7432
FREEZE = 60.0  # seconds; the rightful owner may be on the wrong side of it
_MAX_MOVING = 1024  # addresses whose moves are remembered, the last to have moved
MAX_STATIC = 1024  # live ones; an eighth of the table

_Key = tuple[int, bytes]  # VLAN, address


@attrs.frozen(kw_only=True, slots=False)
class MacSwitchSettings(VlanSwitchSettings, GuardSwitchSettings):
    """Of the switch."""

    mac_freeze: float | None = attrs.field(
        default=FREEZE,
        converter=to_optional_duration,
        metadata=option(
            "how long an address that moved five times in three minutes stays where it is (60s), "
            "or off",
            "TIME",
        ),
    )


@attrs.frozen(kw_only=True, slots=False)
class MacSettings(VlanSettings, TrustSettings):
    """Of a port; its VLANs say where an address is that names none."""

    mac_limit: int | None = attrs.field(
        default=None,
        converter=to_mac_limit,
        metadata=option(
            "how many stations may be behind the port (32; 256 with a LAN)",
            "NUMBER",
        ),
    )
    sticky: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("addresses that were learned stay with the port"),
    )
    macs: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_macs,
        metadata=option("the only addresses that may be behind the port", "MAC,..."),
    )
    static_macs: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_stations,
        metadata=option("addresses that are behind this port and no other", "MAC[@VLAN],..."),
    )


class MacDrop(Drop):
    """Counted at the port where the frame came in; `mac_refused` is the switch's own."""

    MAC_LIMIT = "mac_limit"  # from one address more than the port may have
    MAC_FROZEN = "mac_frozen"  # from an address that moved to and fro, and stays where it is


@attrs.frozen
class PortRules:
    """What holds for the stations of one port."""

    name: str
    limit: int = MAC_LIMIT
    sticky: bool = False
    bound: frozenset[bytes] | None = None  # the only sources; None: any


@attrs.define(eq=False)
class _Moves:
    times: deque[float] = attrs.Factory(lambda: deque(maxlen=MOVES))
    frozen_until: float = float("-inf")


class Stations:
    """The rules of all ports of one FDB. Implements `vswitch.switch.fdb.LearningPolicy`."""

    def __init__(self, fdb: Fdb, events: EventLog) -> None:
        self._fdb = fdb
        self._events = events
        self._ports: dict[int, PortRules] = {}
        self._static: dict[_Key, str] = {}
        self._sticky: dict[_Key, str] = {}
        self._sticky_of: dict[str, set[_Key]] = {}
        self._moving: OrderedDict[_Key, _Moves] = OrderedDict()
        self._reserved: Mapping[bytes, str] = {}
        self._freeze: float | None = FREEZE

    def set_freeze(self, seconds: float | None) -> None:
        """How long an address is held that moves too often; None: never, and none is now."""
        self._freeze = seconds
        if seconds is None:
            self.thaw()

    def set_rules(self, port: int, rules: PortRules) -> None:
        """The rules of an attached port. What is no longer bound there is forgotten."""
        before = self._ports.get(port)
        self._ports[port] = rules
        if before is not None and before.bound != rules.bound:
            self._fdb.flush(port=port)
        if rules.sticky:
            for key in self._fdb.keys_of(port):
                self._own(key, rules.name)
        else:
            self.release(name=rules.name)

    def port_down(self, port: int) -> None:
        """The port is down; what its name owns stays its own."""
        self._ports.pop(port, None)

    def set_static(self, owners: dict[_Key, str]) -> None:
        """All static addresses, by the name of their port, whether or not it is attached."""
        for key in owners:
            self._release(key)
        self._static = owners

    def set_reserved(self, owners: Mapping[bytes, str]) -> None:
        """Addresses that are of members, by name; where another has one sticky it is let go."""
        self._reserved = owners
        for key, name in list(self._sticky.items()):
            if owners.get(key[1], name) != name:
                self._release(key)

    def owner(self, vlan: int, mac: bytes) -> str | None:
        """The name of the port that owns an address."""
        key = (vlan, mac)
        return self._static.get(key) or self._sticky.get(key)

    def release(self, *, name: str | None = None, vlan: int | None = None) -> int:
        """Let sticky addresses go: of a port, of a VLAN, of both at once, or all. How many."""
        keys = self._sticky_of.get(name, set()) if name is not None else set(self._sticky)
        keys = {key for key in keys if vlan is None or key[0] == vlan}
        for key in keys:
            self._release(key)
        return len(keys)

    def thaw(self) -> None:
        """What moved did so because of a loop that is open now: nothing is held any more."""
        self._moving.clear()

    def admits(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        """Why an address that is new on a port may not be there; noted as an event."""
        rules = self._ports.get(port)
        if rules is None:
            return None
        key = (vlan, mac)
        reason = self._judge(key, rules, port, known, now)
        facts: dict[str, Fact] = {"mac": format_mac(mac), "vlan": vlan}
        if reason is None and known is not None:
            facts["to"] = rules.name
            reason = self._moves(key, self._name(known), facts, now)
        elif reason == MacDrop.MAC_LIMIT:
            self._events.add("mac-limit", rules.name, now=now, limit=rules.limit, **facts)
        elif reason == DropReason.MAC_REFUSED:
            owner = self.owner(vlan, mac) or ""
            self._events.add("mac-refused", rules.name, now=now, owner=owner, **facts)
        if reason is None and rules.sticky:
            self._own(key, rules.name)
        return reason

    def judges(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        """What `admits` would say; nothing is noted."""
        rules = self._ports.get(port)
        return None if rules is None else self._judge((vlan, mac), rules, port, known, now)

    def _judge(
        self, key: _Key, rules: PortRules, port: int, known: int | None, now: float
    ) -> Drop | None:
        owner = self.owner(*key)
        if owner is not None and owner != rules.name:
            return DropReason.MAC_REFUSED
        if owner is None:
            if rules.bound is not None and key[1] not in rules.bound:
                return DropReason.MAC_REFUSED
            if rules.sticky and len(self._sticky_of.get(rules.name, ())) >= rules.limit:
                return MacDrop.MAC_LIMIT
        if self._fdb.count(port, now) >= rules.limit:
            return MacDrop.MAC_LIMIT
        if known is not None and self._reserved.get(key[1]) != rules.name:
            moves = self._moving.get(key)
            if moves is not None and now < moves.frozen_until:
                return MacDrop.MAC_FROZEN
        return None

    def _moves(self, key: _Key, source: str, facts: dict[str, Fact], now: float) -> Drop | None:
        """Note a move; the one that is too many is refused."""
        moves = self._moving.get(key)
        if moves is None:
            if len(self._moving) >= _MAX_MOVING:
                self._moving.popitem(last=False)
            moves = self._moving[key] = _Moves()
        self._moving.move_to_end(key)
        moves.times.append(now)
        often = len(moves.times) == MOVES
        if self._freeze is not None and often and now - moves.times[0] <= MOVES_WINDOW:
            moves.times.clear()
            moves.frozen_until = now + self._freeze
            self._events.add("mac-frozen", source, now=now, seconds=self._freeze, **facts)
            return MacDrop.MAC_FROZEN
        self._events.add("mac-moved", source, now=now, **facts)
        return None

    def _name(self, port: int) -> str:
        rules = self._ports.get(port)
        return "" if rules is None else rules.name

    def _own(self, key: _Key, name: str) -> None:
        free = key not in self._static and self._reserved.get(key[1], name) == name
        if free and len(self._sticky) < MAX_OWNED:
            self._release(key)
            self._sticky[key] = name
            self._sticky_of.setdefault(name, set()).add(key)

    def _release(self, key: _Key) -> None:
        name = self._sticky.pop(key, None)
        if name is not None:
            keys = self._sticky_of[name]
            keys.discard(key)
            if not keys:
                del self._sticky_of[name]


def usual_limit(settings: MacSettings, port: Port, *, guarded: bool) -> int:
    """How many stations a port may have whose settings do not say."""
    # A member says itself that it is a bridge; of other ports the operator has said so.
    doubted = guarded and port.bound is not None and not (settings.trusted or settings.macs)
    return BRIDGE_LIMIT if port.bridge and not doubted else MAC_LIMIT


class Macs(Feature[MacSwitchSettings, MacSettings]):
    """The MAC table of one switch."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._fdb = switch.fdb
        self._stations = self.learning = Stations(switch.fdb, switch.events)
        self._tagged = False  # whether the switch has VLANs
        self._guarded = False  # whether the word of members counts for less
        self._named: Mapping[str, MacSettings] = {}
        self._said: dict[_Key, str] = {}  # static by settings
        self._added: dict[_Key, str] = {}  # static by `mac add`

    def settings_changed(self, switch: MacSwitchSettings, ports: Mapping[str, MacSettings]) -> bool:
        """The static addresses of all ports."""
        self._tagged, self._named = vlans_on(switch, ports), ports
        self._guarded = switch.guard
        self._stations.set_freeze(switch.mac_freeze)
        said: dict[_Key, str] = {}
        for name, settings in ports.items():
            if name != ANY_PORT:
                for text in settings.static_macs:
                    mac, vlan = parse_station(text)
                    said[self._vlan(name) or 0 if vlan is None else vlan, mac] = name
        self._said = said
        self._pin()
        return False

    def reserved(self, macs: Mapping[bytes, str], addresses: Mapping[bytes, str]) -> None:
        """No other port keeps these MACs."""
        self._stations.set_reserved(macs)

    def port_stages(self, port: Port, settings: MacSettings) -> Stages:
        """No stage: the rules of the port."""
        bound = frozenset(parse_station(text)[0] for text in settings.macs)
        self._stations.set_rules(
            port.number,
            PortRules(
                name=port.name,
                limit=settings.mac_limit or usual_limit(settings, port, guarded=self._guarded),
                sticky=settings.sticky,
                bound=bound if bound else None,
            ),
        )
        self._pin()
        return Stages()

    def port_down(self, number: int) -> None:
        """The port is down; what its name owns stays its own."""
        self._stations.port_down(number)

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
            said = f"no port {port!r}: see `vswitch status`"
            raise NotFound(said).of(Problem.NO_PORT, name=port)
        return sum(self._fdb.flush(port=each.number, vlan=vlan) for each in numbers)

    def kind(self, vlan: int, mac: bytes) -> str:
        """`static`, `sticky` or `learned`."""
        if (vlan, mac) in self._owners():
            return "static"
        return "learned" if self._stations.owner(vlan, mac) is None else "sticky"

    def _vlan(self, name: str) -> int | None:
        """The VLAN of what is untagged at a port; 0 where the switch has none."""
        if not self._tagged:
            return 0
        said = self._named.get(name) or self._named.get(ANY_PORT) or MacSettings()
        return port_vlans(said).untagged

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
