"""`vswitch restore`: put a switch back from a file of `vswitch backup`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vswitch.cli.common import Subparsers, add_command, config_from, say
from vswitch.config.options import StateConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotRunning, PrivilegeError, VswitchError
from vswitch.management.client import request
from vswitch.state import file_error


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "restore",
        "Put a switch back from what `vswitch backup` has written, while no switch runs there.\n"
        "Run it as the user of the switch, so that the files are that user's. The members find\n"
        "it where the old one was.",
        "vswitch restore - --state /var/lib/vswitch <switch.tar",
    )
    parser.add_argument("file", metavar="FILE|-", help="file to read, or - for standard input")
    parser.add_argument(
        "--force", action="store_true", help="also where a switch is already, which is lost"
    )
    add_flags(parser, StateConfig)


def run(args: argparse.Namespace) -> int:
    """Read the archive, check it, write its files."""
    config = config_from(args, StateConfig)
    from vswitch.registry.archive import CONFIG, MOST_BYTES, restore

    most = MOST_BYTES + 1  # which is too much, and says so
    try:
        if args.file == "-":
            data = sys.stdin.buffer.read(most)
        else:
            with open(args.file, "rb") as file:
                data = file.read(most)
    except OSError as error:
        raise file_error("cannot read", Path(args.file), error) from None
    if config.files.path.is_dir() and _runs(config.files.control_socket):
        raise ConfigError(f"{config.files.control_socket}: a switch runs there: stop it first")
    written = restore(config.files, args.file, data, force=args.force)
    say(f"vswitch: {config.files.path} has the switch again: {', '.join(written)}")
    if CONFIG in written:
        say(
            f"vswitch: its configuration file is {config.files.path / CONFIG}, which belongs where "
            "`vswitch serve --config` looks: /etc/vswitch/vswitch.toml for a service"
        )
    return ExitCode.OK


def _runs(control_socket: Path) -> bool:
    """Whether anybody listens there; one that was killed has left its file."""
    try:
        request(control_socket, "status")
    except NotRunning:
        return False
    except PrivilegeError:  # who may not ask may not write there either
        raise
    except VswitchError:  # it does, and has no answer for us
        return True
    return True
