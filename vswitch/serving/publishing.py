"""What `serve` gives to published services: a way onto the LAN, and where members are.

With a local port that is the host's own network; else, and where that port is in a bridge, a
sandbox with an address that no member gets.

Error contract: that of `services.publish`.
"""

from __future__ import annotations

from functools import partial
from ipaddress import IPv4Interface

import trio

from vswitch.addresses import mac_from_key
from vswitch.config.options import NetworkConfig
from vswitch.config.places import is_address
from vswitch.registry.registry import Registry
from vswitch.registry.rules import PUBLISH_PORT, LastServed
from vswitch.services.lan_sockets import ServeNetwork, serve_beside, serve_inside
from vswitch.services.publish import Publisher, Whereabouts
from vswitch.serving.reception import Reception
from vswitch.switch.switch import Switch


def make_publisher(
    switch: Switch,
    registry: Registry,
    reception: Reception,
    config: NetworkConfig,
    served: LastServed,
) -> Publisher:
    """A publisher without rules, to be run."""

    async def choose() -> IPv4Interface:
        address = await trio.to_thread.run_sync(registry.hold, config.subnet, PUBLISH_PORT)
        return IPv4Interface((address, config.subnet.prefixlen))

    mac = mac_from_key(PUBLISH_PORT.encode() + served.seed)
    serve: ServeNetwork = partial(serve_inside, switch, choose, mac)
    if config.local_port and config.bridge is None:
        serve = partial(serve_beside, config.dev)
    return Publisher(switch, serve, partial(whereabouts, reception), config.subnet)


def whereabouts(reception: Reception, host: str) -> Whereabouts:
    """Where a host of the LAN is: an address is there, a member where its session says."""
    if is_address(host):
        return Whereabouts(host, host)
    member = reception.directory.find(host)
    if member is None:
        return Whereabouts("", why="no_name")
    connected = reception.connected.get(member.key)
    if connected is None:
        return Whereabouts(member.name, why="away")
    if connected.address is None:
        return Whereabouts(member.name, why="no_address")
    return Whereabouts(member.name, connected.address.partition("/")[0])
