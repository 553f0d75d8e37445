"""`vswitch serve`: run the switch in the foreground."""

from __future__ import annotations

import argparse
from functools import partial

from vswitch.cli.common import Subparsers, add_command, config_from, run_service
from vswitch.config.options import ServeConfig
from vswitch.config.sources import add_flags
from vswitch.logs import set_up


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "serve",
        "Run the switch until it is stopped. It needs no privilege.\n"
        "Every option is also a variable VSWITCH_OPTION and a key of [serve] in --config FILE.",
        "vswitch serve --public switch.example.org --subnet 10.77.0.0/24",
    )
    add_flags(parser, ServeConfig)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    config = config_from(args, ServeConfig, table="serve")
    config.files.ensure()
    set_up(config.log_level, config.log_file, config.log_days)
    from vswitch.serving.server import serve

    return run_service(partial(serve, config))
