"""`vswitch token`: who may use the API, with or without a running switch."""

from __future__ import annotations

import argparse

from vswitch.api.roles import Role
from vswitch.api.tokens import TokenStore
from vswitch.cli.common import (
    Subparsers,
    add_command,
    answer,
    config_from,
    print_json,
    say,
    warn_of_readers,
)
from vswitch.clocks import utc
from vswitch.config.options import TokenConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.answers import Tokens, TokenStatus
from vswitch.management.status import SCHEMA, to_json
from vswitch.management.tables import table

_ROLES = [role.text for role in Role if role is not Role.OPEN]
_WHEN = "%Y-%m-%d %H:%M:%S"


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "token",
        "Make, list or revoke tokens of the API. read sees everything, operate changes how the\n"
        "switch runs, admin says who may come, too. A token is printed once, as the last line, "
        "and kept nowhere: whoever has it has its role. A running switch knows at once.",
        "vswitch token create grafana --role read",
        "vswitch token list",
        "vswitch token revoke grafana",
    )
    parser.add_argument("action", choices=("create", "list", "revoke"))
    parser.add_argument("name", nargs="?", metavar="NAME", help="a-z, 0-9, '-'; not for list")
    parser.add_argument("--role", choices=_ROLES, help="what it may do (read)")
    add_flags(parser, TokenConfig)


def run(args: argparse.Namespace) -> int:
    """The token alone goes to stdout."""
    config = config_from(args, TokenConfig)
    if (args.name is None) != (args.action == "list"):
        raise ConfigError("vswitch token create NAME, or revoke NAME, or list")
    if args.role is not None and args.action != "create":
        raise ConfigError("--role is for vswitch token create")
    store = TokenStore(config.files.tokens)
    match args.action:
        case "create":
            config.files.ensure(as_guest=True)
            role = Role.parse(args.role or "read")
            warn_of_readers(f"umask 077; vswitch token create {args.name}")
            token = store.create(args.name, role)
            if config.json:
                print_json({"schema": SCHEMA, "name": args.name, "role": role.text, "token": token})
            else:
                answer(token)
        case "revoke":
            store.revoke(args.name)
            if config.json:
                print_json({"schema": SCHEMA, "name": args.name})
            else:
                say(f"vswitch: the token {args.name} is none any more")
        case _:
            _list(store, config.json)
    return ExitCode.OK


def _list(store: TokenStore, as_json: bool) -> None:
    found = store.all()
    if as_json:
        known = [
            TokenStatus(name=each.name, role=each.role, created=each.created, used=each.used)
            for each in found
        ]
        print_json(to_json(Tokens(tokens=known)))
        return
    rows = [
        [
            each.name,
            each.role,
            utc(each.created, _WHEN),
            utc(each.used, _WHEN) if each.used else "-",
        ]
        for each in found
    ]
    answer(table(["NAME", "ROLE", "CREATED (UTC)", "LAST USED"], rows))
