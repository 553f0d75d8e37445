"""What the switch does on its LAN by itself: the LAN host, and the services that speak as it.

Where this host has the first address of the subnet in its kernel (`--local-port`), they stand
beside that; else they have a port of their own, the last of the switch, so that members are
numbered as if it were not there. Each runs behind the bulkhead of `Network.start_service`.

Error contract: `ConfigError` for what a service was told, before any of them runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Protocol

import trio
from attrs import Factory, frozen

from vswitch.addresses import mac_from_key, switch_address
from vswitch.config.networks import tables_of
from vswitch.features.manager import FeatureManager
from vswitch.features.vlans import port_vlans, vlans_on
from vswitch.registry.rules import SERVICES_PORT
from vswitch.services.host import HostBeside, ServiceHost, open_host, station_of
from vswitch.services.name_settings import NamesSettings, names_settings
from vswitch.services.station import Station
from vswitch.serving.reception import Reception
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.switch import Switch

_NAME_CHARS = 253  # of a name in an event


@frozen
class ServicesSettings:
    """What the services of one LAN are told."""

    names: NamesSettings = Factory(NamesSettings)

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return self.names.enabled


def load_services(path: Path | None, network: str = DEFAULT_NETWORK) -> ServicesSettings:
    """What a configuration file says of those of that network; `ConfigError`."""
    place, document = tables_of(path, network)
    return ServicesSettings(names=names_settings(document, place))


class Bulkhead(Protocol):
    """The LAN that services are of: `vswitch.serving.network.Network`."""

    @property
    def switch(self) -> Switch: ...

    @property
    def managed(self) -> FeatureManager: ...

    @property
    def reception(self) -> Reception: ...

    async def start_service(self, name: str, run: Callable[..., Awaitable[None]]) -> object:
        """Start `run(task_status=...)`; the value of its `started`, None if it has failed."""


async def start_services(
    network: Bulkhead,
    settings: ServicesSettings,
    interface: IPv4Interface,
    key: bytes,
    beside: HostBeside | None,
) -> None:
    """Start all that the settings want.

    `interface` is the first address of the subnet, `key` the public one of the switch, from which
    the MAC address follows; `beside` the host at the local port, if that has the address.
    """
    if not settings.any:
        return
    host: object = beside
    if beside is None:
        untagged = partial(_untagged, network.managed)
        mac = mac_from_key(key)
        station = station_of(network.switch, mac, interface, untagged=untagged)
        host = await network.start_service("host", partial(_serve_host, network.switch, station))
    if isinstance(host, ServiceHost) and settings.names.enabled:
        run = _names(network, settings.names, host)
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
    network: Bulkhead, settings: NamesSettings, host: ServiceHost
) -> Callable[..., Awaitable[None]]:
    """The name server. The DNS library is loaded here: no other command needs it."""
    from vswitch.services.names import NameServer, serve_names
    from vswitch.services.upstream import Upstream, servers_of
    from vswitch.services.zone import Zone

    switch, managed, drops = network.switch, network.managed, host.station.drops
    zone = Zone(settings.domain, host.interface, settings.records)
    zone.hosts.append(network.reception)

    def note(port: str, name: str) -> None:
        switch.events.add("name-refused", port, now=switch.now(), name=name[:_NAME_CHARS])

    server = NameServer(
        zone,
        switch.mtu,
        drops,
        forwards=bool(settings.forward),
        allowed=lambda port: managed.settings.names_allowed(port),
        note=note,
    )
    upstream = Upstream(servers_of(settings.forward, host.interface.ip), drops)

    async def run(*, task_status: trio.TaskStatus[bool]) -> None:
        await serve_names(host, server, upstream.ask, task_status=task_status)

    return run


def first_address(subnet: IPv4Network) -> IPv4Interface:
    """Where the services are."""
    return IPv4Interface(f"{switch_address(subnet)}/{subnet.prefixlen}")


def _untagged(managed: FeatureManager) -> int:
    """The VLAN of what the port of the services has untagged; 0 on a switch without VLANs."""
    settings = managed.settings
    if not vlans_on(settings.switch, settings.by_name()):
        return 0
    return port_vlans(settings.of_port(SERVICES_PORT)).untagged or 0
