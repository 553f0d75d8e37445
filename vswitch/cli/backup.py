"""`vswitch backup`: keep a switch in one file."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from vswitch.cli.common import (
    Subparsers,
    add_command,
    config_from,
    say,
    warn_of_readers,
    write_bytes,
)
from vswitch.config.options import StateConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "backup",
        "Write the key of the switch, its registries, and what else it keeps, into FILE (mode\n"
        "0600), while it runs or not; `vswitch restore` puts it back. Whoever has FILE can be\n"
        "the switch: keep it as you keep its key.",
        "vswitch backup /root/switch.tar --with /etc/vswitch/vswitch.toml",
    )
    parser.add_argument("file", metavar="FILE|-", help="file to write, or - for standard output")
    parser.add_argument(
        "--with", dest="config_file", metavar="FILE", help="the configuration file, to keep it too"
    )
    add_flags(parser, StateConfig)


def run(args: argparse.Namespace) -> int:
    """Write the archive."""
    config = config_from(args, StateConfig)
    if args.file == "-" and sys.stdout.isatty():
        raise ConfigError("a backup holds keys and is no text: give a FILE, or redirect the output")
    from vswitch.registry.archive import backup
    from vswitch.state import write_file

    path = Path(os.path.realpath(args.file))  # a link stays one
    if args.file != "-" and os.path.lexists(path) and not os.path.isfile(path):
        raise ConfigError(f"{args.file} is no plain file: give another FILE, or - and redirect it")
    data = backup(config.files, None if args.config_file is None else Path(args.config_file))
    if args.file == "-":
        warn_of_readers("vswitch backup FILE")
        write_bytes(sys.stdout.buffer, data, "the backup")
    else:
        write_file(path, data)
        say(f"vswitch: the switch of {config.files.path} is in {args.file}, {len(data)} bytes")
    return ExitCode.OK
