"""What the switch does on its LAN by itself: the LAN host, and the services that speak as it.

Where this host has the first address of the subnet in its kernel (`--local-port`), they stand
beside that; else they have a port of their own, the last of the switch, so that members are
numbered as if it were not there. Each runs behind the bulkhead of `Network.start_service`.

Error contract: `ConfigError` for what a service was told, before any of them runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Interface, IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio
from attrs import Factory, define, frozen

from vswitch.addresses import mac_from_key, switch_address
from vswitch.config.networks import tables_of
from vswitch.features.manager import FeatureManager
from vswitch.features.trust import Served
from vswitch.features.vlans import port_vlans, vlans_on
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


@define(eq=False)
class Running:
    """The services that somebody asks while they run; None for one that does not."""

    dhcp: DhcpServer | None = None


def load_services(path: Path | None, network: str, subnet: IPv4Network) -> ServicesSettings:
    """What a configuration file says of those of a network; `ConfigError`."""
    place, tables = tables_of(path, network)
    said = ServicesSettings(
        names=names_settings(tables, place),
        dhcp=dhcp_settings(tables, place),
        adverts=advert_settings(tables, place),
    )
    said.dhcp.pool(subnet)  # says what does not fit
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

    async def start_service(self, name: str, run: Callable[..., Awaitable[None]]) -> object:
        """Start `run(task_status=...)`; the value of its `started`, None if it has failed."""


async def start_services(
    network: Bulkhead,
    settings: ServicesSettings,
    interface: IPv4Interface,
    served: LastServed,
    beside: HostBeside | None,
    running: Running,
) -> None:
    """Start all that the settings want.

    `interface` is the first address of the subnet; the MAC address follows from the public key of
    the switch; `beside` is the host at the local port, if that has the address.
    """
    if not settings.any:
        return
    host: object = beside
    if beside is None:
        untagged = partial(_untagged, network.managed)
        mac = mac_from_key(b"" if served.key is None else served.key.raw)
        station = station_of(network.switch, mac, interface, untagged=untagged)
        host = await network.start_service("host", partial(_serve_host, network.switch, station))
    if not isinstance(host, ServiceHost):
        return
    known: list[HostNames] = [network.reception]
    stateless: Stateless | None = None
    if settings.dhcp.enabled:
        server = _dhcp(network, settings, host)
        if await network.start_service("dhcp", server.run):
            running.dhcp = server
            known.append(server)
    if settings.adverts.enabled:
        prefix = settings.adverts.prefix or served.prefix
        advertiser = _adverts(network.managed, settings, prefix, host, alone=beside is None)
        if await network.start_service("adverts", advertiser.run):
            own = advertiser.address if beside is None else None
            stateless = Stateless(prefix, own)
    if settings.names.enabled:
        run = _names(network, settings.names, host, known, stateless)
        if await network.start_service("names", run):
            network.reception.names = (str(interface.ip),)
            network.reception.domain = settings.names.domain


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
    """The DHCP server; from here on the guards stop others."""
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
    server.separated = network.reception.separated
    server.untagged = partial(_untagged, managed)
    managed.serve(Served(guards={"dhcp_guard": managed.settings.table("dhcp")}, ports=_OUR_PORTS))
    return server


def _adverts(
    managed: FeatureManager,
    settings: ServicesSettings,
    prefix: IPv6Network,
    host: ServiceHost,
    *,
    alone: bool,
) -> Advertiser:
    """The router advertisements; the same. A kernel beside does not know the address in them."""
    names, said = settings.names, settings.adverts
    advert = said.advert(
        prefix,
        managed.switch.mtu,
        dns=(prefix[1],) if names.enabled and alone else (),
        search=names.domain if names.enabled else "",
    )
    managed.serve(
        Served(
            guards={"ra_guard": managed.settings.table("adverts")}, ports=_OUR_PORTS, prefix=prefix
        )
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
