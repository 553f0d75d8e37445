"""`vswitch invite`: make a join string for a new member."""

from __future__ import annotations

import argparse
import time

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.clocks import utc
from vswitch.config.options import InviteConfig
from vswitch.config.sources import add_flags
from vswitch.config.words import to_name
from vswitch.errors import ConfigError, ExitCode, NotFound
from vswitch.management.members import make_invite
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry
from vswitch.state import DEFAULT_NETWORK


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "invite",
        "Print a string with which one host can join once, under this name, until it expires.\n"
        "Whoever has the string can use it: send it on a private way.",
        "vswitch invite pc1 --expires 10m --public switch.example.org",
    )
    parser.add_argument("name", metavar="NAME", help="name of the new member: a-z, 0-9, '-'")
    parser.add_argument(
        "--again", action="store_true", help="for a member: tell its host the key and place anew"
    )
    add_flags(parser, InviteConfig)


def run(args: argparse.Namespace) -> int:
    """The string alone goes to stdout."""
    config = config_from(args, InviteConfig)
    try:
        name = to_name(args.name)
    except ValueError as error:
        raise ConfigError(f"NAME {args.name!r}: {error}") from None
    files = config.files
    no_switch = NotFound(
        f"no switch has run in {files.path}: run this on the switch's host, start `vswitch serve` "
        "there first, or give the --state that it has"
    )
    if not files.registry.exists():
        raise no_switch
    # The public key that the switch has noted is enough: its key file is for its own user alone.
    with Registry.open(files.registry, create=False) as registry:
        served = registry.served()
        if served is None or served.key is None:
            raise no_switch
        now = time.time()
        expires = now + config.expires
        string = make_invite(registry, served, name, now, expires, config.public, again=args.again)
    if config.json:
        print_json({"schema": SCHEMA, "name": name, "string": string, "expires": expires})
        return ExitCode.OK
    answer(string)
    until = utc(expires, "%Y-%m-%d %H:%M:%S UTC")
    where = "" if config.network == DEFAULT_NETWORK else f" of the network {config.network}"
    say(
        f"vswitch: the string above makes one host the member {name}{where}, until {until}; "
        "there run\n  vswitch join STRING"
    )
    return ExitCode.OK
