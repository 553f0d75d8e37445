"""`vswitch publish`: a service of a member, at a place of the switch's host."""

from __future__ import annotations

import argparse
from typing import Any

from vswitch.cli.common import (
    Subparsers,
    add_command,
    add_save,
    answer,
    config_from,
    print_json,
    say,
)
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags, options_of
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, PublishStatus, from_json
from vswitch.management.tables import published_table
from vswitch.services.publish_rules import PublishLimits

_PATIENCE = 30.0  # seconds: the first rule may have namespaces made


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "publish",
        "What comes to LISTEN on the switch's host goes on to a service of a member, until the\n"
        "switch ends, or for good with --save or in [[publish]] of its file. The same\n"
        "LISTEN again changes the rule. Without operands, list what is published. LISTEN is\n"
        "tcp://[ADDR]:PORT or udp://[ADDR]:PORT, or a range of ports, FIRST-LAST, at both ends.",
        "vswitch publish tcp://:8080 pc1:80 --allow 203.0.113.0/24",
    )
    parser.add_argument("listen", nargs="?", metavar="LISTEN", help="such as tcp://0.0.0.0:8080")
    parser.add_argument("to", nargs="?", metavar="NAME:PORT", help="such as pc1:80")
    add_save(parser)
    add_flags(parser, PublishLimits)
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    said: dict[str, Any] = vars(args)
    rule = {key: said[key] for key in options_of(PublishLimits) if said[key] is not None}
    if args.listen is None and not rule:
        result = request(config.files.control_socket, "published")
        if config.json:
            print_json({"schema": SCHEMA, **result})
        else:
            rules = [from_json(each, PublishStatus) for each in result["published"]]
            answer(published_table(rules) or "nothing is published")
        return ExitCode.OK
    if args.to is None:
        raise ConfigError("write vswitch publish LISTEN NAME:PORT, such as tcp://:8080 pc1:80")
    rule |= {"listen": args.listen, "to": args.to}
    result = request(config.files.control_socket, "publish", _PATIENCE, rule=rule, save=args.save)
    status = from_json(result, PublishStatus)
    if status.why:
        say(f"vswitch: {args.to} is not reached now ({status.why}): who connects sees a reset")
    if config.json:
        print_json({"schema": SCHEMA, **result})
    else:
        answer(f"{status.listen} leads to {status.to}")
    return ExitCode.OK
