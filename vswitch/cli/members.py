"""`vswitch members`: who may connect, and who is connected."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotReachable, NotRunning
from vswitch.management.client import request
from vswitch.management.members import invites_of, member_status, ports_up
from vswitch.management.status import (
    SCHEMA,
    SwitchStatus,
    from_json,
    to_json,
)
from vswitch.management.tables import invites_table, members_table, table
from vswitch.registry.registry import Registry

_PEER_KEYS = ("name", "address", "mac", "state")
_TIMEOUT = 2.0  # s; without the running switch the list is still worth showing


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "members",
        "List the members of the switch and the invites that can still be used, on the host where\n"
        "it runs. `revoke NAME` ends either. Times are UTC. On a member: who else is there, as\n"
        "the switch says.",
        "vswitch members --json",
    )
    parser.add_argument(
        "--purge", action="store_true", help="first forget the revoked members, who stay strangers"
    )
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """List the registry, with what the running switch knows added."""
    config = config_from(args, LookConfig)
    joined = sorted(config.files.members.glob("*.sock"))
    if joined and not config.files.registry.exists():
        if args.purge:
            raise ConfigError("--purge is for the host of the switch, whose registry it changes")
        return _of_joins(config, joined)
    with Registry.open(config.files.registry, create=False) as registry:
        if args.purge:
            say(f"vswitch: {registry.purge()} revoked members forgotten")
        known = registry.members()
        invites = invites_of(registry, known, time.time())
    try:
        reply = request(config.files.control_socket, "status", timeout=_TIMEOUT)
    except NotReachable as error:
        up = None
        if not isinstance(error, NotRunning):
            say(f"vswitch: who is connected is not known: {error}")
    else:
        up = ports_up(from_json(reply, SwitchStatus).ports)
    members = [member_status(member, up) for member in known]
    if config.json:
        print_json({"schema": SCHEMA, "members": to_json(members), "invites": to_json(invites)})
    else:
        answer(members_table(members))
        if invites:
            answer("", invites_table(invites))
    return ExitCode.OK


def _of_joins(config: LookConfig, paths: list[Path]) -> int:
    """What the switches say of whose LANs this host is."""
    told = {path.stem: request(path, "peers", timeout=30.0)["members"] for path in paths}
    if config.json:
        print_json({"schema": SCHEMA, "lans": told})
        return ExitCode.OK
    for name, peers in told.items():
        if len(told) > 1:
            answer(f"as {name}:")
        rows = [[each[key] or "-" for key in _PEER_KEYS] for each in peers]
        answer(table([key.upper() for key in _PEER_KEYS], rows))
    return ExitCode.OK
