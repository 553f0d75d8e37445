"""`vswitch rekey`: a new key for the running switch, to which its members move."""

from __future__ import annotations

import argparse
import time

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.config.options import RekeyConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, RekeyStatus, from_json
from vswitch.management.tables import rekey_text

_PATIENCE = 30.0  # seconds: the disk is written several times


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "rekey",
        "Give the running switch a new key. No session ends: members that are connected take it\n"
        "at once, others when they come by the old key, which is good for the time of --grace.\n"
        "Then, or with --finish, it is deleted, and who has not moved needs a new invite. If the\n"
        "old key may be in other hands: --grace off, and all members need one.",
        "vswitch rekey --status",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--status", action="store_true", help="only show the keys, and who has not moved"
    )
    what.add_argument("--finish", action="store_true", help="delete the old key now")
    parser.add_argument("--force", action="store_true", help="also where members are cut off")
    add_flags(parser, RekeyConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, RekeyConfig)
    path = config.files.control_socket
    if args.status:
        said = request(path, "rekey-status")
    elif args.finish:
        said = request(path, "rekey-finish", _PATIENCE, force=args.force)
    else:
        said = request(path, "rekey", _PATIENCE, grace=config.grace or 0.0, force=args.force)
    status = from_json(said, RekeyStatus)
    if config.json:
        print_json({"schema": SCHEMA, **said})
    else:
        answer(rekey_text(status, time.time()))
    if status.old_key is not None and not args.status:
        say("vswitch: a backup from before has the old key alone: make a new one")
    return ExitCode.OK
