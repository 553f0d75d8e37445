"""Which networks behind members a LAN has: what the operator may approve, and what is in force.

A member offers networks when it connects; a network is in force while the member that offers it is
there, as far as the operator has approved it. No two members have networks that overlap, so that
there is one way to each place; but of the way out (`WAY_OUT`), which each member chooses by name,
there may be several.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from vswitch.addresses import WAY_OUT, unroutable

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address


def within(network: Network, other: Network) -> bool:
    """Whether all of a network is in another."""
    return network.network_address in other and network.prefixlen >= other.prefixlen


def refuse_approval(
    network: Network,
    others: Mapping[str, Iterable[Network]],
    lan: Iterable[Network],
    switch: Iterable[Address],
) -> str | None:
    """Why the operator cannot approve this; None if that is possible.

    Args:
        network: behind a member.
        others: what is approved of other members, by name.
        lan: the LAN's own networks.
        switch: where members reach the switch, as far as that is known.
    """
    if (reason := unroutable(network)) is not None:
        return reason
    if network in WAY_OUT:  # for those alone who ask for it, and pin their way to the switch
        return None
    for own in lan:
        if network.overlaps(own):
            return f"it overlaps {own}, which is the LAN itself"
    for address in switch:
        if address in network:
            return f"it holds the switch's own address, {address}"
    for name, theirs in others.items():
        for each in theirs:
            if each not in WAY_OUT and network.overlaps(each):
                return f"it overlaps {each} of {name}"
    return None


def in_force(offered: Iterable[Network], approved: Iterable[Network]) -> tuple[Network, ...]:
    """Those that are approved, or a part of something that is. The way out has no parts: who may be
    that may not therefore be the way to any network.
    """
    ways = tuple(approved)
    return tuple(
        network
        for network in offered
        if network in ways or any(way not in WAY_OUT and within(network, way) for way in ways)
    )
