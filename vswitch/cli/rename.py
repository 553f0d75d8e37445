"""`vswitch rename`: give a member another name."""

from __future__ import annotations

import argparse
from contextlib import suppress

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.cli.recheck import recheck
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.config.words import to_name
from vswitch.errors import ConfigError, ExitCode, NotRunning
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.registry.registry import Registry


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "rename",
        "Give a member another name. It keeps its key, its address and the settings of its port,\n"
        "and comes back by itself if it is connected; on its host nothing has to be changed.",
        "vswitch rename pc1 office",
    )
    parser.add_argument("name", metavar="NAME", help="name of the member")
    parser.add_argument("new", metavar="NEW", help="its name from now on")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Its settings go ahead, so that it is never there without them."""
    config = config_from(args, LookConfig)
    try:
        new = to_name(args.new)
    except ValueError as error:
        raise ConfigError(f"NEW {args.new!r}: {error}") from None
    if new == args.name:
        raise ConfigError(f"NEW {new}: that is its name already")
    copied: dict[str, list[str]] = {}

    def copy() -> None:
        with suppress(NotRunning):
            said = request(config.files.control_socket, "port-copy", name=args.name, to=new)
            copied.update(said)

    with Registry.open(config.files.registry, create=False) as registry:
        registry.rename(args.name, new, copy)
    if config.json:
        print_json({"schema": SCHEMA, "name": new, "before": args.name})
    else:
        answer(f"{args.name} is {new} now")
    recheck(config.files, f"{args.name} is renamed")
    if settings := copied.get("settings"):
        live = copied.get("live", settings)
        ends = f"; until the switch ends: {', '.join(live)} (`vswitch config save`)" if live else ""
        say(f"vswitch: {', '.join(settings)} of {args.name} holds for {new}, too{ends}")
    return ExitCode.OK
