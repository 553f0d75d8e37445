"""`vswitch revoke`: shut a member out for good."""

from __future__ import annotations

import argparse
import time

from transport.crypto.identity import PublicKey
from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.cli.recheck import recheck
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode, VswitchError
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.registry.database import NoSpace
from vswitch.registry.registry import Registry
from vswitch.state import StateDir


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "revoke",
        "Disconnect a member and refuse its key from now on. Its name and address are free\n"
        "again, and open invites for the name are cancelled.",
        "vswitch revoke pc1",
    )
    parser.add_argument("name", metavar="NAME", help="name of the member")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Write it down first, so that it holds whether or not the switch can be told."""
    config = config_from(args, LookConfig)
    with Registry.open(config.files.registry, create=False) as registry:
        try:
            member = registry.revoke(args.name, time.time())
        except NoSpace as error:
            raise NoSpace(f"{error}\n{_for_now(config.files, args.name)}") from None
    key = None if member is None else PublicKey(member.key)
    if config.json:
        fingerprint = None if key is None else key.fingerprint()
        print_json({"schema": SCHEMA, "name": args.name, "key": fingerprint})
    elif key is None:
        answer(f"cancelled the open invites for {args.name}")
    else:
        answer(f"revoked {args.name} (key {key.fingerprint()})")
    if member is None or key is None:
        return ExitCode.OK
    recheck(config.files, f"{member.name} is revoked", name=member.name, key=key.text())
    return ExitCode.OK


def _for_now(files: StateDir, name: str) -> str:
    """Have the member kept out though that cannot be written down; what came of it."""
    try:
        request(files.control_socket, "bar", name=name)
    except VswitchError as error:
        return f"{name} is not revoked, and not kept out either: {error}"
    return (
        f"{name} is disconnected and kept out until the switch is started again, but not revoked: "
        f"run `vswitch revoke {name}` again when the disk takes it"
    )
