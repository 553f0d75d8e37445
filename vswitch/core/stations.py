"""Which addresses may be heard where: the rules of ports, asked when an address is new on one.

 owned    an address that belongs to a port by name, attached or not, is refused everywhere else:
          static ones, and those that a sticky port has learned
 bound    a port with a list takes no other sources
 limit    a port at its limit learns no more; what it has goes on
 moves    an address that moves `MOVES` times in `MOVES_WINDOW` stays where it is for `FREEZE`, as
          RFC 7432 15.1 has it for Ethernet over IP networks: somebody claims another's address, or
          there is a loop, and learning each frame would let the faster one win

Established stations cost nothing: the FDB asks only about news. All tables are bounded. Pure;
nothing here raises. Events go to the log of the switch, which bounds them.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import attrs

from vswitch.core.counters import DropReason
from vswitch.core.eventlog import EventLog, Fact
from vswitch.core.fdb import Fdb
from vswitch.core.frame import format_mac

__all__ = [
    "BRIDGE_LIMIT",
    "FREEZE",
    "MAC_LIMIT",
    "MAX_OWNED",
    "MOVES",
    "MOVES_WINDOW",
    "PortRules",
    "Stations",
]

MAC_LIMIT = 32  # stations of a port: a host with its containers
BRIDGE_LIMIT = 256  # the same where a LAN is behind it
MAX_OWNED = 8192  # addresses of all sticky ports, attached or not: the capacity of the FDB
MOVES = 5  # in
MOVES_WINDOW = 180.0  # seconds, the N and M of RFC 7432
FREEZE = 60.0  # seconds; the rightful owner may be on the wrong side of it
_MAX_MOVING = 1024  # addresses whose moves are remembered, the last to have moved

_Key = tuple[int, bytes]


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
    """The rules of all ports of one FDB: its `Admission`."""

    def __init__(self, fdb: Fdb, events: EventLog) -> None:
        self._fdb = fdb
        self._events = events
        self._ports: dict[int, PortRules] = {}
        self._static: dict[_Key, str] = {}
        self._sticky: dict[_Key, str] = {}
        self._sticky_of: dict[str, set[_Key]] = {}
        self._moving: OrderedDict[_Key, _Moves] = OrderedDict()
        fdb.admission = self

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

    def gone(self, port: int) -> None:
        """The port is down; what its name owns stays its own."""
        self._ports.pop(port, None)

    def set_static(self, owners: dict[_Key, str]) -> None:
        """All static addresses, by the name of their port, whether or not it is attached."""
        for key in owners:
            self._release(key)
        self._static = owners

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

    # --- vswitch.core.fdb.Admission -----------------------------------------------------------

    def admits(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> DropReason | None:
        """See there."""
        rules = self._ports.get(port)
        if rules is None:
            return None
        key = (vlan, mac)
        reason = self._judge(key, rules, port, known, now)
        facts: dict[str, Fact] = {"mac": format_mac(mac), "vlan": vlan}
        if reason is None and known is not None:
            facts["to"] = rules.name
            reason = self._moves(key, self._name(known), facts, now)
        elif reason == DropReason.MAC_LIMIT:
            self._events.add("mac-limit", rules.name, now=now, limit=rules.limit, **facts)
        elif reason == DropReason.MAC_REFUSED:
            owner = self.owner(vlan, mac) or ""
            self._events.add("mac-refused", rules.name, now=now, owner=owner, **facts)
        if reason is None and rules.sticky:
            self._own(key, rules.name)
        return reason

    def judges(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> DropReason | None:
        """See there."""
        rules = self._ports.get(port)
        return None if rules is None else self._judge((vlan, mac), rules, port, known, now)

    def _judge(
        self, key: _Key, rules: PortRules, port: int, known: int | None, now: float
    ) -> DropReason | None:
        owner = self.owner(*key)
        if owner is not None and owner != rules.name:
            return DropReason.MAC_REFUSED
        if owner is None:
            if rules.bound is not None and key[1] not in rules.bound:
                return DropReason.MAC_REFUSED
            if rules.sticky and len(self._sticky_of.get(rules.name, ())) >= rules.limit:
                return DropReason.MAC_LIMIT
        if self._fdb.count(port, now) >= rules.limit:
            return DropReason.MAC_LIMIT
        if known is not None:
            moves = self._moving.get(key)
            if moves is not None and now < moves.frozen_until:
                return DropReason.MAC_FROZEN
        return None

    def _moves(
        self, key: _Key, source: str, facts: dict[str, Fact], now: float
    ) -> DropReason | None:
        """Note a move; the one that is too many is refused."""
        moves = self._moving.get(key)
        if moves is None:
            if len(self._moving) >= _MAX_MOVING:
                self._moving.popitem(last=False)
            moves = self._moving[key] = _Moves()
        self._moving.move_to_end(key)
        moves.times.append(now)
        if len(moves.times) == MOVES and now - moves.times[0] <= MOVES_WINDOW:
            moves.times.clear()
            moves.frozen_until = now + FREEZE
            self._events.add("mac-frozen", source, now=now, seconds=FREEZE, **facts)
            return DropReason.MAC_FROZEN
        self._events.add("mac-moved", source, now=now, **facts)
        return None

    def _name(self, port: int) -> str:
        rules = self._ports.get(port)
        return "" if rules is None else rules.name

    def _own(self, key: _Key, name: str) -> None:
        if len(self._sticky) < MAX_OWNED and key not in self._static:
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
