"""What the switch does on its LAN by itself: the LAN host, and the services that speak as it.

Where this host has the first address of the subnet in its kernel (`--local-port`), they stand
beside that; else they have a port of their own, the last of the switch, so that members are
numbered as if it were not there. A service that fails ends alone, and `status` says so (`ended`).

Error contract: `ConfigError` for what a service was told, before any of them runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Protocol

import trio
from attrs import Factory, define, frozen

from vswitch.addresses import mac_from_key, prefix_from_key, switch_address
from vswitch.config.sources import read_tables
from vswitch.features.manager import FeatureManager
from vswitch.features.trust import Served
from vswitch.features.vlans import port_vlans, vlans_on
from vswitch.frames.build import IpAddress
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LOCAL_PORT, SERVICES_PORT
from vswitch.services.adverts import Advertiser, AdvertSettings, advert_settings
from vswitch.services.dhcp_server import DhcpServer, said_by_ports
from vswitch.services.host import HostBeside, ServiceHost, open_host, station_of
from vswitch.services.name_settings import NamesSettings, names_settings
from vswitch.services.terms import DhcpSettings, dhcp_settings
from vswitch.switch.switch import Switch


class Hosts(Protocol):
    """The members, as `services/zone.py` wants to know them."""

    def addresses(self, label: str, asker: str) -> tuple[IpAddress, ...] | None: ...

    def label(self, address: IpAddress, asker: str) -> str | None: ...


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
    adverts: Advertiser | None = None


def load_services(path: Path | None) -> ServicesSettings:
    """What a configuration file says of them; `ConfigError`."""
    document = {} if path is None else read_tables(path)
    place = "" if path is None else f"{path}: "
    return ServicesSettings(
        names=names_settings(document, place),
        dhcp=dhcp_settings(document, place),
        adverts=advert_settings(document, place),
    )


async def serve_services(
    managed: FeatureManager,
    settings: ServicesSettings,
    subnet: IPv4Network,
    key: bytes,
    hosts: Hosts,
    beside: HostBeside | None,
    registry: Registry,
    running: Running,
    *,
    task_status: trio.TaskStatus[ServiceHost | None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. Started when all services answer.

    `key` is the public one of the switch, from which the MAC address follows; `beside` the host at
    the local port, if that has the address.
    """
    if not settings.any:
        task_status.started(None)
        return
    switch = managed.switch
    interface = IPv4Interface(f"{switch_address(subnet)}/{subnet.prefixlen}")
    async with AsyncExitStack() as stack:
        host: ServiceHost
        if beside is None:
            station = station_of(
                switch, mac_from_key(key), interface, untagged=lambda: _untagged(managed)
            )
            host = await stack.enter_async_context(open_host(switch, station))
        else:
            host = beside
        async with trio.open_nursery() as nursery:
            if settings.names.enabled:
                run = _names(managed, settings.names, interface, hosts, host)
                await nursery.start(_contain, switch, "names", run)
            if settings.dhcp.enabled:
                server = _dhcp(managed, settings, registry, host)
                await nursery.start(_contain, switch, "dhcp", server.run)
                running.dhcp = server
            if settings.adverts.enabled:
                advertiser = _adverts(managed, settings, key, host, alone=beside is None)
                await nursery.start(_contain, switch, "adverts", advertiser.run)
                running.adverts = advertiser
            task_status.started(host)
            await trio.sleep_forever()


Run = Callable[..., Awaitable[None]]


def _names(
    managed: FeatureManager,
    settings: NamesSettings,
    interface: IPv4Interface,
    hosts: Hosts,
    host: ServiceHost,
) -> Run:
    """The name server. The DNS library is loaded here: no other command needs it."""
    from vswitch.services.names import NameServer, serve_names
    from vswitch.services.upstream import Upstream, servers_of
    from vswitch.services.zone import Zone

    switch = managed.switch
    zone = Zone(settings.domain, interface, settings.records)
    zone.hosts.append(hosts)

    def note(port: str, name: str) -> None:
        switch.events.add("name-refused", port, now=switch.now(), name=name[:_NAME_CHARS])

    server = NameServer(
        zone,
        switch.mtu,
        host.station.drops,
        forwards=bool(settings.forward),
        allowed=lambda port: managed.settings.names_allowed(port),
        note=note,
    )
    upstream = Upstream(servers_of(settings.forward, interface.ip), host.station.drops)

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await serve_names(host, server, upstream.ask, task_status=task_status)

    return run


def _dhcp(
    managed: FeatureManager, settings: ServicesSettings, registry: Registry, host: ServiceHost
) -> DhcpServer:
    """The DHCP server; from here on the guards stop others."""
    names, subnet = settings.names, host.interface.network
    terms = settings.dhcp.terms(
        subnet,
        managed.switch.mtu,
        dns=(host.interface.ip,) if names.enabled else (),
        domain=names.domain if names.enabled else "",
    )
    server = DhcpServer(host, managed.switch, registry, settings.dhcp, terms)
    server.said = lambda: said_by_ports(
        {name: each.addresses for name, each in managed.settings.by_name().items()}
    )
    ports = frozenset((SERVICES_PORT, LOCAL_PORT))
    managed.serve(Served(guards={"dhcp_guard": "[dhcp]"}, ports=ports))
    return server


def _adverts(
    managed: FeatureManager,
    settings: ServicesSettings,
    key: bytes,
    host: ServiceHost,
    *,
    alone: bool,
) -> Advertiser:
    """The router advertisements; the same. A kernel beside does not know the address in them."""
    names, said = settings.names, settings.adverts
    prefix = said.prefix or prefix_from_key(key)
    advert = said.advert(
        prefix,
        managed.switch.mtu,
        dns=(prefix[1],) if names.enabled and alone else (),
        search=names.domain if names.enabled else "",
    )
    ports = frozenset((SERVICES_PORT, LOCAL_PORT))
    managed.serve(Served(guards={"ra_guard": "[adverts]"}, ports=ports, prefix=prefix))
    return Advertiser(host, advert)


_NAME_CHARS = 253  # of a name in an event


async def _contain(
    switch: Switch, name: str, run: Run, *, task_status: trio.TaskStatus[None]
) -> None:
    """A fault ends this service, and nothing else."""
    try:
        await run(task_status=task_status)
    except Exception as error:
        switch.faults.end(name, error, switch.now())


def _untagged(managed: FeatureManager) -> int:
    """The VLAN of what the port of the services has untagged; 0 on a switch without VLANs."""
    settings = managed.settings
    if not vlans_on(settings.switch, settings.by_name()):
        return 0
    return port_vlans(settings.of_port(SERVICES_PORT)).untagged or 0
