"""`[dhcp]` of the configuration file, and what clients are told because of it.

    [dhcp]
    enabled = true
    range = "10.77.0.100-10.77.0.199"
    reservations = { "52:54:00:12:34:56" = "10.77.0.50", office = "10.77.0.51" }

Error contract: converters raise `ValueError` with the reason; `DhcpSettings.pool` and
`dhcp_settings`, `ConfigError` with the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, TypeAlias

from attrs import Factory, field, frozen

from vswitch.addresses import check_name, reserved_reason, switch_address
from vswitch.config.quantities import to_duration, to_optional_mtu, whole
from vswitch.config.sources import option, structure
from vswitch.config.words import to_bool, to_texts
from vswitch.errors import ConfigError
from vswitch.frames.bootp import Option, number, packed, routes, search_list, wire_name
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.services.leases import MAX_LEASES, Pool

TABLE = "dhcp"
MAX_RESERVATIONS = 1024
LEAST_LEASE = 120.0  # seconds; a client that wants less gets that
_MAX_ROUTES = 32
_MAX_SERVERS = 8  # name servers, search domains

Range: TypeAlias = tuple[IPv4Address, IPv4Address]
Route: TypeAlias = tuple[IPv4Network, IPv4Address]


def _address(value: object) -> IPv4Address:
    try:
        if isinstance(value, str | IPv4Address):
            return IPv4Address(value)
    except AddressValueError:
        pass
    raise ValueError("write an IPv4 address such as 10.77.0.1")


def to_optional_ipv4(value: object) -> IPv4Address | None:
    """An address, or nothing."""
    return None if value in (None, "", "none") else _address(value)


def to_servers(value: str | Sequence[str] | None) -> tuple[IPv4Address, ...] | None:
    """Addresses: a list, or text with commas or spaces; None for what is usual."""
    if value is None:
        return None
    if not isinstance(value, str | list | tuple):
        raise ValueError("must be addresses: a list, or text")
    found = tuple(map(_address, to_texts(value) if isinstance(value, str) else value))
    if len(found) > _MAX_SERVERS:
        raise ValueError(f"at most {_MAX_SERVERS}")
    return found


def to_range(value: str | Range | None) -> Range | None:
    """First and last address, `10.77.0.100-10.77.0.199`; None for what is usual."""
    if value is None or isinstance(value, tuple):
        return value
    first, dash, last = value.partition("-") if isinstance(value, str) else ("", "", "")
    if not dash:
        raise ValueError("write the first and the last address: 10.77.0.100-10.77.0.199")
    found = _address(first.strip()), _address(last.strip())
    if found[0] > found[1]:
        raise ValueError("the first address comes before the last")
    return found


def to_domain(value: str | None) -> str | None:
    """A domain; None for what is usual, "" or `none` for none."""
    if value is None or value in ("", "none"):
        return None if value is None else ""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("write a domain such as lan")
    wire_name(value)
    return value.lower().rstrip(".")


def to_domains(value: str | Sequence[str]) -> tuple[str, ...]:
    """Domains: a list, or text with commas or spaces."""
    found = tuple(to_domain(each) or "" for each in to_texts(value))
    if len(found) > _MAX_SERVERS or not all(found):
        raise ValueError(f"write domains such as lan, at most {_MAX_SERVERS}")
    return found


def to_routes(value: Sequence[str | Route]) -> tuple[Route, ...]:
    """Routes such as `192.168.1.0/24 via 10.77.0.9`."""
    if not isinstance(value, list | tuple) or len(value) > _MAX_ROUTES:
        raise ValueError(f"write a list of at most {_MAX_ROUTES} routes")
    return tuple(each if isinstance(each, tuple) else _route(each) for each in value)


def _route(text: object) -> Route:
    network, via, router = text.partition(" via ") if isinstance(text, str) else ("", "", "")
    try:
        if not via:
            raise ValueError
        return IPv4Network(network.strip()), IPv4Address(router.strip())
    except (ValueError, AddressValueError, NetmaskValueError):
        raise ValueError("write routes as 192.168.1.0/24 via 10.77.0.9") from None


def to_reservations(value: Mapping[str, object]) -> Mapping[str, IPv4Address]:
    """Addresses by MAC address, or by the name of a port: that of a member is its name."""
    if not isinstance(value, Mapping) or len(value) > MAX_RESERVATIONS:
        raise ValueError(
            f'write {{ "52:54:00:12:34:56" = "10.77.0.50", pc1 = "10.77.0.51" }}, at most '
            f"{MAX_RESERVATIONS}"
        )
    found: dict[str, IPv4Address] = {}
    for whom, said in value.items():
        try:
            name = format_mac(parse_mac(whom))
        except ValueError:
            try:
                name = check_name(whom)
            except ValueError:
                raise ValueError(f"{whom!r} is neither a MAC address nor a port") from None
        address = _address(said)
        if name in found or address in found.values():
            raise ValueError(f"{whom!r} or {address} stands there twice")
        found[name] = address
    return found


def _to_lease_time(value: str | float) -> float:
    seconds = to_duration(value)
    if seconds < LEAST_LEASE:
        raise ValueError(f"must be at least {LEAST_LEASE:.0f}s")
    return seconds


def _to_port_limit(value: int | str) -> int:
    return whole(value, 1, MAX_LEASES)


@frozen(kw_only=True)
class DhcpSettings:
    """`[dhcp]`."""

    enabled: bool = field(
        default=False, converter=to_bool, metadata=option("hand out addresses on the LAN")
    )
    range: Range | None = field(
        default=None,
        converter=to_range,
        metadata=option("first and last address (the upper half of the subnet)", "FIRST-LAST"),
    )
    lease_time: float = field(
        default=12 * 3600.0,
        converter=_to_lease_time,
        metadata=option("how long an address is a machine's without asking again (12h)", "TIME"),
    )
    reservations: Mapping[str, IPv4Address] = field(
        default=Factory(dict),
        converter=to_reservations,
        metadata=option("addresses by MAC address or by the name of a port", "TABLE"),
    )
    router: IPv4Address | None = field(
        default=None,
        converter=to_optional_ipv4,
        metadata=option("the way out of the LAN (none)", "ADDR"),
    )
    dns: tuple[IPv4Address, ...] | None = field(
        default=None,
        converter=to_servers,
        metadata=option("name servers (the switch, where it serves names)", "ADDR,..."),
    )
    domain: str | None = field(
        default=None,
        converter=to_domain,
        metadata=option("the domain of the LAN (that of its names)", "DOMAIN"),
    )
    search: tuple[str, ...] = field(
        default=(),
        converter=to_domains,
        metadata=option("domains to look for names in, besides", "DOMAIN,..."),
    )
    routes: tuple[Route, ...] = field(
        default=(),
        converter=to_routes,
        metadata=option("routes: 192.168.1.0/24 via 10.77.0.9", "LIST"),
    )
    mtu: int | None = field(
        default=None,
        converter=to_optional_mtu,
        metadata=option("payload of the largest frame (that of the switch)", "BYTES"),
    )
    port_limit: int = field(
        default=64,
        converter=_to_port_limit,
        metadata=option("leases and offers behind one port (64)", "N"),
    )
    free_with_port: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("end the leases of a port when it goes"),
    )

    def terms(
        self, subnet: IPv4Network, mtu: int, dns: tuple[IPv4Address, ...] = (), domain: str = ""
    ) -> Terms:
        """What clients are told; `dns` and `domain` where the settings say nothing."""
        return Terms(
            network=subnet,
            server=switch_address(subnet),
            mtu=self.mtu or mtu,
            lease_time=self.lease_time,
            router=self.router,
            dns=dns if self.dns is None else self.dns,
            domain=domain if self.domain is None else self.domain,
            search=self.search,
            routes=self.routes,
        )

    def pool(self, subnet: IPv4Network) -> Pool:
        """The addresses; `ConfigError` with the key of those that are not of the subnet."""
        upper = subnet.network_address + subnet.num_addresses // 2
        first, last = self.range or (upper, subnet.broadcast_address - 1)
        given = [("range", first), ("range", last)]
        given += [("reservations", each) for each in self.reservations.values()]
        for key, address in given:
            if (reason := reserved_reason(address, subnet)) is not None:
                raise ConfigError(f"{TABLE}.{key}: {address} cannot be given: {reason}")
        return Pool(subnet, first, last, self.reservations, self.port_limit)


def dhcp_settings(document: Mapping[str, Any], place: str) -> DhcpSettings:
    """Those of a configuration file whose tables these are."""
    table = document.get(TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{place}{TABLE}: must be a table: write [{TABLE}] on a line of its own")
    return structure(DhcpSettings, table, f"{place}{TABLE}")


@frozen(kw_only=True)
class Terms:
    """What clients are told besides their address."""

    network: IPv4Network
    server: IPv4Address
    mtu: int
    lease_time: float  # seconds
    router: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    routes: tuple[tuple[IPv4Network, IPv4Address], ...] = ()

    def options(self) -> dict[int, bytes]:
        """As they are sent, the most needed first."""
        via = self.routes
        if via and self.router is not None:  # who knows these ignores the router (RFC 3442)
            via = ((IPv4Network("0.0.0.0/0"), self.router), *via)
        said: dict[int, bytes] = {
            Option.MASK: self.network.netmask.packed,
            Option.BROADCAST: self.network.broadcast_address.packed,
            Option.MTU: number(self.mtu, 2),
            Option.ROUTER: b"" if self.router is None else self.router.packed,
            Option.DNS: packed(self.dns),
            Option.DOMAIN: self.domain.encode(),
            Option.ROUTES: routes(via),
            Option.OLD_ROUTES: routes(via),
            Option.SEARCH: search_list(self.search),
        }
        return {code: body for code, body in said.items() if body}
