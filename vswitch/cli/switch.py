"""`vswitch switch`: settings of the whole running switch, shown and changed live."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, add_save
from vswitch.cli.port import change
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "switch",
        "Show the settings of the running switch, or change them: until it ends, or for good with\n"
        "--save, which keeps them beside the configuration file (`vswitch config`).",
        "vswitch switch show --all",
        "vswitch switch set guard=yes --save",
    )
    parser.add_argument("action", choices=("show", "set"))
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="what to change, with set")
    parser.add_argument("--all", action="store_true", help="every key, and what it means")
    add_save(parser)
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    return change(args, "switch-set")
