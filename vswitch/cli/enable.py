"""`vswitch enable`: let a member in again that was disabled."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "enable",
        "Let a member in again that `vswitch disable` has kept out. It comes by itself, within\n"
        "half a minute.",
        "vswitch enable pc1",
    )
    parser.add_argument("name", metavar="NAME", help="name of the member")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """The switch reads it when the member asks."""
    config = config_from(args, LookConfig)
    with Registry.open(config.files.registry, create=False) as registry:
        registry.disable(args.name, None)
    if config.json:
        print_json({"schema": SCHEMA, "name": args.name, "state": "enabled"})
    else:
        answer(f"{args.name} is enabled")
    return ExitCode.OK
