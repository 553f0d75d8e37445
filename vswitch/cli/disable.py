"""`vswitch disable`: keep a member out for a while; `enable` lets it in again."""

from __future__ import annotations

import argparse
import time

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.cli.recheck import recheck
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "disable",
        "Disconnect a member and keep it out until `vswitch enable NAME`. It keeps its name, key\n"
        "and address, and its host goes on trying.",
        "vswitch disable pc1",
    )
    parser.add_argument("name", metavar="NAME", help="name of the member")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Write it down first, so that it holds whether or not the switch can be told."""
    config = config_from(args, LookConfig)
    with Registry.open(config.files.registry, create=False) as registry:
        registry.disable(args.name, time.time())
    if config.json:
        print_json({"schema": SCHEMA, "name": args.name, "state": "disabled"})
    else:
        answer(f"{args.name} is disabled")
    recheck(config.files, f"{args.name} is disabled")
    return ExitCode.OK
