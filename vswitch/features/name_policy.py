"""Which names a port may have looked up by the switch's name server: the setting `names_allowed`.

The LAN's own domain is everybody's. Other names are forwarded as `[names]` says; a port with a
policy is told of all but those below its domains that they do not exist. No step that frames take:
`services/names.py` asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from vswitch.config.converters import to_texts
from vswitch.config.sources import option

MAX_DOMAINS = 256  # of one port
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def to_domain(value: str) -> str:
    """A domain in lower case, without the dot at its end."""
    if not isinstance(value, str):
        raise ValueError("write a domain, such as example.com")
    domain = value.lower().removesuffix(".")
    if len(domain) > 253 or not all(map(_LABEL.fullmatch, domain.split("."))):
        raise ValueError(f"{value!r} is no domain: write it as example.com, in ASCII (xn--...)")
    return domain


def to_allowed(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Domains, or `none`: those of the LAN alone; None, or `any`, is no policy."""
    if value is None or value == "any":
        return None
    domains = tuple(to_domain(each.removeprefix("*.")) for each in to_texts(value))
    if len(domains) > MAX_DOMAINS:
        raise ValueError(f"more than {MAX_DOMAINS} domains")
    return domains


@attrs.frozen(kw_only=True, slots=False)
class NamePolicySettings:
    """Of a port."""

    names_allowed: tuple[str, ...] | None = attrs.field(
        default=None,
        converter=to_allowed,
        metadata=option(
            "looks up only these domains, what is below them, and the LAN's own; none, or any",
            "DOMAIN,...",
        ),
    )


def allows(allowed: Sequence[str] | None, name: str) -> bool:
    """Whether a policy lets a name pass, in lower case and without the dot at its end."""
    return allowed is None or any(
        name == domain or name.endswith(f".{domain}") for domain in allowed
    )
