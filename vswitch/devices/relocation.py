"""What an interface carries, addresses and routes, and the order in which it moves to another.

    read all ─▶ plan ─▶ add at the target: addresses, then routes, links before gateways
                     ─▶ take from the source, in the reverse order

Nothing is taken away before all of it is in its new place, so a move that is broken off anywhere,
kill -9 included, has lost nothing: the steps done are undone one by one, or another move does the
rest. The way back is a move as well, of what the target carries by then.

IPv4: the first address of a subnet is primary, and the kernel takes the others along when that
goes; so addresses are added in the kernel's order and taken away in the reverse one. Of IPv6 the
newest is the first. A route with several hops is one route of IPv4, and as many of IPv6.

What the kernel makes by itself stays behind: link-local addresses, the local table, the routes of
IPv4's addresses. Those of IPv6's move, since they may outlive their address.

Pure.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final, TypeAlias

from attrs import evolve, field, frozen

FOREVER: Final = 0xFFFFFFFF  # seconds of a lifetime that does not end; INFINITY_LIFE_TIME


@frozen
class CarriedAddress:
    """One address of an interface. How it came, and for how long, makes two no less equal."""

    family: int
    local: str
    peer: str  # the same, but on a point-to-point link
    prefix_length: int
    scope: int  # RT_SCOPE_*
    flags: int  # IFA_F_*, those that can be set
    broadcast: str | None = None
    label: str | None = None  # of IPv4; None: the name of the interface
    metric: int | None = None  # of the route to its subnet; None: the kernel's own
    origin: int | None = None  # IFAPROT_*: who has set it, if the kernel knows
    valid: int = field(default=FOREVER, eq=False)  # seconds
    preferred: int = field(default=FOREVER, eq=False)  # seconds
    proven: bool = field(default=True, eq=False)  # nobody else has it, by detection (RFC 4862)
    undetected: bool = field(default=False, eq=False)  # which it was set to do without


@frozen
class Hop:
    """One way of a route."""

    dev: str
    gateway: str | None = None
    via: tuple[int, str] | None = None  # a gateway of another family
    weight: int = 1
    onlink: bool = False  # the gateway is there, whatever the addresses say
    realm: int | None = None


@frozen
class CarriedRoute:
    """One route. Two are equal that differ in their remaining time alone."""

    family: int
    table: int
    destination: str  # in CIDR form
    source: str | None  # of IPv6: of packets from there alone
    tos: int
    scope: int
    kind: int  # RTN_*
    origin: int  # RTPROT_*
    hops: tuple[Hop, ...]
    priority: int | None = None
    preferred_source: str | None = None
    metrics: tuple[tuple[str, int | str], ...] = ()  # RTAX_*: mtu, lock, initcwnd, …
    preference: int | None = None  # of IPv6 (RFC 4191)
    expires: int | None = field(default=None, eq=False)  # seconds; None: never

    def on(self, source: str, target: str) -> CarriedRoute:
        """The same with the interface `target` in the place of `source`."""
        hops = (evolve(hop, dev=target) if hop.dev == source else hop for hop in self.hops)
        return evolve(self, hops=tuple(hops))


Entry: TypeAlias = CarriedAddress | CarriedRoute


@frozen
class Carried:
    """All that an interface carries, in the kernel's order."""

    addresses: tuple[CarriedAddress, ...] = ()
    routes: tuple[CarriedRoute, ...] = ()

    def __iter__(self) -> Iterator[Entry]:
        yield from self.addresses
        yield from self.routes


@frozen
class Step:
    """One thing to do at an interface."""

    dev: str
    entry: Entry
    add: bool = True  # or to take away

    @property
    def inverse(self) -> Step:
        """What undoes it."""
        return evolve(self, add=not self.add)


@frozen
class Plan:
    """How to move all of it. `gives` is done, and proven, before `takes`."""

    gives: tuple[Step, ...]
    takes: tuple[Step, ...]
    wanted: tuple[Entry, ...]  # what the target has to carry in the end


def plan(source: str, target: str, carried: Carried, present: Carried | None = None) -> Plan:
    """The steps from `source`, which carries `carried`, to `target`, which carries `present`."""
    routes = sorted(carried.routes, key=_depends)
    there = set(present or ())
    addresses = (
        *(each for each in carried.addresses if each.family == socket.AF_INET),
        *(each for each in reversed(carried.addresses) if each.family != socket.AF_INET),
    )
    wanted: tuple[Entry, ...] = (
        *addresses,
        *(route.on(source, target) for route in routes),
    )
    here: tuple[Entry, ...] = (*addresses, *routes)
    return Plan(
        gives=tuple(Step(target, entry) for entry in wanted if entry not in there),
        takes=tuple(Step(source, entry, add=False) for entry in reversed(here)),
        wanted=wanted,
    )


def missing(wanted: tuple[Entry, ...], carried: Carried) -> tuple[Entry, ...]:
    """What of it an interface does not carry. The kernel may have been quicker with the like of it,
    such as an address from a router advertisement.
    """
    there = set(map(_identity, carried))
    return tuple(entry for entry in wanted if _identity(entry) not in there)


def _identity(entry: Entry) -> object:
    """What the kernel can have once."""
    if isinstance(entry, CarriedAddress):
        return entry.family, entry.local, entry.prefix_length
    ways = tuple((hop.dev, hop.gateway, hop.via) for hop in entry.hops)
    return entry.table, entry.destination, entry.source, entry.tos, entry.priority, ways


def _depends(route: CarriedRoute) -> tuple[bool, int]:
    """A gateway is found by a route of narrower scope, which has none itself."""
    indirect = any(hop.gateway or hop.via for hop in route.hops)
    return indirect, -route.scope


def describe(entry: Entry) -> str:
    """For people."""
    if isinstance(entry, CarriedAddress):
        return f"the address {entry.local}/{entry.prefix_length}"
    gateways = [hop.gateway or (hop.via and hop.via[1]) for hop in entry.hops]
    ways = "".join(f" via {gateway}" for gateway in gateways if gateway)
    return f"the route to {entry.destination}{ways} (table {entry.table})"
