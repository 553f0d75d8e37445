"""The reference, made from the program when the site is built, so that it cannot be out of date:
help of each command, routes and types of the API, metrics, exit codes. A hook of MkDocs.

What is explained at length (options, counters, events) stands in docs/operations.md, and tests
hold that against the program.
"""

import argparse
import ast
import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from mkdocs.structure.files import File, Files

from vswitch.api.openapi import document
from vswitch.api.roles import Role
from vswitch.api.routes import SWITCH
from vswitch.api.table import Route
from vswitch.cli import command_line
from vswitch.cli.common import GROUPS
from vswitch.errors import ExitCode
from vswitch.management.metrics import METRICS


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each part."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """The text of each page, by its name."""
    return {
        "commands": commands(),
        "api": api(),
        "metrics": metrics(),
        "exit-codes": exit_codes(),
    }


def commands() -> str:
    """The help of each command, in the groups of `vswitch --help`."""
    with plain_terminal():
        helps = dict(helps_of(command_line()))
    parts = [
        "# Commands\n\nWhat `vswitch COMMAND --help` says. What the options are called in the "
        "environment and in files is in [operations](../operations.md#options)."
    ]
    for group, names in GROUPS.items():
        parts.append(f"## {group.capitalize()}")
        parts += [f"### vswitch {name}\n\n```text\n{helps[name]}```" for name in names.split()]
    return "\n\n".join(parts) + "\n"


def helps_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Name and help of each subcommand; those that it has itself are behind its own."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, each in action.choices.items():
                yield name, "\n".join([each.format_help(), *(text for _, text in helps_of(each))])


@contextmanager
def plain_terminal() -> Iterator[None]:
    """80 columns and no colours, wherever the site is built."""
    with patch.dict(os.environ, COLUMNS="80", NO_COLOR="1"):
        yield


def api() -> str:
    """Routes, and the types of what they ask for and answer, as the OpenAPI document has them."""
    described = document(SWITCH)
    routes = (
        (f"`{row.method} {row.path}`", role(row.role), row.summary, *asked(described, row))
        for row in SWITCH.rows
    )
    types = (
        f"### {name}\n\n" + table(("Field", "Type", ""), fields(schema))
        for name, schema in sorted(described["components"]["schemas"].items())
        if "properties" in schema
    )
    return "\n\n".join(
        (
            "# API\n\nHow to reach it, tokens and errors are in [operations]"
            "(../operations.md#the-api); the same for programs is `GET /v1/openapi.json`.",
            "## Routes\n\n" + table(("Route", "Role", "What", "Query", "Body", "Answer"), routes),
            "## Types",
            *types,
        )
    )


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


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name and type of each field, and whether it has to be there."""
    for name, each in schema["properties"].items():
        needed = "required" if name in schema.get("required", ()) else ""
        yield f"`{name}`", kind(each), needed


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
