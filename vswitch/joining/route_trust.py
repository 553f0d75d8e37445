"""Which routes through other members this host takes from its switch.

Where a host sends what it sends is its own business. A route that the switch names, and that its
operator has approved, is taken if this host's user has asked for routes (`--accept-routes`), and if
it stands before nothing that the host has itself: no network that it is in or has a route to, no
name server, no gateway, no address of the switch, nothing of one link. The way out is taken by
`--exit-node NAME` alone, through that member and no other.

`--accept-routes private` takes none to public addresses: a switch that was broken into cannot be
the way to a part of the Internet. A network that the host is not in itself may hold one that it is
in: the narrower route goes before.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import (
    IPv4Interface,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final, TypeAlias

import attrs

from vswitch.addresses import WAY_OUT, unroutable
from vswitch.devices.host_interface import Address, HostFacts, Network
from vswitch.joining.host_trust import METADATA, NEAR
from vswitch.members.protocol import Gateway
from vswitch.registry.approvals import within

Interface: TypeAlias = IPv4Interface | IPv6Interface
_LOCAL: Final = IPv6Network("fc00::/7")  # RFC 4193


@attrs.frozen
class Judged:
    """What is taken of all that the switch says, and why the rest is not, by network."""

    routes: tuple[Gateway, ...]
    way_out: tuple[Gateway, ...]  # through the member that was asked for: of IPv4, IPv6, or both
    refused: dict[str, str]


def judge_routes(
    gateways: Iterable[Gateway],
    *,
    name: str,
    accepted: Collection[Network],
    exit_node: str,
    own: Collection[str],
    host: HostFacts,
    switch: Collection[Address],
) -> Judged:
    """What of the gateways this member uses.

    Args:
        gateways: what the switch says.
        name: of this member, which uses nothing that is behind itself.
        accepted: networks to which routes are taken.
        exit_node: the member that is to be the way out; "" for none.
        own: this host's addresses on the LAN, in CIDR form.
        host: what it has besides.
        switch: where it reaches the switch.
    """
    routes: list[Gateway] = []
    way_out: dict[int, Gateway] = {}
    refused: dict[str, str] = {}
    lan = [ip_interface(each) for each in own]
    for gateway in sorted(set(gateways)):
        if gateway.name == name:
            continue
        network = ip_network(gateway.network)
        reason = _beside(gateway, lan)
        if network in WAY_OUT:
            if gateway.name != exit_node:
                continue  # it was not asked for
            if reason is None:
                way_out.setdefault(network.version, gateway)
        else:
            reason = reason or _refuse(network, accepted, lan, host, switch, routes)
            if reason is None:
                routes.append(gateway)
        if reason is not None:
            refused[gateway.network] = f"behind {gateway.name}: {reason}"
    return Judged(tuple(routes), tuple(way_out.values()), refused)


def refuse_address6(offered: str, *, host: HostFacts, switch: Collection[Address]) -> str | None:
    """Why this host does not take an IPv6 address for what it sends through gateways."""
    given = ip_interface(offered)
    network = given.network
    if network.version != 6 or network.prefixlen != 64 or not within(network, _LOCAL):
        return f"{network} is no /64 of {_LOCAL}"
    return None if host.apart else _stands_before(network, host, switch)


def source_for(gateway: Gateway, own: Iterable[str]) -> str:
    """This host's address on the LAN that the gateway is in: `judge_routes` has seen to it."""
    beside = ip_address(gateway.address)
    return next(str(each.ip) for each in map(ip_interface, own) if beside in each.network)


def _beside(gateway: Gateway, lan: Iterable[Interface]) -> str | None:
    """Whether the gateway is another host on the LAN."""
    address = ip_address(gateway.address)
    for own in lan:
        if address in own.network and address not in (own.ip, *_ends(own.network)):
            return None
    return f"{address} is no other host on the LAN"


def _ends(lan: Network) -> tuple[Address, ...]:
    """Its addresses that no host has: of IPv4, but for point-to-point links (RFC 3021)."""
    if lan.version == 6 or lan.prefixlen >= lan.max_prefixlen - 1:
        return ()
    return lan.network_address, lan.broadcast_address


def _refuse(
    network: Network,
    accepted: Collection[Network],
    lan: Iterable[Interface],
    host: HostFacts,
    switch: Collection[Address],
    taken: Iterable[Gateway],
) -> str | None:
    if not any(within(network, each) for each in accepted):
        said = f"or join with --accept-routes {network}" if accepted else "see --accept-routes"
        return f"no such route was asked for ({said})"
    if (reason := unroutable(network)) is not None:
        return reason
    for own in lan:
        if network.overlaps(own.network):
            return f"it overlaps {own.network}, which is the LAN itself"
    for other in taken:
        if network.overlaps(ip_network(other.network)):
            return f"it overlaps {other.network} of {other.name}"
    if host.apart:  # all that is there is of the LAN
        return None
    return _stands_before(network, host, switch)


def _stands_before(network: Network, host: HostFacts, switch: Collection[Address]) -> str | None:
    """What of the host it would be the way to."""
    for each in sorted(host.networks, key=str):
        if each.prefixlen >= NEAR and within(network, each):
            return f"it is in {each}, which this host reaches another way"
    narrower = [each for each in host.networks if within(each, network)]
    for what, addresses in (
        ("the switch's own address", switch),
        ("an address of this host", host.addresses),
        ("a gateway of this host", host.gateways),
        ("a name server of this host", host.resolvers),
        ("a place where a cloud tells its machines what to do", METADATA),
    ):
        for address in sorted(addresses, key=str):
            if address in network and not any(address in each for each in narrower):
                return f"it holds {what}, {address}"
    return None
