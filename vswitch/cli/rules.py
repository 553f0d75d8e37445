"""`vswitch rules`: who may open what to whom, shown, checked and changed live."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vswitch.cli.common import Subparsers, add_command, add_save, answer, config_from, print_json
from vswitch.config.networks import tables_of
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.management.tables import table


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "rules",
        "Show the rules of the running switch, and how often each has decided; have it go by\n"
        "those under [rules] of a file instead, until it ends or for good with --save, without a\n"
        "session less; or check a file, which needs no switch. Rules of which a test fails are\n"
        "refused, all of them.",
        "vswitch rules show",
        "vswitch rules check rules.toml",
        "vswitch rules load rules.toml --save",
    )
    parser.add_argument("action", nargs="?", choices=("show", "load", "check"), default="show")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="for load and check")
    add_save(parser)
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Check here, or ask the switch."""
    config = config_from(args, LookConfig)
    if (args.file is None) != (args.action == "show"):
        raise ConfigError("vswitch rules show, or vswitch rules load FILE, or check FILE")
    if args.action == "check":
        from vswitch.features.rule_set import read_rules  # needed by no other command

        rules = read_rules(*_rules_of(args.file, config.network))
        counts = {"rules": len(rules.rules), "tests": len(rules.tests)}
        if config.json:
            print_json({"schema": SCHEMA, "file": str(args.file), **counts})
        else:
            answer("{}: {rules} rules are right, {tests} tests hold".format(args.file, **counts))
        return ExitCode.OK
    path = config.files.control_socket
    if args.action == "load":
        said, place = _rules_of(args.file, config.network)
        answered = request(
            path, "rules-load", rules={"table": said, "place": place}, save=args.save
        )
    else:
        answered = request(path, "rules")
    if config.json:
        print_json({"schema": SCHEMA, **answered})
    else:
        _show(answered)
    return ExitCode.OK


def _rules_of(file: Path, network: str) -> tuple[Any, str]:
    """The table of rules of a network in a file, and what it is called."""
    place, tables = tables_of(file, network)
    return tables.get("rules", {}), f"{place}rules"


def _show(said: dict[str, Any]) -> None:
    rows = [
        [str(number), each["rule"], str(each["allowed"]), str(each["denied"])]
        for number, each in enumerate(said["rules"], 1)
    ]
    if rows:
        answer(table(["#", "RULE", "FLOWS", "DROPPED"], rows))
    if said["unknown"]:
        names = ", ".join(said["unknown"])
        answer(f"nobody is called {names}: no member, and no port that is there")
    answer(f"else {said['default']}; {len(said['tests'])} tests hold; {said['flows']} flows now")
