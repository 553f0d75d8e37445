"""Where the kernel sends what is not for the LAN itself: routes through other members, and the way
out through one of them. Asked through the sockets of `netlink.py`.

Routes to networks stand in the main table, behind all that the host has for the same network. The
way out is a table of its own, to which rules lead, so that nothing that the host has is replaced:

 7450   to the switch and to name servers, from this host's own addresses   ─▶ 7453
 7451   whatever the main table has a route to, but for its default route   ─▶ that
 7452   the rest                                                            ─▶ table 7450
 7453   what was sent here goes on as before

Both families have these rules. Behind what leads to the gateway the table says that everything is
unreachable, which is of no interface: so nothing leaves another way when a family has no gateway,
or the interface is down, renamed, gone, or has lost its routes. What is ours is known by its
protocol, so that nothing else is touched, and `apply` can be asked again at any time: it does what
is still to do.

Plain blocking functions. Errors: those of `netlink.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import attrs

from vswitch.devices.netlink import changes, index_of, open_netlink

PROTOCOL: Final = 74  # of our routes and rules: a number that nobody else has (linux/rtnetlink.h)
TABLE: Final = 7450  # of the way out
PINNED, MAIN, OUT, OTHERS = 7450, 7451, 7452, 7453  # priorities of our rules
METRIC: Final = 32_000  # as of the LAN itself: the host's own route to the same network goes before
_MAIN_TABLE, _NODAD = 254, 0x02  # RT_TABLE_MAIN; IFA_F_NODAD: derived from a key, it is nobody's
_GOTO, _NOP, _TO_TABLE = "goto", "nop", "to_tbl"
_IPV6: Final = Path("/proc/sys/net/ipv6")
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


@attrs.frozen(order=True)
class Route:
    """To a network, through a member."""

    network: str
    gateway: str
    source: str  # the address that this host has for it


@attrs.frozen
class WayOut:
    """The default route of this host, while it is through a member."""

    routes: frozenset[Route]  # of a family that is not among them, nothing leaves
    pinned: frozenset[str] = frozenset()  # addresses that are reached as before
    sources: frozenset[str] = frozenset()  # from which everything leaves as before


@attrs.frozen
class Routing:
    """What leads through an interface, and an IPv6 address for that."""

    address6: str | None = None  # CIDR form
    routes: frozenset[Route] = frozenset()
    out: WayOut | None = None


NOTHING: Final = Routing()


@runtime_checkable
class Routed(Protocol):
    """An interface through which routes may lead."""

    @property
    def private(self) -> bool:
        """Whether its network has nothing that would be left behind."""

    async def set_routing(self, wanted: Routing) -> None:
        """Have the kernel do that, and nothing else of ours. `VswitchError` if it does not."""


@attrs.frozen(order=True)
class _Rule:
    priority: int
    side: str = ""  # "dst" or "src"
    address: str = ""


def apply(dev: str, wanted: Routing, before: Routing) -> None:
    """Go from what was `wanted` before to what is now; what somebody has removed comes back."""
    with open_netlink(f"set routes of {dev}") as ipr:
        try:
            index = index_of(ipr, dev)
        except OSError:
            if wanted != NOTHING:
                raise
            index = -1  # it is gone, with all that led through it; rules are not
        if wanted.address6 is not None:
            _add_address(ipr, index, wanted.address6)
        for version in _versions():
            _set_rules(ipr, version, wanted.out, before.out is not None)
            _set_routes(ipr, version, index, wanted, before.out is not None)
            _add_rules(ipr, version, wanted.out)
        if index > 0 and before.address6 not in (None, wanted.address6):
            _remove_address(ipr, index, str(before.address6))


def remove_way_out() -> bool:
    """Take away what a process that was killed has left; whether there was anything."""
    found = False
    with open_netlink("remove the way out") as ipr:
        for version in _versions():
            for rule in sorted(_rules(ipr, version), key=lambda each: each.priority != OUT):
                _change_rule(ipr, "del", version, rule)
                found = True
            for message in _ours(ipr, version):
                if message.get("table") == TABLE:
                    _delete_route(ipr, version, message)
                    found = True
    return found


def others_way_out() -> bool:
    """Whether there is a way out already, which is not ours."""
    with open_netlink("look at the rules") as ipr:
        return any(_rules(ipr, version) for version in _versions())


def _versions() -> tuple[int, ...]:
    return (4, 6) if _IPV6.exists() else (4,)


# --- Rules ---------------------------------------------------------------------------------------


def _wanted_rules(version: int, out: WayOut | None) -> set[_Rule]:
    if out is None:
        return set()
    found = {_Rule(MAIN), _Rule(OUT), _Rule(OTHERS)}
    for side, addresses in (("dst", out.pinned), ("src", out.sources)):
        found |= {_Rule(PINNED, side, each) for each in addresses if _version(each) == version}
    return found


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _rules(ipr: Any, version: int) -> set[_Rule]:
    """Those of ours that are there."""
    found = set()
    for message in ipr.get_rules(family=FAMILIES[version]):
        if message.get("protocol") != PROTOCOL:
            continue
        sides = [(side, message.get(side)) for side in ("dst", "src") if message.get(side)]
        found.add(_Rule(message.get("priority"), *(sides[0] if sides else ())))
    return found


def _set_rules(ipr: Any, version: int, out: WayOut | None, before: bool) -> None:
    """What pins comes first, and what leads to the way out goes first."""
    wanted, there = _wanted_rules(version, out), _rules(ipr, version)
    if out is None and not before:
        return  # whatever is there is of another member of this host
    for rule in sorted(wanted - there, key=lambda each: -each.priority):
        if rule.priority != OUT:
            _change_rule(ipr, "add", version, rule)
    for rule in sorted(there - wanted, key=lambda each: each.priority != OUT):
        _change_rule(ipr, "del", version, rule)


def _add_rules(ipr: Any, version: int, out: WayOut | None) -> None:
    if out is not None and _Rule(OUT) not in _rules(ipr, version):
        _change_rule(ipr, "add", version, _Rule(OUT))


def _change_rule(ipr: Any, verb: str, version: int, rule: _Rule) -> None:
    what: dict[str, Any] = {"family": FAMILIES[version], "priority": rule.priority}
    what["protocol"] = PROTOCOL
    match rule.priority:
        case 7450:
            what |= {"action": _GOTO, "goto": OTHERS, rule.side: rule.address}
        case 7451:
            what |= {"action": _TO_TABLE, "table": _MAIN_TABLE, "suppress_prefixlen": 0}
        case 7452:
            what |= {"action": _TO_TABLE, "table": TABLE}
        case _:
            what |= {"action": _NOP}
    changes(ipr.rule, verb, **what)


# --- Routes --------------------------------------------------------------------------------------


def _set_routes(ipr: Any, version: int, index: int, wanted: Routing, before: bool) -> None:
    there = {_told(message): message for message in _ours(ipr, version)}
    asked = dict(_wanted_routes(version, index, wanted))
    for key, message in there.items():
        ours = key[0] == TABLE and (before or wanted.out is not None)
        if key not in asked and (message.get("oif") == index or ours):
            _delete_route(ipr, version, message)
    for key, what in asked.items():
        if key not in there:
            given = {"family": FAMILIES[version], "proto": PROTOCOL, **what}
            changes(ipr.route, "add", **given)


_Key = tuple[int, str, str, str]  # table, network, gateway, source


def _wanted_routes(
    version: int, index: int, wanted: Routing
) -> Iterator[tuple[_Key, dict[str, Any]]]:
    for route in wanted.routes:
        if _version(route.network) == version:
            yield _asked(_MAIN_TABLE, route, index, METRIC)
    if wanted.out is None:
        return
    # First, and always, as the kernel takes the rest away together with the interface.
    whole = {4: "0.0.0.0/0", 6: "::/0"}[version]
    what = {"dst": whole, "type": "unreachable", "table": TABLE, "priority": METRIC}
    yield (TABLE, whole, "", ""), what
    for route in wanted.out.routes:
        if _version(route.network) == version:
            yield _asked(TABLE, route, index, 1)


def _asked(table: int, route: Route, index: int, metric: int) -> tuple[_Key, dict[str, Any]]:
    what = {
        "dst": route.network,
        "gateway": route.gateway,
        "prefsrc": route.source,
        "oif": index,
        "table": table,
        "priority": metric,
    }
    return (table, route.network, route.gateway, route.source), what


def _ours(ipr: Any, version: int) -> list[Any]:
    routes = ipr.get_routes(family=FAMILIES[version])
    return [message for message in routes if message["proto"] == PROTOCOL]


def _told(message: Any) -> _Key:
    whole = "::" if message["family"] == socket.AF_INET6 else "0.0.0.0"
    network = ip_network(f"{message.get('dst') or whole}/{message['dst_len']}")
    given = (message.get("gateway"), message.get("prefsrc"))
    return (message.get("table"), str(network), *(each or "" for each in given))


def _delete_route(ipr: Any, version: int, message: Any) -> None:
    table, network, gateway, _ = _told(message)
    what: dict[str, Any] = {"dst": network, "table": table, "proto": PROTOCOL}
    what |= {"family": FAMILIES[version], "priority": message.get("priority")}
    what |= {"gateway": gateway, "oif": message.get("oif")} if gateway else {"type": "unreachable"}
    changes(ipr.route, "del", **what)


# --- Addresses -----------------------------------------------------------------------------------


def _add_address(ipr: Any, index: int, address: str) -> None:
    interface = ip_interface(address)
    what = {"address": str(interface.ip), "prefixlen": interface.network.prefixlen}
    ipr.addr("replace", index=index, rt_priority=METRIC, IFA_FLAGS=_NODAD, **what)


def _remove_address(ipr: Any, index: int, address: str) -> None:
    interface = ip_interface(address)
    what = {"address": str(interface.ip), "prefixlen": interface.network.prefixlen}
    changes(ipr.addr, "del", index=index, **what)
