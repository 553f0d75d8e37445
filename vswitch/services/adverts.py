"""IPv6 router advertisements of the switch: a prefix in which hosts give themselves addresses.

    [adverts]
    enabled = true

Off unless `enabled`. The prefix is unique local (RFC 4193) and follows from the key of the switch,
so that it is the same for ever and no other LAN's; a member's address in it follows from its MAC,
and so is as stable as that. The switch says that it is no way out (a router lifetime of 0), so
hosts set no default route by it.

When it advertises, by RFC 4861: to all, every 200 to 600 s, the first three times soon; when a host
asks, within half a second, but no sooner than three seconds after the last time. So however many
ask, and however often, that is one frame in three seconds.

`Schedule` is pure, `now` in seconds; `serve_adverts` is the shell. Error contract: converters raise
`ValueError`, and so do settings that do not fit together; nothing from the network raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from random import Random
from typing import Any

import trio
from attrs import Factory, define, field, frozen

from vswitch.config.quantities import to_duration
from vswitch.config.sources import option, structure
from vswitch.config.words import to_bool
from vswitch.errors import BadRecord, ConfigError
from vswitch.frames.routers import (
    ALL_NODES,
    ALL_NODES_MAC,
    ALL_ROUTERS,
    SOLICITATION,
    Advert,
    check_solicitation_untrusted,
    router_advert,
)
from vswitch.services.host import Inbox, ServiceHost
from vswitch.services.station import ServiceDrop
from vswitch.services.terms import to_domains

TABLE = "adverts"
MOST, LEAST = 600.0, 200.0  # seconds between two that nobody asked for (RFC 4861 6.2.1)
FIRST, FIRST_WAIT = 3, 16.0  # so many come no later than that after each other
ANSWER = 0.5  # seconds that an answer waits at most, at random
APART = 3.0  # seconds between two at least
_NAMES_FOR = int(3 * MOST)  # seconds that name servers are good (RFC 8106 5.1)


class AdvertDrop(ServiceDrop):
    """Why a router solicitation got no answer of its own."""

    ADVERT_BAD = "advert_bad"  # none that a router has to answer
    ADVERT_SOON = "advert_soon"  # an advertisement is due already


def to_prefix(value: str | IPv6Network | None) -> IPv6Network | None:
    """A /64; `auto` or nothing for the switch's own."""
    if value is None or value == "auto":
        return None
    try:
        network = IPv6Network(value)
    except (ValueError, TypeError):
        raise ValueError("write a prefix such as fd12:3456:789a::/64, or auto") from None
    if network.prefixlen != 64 or network.is_multicast or network.is_link_local:
        raise ValueError("hosts give themselves addresses in a /64, of no group and no link")
    return network


def _to_servers(value: Any) -> tuple[IPv6Address, ...] | None:
    if value is None:
        return None
    texts = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return tuple(map(IPv6Address, texts))[:8]
    except (ValueError, TypeError):
        raise ValueError("write IPv6 addresses such as fd12:3456:789a::1") from None


def _to_search(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else to_domains(value)


@frozen(kw_only=True)
class AdvertSettings:
    """`[adverts]`. Times are in seconds."""

    enabled: bool = field(
        default=False, converter=to_bool, metadata=option("advertise an IPv6 prefix on the LAN")
    )
    prefix: IPv6Network | None = field(
        default=None,
        converter=to_prefix,
        metadata=option("the prefix, a /64 (auto: one that follows from the switch's key)", "CIDR"),
    )
    dns: tuple[IPv6Address, ...] | None = field(
        default=None,
        converter=_to_servers,
        metadata=option("name servers (the switch, where it serves names)", "ADDR,..."),
    )
    search: tuple[str, ...] | None = field(
        default=None,
        converter=_to_search,
        metadata=option("domains to look for names in (that of the LAN's names)", "DOMAIN,..."),
    )
    valid: float = field(
        default=30 * 86400.0,
        converter=to_duration,
        metadata=option("how long addresses stay valid without the switch (30d)", "TIME"),
    )
    preferred: float = field(
        default=7 * 86400.0,
        converter=to_duration,
        metadata=option("how long they are used for what is new (7d)", "TIME"),
    )

    def __attrs_post_init__(self) -> None:
        if self.preferred > self.valid:
            raise ValueError("preferred must not be longer than valid")

    def advert(
        self, prefix: IPv6Network, mtu: int, dns: tuple[IPv6Address, ...], search: str
    ) -> Advert:
        """What is told; `dns` and `search` where the settings say nothing."""
        return Advert(
            prefix=prefix,
            valid=int(self.valid),
            preferred=int(self.preferred),
            mtu=mtu,
            servers=dns if self.dns is None else self.dns,
            search=((search,) if search else ()) if self.search is None else self.search,
            names_for=_NAMES_FOR,
        )


@define(eq=False)
class Schedule:
    """When to advertise."""

    random: Random
    due: float  # seconds: the next one
    first: int = FIRST  # of these that are still to come
    last: float = -APART

    def asked(self, now: float) -> bool:
        """A host asks; whether that makes the next one come sooner."""
        wanted = max(now + self.random.uniform(0, ANSWER), self.last + APART)
        if wanted >= self.due:
            return False
        self.due = wanted
        return True

    def advertised(self, now: float) -> None:
        """It was."""
        self.last, wait = now, self.random.uniform(LEAST, MOST)
        if self.first:
            self.first -= 1
            wait = min(wait, FIRST_WAIT)
        self.due = now + wait


@define(eq=False)
class Advertiser:
    """The advertisements of one LAN."""

    host: ServiceHost
    advert: Advert
    counts: Counter[str] = Factory(Counter)
    _random: Random = Factory(Random)
    _sooner: trio.Event = Factory(trio.Event)

    @property
    def address(self) -> IPv6Address:
        """Of the switch in the prefix."""
        return self.advert.prefix[1]

    def status(self) -> Mapping[str, Any]:
        """What it tells, and how often it did."""
        return {"prefix": str(self.advert.prefix), **self.counts}

    async def run(self, *, task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED) -> None:
        """Advertise until cancelled. Started when hosts are heard."""
        station = self.host.station
        prefix = self.advert.prefix
        station.add_address(IPv6Interface(f"{self.address}/{prefix.prefixlen}"))
        station.groups.add(ALL_ROUTERS)
        try:
            await self._serve(task_status)
        finally:
            station.remove_address(self.address)
            station.groups.discard(ALL_ROUTERS)

    async def _serve(self, task_status: trio.TaskStatus[bool]) -> None:
        schedule = Schedule(self._random, trio.current_time())
        with self.host.open_icmpv6(SOLICITATION) as inbox:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear, inbox, schedule)
                task_status.started(True)
                while True:
                    with trio.move_on_at(schedule.due):
                        await self._sooner.wait()
                    self._sooner = trio.Event()
                    if (now := trio.current_time()) >= schedule.due:
                        self._advertise()
                        schedule.advertised(now)

    async def _hear(self, inbox: Inbox, schedule: Schedule) -> None:
        drops = self.host.station.drops
        async for message in inbox:
            source = message.source
            try:
                if not isinstance(source, IPv6Address):
                    raise BadRecord("not of IPv6")
                check_solicitation_untrusted(message.payload, source)
            except BadRecord:
                drops[AdvertDrop.ADVERT_BAD] += 1
                continue
            self.counts["asked"] += 1
            if schedule.asked(trio.current_time()):
                self._sooner.set()
            else:
                drops[AdvertDrop.ADVERT_SOON] += 1

    def _advertise(self) -> None:
        station = self.host.station
        to = ALL_NODES, ALL_NODES_MAC
        self.host.send_frame(router_advert(station.mac, station.link_local, *to, self.advert))
        self.counts["advertised"] += 1


def advert_settings(document: Mapping[str, Any], place: str) -> AdvertSettings:
    """Those of a configuration file whose tables these are."""
    table = document.get(TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{place}{TABLE}: must be a table: write [{TABLE}] on a line of its own")
    return structure(AdvertSettings, table, f"{place}{TABLE}")
