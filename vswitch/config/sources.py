"""How a class of options is filled: flags, then VSWITCH_* variables, then a TOML table.

An option is one attrs field with `metadata=option(...)`; its flag, its variable and its TOML
key follow from the name of the field, unless `at` names a key of another table. The field's
converter turns text or a TOML value into the option's value, accepts a value that is already right,
and raises `ValueError` with the reason alone; this module adds where the value came from. The first
source that has an option wins.

Error contract: `ConfigError`, one line for each thing that is wrong, with its place (flag,
variable, or file and TOML path), the value, and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import attrs

from vswitch.config.document import Document
from vswitch.errors import ConfigError
from vswitch.logs import clean

T = TypeVar("T")
Source: TypeAlias = Path | Document  # of tables

_MESSAGE = 1000  # characters of a line about what is wrong
_FILE_BYTES = 1 << 20  # a configuration file has a few hundred bytes; this is some other file


@attrs.frozen
class Option:
    """What the flag, the help and the documentation need to know of a field."""

    help: str
    metavar: str | None = None
    kind: str = "text"  # "switch": a flag without a value; "list": one that may be given again
    in_file: bool = True
    at: str | None = None  # TABLE.KEY in a file, for a key that is not in the command's own table
    rare: bool = False  # not needed at first: `--help` leaves it out


def option(
    help: str,
    metavar: str | None = None,
    *,
    kind: str = "text",
    in_file: bool = True,
    at: str | None = None,
) -> dict[str, Any]:
    """The `metadata` of a field that is an option."""
    return {"option": Option(help, metavar, kind, in_file, at)}


def rare(help: str, metavar: str | None = None, **more: Any) -> dict[str, Any]:
    """The same of one that is rare."""
    made: Option = option(help, metavar, **more)["option"]
    return {"option": attrs.evolve(made, rare=True)}


def options_of(cls: type[attrs.AttrsInstance]) -> dict[str, Option]:
    """The options of a class by field name, in the order of declaration."""
    return {
        field.name: field.metadata["option"]
        for field in attrs.fields(cls)
        if "option" in field.metadata
    }


class TakesFlags(Protocol):
    """The parser of a command."""

    def add_argument(self, *names: str, rare: bool, **how: Any) -> object:
        """As argparse has it; `rare`: left out of `--help`."""


def add_flags(parser: TakesFlags, cls: type[attrs.AttrsInstance]) -> None:
    """Give the parser one flag for each option; what was not given is None in the result."""
    inherited = {field.name: field.inherited for field in attrs.fields(cls)}
    # What makes the command itself comes first, what many commands have comes last.
    for name, entry in sorted(options_of(cls).items(), key=lambda item: inherited[item[0]]):
        if entry.kind == "switch":
            how: dict[str, Any] = {"action": "store_const", "const": "true"}
        else:
            action = "append" if entry.kind == "list" else "store"
            how = {"action": action, "metavar": entry.metavar}
        parser.add_argument(flag_of(name), dest=name, help=entry.help, rare=entry.rare, **how)


def flag_of(name: str) -> str:
    """`log_level` → `--log-level`."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """`log_level` → `VSWITCH_LOG_LEVEL`."""
    return "VSWITCH_" + name.upper()


def load(
    cls: type[T],
    flags: Mapping[str, str | list[str] | None],
    environ: Mapping[str, str],
    *,
    table: str | None = None,
    tables: Iterable[str] = (),
    **fixed: object,
) -> T:
    """An instance of `cls` from all sources.

    Args:
        flags: text of each flag that was given, or several texts, by field name.
        environ: the process environment; an empty variable counts as unset.
        table: which table of the file named by option `config` is for this class.
        tables: all tables that such a file may have.
        fixed: fields that are not options.
    """
    given = given_options(cls, flags, environ)
    return fill(cls, {**fixed, **given}, given.get("config"), table=table, tables=tables)


def given_options(
    cls: type[Any], flags: Mapping[str, str | list[str] | None], environ: Mapping[str, str]
) -> dict[str, Any]:
    """What flags and variables say, by field name."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    fields = attrs.fields_dict(cls)
    for name in options_of(cls):
        text, place = flags.get(name), f"{flag_of(name)} "
        if text is None:
            text, place = environ.get(variable_of(name)) or None, f"{variable_of(name)}="
        if text is not None:
            try:
                values[name] = _convert(fields[name], text)
            except ValueError as error:
                shown = text if isinstance(text, str) else " ".join(text)
                problems.append(f"{place}{shortened(shown)}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return values


def fill(
    cls: type[T],
    given: Mapping[str, Any],
    source: Source | None,
    *,
    table: str | None = None,
    tables: Iterable[str] = (),
) -> T:
    """An instance from values that are right, and for others from the tables of a file."""
    said: dict[str, _Said] = {}
    problems: list[str] = []
    if source and table:
        document = read_known(source, set(tables))
        for name, keys in keys_of(cls, table).items():
            part = _table(document, name, source)
            problems += _pick(part, keys, f"{source}: {name}", said)
    return _structure(cls, dict(given), said, problems)


_Said = tuple[str, object]  # a value in a file, or instead of one, after its place


def keys_of(cls: type[Any], table: str) -> dict[str, dict[str, str]]:
    """The tables that a class is filled from; field names by the keys of each."""
    found: dict[str, dict[str, str]] = {table: {}}
    for name, entry in options_of(cls).items():
        if entry.in_file:
            part, key = (table, name) if entry.at is None else entry.at.split(".")
            found.setdefault(part, {})[key] = name
    return found


def _pick(
    table: Mapping[str, Any], keys: Mapping[str, str], place: str, said: dict[str, _Said]
) -> list[str]:
    """Put what a table says into `said`, by field name; what is wrong with its keys."""
    for key in keys.keys() & table.keys():
        said[keys[key]] = f"{place}.{key}", table[key]
    return [f"{place}: {unknown(key, keys, 'option')}" for key in table if key not in keys]


def _convert(field: attrs.Attribute[Any], value: object) -> Any:
    return value if field.converter is None else cast(Callable[[Any], Any], field.converter)(value)


def read_tables(path: Source) -> Mapping[str, Any]:
    """The tables of a configuration file by name, unchecked; `ConfigError` if it is no TOML."""
    import tomllib  # most commands read no file

    if isinstance(path, Document):
        return path.tables

    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
        if len(data) > _FILE_BYTES:
            raise ConfigError(f"{path}: larger than {_FILE_BYTES} bytes: no configuration file")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: not UTF-8 (at line {line})") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        text = "" if place is None else data.decode().split("\n")[int(place[1]) - 1].strip()
        said = f": {clean(text)}" if text else ""
        raise ConfigError(f"{path}: not TOML: {error}{said}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML that can be read: nested too deeply") from None


def read_known(path: Source, known: set[str]) -> Mapping[str, Any]:
    """As `read_tables`; `ConfigError` for a table that is none of `known`."""
    document = read_tables(path)
    problems = [f"{path}: {unknown(key, known, 'table')}" for key in document if key not in known]
    if problems:
        raise ConfigError("\n".join(problems))
    return document


def _table(document: Mapping[str, Any], name: str, path: Source) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name}: must be a table: write [{name}] on a line of its own")
    return table


def structure(cls: type[T], table: Mapping[str, Any], place: str) -> T:
    """An instance of `cls` from a table of a file, or from what somebody has said instead; a
    `ValueError` of the class itself is about the table.
    """
    said: dict[str, _Said] = {}
    problems = _pick(table, keys_of(cls, "")[""], place, said)
    try:
        return _structure(cls, {}, said, problems)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _structure(
    cls: type[T], values: dict[str, Any], said: Mapping[str, _Said], problems: list[str]
) -> T:
    """An instance from values that are right, and else from those of a file, by field name."""
    fields = attrs.fields(cast(type[attrs.AttrsInstance], cls))
    for field in fields:
        name = field.name
        if name in values:
            continue
        if name in said:
            place, value = said[name]
            try:
                values[name] = _convert(field, value)
            except ValueError as error:
                problems.append(f"{place} = {shortened(value)}: {error}")
        elif field.default is attrs.NOTHING:
            problems.append(f"{name} is missing: give {flag_of(name)}, or set {variable_of(name)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return cls(**values)


def unknown(key: str, known: Collection[str], what: str) -> str:
    """What to say of a word that is none of those that are known."""
    import difflib  # for a typing error alone

    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
    return f"unknown {what} {shortened(key)}: {hint}"


def bounded(problems: str) -> str:
    """Lines that may quote what somebody has sent: printable, and each of bounded length."""
    return "\n".join(clean(line)[:_MESSAGE] for line in problems.splitlines())


def shortened(value: object) -> str:
    """A value on one line and of bounded length, for a message."""
    text = value if isinstance(value, str) else repr(value)
    if not text.isprintable() or not text or " " in text or isinstance(value, str) is False:
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
