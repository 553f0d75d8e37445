"""`vswitch member`: what is kept of a member, shown and changed."""

from __future__ import annotations

import argparse
from contextlib import suppress

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.addressing import to_routes
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotFound, NotRunning
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "member",
        "Show what is kept of a member of this switch, or change it. routes=CIDR,CIDR approves\n"
        "networks behind it, that it offers with --advertise; exit stands for the Internet, none\n"
        "for no network. Others hear of it at once.",
        "vswitch member show pc1",
        "vswitch member set pc1 routes=192.168.1.0/24",
    )
    parser.add_argument("action", choices=("show", "set"))
    parser.add_argument("name", metavar="NAME", help="name of the member")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="what to change, with set")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Write it down first, so that it holds whether or not the switch can be told."""
    config = config_from(args, LookConfig)
    if (args.action == "set") != bool(args.changes):
        raise ConfigError("set needs KEY=VALUE, such as routes=192.168.1.0/24; show takes none")
    with Registry.open(config.files.registry, create=False) as registry:
        for change in args.changes:
            key, equals, value = change.partition("=")
            if key != "routes" or not equals:
                raise ConfigError(f"{change!r}: write routes=CIDR,CIDR, routes=exit or routes=none")
            try:
                networks = to_routes(value)
            except ValueError as error:
                raise ConfigError(f"routes={value}: {error}") from None
            registry.approve(args.name, networks)
        member = registry.named(args.name)
    if member is None:
        raise NotFound(f"no member is named {args.name}: see `vswitch members`")
    routes = [str(network) for network in member.routes]
    if config.json:
        print_json({"schema": SCHEMA, "name": member.name, "routes": routes})
    else:
        answer(f"{member.name}: routes = {', '.join(routes) or 'none'}")
    if args.changes:
        with suppress(NotRunning):  # it looks for itself each second, if it runs without a socket
            request(config.files.control_socket, "revoked")
    return ExitCode.OK
