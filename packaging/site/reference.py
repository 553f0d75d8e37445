"""The reference, made from the program when the site is built, so that it cannot be out of date:
help of each command, keys of the configuration file, routes and types of the API, metrics,
counters, exit codes. A hook of MkDocs.

What is explained at length (options, counters, events) stands in docs/operations.md, and tests
hold that against the program; what its tables say of a counter is put in order here.

Error contract: `KeyError` for a key or a counter of the program that nothing is said of, which ends
the build.
"""

import argparse
import ast
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any, Final, get_args, get_origin
from unittest.mock import patch

import attrs
from mkdocs.structure.files import File, Files

import vswitch.features
import vswitch.services
from transport.stats import DROP_REASONS
from vswitch.addresses import WAY_OUT
from vswitch.api.member import MEMBER
from vswitch.api.openapi import document
from vswitch.api.roles import Role
from vswitch.api.routes import SWITCH
from vswitch.api.table import Route, Table
from vswitch.api.values import inner_types
from vswitch.cli import command_line
from vswitch.cli.common import GROUPS
from vswitch.config.options import (
    NETWORK_TABLES,
    ExecConfig,
    JoinConfig,
    NetworkConfig,
    ProxyConfig,
    ServeConfig,
)
from vswitch.config.sources import Option, flag_of, options_of, variable_of
from vswitch.errors import ExitCode
from vswitch.features.rule_set import KEYS
from vswitch.features.settings import PortSettings, SwitchSettings
from vswitch.foreign.kinds import ForeignSettings
from vswitch.joining.configuration import AT_ONCE
from vswitch.management.metrics import METRICS
from vswitch.management.status import PortStatus
from vswitch.services.adverts import AdvertSettings
from vswitch.services.name_settings import NamesSettings
from vswitch.services.publish_rules import PublishRule
from vswitch.services.station import ServiceDrop
from vswitch.services.terms import DhcpSettings
from vswitch.serving.configuration import RESTART
from vswitch.switch.counters import Drop

OPERATIONS: Final = Path(__file__).resolve().parents[2] / "docs" / "operations.md"

# The tables of a configuration file: who is filled from each, and where more is said.
COMMANDS: Final = {"join": JoinConfig, "exec": ExecConfig, "proxy": ProxyConfig}
SETTINGS: Final[Mapping[str, tuple[type[Any], str, str]]] = {
    "switch": (SwitchSettings, "[switch]", "guards"),
    "port": (PortSettings, "[port.NAME]", "guards"),
    "publish": (PublishRule, "[[publish]]", "publish-a-service"),
    "foreign": (ForeignSettings, "[[foreign]]", "foreign-ports"),
    "names": (NamesSettings, "[names]", "names"),
    "dhcp": (DhcpSettings, "[dhcp]", "addresses-for-machines-that-are-no-members"),
    "adverts": (AdvertSettings, "[adverts]", "addresses-for-machines-that-are-no-members"),
}
LIVE: Final = {
    "switch": "Live: `vswitch switch set KEY=VALUE`. ",
    "port": 'Live: `vswitch port set NAME KEY=VALUE`. `[port."*"]` is for all ports that say '
    "nothing else. ",
    "publish": "Live: `vswitch publish LISTEN TO`, with the keys as flags. ",
}
# Who counts: by the section that has the table, and in the order of those under Counters.
OTHER_COUNTERS: Final = {
    "Proxy": "`vswitch proxy`",
    "Publish a service": "published service",
    "Foreign ports": "listener for foreign ports",
    "The API": "listener of HTTPS and the API",
}
COUNTERS: Final = ("switch", "services of the switch", "member, or device of a port", "transport")


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each part."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """The text of each page, by its name."""
    return {
        "commands": commands(),
        "configuration": configuration(),
        "api": api(),
        "metrics": metrics(),
        "counters": counters(),
        "exit-codes": exit_codes(),
    }


def commands() -> str:
    """The help of each command, in the groups of `vswitch --help`."""
    with plain_terminal():
        helps = dict(helps_of(command_line()))
    parts = [
        "# Commands\n\nWhat `vswitch help COMMAND all` says. What the options are called in the "
        "environment and in files is in [operations](../operations.md#options)."
    ]
    for group, names in GROUPS.items():
        parts.append(f"## {group.capitalize()}")
        parts += [f"### vswitch {name}\n\n```text\n{helps[name]}```" for name in names.split()]
    return "\n\n".join(parts) + "\n"


def helps_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Name and help of each command, with all its options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield name, each.format_all()


@contextmanager
def plain_terminal() -> Iterator[None]:
    """80 columns and no colours, wherever the site is built."""
    with patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"):
        yield


def api() -> str:
    """Routes, and the types of what they ask for and answer, as the OpenAPI document has them."""
    classes = types_in((*SWITCH.rows, *MEMBER.rows))
    schemas = {
        name: schema
        for each in (SWITCH, MEMBER)
        for name, schema in document(each)["components"]["schemas"].items()
    }
    types = (
        f"### {name}\n\n{schema['description']}\n\n"
        + table(("Field", "Type", "", "Meaning"), fields(schema, noted(classes[name])))
        for name, schema in sorted(schemas.items())
        if name in classes
    )
    return "\n\n".join(
        (
            "# API\n\nHow to reach it, tokens and errors are in [operations]"
            "(../operations.md#the-api); the same for programs is `GET /v1/openapi.json`.",
            "## Routes\n\n" + routes(SWITCH),
            "## Routes of a member\n\nOn the socket of `join`, `exec` and `proxy`.\n\n"
            + routes(MEMBER),
            "## Types",
            *types,
        )
    )


def routes(of: Table) -> str:
    """The rows of a table."""
    described = document(of)
    rows = (
        (f"`{row.method} {row.path}`", role(row.role), row.summary, *asked(described, row))
        for row in of.rows
    )
    return table(("Route", "Role", "What", "Query", "Body", "Answer"), rows)


def role(needed: Role) -> str:
    """Who may ask."""
    return "anybody" if needed is Role.OPEN else needed.text


def asked(described: dict[str, Any], row: Route) -> tuple[str, str, str]:
    """What may stand in the query, the type of the body, that of the answer."""
    operation = described["paths"][row.path][row.method.lower()]
    parameters = operation.get("parameters", ())
    query = [f"`{each['name']}`" for each in parameters if each.get("in") == "query"]
    body = contents(operation.get("requestBody", {}))
    good = [each for code, each in operation["responses"].items() if code.startswith("2")]
    answer = [text for each in good for text in contents(each)]
    return ", ".join(query), ", ".join(body), ", ".join(answer)


def contents(described: dict[str, Any]) -> list[str]:
    """What a body may be, of JSON the type."""
    return [
        kind(each.get("schema", {})) if media == "application/json" else media
        for media, each in described.get("content", {}).items()
    ]


def types_in(routes: Iterable[Route]) -> dict[str, type[Any]]:
    """The classes in what routes ask for and answer, by name."""
    found: dict[str, type[Any]] = {}
    waiting: list[Any] = [each for row in routes for each in (row.answer, row.body)]
    while waiting:
        each = waiting.pop()
        if not attrs.has(each):
            waiting += get_args(each)
        elif each.__name__ not in found:
            found[each.__name__] = each
            waiting += [field.type for field in attrs.fields(attrs.resolve_types(each))]
    return found


def fields(schema: dict[str, Any], notes: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Name and type of each field, whether it has to be there, and what it means."""
    for name, each in schema["properties"].items():
        needed = "required" if name in schema.get("required", ()) else ""
        yield f"`{name}`", kind(each), needed, notes.get(name, "")


def kind(schema: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for each in ("anyOf", "oneOf"):
        if each in schema:
            return " or ".join(map(kind, schema[each]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}))}"
    named = schema.get("type", "any")
    return " or ".join(named) if isinstance(named, list) else str(named)


def metrics() -> str:
    """What a scrape has."""
    rows = (
        (f"`{each.name}`", each.kind, ", ".join(("network", *each.labels)), each.help)
        for each in METRICS
    )
    return (
        "# Metrics\n\nWhat `/metrics` gives to Prometheus; how to have it scraped is in "
        "[operations](../operations.md#metrics).\n\n"
    ) + table(("Metric", "Kind", "Labels", "Meaning"), rows)


def configuration() -> str:
    """The keys of each table of a configuration file."""
    serve = {name: entry for name, entry in options_of(ServeConfig).items() if entry.in_file}
    network = options_of(NetworkConfig)
    parts = [
        "# Configuration\n\nEvery key of the file that `--config` names. A flag goes before its "
        "variable, a variable before the file. `reload` is what holds from the next "
        "`vswitch config reload` on, `restart` what waits for the next start. Numbers and "
        "booleans need no quotes; a time is in seconds, or text such as `10m`; a rate is a number, "
        "or text such as `10M`; all spellings, and each option at length, are in "
        "[operations](../operations.md#options).",
        "## [serve]\n\n" + options(ServeConfig, {n: e for n, e in serve.items() if not e.at}),
    ]
    for name in dict.fromkeys(entry.at.partition(".")[0] for entry in serve.values() if entry.at):
        of_table = {n: e for n, e in serve.items() if (e.at or "").startswith(f"{name}.")}
        parts.append(f"## [{name}]\n\n" + options(ServeConfig, of_table))
    parts.append(
        "## [network.NAME]\n\nOf each [network](../operations.md#several-networks) beside the one "
        "of `[serve]`: these keys, and below it the tables "
        + ", ".join(f"`[network.NAME.{each}]`" for each in NETWORK_TABLES)
        + ".\n\n"
        + table(
            ("Key", "Type", "Default", "Changes by", "Meaning"),
            (
                (f"`{n}`", type_of(NetworkConfig, n), default_of(NetworkConfig, n), by(n), e.help)
                for n, e in network.items()
            ),
        )
    )
    for name, (kind, title, anchor) in SETTINGS.items():
        parts.append(
            f"## {title}\n\n{LIVE.get(name, '')}A reload has all of it. More is in [operations]"
            f"(../operations.md#{anchor}).\n\n{settings(kind)}"
        )
    parts.append(
        "## [rules]\n\nA reload has all of it. Live: `vswitch rules load FILE`. How lines are "
        "written is in [operations](../operations.md#rules).\n\n"
        + table(("Key", "Meaning"), ((f"`{key}`", text) for key, text in KEYS.items()))
    )
    for name, command in COMMANDS.items():
        base = JoinConfig if command is not JoinConfig else None
        own = {
            n: e for n, e in options_of(command).items() if e.in_file and differs(command, base, n)
        }
        first = (
            "`PUT` is what `PUT /v1/config` on the socket of the member changes, until that ends."
            if base is None
            else "Those of `[join]`, and:"
        )
        parts.append(f"## [{name}]\n\n{first}\n\n" + options(command, own))
    return "\n\n".join(parts) + "\n"


def settings(kind: type[Any]) -> str:
    """A table of keys that have neither flag nor variable."""
    rows = (
        (f"`{name}`", type_of(kind, name), default_of(kind, name), explained(name, entry.help))
        for name, entry in options_of(kind).items()
    )
    return table(("Key", "Type", "Default", "Meaning"), rows)


def options(kind: type[Any], chosen: Mapping[str, Option]) -> str:
    """A table of keys that have a flag and a variable."""
    rows = (
        (
            f"**`{(entry.at or name).rpartition('.')[2]}`**<br>"
            f"`{flag_of(name)}`<br>`{variable_of(name)}`",
            type_of(kind, name),
            default_of(kind, name),
            by(name) if kind is ServeConfig else "PUT" if name in AT_ONCE else "restart",
            explained(name, entry.help),
        )
        for name, entry in chosen.items()
    )
    return table(("Key, flag, variable", "Type", "Default", "Changes by", "Meaning"), rows)


def differs(kind: type[Any], base: type[Any] | None, name: str) -> bool:
    """Whether an option is another than in the class that it may be from."""
    if base is None or name not in options_of(base):
        return True
    return default_of(kind, name) != default_of(base, name)


def explained(name: str, text: str) -> str:
    """The text of a key."""
    if not text:
        raise KeyError(f"nothing is said of {name}")
    return text


def by(name: str) -> str:
    """What makes another value of an option of `serve` hold."""
    return "restart" if name in RESTART else "reload"


def type_of(kind: type[Any], name: str) -> str:
    """What a value is in TOML, and what stands in it."""
    field = attrs.fields_dict(attrs.resolve_types(kind))[name]
    said = options_of(kind)[name].metavar
    return kind_of(field) + (f": `{said}`" if said and said not in ("N", "NUMBER", "TIME") else "")


def kind_of(field: "attrs.Attribute[Any]") -> str:
    """The type in a word."""
    kind = next(each for each in inner_types(field.type) if each is not type(None))
    if kind is float:
        return "time" if is_time(field) else "rate"
    if get_origin(kind) is tuple:
        return "list" if ... in get_args(kind) else "text"
    words = {bool: "boolean", int: "whole number", Mapping: "table"}
    return words.get(get_origin(kind) or kind, "text")


def is_time(field: "attrs.Attribute[Any]") -> bool:
    """Whether a number is one of seconds: the others are rates."""
    return not getattr(field.converter, "__name__", "").endswith("rate")


def default_of(kind: type[Any], name: str) -> str:
    """What holds where nobody says anything; nothing where the text of the key says it."""
    field = attrs.fields_dict(kind)[name]
    default = field.default
    if default is attrs.NOTHING:
        return "required"
    if name == "state":
        return "see [Files](../operations.md#files)"
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return ""
    if default is None or default in ("", ()):
        return ""
    if default == WAY_OUT:
        return "`all`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{time_text(default) if is_time(field) else format(default, 'g')}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{each}`" for each in default)
    return f"`{default}`"


def time_text(seconds: float) -> str:
    """Seconds in the largest unit that has them whole."""
    if seconds == inf:
        return "off"
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    unit, size = next(each for each in units.items() if seconds % each[1] == 0)
    return f"{seconds / size:.0f}{unit}"


def counters() -> str:
    """Every reason of a drop, by its name, and what is counted of a port."""
    rows = sorted(dropped(), key=lambda row: (row[0].strip("`"), row[1]))
    counts = noted(PortStatus)
    numbers = [name for name, field in attrs.fields_dict(PortStatus).items() if field.default == 0]
    return (
        "# Counters\n\nEvery reason for which something goes no further, in one list: what "
        "`vswitch counters`, `status --json`, the page and `/metrics` have. How they add up is in "
        "[operations](../operations.md#counters).\n\n## Drops\n\n"
        + table(("Reason", "Counted by", "Means"), rows)
        + "\n\n## Counts of a port\n\nOf each port, in `vswitch status --json`.\n\n"
        + table(("Count", "Means"), ((f"`{name}`", counts[name]) for name in numbers))
        + "\n"
    )


def dropped() -> Iterator[tuple[str, str, str]]:
    """Name, who counts it, what it means: as the tables of the operator's page have it, which must
    have all that the program has.
    """
    for package in (vswitch.features, vswitch.services):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    declared: dict[int, list[str]] = {
        0: [reason for kind in Drop.__subclasses__() for reason in kind],
        1: [reason for kind in ServiceDrop.__subclasses__() for reason in kind],
        3: list(DROP_REASONS),
    }
    of_counters = tables_under("Counters")
    for number, (who, said) in enumerate(zip(COUNTERS, of_counters, strict=True)):
        if missing := {str(each) for each in declared.get(number, ())} - said.keys():
            raise KeyError(f"nothing is said of {', '.join(sorted(missing))}")
        yield from ((f"`{name}`", who, text) for name, text in said.items())
    for title, who in OTHER_COUNTERS.items():
        *_, said = tables_under(title)
        yield from ((f"`{name}`", who, text) for name, text in said.items())


def tables_under(title: str) -> list[dict[str, str]]:
    """What each table of reasons of a section of operations.md says, links as seen from here."""
    _, _, rest = OPERATIONS.read_text().partition(f"\n## {title}\n")
    part = re.split(r"^## ", rest, maxsplit=1, flags=re.M)[0].replace("](#", "](../operations.md#")
    return [
        dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", each, re.M))
        for each in re.split(r"^\| (?:Drop|Reason) \| Means \|$", part, flags=re.M)[1:]
    ]


def noted(kind: type[Any]) -> dict[str, str]:
    """What the source says beside the fields of a class, and of those that it is made of."""
    found = {}
    for each in filter(attrs.has, reversed(kind.__mro__)):
        source = textwrap.dedent(inspect.getsource(each))
        lines = source.splitlines()
        (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
        for node in body:
            if isinstance(node, ast.AnnAssign):
                found[ast.unparse(node.target)] = lines[node.lineno - 1].partition("  # ")[2]
    return {name: said for name, said in found.items() if said}


def exit_codes() -> str:
    """Names, numbers and what the source says beside them."""
    source = inspect.getsource(ExitCode)
    lines = source.splitlines()
    rows = []
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign):
            name = ast.unparse(node.targets[0])
            said = lines[node.lineno - 1].partition("# ")[2] or "it went well"
            rows.append((str(getattr(ExitCode, name)), f"`{name}`", said))
    return (
        "# Exit codes\n\nOf every command, and stable; the names are those of "
        "`vswitch.errors.ExitCode`. More is in [operations](../operations.md#exit-codes).\n\n"
    ) + table(("Code", "Name", "Meaning"), rows)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    cells = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(each.replace("|", r"\|") for each in row) + " |" for row in cells
    )
