"""`vswitch leases`: which machines have an address by DHCP from the running switch."""

from __future__ import annotations

import argparse
from typing import Any

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.management.tables import age, table


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "leases",
        "List the machines that have an address by DHCP from the running switch, or end the lease\n"
        "of one (release MAC), which then has to ask anew.",
        "vswitch leases list",
        "vswitch leases release 52:54:00:12:34:56",
    )
    parser.add_argument("action", nargs="?", choices=("list", "release"), default="list")
    parser.add_argument("mac", nargs="?", metavar="MAC", help="of the machine, with release")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    if (args.action == "release") != (args.mac is not None):
        raise ConfigError("write vswitch leases, or vswitch leases release MAC")
    if args.action == "release":
        said = request(config.files.control_socket, "lease-release", mac=args.mac)
    else:
        said = request(config.files.control_socket, "leases")
    if config.json:
        print_json({"schema": SCHEMA, **said})
    elif args.action == "release":
        answer(f"{' '.join(said['released'])} is free")
    else:
        answer(_told(said))
    return ExitCode.OK


def _told(said: dict[str, Any]) -> str:
    rows = [
        [
            lease["address"],
            lease["mac"],
            lease["name"] or "-",
            lease["port"] or "-",
            age(max(0.0, lease["expires_s"])),
        ]
        for lease in said["leases"]
    ]
    text = table(["ADDRESS", "MAC", "NAME", "PORT", "EXPIRES IN"], rows)
    quiet = said["quiet"]
    return text if quiet is None else f"silent: {quiet} is a DHCP server of this LAN\n\n{text}"
