"""What comes in a body or a query becomes a value of the class that its route names.

Strict: no other keys, no other types; `1` is no text and `"1"` no number.

Error contract: `ConfigError` that says what is wrong, and where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import parse_qsl

import attrs
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.strategies import configure_union_passthrough

from vswitch.config.document import too_deep
from vswitch.errors import ConfigError

_PARTS = 64  # of a query


@cache
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    for kind in (str, bool, int, float):
        converter.register_structure_hook(kind, _exactly)
    configure_union_passthrough(str | bool | int | float | None, converter)
    return converter


def _exactly(value: object, kind: type) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise TypeError(f"must be {_WORDS[kind]}")
    if type(value) is float and not math.isfinite(value):
        raise ValueError("must be a number")
    return value


_WORDS: Mapping[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def read_body_untrusted(data: bytes, kind: Any) -> Any:
    """The value of that type that a body is as JSON."""
    try:
        said = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        json.dumps(said, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except UnicodeEncodeError:
        raise ConfigError("the body is no JSON: \\ud800 to \\udfff stand in pairs") from None
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise ConfigError(f"the body is no JSON: {reason}") from None
    if too_deep(said):
        raise ConfigError("the body is nested too deeply")
    return _structure(said, kind, "body")


def read_query_untrusted(
    text: str, kind: type[Any] | None, *, networks: bool = True
) -> tuple[Any, str | None]:
    """The value of that class that a query says, and the network that it names, if it may."""
    try:
        parts = parse_qsl(text, keep_blank_values=True, max_num_fields=_PARTS, errors="strict")
    except ValueError:
        raise ConfigError("no query that can be read") from None
    fields = {} if kind is None else attrs.fields_dict(attrs.resolve_types(kind))
    said: dict[str, Any] = {}
    network = None
    for name, value in parts:
        if name == "network" and networks:
            network = value
        elif name not in fields:
            known = ", ".join(sorted((*fields, "network") if networks else fields))
            raise ConfigError(f"query: there is no {name!r}, only {known or 'the path'}")
        elif get_origin(fields[name].type) is list:
            said.setdefault(name, []).append(value)
        else:
            said[name] = _read(name, value, fields[name].type)
    return None if kind is None else _structure(said, kind, "query"), network


def _read(name: str, text: str, kind: Any) -> Any:
    wanted = next(each for each in inner_types(kind) if each is not NoneType)
    try:
        if wanted is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return wanted(text) if wanted in (int, float) else text
    except (ValueError, KeyError):
        raise ConfigError(f"query: {name} = {text[:40]!r}: must be {_WORDS[wanted]}") from None


def inner_types(kind: Any) -> tuple[Any, ...]:
    """The types of a union; of another type that alone."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _structure(said: Any, kind: Any, place: str) -> Any:
    try:
        _check(said, kind)
        return _converter().structure(said, kind)
    except BaseValidationError as error:
        raise ConfigError(f"{place}: {'; '.join(transform_error(error))}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{place}: {error}") from None


def _check(said: Any, kind: Any) -> None:
    """Whether what holds others is what it must be: a text is no list, a list no object."""
    kinds = [each for each in inner_types(kind) if each is not NoneType]
    if len(kinds) != 1 or (said is None and NoneType in inner_types(kind)):
        return
    kind = kinds[0]
    origin = get_origin(kind)
    if origin is list:
        if type(said) is not list:
            raise TypeError("must be a list")
        for each in said:
            _check(each, get_args(kind)[0])
    elif origin is dict or attrs.has(kind):
        if type(said) is not dict:
            raise TypeError("must be an object")
        if origin is None:
            for field in attrs.fields(attrs.resolve_types(kind)):
                if field.name in said:
                    _check(said[field.name], field.type)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")
