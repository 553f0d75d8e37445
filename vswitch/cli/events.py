"""`vswitch events`: what has happened on the running switch, and what happens."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vswitch.cli.common import (
    Subparsers,
    add_command,
    answer,
    config_from,
    print_json,
)
from vswitch.cli.following import follow
from vswitch.clocks import stamp
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
from vswitch.logs import clean
from vswitch.management.client import request
from vswitch.management.status import SCHEMA


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "events",
        "List the latest events of the running switch: ports and members that came and went,\n"
        "addresses that moved, what was blocked. With -f go on as they happen, until Ctrl-C;\n"
        "ends with 3 when the switch does.",
        "vswitch events -f --json",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="show new ones until stopped")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """List, or follow. With --json and -f each line is an object."""
    config = config_from(args, LookConfig)
    path = config.files.control_socket
    if not args.follow:
        events = request(path, "events")["events"]
        if config.json:
            print_json({"schema": SCHEMA, "events": events})
        else:
            answer(*map(_line, events))
        return ExitCode.OK
    show = bytes.decode if config.json else lambda line: _line(json.loads(line))
    return follow(path, "events", show, follow=True)


def _line(event: dict[str, Any]) -> str:
    facts = dict(event)
    at, kind, port = facts.pop("at"), facts.pop("kind"), facts.pop("port")
    number = facts.pop("number")
    when = stamp(at)
    words = [f"#{number}", when, kind, *([f"port={port}"] if port else [])]
    line = " ".join([*words, *(f"{key}={_value(value)}" for key, value in facts.items())])
    return clean(line)


def _value(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or " " in text or '"' in text else text
