"""Which ports want a multicast group: what the messages of hosts and routers add up to (RFC 4541).

 reported    a group that somebody has reported goes to the ports that have, and to router ports
 unreported  goes everywhere: better too much than nothing, where a host does not speak IGMP or MLD
 everybody   `is_for_everybody`, and link-local IPv6 groups that share an address with a wider one
 all         a port that has just come, or has reported too much, gets everything for a while

The switch itself is querier of a VLAN and IP version while it hears no other (`queries_due`), since
hosts report again only when asked. Timers are the defaults of RFC 3376 8 and RFC 3810 9. A port
where there is only one station loses a group with its leave; elsewhere the switch asks first.

A frame shows the MAC address of its group alone, so that is the key here; which groups stand behind
it is kept for each port. All tables are bounded; what does not fit is flooded. Pure, `now` in
seconds; nothing here raises.
"""

from __future__ import annotations

import attrs

from vswitch.frames.igmp import GroupMessage, Says, group_mac, is_for_everybody

ROBUSTNESS = 2
QUERY_INTERVAL = 125.0  # seconds, as are the following
RESPONSE_TIME = 10.0
STARTUP_INTERVAL = QUERY_INTERVAL / 4
MEMBERSHIP = ROBUSTNESS * QUERY_INTERVAL + RESPONSE_TIME
OTHER_QUERIER = ROBUSTNESS * QUERY_INTERVAL + RESPONSE_TIME / 2
LAST_MEMBER = 1.0  # for an answer to a query after a leave, asked `ROBUSTNESS` times
NEW_PORT_RESPONSE = 2.0  # for the answers of a port that has just come
NEW_PORT = 5.0  # and until when it gets everything: those answers are there by then
MAX_GROUPS_OF_PORT = 256
MAX_GROUPS = 4096  # of the switch
MAX_VLANS = 64  # that the switch asks in

_VERSIONS = (4, 6)
_Group = tuple[int, bytes]  # VLAN, MAC


@attrs.frozen
class Query:
    """A query that the switch is to send."""

    vlan: int
    version: int
    response_time: float
    group: bytes = b""  # packed; b"" for all
    port: int | None = None  # None: all


@attrs.define(eq=False)
class _Asking:
    """The switch as querier of a VLAN and IP version."""

    due: float
    sent: int = 0
    silent_until: float = float("-inf")  # somebody else asks


class Snooping:
    """Groups, router ports and queriers of one switch."""

    def __init__(self) -> None:
        # By VLAN and MAC, by port: until when which groups are wanted.
        self._groups: dict[_Group, dict[int, dict[bytes, float]]] = {}
        self._count: dict[int, int] = {}  # groups of a port
        self._routers: dict[int, dict[int, float]] = {}  # by VLAN, by port: until when
        self._all: dict[int, float] = {}  # ports that get everything, until when
        self._everybody: dict[_Group, float] = {}
        self._asking: dict[tuple[int, int], _Asking] = {}  # by VLAN and IP version
        self._later: list[tuple[float, Query]] = []  # repeated after a leave
        self._wanted: dict[_Group, tuple[int, ...] | None] = {}  # what `wanted` has worked out

    def wanted(self, vlan: int, mac: bytes) -> tuple[int, ...] | None:
        """The ports that want a group; None: all. HOT PATH of multicast."""
        key = (vlan, mac)
        if key not in self._wanted:
            if len(self._wanted) >= MAX_GROUPS:
                self._wanted.clear()
            self._wanted[key] = self._work_out(key)
        return self._wanted[key]

    def routers(self, vlan: int) -> tuple[int, ...]:
        """The ports with multicast routers behind them."""
        return tuple(self._routers.get(vlan, ()))

    def groups(self) -> dict[_Group, tuple[int, ...]]:
        """For status: all that is reported, and by which ports."""
        return {key: tuple(ports) for key, ports in self._groups.items()}

    def port_came(self, port: int, now: float) -> list[Query]:
        """A new port: it gets everything until its hosts have had time to answer."""
        asking = [key for key, state in self._asking.items() if now >= state.silent_until]
        quick = len(asking) == len(self._asking)
        self._all[port] = now + (NEW_PORT if quick else MEMBERSHIP)
        self._wanted.clear()
        return [Query(*key, NEW_PORT_RESPONSE, port=port) for key in asking]

    def port_gone(self, port: int) -> None:
        """Forget it."""
        for key in [key for key, ports in self._groups.items() if port in ports]:
            self._drop(key, port)
        for routers in self._routers.values():
            routers.pop(port, None)
        self._all.pop(port, None)
        self._count.pop(port, None)
        self._wanted.clear()

    def heard(
        self, port: int, vlan: int, message: GroupMessage, now: float, *, alone: bool
    ) -> list[Query]:
        """What a message from a port changes; queries to send for it.

        Args:
            alone: there is only one station behind the port.
        """
        queries: list[Query] = []
        if message.says is Says.REPORT:
            for group in message.joins:
                self._join(port, vlan, group, now)
            for group in message.leaves:
                queries += self._leave(port, vlan, group, now, alone=alone)
        elif not message.anonymous:
            self._routers.setdefault(vlan, {})[port] = now + OTHER_QUERIER
            self._wanted.clear()
            if message.says is Says.QUERY:
                state = self._asking.get((vlan, message.version))
                if state is not None:
                    state.silent_until = now + OTHER_QUERIER
                if message.group:
                    self._shorten(vlan, message.group, now + ROBUSTNESS * message.response_time)
        return queries

    def queries_due(self, vlans: set[int], now: float) -> list[Query]:
        """The general queries of this second, and the repeated ones. `vlans`: where to ask."""
        for vlan in sorted(vlans)[:MAX_VLANS]:
            for version in _VERSIONS:
                self._asking.setdefault((vlan, version), _Asking(now))
        for key in [key for key in self._asking if key[0] not in vlans]:
            del self._asking[key]
        queries = []
        for (vlan, version), state in self._asking.items():
            if now >= state.due and now >= state.silent_until:
                state.sent += 1
                state.due = now + (STARTUP_INTERVAL if state.sent < ROBUSTNESS else QUERY_INTERVAL)
                queries.append(Query(vlan, version, RESPONSE_TIME))
        queries += [query for at, query in self._later if at <= now]
        self._later = [(at, query) for at, query in self._later if at > now]
        return queries

    def expire(self, now: float) -> None:
        """Forget what was not repeated in time."""
        for key in list(self._groups):
            for port, groups in list(self._groups[key].items()):
                for group in [group for group, until in groups.items() if until <= now]:
                    self._forget(key, port, group)
        self._all = {port: until for port, until in self._all.items() if until > now}
        self._everybody = {key: until for key, until in self._everybody.items() if until > now}
        for vlan, routers in self._routers.items():
            self._routers[vlan] = {port: until for port, until in routers.items() if until > now}
        self._routers = {vlan: ports for vlan, ports in self._routers.items() if ports}
        self._wanted.clear()

    def _work_out(self, key: _Group) -> tuple[int, ...] | None:
        ports = self._groups.get(key)
        if ports is None or key in self._everybody or is_for_everybody(key[1]):
            return None
        return tuple(sorted({*ports, *self._routers.get(key[0], ()), *self._all}))

    def _join(self, port: int, vlan: int, group: bytes, now: float) -> None:
        mac = group_mac(group)
        if is_for_everybody(mac):
            return
        key = (vlan, mac)
        if len(group) == 16 and group[1] & 0x0F <= 2:  # of this host or this link
            if len(self._everybody) < MAX_GROUPS:
                self._everybody[key] = now + MEMBERSHIP
                self._wanted.pop(key, None)
            return
        groups = self._groups.get(key, {}).get(port)
        if groups is not None and group in groups:
            groups[group] = now + MEMBERSHIP
            return
        if self._count.get(port, 0) >= MAX_GROUPS_OF_PORT:
            self._all[port] = now + MEMBERSHIP
            self._wanted.clear()
            return
        if key not in self._groups and len(self._groups) >= MAX_GROUPS:
            return
        self._groups.setdefault(key, {}).setdefault(port, {})[group] = now + MEMBERSHIP
        self._count[port] = self._count.get(port, 0) + 1
        self._wanted.pop(key, None)

    def _leave(self, port: int, vlan: int, group: bytes, now: float, *, alone: bool) -> list[Query]:
        key = (vlan, group_mac(group))
        if group not in self._groups.get(key, {}).get(port, {}):
            return []
        if alone:
            self._forget(key, port, group)
            return []
        version = 4 if len(group) == 4 else 6
        state = self._asking.get((vlan, version))
        if state is None or now < state.silent_until:
            return []  # the other querier asks, and that shortens the time
        groups = self._groups[key][port]
        groups[group] = min(groups[group], now + ROBUSTNESS * LAST_MEMBER + LAST_MEMBER)
        query = Query(vlan, version, LAST_MEMBER, group, port)
        if len(self._later) < MAX_GROUPS:
            self._later.append((now + LAST_MEMBER, query))
        return [query]

    def _shorten(self, vlan: int, group: bytes, until: float) -> None:
        for groups in self._groups.get((vlan, group_mac(group)), {}).values():
            if group in groups:
                groups[group] = min(groups[group], until)

    def _forget(self, key: _Group, port: int, group: bytes) -> None:
        ports = self._groups[key]
        del ports[port][group]
        self._count[port] -= 1
        if not ports[port]:
            self._drop(key, port)
        self._wanted.pop(key, None)

    def _drop(self, key: _Group, port: int) -> None:
        ports = self._groups[key]
        self._count[port] = self._count.get(port, 0) - len(ports.pop(port))
        if not ports:
            del self._groups[key]
