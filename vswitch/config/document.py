"""A configuration as a whole: its tables, the values in them by key, and what changes them.

    flatten({"port": {"pc1": {"isolated": True}}}) == {("port", "pc1", "isolated"): True}

So two configurations are compared key by key, and one lies over another. What makes sense only
whole is one value: `[rules]`, each `[[publish]]` (its key is where it listens) and each
`[[foreign]]` (its key is its name).

Pure. Error contract: none; what is no configuration is left to who reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Any, Final, TypeAlias

from attrs import Factory, frozen

from vswitch.config.places import to_published

Key: TypeAlias = tuple[str, ...]
Flat: TypeAlias = dict[Key, Any]

_LISTED: Final = ("publish", "foreign")  # tables of which there may be several
_WHOLE: Final = ("rules",)
# Who says something: it was changed while the program runs; the file; flags or variables.
LIVE, FILE, OPTION = "live", "file", "option"
SENT: Final = "the configuration"  # that somebody has sent whole, in messages
MAX_DEPTH: Final = 16
REMOVED: Final = "removed"  # the key of the file of saved settings for what they take away
_BARE: Final = re.compile("[A-Za-z0-9_-]+")


@frozen
class Document:
    """The tables of a configuration, and what messages call it: the path of a file, for one."""

    place: str
    tables: Mapping[str, Any]

    def __str__(self) -> str:
        return self.place


@frozen
class Overlay:
    """What is said over another configuration."""

    values: Flat = Factory(dict)
    removed: frozenset[Key] = frozenset()

    def over(self, below: Flat) -> Flat:
        """Both."""
        kept = {key: value for key, value in below.items() if key not in self.removed}
        return {**kept, **self.values}

    def also(self, later: Overlay) -> Overlay:
        """This one, and another that lies over it."""
        removed = (self.removed - later.values.keys()) | later.removed
        return Overlay(later.over(self.values), removed)

    def document(self) -> dict[str, Any]:
        """The tables of a file that says it."""
        said = unflatten(self.values)
        if self.removed:
            said = {REMOVED: sorted(map(spelled, self.removed)), **said}
        return said


@frozen
class Change:
    """A key that has another value; None for none."""

    key: Key
    before: Any
    after: Any


def differences(before: Flat, after: Flat) -> list[Change]:
    """Each key that is not the same, in the order of a file."""
    return [Change(key, before.get(key), after.get(key)) for key in changed(before, after)]


def overlay_between(below: Flat, wanted: Flat) -> Overlay:
    """What makes the one the other: `overlay.over(below) == wanted`."""
    said = {key: value for key, value in wanted.items() if key not in below or below[key] != value}
    return Overlay(said, frozenset(below.keys() - wanted.keys()))


def overlay_of(tables: Mapping[str, Any]) -> Overlay:
    """What `Overlay.document` has made; `ValueError` for a path that is none."""
    removed = tables.get(REMOVED, [])
    if not isinstance(removed, list) or not all(isinstance(each, str) for each in removed):
        raise ValueError(f'{REMOVED}: must be a list of keys, such as ["port.pc1.isolated"]')
    rest = {key: value for key, value in tables.items() if key != REMOVED}
    return Overlay(flatten(rest), frozenset(map(_parse, removed)))


def flatten(tables: Mapping[str, Any]) -> Flat:
    """Each value by its key. A network that is there has a value of its own, even if it says
    nothing, and so has [api]; other empty tables of a network, and of a port, say nothing.
    """
    found: Flat = {}
    for name, value in tables.items():
        if name == "network" and isinstance(value, dict):
            for network, its in value.items():
                if isinstance(its, dict):
                    found["network", network] = {}
                    for key, said in its.items():
                        _flatten(found, ("network", network, key), key, said)
                else:
                    found["network", network] = its
        elif name == "api" and value == {}:
            found[name,] = {}
        else:
            _flatten(found, (name,), name, value)
    return found


def unflatten(flat: Mapping[Key, Any]) -> dict[str, Any]:
    """The tables again; `flatten` of them is the same."""
    tables: dict[str, Any] = {}
    for key, value in sorted(flat.items(), key=lambda item: _order(item[0])):
        table, last = _room(tables, key)
        if isinstance(table, list):
            table.append(value)
        elif not (value == {} and isinstance(table.get(last), dict)):
            table[last] = value if value != {} else {}
    return tables


def value_above(flat: Flat) -> Key | None:
    """A key with a value that other keys are below: of two configurations, one over the other."""
    above = (key[:length] for key in flat for length in range(1, len(key)))
    return next((key for key in above if flat.get(key, {}) != {}), None)


def check_plain(flat: Flat) -> None:
    """`ValueError` for null, which JSON has and TOML has not: no file can say it."""
    for key, value in flat.items():
        if any(each is None for level in _levels(value) for each in level):
            raise ValueError(f"{spelled(key)}: null is no value: leave it out")


def too_deep(value: object) -> bool:
    """Whether tables and lists are nested further than any are that mean something."""
    return any(number > MAX_DEPTH for number, _ in enumerate(_levels(value)))


def _levels(value: object) -> Iterator[list[Any]]:
    """What stands at each level of nesting."""
    level = [value]
    while level:
        yield level
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict | list | tuple):
                inner += each.values() if isinstance(each, dict) else each
        level = inner


def _flatten(found: Flat, key: Key, name: str, value: Any) -> None:
    if (
        name in _LISTED
        and isinstance(value, list)
        and all(isinstance(each, dict) for each in value)
    ):
        for each in value:
            said = said_by = _name_of(name, each)
            number = 1
            while (*key, said) in found:  # which whoever reads it refuses
                number += 1
                said = f"{said_by} {number}"
            found[*key, said] = each
    elif name in (*_WHOLE, *_LISTED) or not isinstance(value, dict):
        found[key] = value
    else:
        for below, said in value.items():
            if said == {} and name != "port":  # no table is there, or it is empty on purpose
                found[*key, below] = {}
            else:
                _flatten(found, (*key, below), "", said)


def _name_of(kind: str, table: Mapping[str, Any]) -> str:
    """What tells one of a list from the others."""
    if kind == "foreign":
        return str(table.get("name") or table.get("kind") or "")
    return listen_key(table.get("listen"))


def listen_key(listen: object) -> str:
    """The key of what is published there, however that is written."""
    try:
        return str(to_published(listen))  # type: ignore[arg-type]
    except (ValueError, TypeError, AttributeError):
        return str(listen)


def _room(tables: dict[str, Any], key: Key) -> tuple[Any, str]:
    """The table or list that a value belongs to, and its key there."""
    table: Any = tables
    depth = 2 if key[0] == "network" and len(key) > 2 else 0
    for part in key[:depth]:
        table = table.setdefault(part, {})
    rest = key[depth:]
    if len(rest) == 2 and rest[0] in _LISTED:
        return table.setdefault(rest[0], []), ""
    for part in rest[:-1]:
        table = table.setdefault(part, {})
    return table, rest[-1]


def _order(key: Key) -> tuple[Any, ...]:
    """[serve] first, networks last, and whatever is in a list in the order that it has there."""
    listed = any(part in _LISTED for part in key[:-1])
    return (key[0] == "network", key[0] != "serve", key[:-1] if listed else key)


# --- Text ------------------------------------------------------------------------------------


def spelled(key: Key) -> str:
    """A key as TOML writes it: `port.pc1.isolated`."""
    return ".".join(each if _BARE.fullmatch(each) else _text(each) for each in key)


def _parse(text: str) -> Key:
    import tomllib

    try:
        table: Any = tomllib.loads(f"{text} = 0")
    except tomllib.TOMLDecodeError:
        raise ValueError(f"{REMOVED}: {text!r} is no key") from None
    found = []
    while isinstance(table, dict) and len(table) == 1:
        part, table = next(iter(table.items()))
        found.append(part)
    if table != 0:
        raise ValueError(f"{REMOVED}: {text!r} is no key")
    return tuple(found)


def to_toml(tables: Mapping[str, Any], notes: Mapping[Key, str] | None = None) -> str:
    """The text of a file that says this; `notes` stand behind the values of these keys."""
    lines: list[str] = []
    _write(lines, tables, (), {} if notes is None else notes)
    return "\n".join(lines).strip("\n") + "\n" if lines else ""


def _write(lines: list[str], table: Mapping[str, Any], path: Key, notes: Mapping[Key, str]) -> None:
    inner: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict) or (
            isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
        ):
            inner.append((key, value))
        else:
            note = notes.get((*path, key), "")
            lines.append(f"{spelled((key,))} = {inline(value)}" + (f"  # {note}" if note else ""))
    for key, value in inner:
        here = (*path, key)
        if isinstance(value, list):
            for each in value:
                note = notes.get((*here, _name_of(key, each)), "")
                lines += ["", f"[[{spelled(here)}]]" + (f"  # {note}" if note else "")]
                _write(lines, each, here, {})
            continue
        plain = not value or any(not isinstance(each, dict) for each in value.values())
        if plain:
            note = notes.get(here, "")
            lines += ["", f"[{spelled(here)}]" + (f"  # {note}" if note else "")]
        _write(lines, value, here, notes)


def inline(value: Any) -> str:
    """A value as TOML writes it behind `key =`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, Mapping):
        said = (f"{spelled((key,))} = {inline(each)}" for key, each in value.items())
        return f"{{ {', '.join(said)} }}" if value else "{}"
    return str(value)


def written(value: Any) -> Any:
    """The value of an option as a file has it; infinite is `off`."""
    if isinstance(value, tuple):
        return [written(each) for each in value]
    if value == inf:
        return "off"
    return value if isinstance(value, bool | int | float | str) else str(value)


def _text(value: str) -> str:
    # A string of JSON is one of TOML, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def changed(before: Flat, after: Flat) -> Iterable[Key]:
    """The keys that differ, in the order of a file."""
    missing = object()
    keys = before.keys() | after.keys()
    found = [key for key in keys if before.get(key, missing) != after.get(key, missing)]
    return sorted(found, key=_order)
