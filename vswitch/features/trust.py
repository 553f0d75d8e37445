"""Whether members are trusted: what features ask before they believe a member's own word."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Network

import attrs

from vswitch.config.sources import option
from vswitch.config.words import to_bool


@attrs.frozen(kw_only=True, slots=False)
class GuardSwitchSettings:
    """Of the switch."""

    guard: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("every guard, on every port that is not trusted"),
    )


@attrs.frozen(kw_only=True, slots=False)
class TrustSettings:
    """Of a port."""

    trusted: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("no guards: a router, DHCP server or bridge is behind this port"),
    )


@attrs.frozen(kw_only=True)
class Served:
    """What follows for all ports from what the switch itself does on its LAN."""

    guards: Mapping[str, str] = attrs.Factory(
        dict
    )  # that are on, unless a port says otherwise; why
    ports: frozenset[str] = frozenset()  # by name: where the switch itself speaks
    prefix: IPv6Network | None = None  # in which hosts give themselves addresses
