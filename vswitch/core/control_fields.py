"""What a field of a control message may hold: validators for the classes in `control.py`.

A member configures an interface, as root, with what a switch says, and both log what the other
says. So an address is an address, without a zone; a text is printable and bounded; a list is short.
All of them raise `ValueError`, for a program's own mistakes and for a peer's alike. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import attrs

__all__ = [
    "DOMAIN",
    "INTERFACE",
    "LABEL",
    "LABEL_OR_NONE",
    "MAX_MTU",
    "MIN_MTU",
    "MTU",
    "NETWORK",
    "ROUTES",
    "SERVERS",
    "TEXT",
    "WISH",
    "between",
    "check",
    "to_tuple",
]

MIN_MTU = 68  # bytes: every IPv4 module takes this much (RFC 791)
MAX_MTU = 9000  # bytes: the usual jumbo frame, and the most that this switch is built for
MAX_TEXT = 1000  # characters of a text for people
MAX_LIST = 256  # entries of a list: more than a household or a company routes

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.|$))*")

Validator: TypeAlias = "Callable[[Any, attrs.Attribute[Any], Any], None]"


def check(rule: Callable[[str], object]) -> Validator:
    """A validator: `rule` raises `ValueError` for a text that is wrong; None passes."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        for text in value if isinstance(value, tuple) else (value,):
            if text is not None:
                rule(text)

    return validate


def _plain_text(text: str) -> None:
    if len(text) > MAX_TEXT or not all(char.isprintable() for char in text):
        raise ValueError(f"not a printable text of at most {MAX_TEXT} characters")


def _label(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise ValueError(f"not a member name: {text!r}")


def _domain(text: str) -> None:
    if len(text) > 253 or not _DOMAIN.fullmatch(text):
        raise ValueError(f"not a domain: {text!r}")


def _address(text: str) -> None:
    if "%" in text:  # an IPv6 zone, which may hold any character
        raise ValueError(f"an address with a zone: {text!r}")
    ipaddress.ip_interface(text)


def _interface(text: str) -> None:
    if "/" not in text:
        raise ValueError(f"an address without prefix length: {text!r}")
    _address(text)


def _wish(text: str) -> None:
    if text not in ("auto", "none"):
        _interface(text)


def _network(text: str) -> None:
    if text:
        _route(text)


def _route(text: str) -> None:
    _address(text)
    ipaddress.ip_network(text)


def _server(text: str) -> None:
    _address(text)
    ipaddress.ip_address(text)


def between(lowest: int, highest: int) -> Validator:
    """A validator: a number in this range, ends included; None passes."""

    def validate(instance: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{attribute.name} {value} is not in {lowest} to {highest}")

    return validate


MTU: Final = between(MIN_MTU, MAX_MTU)
TEXT: Final = check(_plain_text)
LABEL: Final = check(_label)
LABEL_OR_NONE: Final = check(lambda text: None if text == "" else _label(text))
DOMAIN: Final = check(_domain)
INTERFACE: Final = check(_interface)
NETWORK: Final = check(_network)
WISH: Final = check(_wish)
_SHORT_LIST: Final = attrs.validators.optional(attrs.validators.max_len(MAX_LIST))
ROUTES: Final = [_SHORT_LIST, check(_route)]
SERVERS: Final = [_SHORT_LIST, check(_server)]


def to_tuple(texts: Iterable[str] | None) -> tuple[str, ...] | None:
    """A converter for optional lists."""
    return None if texts is None else tuple(texts)
