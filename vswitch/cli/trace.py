"""`vswitch trace`: what the running switch would do with a frame, and why."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "trace",
        "Say, step by step, what the running switch would do with a frame that comes in on a port\n"
        "now. Nothing is sent, learned or counted. Ends with 1 if the frame would be dropped.\n"
        "Keys: in, dst (port, IP or MAC address), src, vlan, type, src-ip, dst-ip, proto, sport,\n"
        "dport, size; or in and hex, the whole frame. Without more it is a ping of that port.\n"
        "Short: FROM TO, and perhaps a protocol and a port.",
        "vswitch trace pc1 pc2 tcp 22",
    )
    parser.add_argument("frame", nargs="+", metavar="KEY=VALUE", help="the frame")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    said = request(config.files.control_socket, "trace", frame=" ".join(args.frame))
    if config.json:
        print_json({"schema": SCHEMA, **said})
    else:
        answer(f"in on {said['name']} (port {said['port']}): {said['frame']}")
        answer(*(f"  {step}" for step in said["steps"]))
        ports = ", ".join(f"{each['name']} (port {each['port']})" for each in said["egress"])
        answer(f"out on {ports}" if ports else f"dropped: {said['reason']}")
    return ExitCode.OK if said["egress"] else ExitCode.FAILED
