"""How far a member trusts its switch: with the LAN, and not with its host.

What a switch says of address and MTU is carried out by root, so a switch that was broken into could
be the host's name server, or its way to half of the Internet. It may give what was asked for, and
no more:

 --address none, --bridge     nothing
 --address ADDRESS/PREFIX     that
 auto                         one of a private range, of the network that the welcome states, which
                              is the one that the member knows from before (the first is kept)

`--allow-network` lets an address of that network pass though it is public or another than before.
In any case it must be one that a host can have, and what the host has itself stays as it is: its
addresses, gateways and name servers, the way to the switch, the networks to which it has routes.
Whoever names the LAN exactly with `--allow-network` knows that it holds a name server, or a part of
a network, of the host.

Names, too, are those of the LAN alone. A name server is asked for the domain that the switch
states, if that is one which nobody has in the Internet (RFC 6762 appendix G, RFC 8375), or one that
the operator has named with `--allow-domain`, and is on the LAN itself. Names without a dot are the
LAN's where the host has no domain of its own to look for them in, or that was allowed.

Pure. The functions `refuse_*` return the reason, with what to do; None for what is taken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface
from typing import Final

from vswitch.addresses import PRIVATE
from vswitch.config.options import JoinConfig
from vswitch.devices.host_interface import Address, HostFacts, Network

IPV6_MTU: Final = 1280  # bytes: with less, the kernel takes IPv6 from the interface (RFC 8200)
SHORTEST: Final = {4: 8, 6: 48}  # prefix of a LAN: 10.0.0.0/8 is the largest private one; one site
REMEDY: Final = "the switch needs another --subnet, or join with --address none"
# A route to more than this is the way to the rest of the world, whose parts are no network of ours.
NEAR: Final = 8  # bits of prefix
PRIVATE_DOMAINS: Final = ("lan", "internal", "home", "private", "intranet", "corp", "home.arpa")

_PRIVATE: Final = [*PRIVATE, ipaddress.ip_network("169.254.0.0/16")]  # RFC 3927
# Where a machine in a cloud asks what it shall do, as root: routes do not show it.
METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"),
    )
)


def refuse_address(
    offered: str,
    stated: str,
    config: JoinConfig,
    host: HostFacts,
    *,
    remote: str,
    known: str = "",
) -> str | None:
    """Why the member does not take the address `offered`; None if it does.

    `stated`: the network of the welcome, "" for none; `remote`: where the switch is reached;
    `known`: the network that the LAN had before, "" for none.
    """
    given = ipaddress.ip_interface(offered)
    lan = given.network
    if config.bridge is not None:
        return "a bridge port has no address (--bridge)"
    if config.address == "none":
        return "none was asked for (--address none)"
    fixed = config.address != "auto"
    if fixed and given != ipaddress.ip_interface(config.address):
        return f"only {config.address} was asked for (--address)"
    if (reason := _unusable(given)) is not None:
        return reason
    if not fixed:
        if stated and not _within(lan, ipaddress.ip_network(stated)):
            return f"it is outside the network that the switch states, {stated}"
        if not any(_within(lan, allowed) for allowed in config.allow_network):
            unless = f"if that is meant, join with --allow-network {lan}"
            if not any(_within(lan, private) for private in _PRIVATE):
                return f"{lan} is no private network; {unless}"
            if known not in ("", str(lan)):
                return f"the LAN was {known} before; {unless}"
    return _taken(lan, host, remote, agreed=lan in config.allow_network)


def refuse_mtu(mtu: int, host: HostFacts) -> str | None:
    """Why the member does not take this MTU from its switch; None if it does."""
    if host.ipv6 and mtu < IPV6_MTU:
        return f"IPv6 needs {IPV6_MTU}; if that is meant, join with --mtu {mtu}"
    return None


def refuse_names(
    servers: Sequence[str],
    domain: str,
    lan: Network,
    allowed: Sequence[str],
    search: Sequence[str],
) -> str | None:
    """Why the member does not ask these name servers for the names of a domain; None if it does.

    `lan`: the network that the interface has an address of; `allowed`: what `--allow-domain` has
    named; `search`: the domains in which the host itself looks for names without a dot.
    """
    for server in servers:
        if ipaddress.ip_address(server) not in lan:
            return f"the name server {server} is not on the LAN {lan}"
    if not domain:
        return "the switch states no domain"
    if domain in allowed:
        return None
    unless = f"if that is meant, join with --allow-domain {domain}"
    if not any(domain == each or domain.endswith(f".{each}") for each in PRIVATE_DOMAINS):
        return f"{domain} is no private domain; {unless}"
    for each in search:  # one is in the other: a cloud's metadata have names below its domain
        if f".{each}".endswith(f".{domain}") or domain.endswith(f".{each}"):
            return f"this host has names of {each} from elsewhere; {unless}"
    return None


def swallows(address: str, hosts: list[str]) -> str | None:
    """Why an interface cannot have this address while the switch is sought at `hosts`: all of them
    would be behind it.
    """
    lan = ipaddress.ip_interface(address).network
    found = [ipaddress.ip_address(host.partition("%")[0]) for host in hosts]
    if not found or not all(each in lan for each in found):
        return None
    return f"{lan} holds the switch's own address, {found[0]}; {REMEDY}"


def _unusable(given: IPv4Interface | IPv6Interface) -> str | None:
    """Why no host has such an address."""
    lan, shortest = given.network, SHORTEST[given.version]
    if lan.prefixlen < shortest:
        return f"/{lan.prefixlen} is more than a LAN: /{shortest} at most"
    mapped = isinstance(given, IPv6Interface) and given.ip.ipv4_mapped is not None
    kinds = {
        "the unspecified address": given.ip.is_unspecified,
        "a loopback address": given.ip.is_loopback,
        "a multicast address": given.ip.is_multicast,
        "an address of one link": given.version == 6 and given.ip.is_link_local,
        "a reserved address": given.ip.is_reserved or mapped or _this_network(given.ip),
        "the address of the network": _long(lan) and given.ip == lan.network_address,
        "the broadcast address": _long(lan) and lan.version == 4 and given.ip == lan[-1],
    }
    return next((f"it is {kind}" for kind, holds in kinds.items() if holds), None)


def _taken(lan: Network, host: HostFacts, remote: str, *, agreed: bool) -> str | None:
    """What of the host, or of the way to the switch, the LAN would stand before."""
    unless = f"if that is meant, join with --allow-network {lan}"
    if host.apart:  # all that is there is of the LAN
        return None
    # Where it is reached through a name or a proxy, that is not for us to know.
    with suppress(ValueError):
        if (reason := swallows(str(lan), [str(address_of(remote))])) is not None:
            return reason
    for what, addresses in (("an address", host.addresses), ("a gateway", host.gateways)):
        if (found := _first(addresses, lan)) is not None:
            return f"{lan} holds {what} of this host, {found}; {REMEDY}"
    if agreed:
        return None
    # In a network apart a name server is one that the user has named on the LAN.
    if not host.apart and (found := _first(host.resolvers, lan)) is not None:
        return f"{lan} holds a name server of this host, {found}; {unless}"
    if (found := _first(METADATA, lan)) is not None:
        return f"{lan} holds {found}, where a cloud tells its machines what to do; {unless}"
    for network in sorted(host.networks, key=str):
        if network.prefixlen >= NEAR and _within(lan, network):
            return f"{lan} is a part of {network}, which this host reaches another way; {unless}"
    return None


def _within(lan: Network, network: Network) -> bool:
    return lan.network_address in network and lan.prefixlen >= network.prefixlen


def _first(addresses: frozenset[Address], lan: Network) -> Address | None:
    return min((each for each in addresses if each in lan), key=str, default=None)


def _long(lan: Network) -> bool:
    """Whether it has addresses of its own: not a point-to-point link, nor a single host."""
    return lan.prefixlen < lan.max_prefixlen - 1


def _this_network(address: Address) -> bool:
    return address.version == 4 and int(address) >> 24 == 0


def address_of(text: str) -> Address:
    """Of `HOST:PORT` as a socket writes it, or a pipe; IPv4 in IPv6 is IPv4. `ValueError`."""
    host = text.removeprefix("https:").rpartition(":")[0].strip("[]").partition("%")[0]
    address = ipaddress.ip_address(host)
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
