"""What the switch does on its LAN by itself: the LAN host, and the services that speak as it.

Where this host has the first address of the subnet in its kernel (`--local-port`), they stand
beside that; else they have a port of their own, the last of the switch, so that members are
numbered as if it were not there. Each runs behind the bulkhead of `Network.start_service`, which
begins all but the host itself again after a fault.

Error contract: `ConfigError` for what a service was told, before any of them runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Interface, IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Protocol

import trio
from attrs import Factory, define, frozen

from vswitch.addresses import mac_from_key, switch_address
from vswitch.config.networks import tables_of
from vswitch.config.sources import Source
from vswitch.errors import ConfigError
from vswitch.features.manager import FeatureManager
from vswitch.features.trust import Served
from vswitch.features.vlans import port_vlans, vlans_on
from vswitch.management.status import BEGUN_AGAIN
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LOCAL_PORT, SERVICES_PORT, LastServed
from vswitch.services.adverts import Advertiser, AdvertSettings, advert_settings
from vswitch.services.dhcp_server import DhcpServer, said_by_ports
from vswitch.services.host import HostBeside, ServiceHost, open_host, station_of
from vswitch.services.name_settings import NamesSettings, names_settings
from vswitch.services.stateless import Stateless
from vswitch.services.station import Station
from vswitch.services.terms import DhcpSettings, dhcp_settings
from vswitch.serving.reception import Reception
from vswitch.switch.switch import Switch

if TYPE_CHECKING:  # it loads the DNS library
    from vswitch.services.zone import HostNames

_NAME_CHARS = 253  # of a name in an event
_OUR_PORTS = frozenset((SERVICES_PORT, LOCAL_PORT))  # where the switch's services speak


@frozen
class ServicesSettings:
    """What the services of one LAN are told."""

    names: NamesSettings = Factory(NamesSettings)
    dhcp: DhcpSettings = Factory(DhcpSettings)
    adverts: AdvertSettings = Factory(AdvertSettings)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.names.enabled or self.dhcp.enabled or self.adverts.enabled


def load_services(path: Source | None, network: str, subnet: IPv4Network) -> ServicesSettings:
    """What a configuration file says of those of a network; `ConfigError`."""
    place, tables = tables_of(path, network)
    said = ServicesSettings(
        names=names_settings(tables, place),
        dhcp=dhcp_settings(tables, place),
        adverts=advert_settings(tables, place),
    )
    try:
        said.dhcp.pool(subnet)
    except ConfigError as error:
        raise ConfigError(f"{place}{error}") from None
    return said


class Bulkhead(Protocol):
    """The LAN that services are of: `vswitch.serving.network.Network`."""

    @property
    def switch(self) -> Switch: ...

    @property
    def managed(self) -> FeatureManager: ...

    @property
    def reception(self) -> Reception: ...

    @property
    def registry(self) -> Registry: ...

    async def start_service(
        self,
        name: str,
        run: Callable[..., Awaitable[None]],
        *,
        service: Service | None = None,
        again: bool = False,
    ) -> object:
        """Start `run(task_status=...)`; the value of its `started`, None if it has failed."""


@define(eq=False)
class Service:
    """One that runs, or has ended by a fault."""

    goes_by: object = None
    scope: trio.CancelScope = Factory(trio.CancelScope)
    ended: trio.Event = Factory(trio.Event)
    value: object = None  # of its `started`


class LanServices:
    """The services of one LAN, begun and ended one by one."""

    def __init__(
        self,
        network: Bulkhead,
        interface: IPv4Interface,
        served: LastServed,
        beside: HostBeside | None,
    ) -> None:
        """`interface` is the first address of the subnet; the MAC address follows from the public
        key of the switch; `beside` is the host at the local port, if that has the address.
        """
        self._network = network
        self._interface = interface
        self._served = served
        self._beside = beside
        self._running: dict[str, Service] = {}

    @property
    def dhcp(self) -> DhcpServer | None:
        """The DHCP server, while there is one."""
        found = self._running.get("dhcp")
        return found.value if found is not None and isinstance(found.value, DhcpServer) else None

    async def apply(self, settings: ServicesSettings) -> None:
        """Have exactly those that the settings want. What goes by the same as before stays."""
        names, network = settings.names, self._network
        for name, goes_by in (
            ("names", (names, settings.dhcp, settings.adverts)),
            ("adverts", (settings.adverts, names)),
            ("dhcp", (settings.dhcp, names.enabled, names.domain)),
            ("host", settings.any and self._beside is None),
        ):
            known = self._running.get(name)
            if known is not None and known.goes_by != goes_by:
                await self._stop(name)
        self._tell_guards(settings)
        host: object = self._beside
        if settings.any and self._beside is None:
            host = await self._have("host", True, self._host())
        if not isinstance(host, ServiceHost):
            return
        known_hosts: list[HostNames] = [network.reception.directory]
        stateless: Stateless | None = None
        if settings.dhcp.enabled:
            server = _dhcp(network, settings, host)
            goes_by = settings.dhcp, names.enabled, names.domain
            await self._have("dhcp", goes_by, server.run, server)
            if self.dhcp is not None:
                known_hosts.append(self.dhcp)
        if settings.adverts.enabled:
            prefix = settings.adverts.prefix or self._served.prefix
            alone = self._beside is None
            advertiser = _adverts(network.managed, settings, prefix, host, alone=alone)
            if await self._have("adverts", (settings.adverts, names), advertiser.run):
                stateless = Stateless(prefix, advertiser.address if alone else None)
        if names.enabled and "names" not in self._running:
            run = _names(network, names, host, known_hosts, stateless)
            goes_by = names, settings.dhcp, settings.adverts
            if await self._have("names", goes_by, run):
                network.reception.names = (str(self._interface.ip),)
                network.reception.domain = names.domain

    async def _have(
        self,
        name: str,
        goes_by: object,
        job: Callable[..., Awaitable[None]],
        value: object = None,
    ) -> object:
        """Start it, if it does not run; what it has given then. `value` stands for that."""
        known = self._running.get(name)
        if known is None:
            service = Service(goes_by)
            # Not the host: others stand on it, and it would come back as another one.
            again = name in BEGUN_AGAIN
            given = await self._network.start_service(name, job, service=service, again=again)
            service.value = (value or given) if given else None
            known = self._running[name] = service
        return known.value

    async def _stop(self, name: str) -> None:
        service = self._running.pop(name)
        service.scope.cancel()
        await service.ended.wait()
        if name == "names":
            self._network.reception.names, self._network.reception.domain = (), ""

    def _host(self) -> Callable[..., Awaitable[None]]:
        switch = self._network.switch
        mac = mac_from_key(self._served.seed)
        untagged = partial(_untagged, self._network.managed)
        return partial(
            _serve_host, switch, station_of(switch, mac, self._interface, untagged=untagged)
        )

    def _tell_guards(self, settings: ServicesSettings) -> None:
        """The guards stop others where the switch serves."""
        managed, guards = self._network.managed, {}
        prefix = None
        if settings.dhcp.enabled:
            guards["dhcp_guard"] = managed.settings.table("dhcp")
        if settings.adverts.enabled:
            guards["ra_guard"] = managed.settings.table("adverts")
            prefix = settings.adverts.prefix or self._served.prefix
        served = Served(guards=guards, ports=_OUR_PORTS if guards else frozenset(), prefix=prefix)
        if served != managed.settings.served:
            managed.serve(served)


async def _serve_host(
    switch: Switch, station: Station, *, task_status: trio.TaskStatus[ServiceHost]
) -> None:
    async with open_host(switch, station) as host:
        task_status.started(host)
        await trio.sleep_forever()


def _names(
    network: Bulkhead,
    settings: NamesSettings,
    host: ServiceHost,
    known: list[HostNames],
    stateless: Stateless | None,
) -> Callable[..., Awaitable[None]]:
    """The name server. The DNS library is loaded here: no other command needs it."""
    from vswitch.services.names import NameServer, serve_names
    from vswitch.services.upstream import Upstream, servers_of
    from vswitch.services.zone import Zone

    switch, managed, drops = network.switch, network.managed, host.station.drops
    zone = Zone(settings.domain, host.interface, settings.records, stateless=stateless)
    zone.hosts += known

    def note(port: str, name: str) -> None:
        switch.events.add("name-refused", port, now=switch.now(), name=name[:_NAME_CHARS])

    server = NameServer(
        zone,
        switch.mtu,
        drops,
        forwards=bool(settings.forward),
        allowed=lambda port: managed.settings.names_allowed(port),
        note=note,
        clock=switch.now,
    )
    upstream = Upstream(servers_of(settings.forward, host.interface.ip), drops)

    async def run(*, task_status: trio.TaskStatus[bool]) -> None:
        await serve_names(host, server, upstream.ask, task_status=task_status)

    return run


def _dhcp(network: Bulkhead, settings: ServicesSettings, host: ServiceHost) -> DhcpServer:
    """The DHCP server."""
    names, managed = settings.names, network.managed
    terms = settings.dhcp.terms(
        host.interface.network,
        network.switch.mtu,
        dns=(host.interface.ip,) if names.enabled else (),
        domain=names.domain if names.enabled else "",
    )
    server = DhcpServer(host, network.switch, network.registry, settings.dhcp, terms)
    server.said = lambda: said_by_ports(
        {name: each.addresses for name, each in managed.settings.by_name().items()}
    )
    server.separated = network.reception.directory.separated
    server.untagged = partial(_untagged, managed)
    return server


def _adverts(
    managed: FeatureManager,
    settings: ServicesSettings,
    prefix: IPv6Network,
    host: ServiceHost,
    *,
    alone: bool,
) -> Advertiser:
    """The router advertisements. A kernel beside does not know the address in them."""
    names, said = settings.names, settings.adverts
    advert = said.advert(
        prefix,
        managed.switch.mtu,
        dns=(prefix[1],) if names.enabled and alone else (),
        search=names.domain if names.enabled else "",
    )
    return Advertiser(host, advert)


def first_address(subnet: IPv4Network) -> IPv4Interface:
    """Where the services are."""
    return IPv4Interface(f"{switch_address(subnet)}/{subnet.prefixlen}")


def _untagged(managed: FeatureManager) -> int:
    """The VLAN of what the port of the services has untagged; 0 on a switch without VLANs."""
    settings = managed.settings
    if not vlans_on(settings.switch, settings.by_name()):
        return 0
    return port_vlans(settings.of_port(SERVICES_PORT)).untagged or 0
