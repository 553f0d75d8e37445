"""`vswitch top`: who sends how much now, and what is dropped."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, config_from
from vswitch.config.options import OneNetworkConfig
from vswitch.config.sources import add_flags


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "top",
        "Show the ports of the running switch, those that send or get the most first, with what\n"
        "they dropped and why: each second, until q. For programs: `vswitch counters --json`.",
        "vswitch top",
    )
    add_flags(parser, OneNetworkConfig)


def run(args: argparse.Namespace) -> int:
    """Until stopped."""
    from vswitch.cli.live import watch_ports  # rich, which nothing else needs

    return watch_ports(config_from(args, OneNetworkConfig).files.control_socket)
