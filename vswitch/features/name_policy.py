"""Which names a port may have looked up by the switch's name server: the setting `names_allowed`.

The LAN's own domain is everybody's. Other names are forwarded as `[names]` says; a port with a
policy is told of all but those below its domains that they do not exist. No step that frames take:
`services/names.py` asks.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from vswitch.config.addressing import to_optional_domains
from vswitch.config.sources import option


@attrs.frozen(kw_only=True, slots=False)
class NamePolicySettings:
    """Of a port."""

    names_allowed: tuple[str, ...] | None = attrs.field(
        default=None,
        converter=to_optional_domains,
        metadata=option(
            "looks up only these domains, what is below them, and the LAN's own; none, or any",
            "DOMAIN,...",
        ),
    )


def allows(allowed: Sequence[str] | None, labels: Sequence[str]) -> bool:
    """Whether a policy lets a name pass: its labels, which may hold dots (RFC 2181 11), in lower
    case and without the root.
    """
    return allowed is None or any(
        [*labels[-len(domain) :]] == domain for domain in (each.split(".") for each in allowed)
    )
