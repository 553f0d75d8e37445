"""`vswitch members`: who may connect, and who is connected."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from transport.crypto.identity import PublicKey
from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode, NotReachable, NotRunning
from vswitch.management.client import request
from vswitch.management.status import (
    SCHEMA,
    InviteStatus,
    MemberStatus,
    SwitchStatus,
    from_json,
    to_json,
)
from vswitch.management.tables import invites_table, members_table, table
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Member

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
        return _of_joins(config, joined)
    with Registry.open(config.files.registry, create=False) as registry:
        if args.purge:
            say(f"vswitch: {registry.purge()} revoked members forgotten")
        known = registry.members()
        names = {member.name for member in known if member.revoked is None}
        invites = [
            InviteStatus(
                name=each.name,
                created=each.created,
                expires=each.expires,
                again=each.name in names,
            )
            for each in registry.open_invites(time.time())
        ]
    offered: dict[str, list[str]] = {}
    try:
        reply = request(config.files.control_socket, "status", timeout=_TIMEOUT)
    except NotReachable as error:
        vias = None
        if not isinstance(error, NotRunning):
            say(f"vswitch: who is connected is not known: {error}")
    else:
        ports = from_json(reply, SwitchStatus).ports
        vias = {port.name: port.via for port in ports if port.state == "up"}
        offered = {
            port.name: [each for each in port.offered if each not in port.routes] for port in ports
        }
    members = [_status(member, vias, offered) for member in known]
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


def _status(
    member: Member, vias: dict[str, str | None] | None, offered: dict[str, list[str]]
) -> MemberStatus:
    key = PublicKey(member.key)
    here = vias is not None and member.revoked is None and member.name in vias
    return MemberStatus(
        name=member.name,
        fingerprint=key.fingerprint(),
        key=key.text(),
        created=member.created,
        address=member.address,
        last_seen=member.last_seen,
        revoked=member.revoked,
        disabled=member.disabled,
        connected=None if vias is None else here,
        via=vias[member.name] if vias is not None and here else None,
        routes=[str(network) for network in member.routes],
        offered=offered.get(member.name, []) if here else [],
    )
