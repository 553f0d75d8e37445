"""What `[names]` of a configuration file says: the switch's name server.

    [names]
    domain = "lan"
    forward = ["9.9.9.9"]             # or "system"; nothing: names of others are refused
    records = ["www CNAME pc1", "_http._tcp SRV 0 5 80 pc1", "printer A 10.77.0.200"]

Apart from the server itself, so that reading a file needs no DNS library.
Error contract: `ConfigError` with the place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from vswitch.addresses import HostPort
from vswitch.config.converters import to_bool, to_texts
from vswitch.config.sources import option, structure
from vswitch.errors import ConfigError
from vswitch.features.name_policy import to_domain

SYSTEM = "system"  # the resolvers of the switch's own host
MAX_FORWARDERS = 4
MAX_RECORDS = 4096
DNS_PORT = 53


def to_lan_domain(value: str) -> str:
    """A domain that can be a LAN's own."""
    domain = to_domain(value)
    taken = domain.endswith((".arpa", ".local", ".localhost")) or domain in ("local", "localhost")
    if taken and not f".{domain}".endswith(".home.arpa"):
        raise ValueError(f"{domain} has another meaning (mDNS, this host, or an address)")
    return domain


def to_forward(value: str | Sequence[str]) -> tuple[str, ...]:
    """Resolvers as ADDRESS or ADDRESS:PORT, or `system`; nothing, or `none`, for none."""
    said = to_texts(value)
    if said == (SYSTEM,):
        return said
    if len(said) > MAX_FORWARDERS:
        raise ValueError(f"at most {MAX_FORWARDERS} resolvers")
    return tuple(str(to_resolver(each)) for each in said)


def to_resolver(text: str) -> HostPort:
    """Where one is: an address, since a name would need one."""
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    try:
        where = HostPort.parse(bare, default_port=DNS_PORT)
        ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError(
            f'{text!r} is no resolver: write its address, such as 9.9.9.9, or "{SYSTEM}"'
        ) from None
    return where


def to_records(value: Sequence[str]) -> tuple[str, ...]:
    """Lines of a zone file; what they mean is seen when the zone is made."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError('write a list of lines, such as ["www CNAME pc1"]')
    if len(value) > MAX_RECORDS:
        raise ValueError(f"at most {MAX_RECORDS} records")
    return tuple(value)


@attrs.frozen(kw_only=True)
class NamesSettings:
    """The name server of one LAN."""

    enabled: bool = attrs.field(
        default=True, converter=to_bool, metadata=option("answer DNS at the subnet's first address")
    )
    domain: str = attrs.field(
        default="lan", converter=to_lan_domain, metadata=option("of the LAN's own names", "DOMAIN")
    )
    forward: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_forward,
        metadata=option("who looks up names of others: resolvers, or system; none: nobody"),
    )
    records: tuple[str, ...] = attrs.field(
        default=(), converter=to_records, metadata=option("more records, as in a zone file")
    )


def names_settings(document: Mapping[str, Any], place: str) -> NamesSettings:
    """Those of a configuration file whose tables these are."""
    table = document.get("names", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{place}names: must be a table: write [names] on a line of its own")
    return structure(NamesSettings, table, f"{place}names")
