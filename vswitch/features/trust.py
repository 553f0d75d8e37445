"""Whether members are trusted: what features ask before they believe a member's own word."""

from __future__ import annotations

import attrs

from vswitch.config.converters import to_bool
from vswitch.config.sources import option


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
