"""`vswitch enable`: let a member in again that was disabled."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, config_from
from vswitch.config.options import OneNetworkConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
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
    add_flags(parser, OneNetworkConfig)


def run(args: argparse.Namespace) -> int:
    """The switch reads it when the member asks."""
    config = config_from(args, OneNetworkConfig)
    with Registry.open(config.files.registry, create=False) as registry:
        registry.disable(args.name, None)
    answer(f"{args.name} is enabled")
    return ExitCode.OK
