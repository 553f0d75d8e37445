"""What `[names]` of a configuration file says: the switch's name server.

    [names]
    domain = "lan"
    forward = ["9.9.9.9"]             # or "system"; nothing: names of others are refused
    records = ["www CNAME pc1", "_http._tcp SRV 0 5 80 pc1", "printer A 10.77.0.200"]

Apart from the server itself, so that reading a file needs no DNS library.
Error contract: `ConfigError` with the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from vswitch.config.addressing import to_lan_domain, to_name_servers, to_records
from vswitch.config.sources import option, structure
from vswitch.config.words import to_bool
from vswitch.errors import ConfigError

DNS_PORT = 53


@attrs.frozen(kw_only=True)
class NamesSettings:
    """The name server of one LAN."""

    enabled: bool = attrs.field(
        default=True, converter=to_bool, metadata=option("answer DNS at the subnet's first address")
    )
    domain: str = attrs.field(
        default="lan",
        converter=to_lan_domain,
        metadata=option("the domain of the LAN's own names", "DOMAIN"),
    )
    forward: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_name_servers,
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
