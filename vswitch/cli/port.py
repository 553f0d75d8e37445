"""`vswitch port`: settings of a port of the running switch, shown and changed live."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from vswitch.cli.common import (
    Subparsers,
    add_command,
    add_save,
    answer,
    config_from,
    print_json,
    say,
)
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA

_SAID = {"live": "live, not saved", "saved": "saved"}  # where no file has it


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "port",
        "Show the settings of a port of the running switch, or change them: until it ends, or for\n"
        "good with --save, which keeps them beside the configuration file (`vswitch config`).",
        "vswitch port show pc1",
        "vswitch port set pc1 isolated=yes --save",
    )
    parser.add_argument("action", choices=("show", "set"))
    parser.add_argument("name", metavar="NAME", help="name or number of the port; * for all")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="what to change, with set")
    parser.add_argument("--all", action="store_true", help="every key, and what it means")
    add_save(parser)
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    return change(args, "port-set", name=args.name)


def change(args: argparse.Namespace, verb: str, **what: Any) -> int:
    """Show or change settings, and say what they are then."""
    config = config_from(args, LookConfig)
    changes: dict[str, str] = {}
    for text in args.changes:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"{text!r}: write KEY=VALUE, such as isolated=yes")
        changes[key.replace("-", "_")] = value
    if (args.action == "set") != bool(changes):
        raise ConfigError("set needs KEY=VALUE, and show takes none")
    said = request(config.files.control_socket, verb, changes=changes, save=args.save, **what)
    if said.get("ports") == 0:
        say(f"vswitch: no port is called {said['name']} now: this is for one that comes")
    if config.json:
        print_json({"schema": SCHEMA, **said})
        return ExitCode.OK
    kept = bool(args.save)
    answer(said["table"], *_lines(said, set(changes), everything=args.all, kept=kept))
    return ExitCode.OK


def _lines(
    said: dict[str, Any], changed: set[str], *, everything: bool, kept: bool
) -> Iterator[str]:
    """TOML, as in the configuration file: what was changed; else what anybody has said."""
    shown = 0
    for each in said["in_force"]:
        if everything or (each["key"] in changed if changed else each["source"]):
            shown += 1
            line = f"{each['key']} = {each['text']}"
            why = each["source"] if each["source"] != said["table"] else ""
            if not changed:
                why = why or _SAID.get(each["said"], "")
            if everything and not changed:
                yield f"# {each['help']}"
            yield f"{line}  # {why}" if why else line
    if not shown:
        yield "# all as by default; --all lists what there is"
    if changed:
        yield "# saved" if kept else "# until the switch ends; --save keeps it"
    if said.get("blocked"):
        yield f"# blocked for a while: {said['blocked']}"
