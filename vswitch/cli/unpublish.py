"""`vswitch unpublish`: the end of `vswitch publish`."""

from __future__ import annotations

import argparse

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
from vswitch.errors import ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "unpublish",
        "Listen there no more, and reset what is open. A rule of the configuration file comes\n"
        "again when the switch is started again, unless --save keeps that.",
        "vswitch unpublish tcp://:8080",
    )
    parser.add_argument("listen", metavar="LISTEN", help="as `vswitch publish` lists it")
    add_save(parser)
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    said = request(config.files.control_socket, "unpublish", listen=args.listen, save=args.save)
    if said["in_file"]:
        say("vswitch: the configuration file has this rule: it holds again after a restart")
    if config.json:
        print_json({"schema": SCHEMA, **said})
    else:
        answer(f"{said['listen']} is published no more")
    return ExitCode.OK
