"""What is on a LAN and behind it: networks, addresses, domains, resolvers, VLANs and stations.

Error contract: as in words.py.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from vswitch.addresses import (
    MAX_OFFERED,
    PRIVATE,
    WAY_OUT,
    HostPort,
    parse_subnet,
    parse_wish,
    unroutable,
)
from vswitch.config.quantities import whole
from vswitch.config.words import NONE, listed, to_text, to_texts
from vswitch.frames.ethernet import MAX_VLAN, format_mac, parse_mac, parse_vlans

Network: TypeAlias = IPv4Network | IPv6Network

_MACS_LIMIT = 256  # addresses of one port
_DOMAINS_LIMIT = 256  # in one setting
_FORWARDERS_LIMIT = 4  # resolvers: more are never asked
_RECORDS_LIMIT = 4096  # of a zone
_DNS_PORT = 53
EXIT = "exit"  # stands for `WAY_OUT`
ACCEPTED: dict[str, tuple[Network, ...]] = {"off": (), "private": PRIVATE, "all": WAY_OUT}
_DOMAIN_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def to_subnet(value: str | IPv4Network) -> IPv4Network:
    """The subnet of a switch."""
    return value if isinstance(value, IPv4Network) else parse_subnet(to_text(value))


def to_wish(value: str) -> str:
    """The address that a member asks for: auto, none, or ADDRESS/PREFIX."""
    return parse_wish(to_text(value))


def to_addresses(value: str | Sequence[str]) -> tuple[str, ...]:
    """IP addresses and prefixes."""
    try:
        return tuple(str(ipaddress.ip_network(word)) for word in listed(value))
    except ValueError as error:
        raise ValueError(f"not addresses and prefixes: {error}") from None


def to_networks(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Networks: a list, or text with commas or spaces; nothing, or `none`, for none."""
    if isinstance(value, str):
        value = [] if value.lower() in NONE else listed(value)
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of networks such as 10.77.0.0/24")
    return tuple(map(_network, value))


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if "/" not in to_text(value) or "%" in to_text(value):
            raise ValueError
        return ipaddress.ip_network(to_text(value))
    except ValueError:
        raise ValueError("write networks such as 10.77.0.0/24, no host bits set") from None


def to_routes(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Networks behind a member, each once; `exit` is the way out, of IPv4 and of IPv6."""
    if isinstance(value, str):
        value = [] if value.lower() in NONE else listed(value)
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of networks such as 192.168.1.0/24, or exit")
    found = dict.fromkeys(
        network for each in value for network in (WAY_OUT if each == EXIT else (_network(each),))
    )
    for network in found:
        if (reason := unroutable(network)) is not None:
            raise ValueError(f"{network}: {reason}")
    if len(found) > MAX_OFFERED:
        raise ValueError(f"at most {MAX_OFFERED} networks")
    return tuple(found)


def to_accepted(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Which routes are taken: `off`, `private`, `all`, or those in these networks."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    wish = given[0] if len(given) == 1 else None
    if isinstance(wish, str) and wish.lower() in ACCEPTED:
        return ACCEPTED[wish.lower()]
    try:
        return to_networks(value)
    except ValueError:
        raise ValueError("write off, private, all, or networks such as 192.168.0.0/16") from None


def to_resolvers(value: str | Sequence[str]) -> tuple[str, ...]:
    """IP addresses: a list, or text with commas or spaces."""
    try:
        return tuple(str(ipaddress.ip_address(to_text(each))) for each in to_texts(value))
    except ValueError:
        raise ValueError("write addresses such as 10.77.0.1") from None


def to_name_servers(value: str | Sequence[str]) -> tuple[str, ...]:
    """Resolvers as ADDRESS or ADDRESS:PORT, or `system` alone; nothing, or `none`, for none."""
    said = to_texts(value)
    if len(said) > _FORWARDERS_LIMIT:
        raise ValueError(f"at most {_FORWARDERS_LIMIT} resolvers")
    return said if said == ("system",) else tuple(str(to_name_server(each)) for each in said)


def to_name_server(text: str) -> HostPort:
    """Where one is: an address, since a name would need one."""
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    try:
        where = HostPort.parse(bare, default_port=_DNS_PORT)
        ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError(
            f"{text!r} is no resolver: write its address, such as 9.9.9.9, or system"
        ) from None
    return where


def to_domain(value: str) -> str:
    """A domain in lower case, without the dot at its end."""
    domain = to_text(value).lower().removesuffix(".")
    if len(domain) > 253 or not all(map(_DOMAIN_LABEL.fullmatch, domain.split("."))):
        raise ValueError(f"{value!r} is no domain: write it as example.com, in ASCII (xn--...)")
    return domain


def to_domains(value: str | Sequence[str]) -> tuple[str, ...]:
    """Domains: a list, or text with commas; nothing, or `none`, for none."""
    domains = tuple(to_domain(each.removeprefix("*.")) for each in to_texts(value))
    if len(domains) > _DOMAINS_LIMIT:
        raise ValueError(f"more than {_DOMAINS_LIMIT} domains")
    return domains


def to_optional_domains(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The same; None, or `any`, for all."""
    return None if value is None or value == "any" else to_domains(value)


def to_lan_domain(value: str) -> str:
    """A domain that can be a LAN's own."""
    domain = to_domain(value)
    taken = domain.endswith((".arpa", ".local", ".localhost")) or domain in ("local", "localhost")
    if taken and not f".{domain}".endswith(".home.arpa"):
        raise ValueError(f"{domain} has another meaning (mDNS, this host, or an address)")
    return domain


def to_records(value: Sequence[str]) -> tuple[str, ...]:
    """Lines of a zone file; what they mean is seen when the zone is made."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError('write a list of lines, such as ["www CNAME pc1"]')
    if len(value) > _RECORDS_LIMIT:
        raise ValueError(f"at most {_RECORDS_LIMIT} records")
    return tuple(value)


def to_vlan(value: int | str | None) -> int | None:
    """A VLAN id; None and `none` mean none."""
    if value is None or (isinstance(value, str) and value.lower() in NONE):
        return None
    try:
        return whole(value, 1, MAX_VLAN)
    except ValueError:
        raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none") from None


def to_vlans(value: int | str | None) -> str | None:
    """Several VLANs as text, `10,20-30` or `all`; None and `none` mean none."""
    if value is None or (isinstance(value, str) and value.lower() in NONE):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("write VLANs as text: 10,20-30, or all")
    parse_vlans(value)
    return value.replace(" ", "").lower()


def parse_station(text: str) -> tuple[bytes, int | None]:
    """Address and VLAN of `02:00:5e:10:00:01`, or `02:00:5e:10:00:01@10`; `ValueError` if none."""
    address, at, vlan = text.partition("@")
    mac = parse_mac(address.strip())
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"not the address of a station: {address}")
    return mac, to_vlan(vlan) if at else None


def to_macs(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses: a list, or text with commas; nothing, or `none`, for none."""
    return _each(value, lambda text: format_mac(parse_station(text.partition("@")[0])[0]))


def to_stations(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses, each with `@VLAN` where it is not the port's own; see `parse_station`."""
    return _each(value, _station)


def _station(text: str) -> str:
    mac, vlan = parse_station(text)
    return format_mac(mac) if vlan is None else f"{format_mac(mac)}@{vlan}"


def _each(value: str | Sequence[str], read: Callable[[str], str]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [] if value.lower() in NONE else value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError("write MAC addresses as text in a list")
    if len(value) > _MACS_LIMIT:
        raise ValueError(f"at most {_MACS_LIMIT} addresses")
    return tuple(read(each) for each in value)
