"""`vswitch impair`: a worse wire between a port and the running switch, on purpose."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.management.tables import table

_ORDERS = ("delay", "loss", "duplicate", "reorder", "rate", "seed", "direction", "for")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "impair",
        "Worsen the wire between a port and the running switch, until the port goes or the time\n"
        "is over. Without orders, show what is impaired; `impair off` ends all of it. The same\n"
        "seed chooses the same frames. Order is kept but for --reorder.",
        "vswitch impair pc1 --delay 40ms~5ms --loss 1% --rate 10M --for 30s",
        "vswitch impair pc1 off",
    )
    parser.add_argument("port", nargs="?", metavar="PORT", help="name or number")
    parser.add_argument("off", nargs="?", choices=("off",), help="let the port be as it is")
    parser.add_argument("--delay", metavar="TIME[~TIME]", help="so much, and up to so much more")
    parser.add_argument("--loss", metavar="SHARE", help="frames to lose, such as 1%%")
    parser.add_argument("--duplicate", metavar="SHARE", help="frames to send twice")
    parser.add_argument("--reorder", metavar="SHARE", help="frames to hold back for 10 ms")
    parser.add_argument("--rate", metavar="RATE", help="bit/s: 500k, 10M, 1G; 150 kB may wait")
    parser.add_argument("--seed", type=int, metavar="N", rare=True, help="of chance (1)")
    parser.add_argument(
        "--direction",
        choices=("in", "out", "both"),
        rare=True,
        help="into or out of the switch (both)",
    )
    parser.add_argument("--for", metavar="TIME", help="end after 30s, 10m, 1h")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    orders = {key: value for key in _ORDERS if (value := vars(args)[key]) is not None}
    everywhere = args.port == "off" and args.off is None  # no port is called so by its number
    off = args.off is not None or everywhere
    port = None if everywhere else args.port
    if (port is None or off) and orders:
        raise ConfigError("impair PORT with orders, impair PORT off, or impair [PORT] alone")
    asked = {"port": port, "off": off, "show": not (orders or off), **orders}
    said = request(config.files.control_socket, "impair", **asked)
    if config.json:
        print_json({"schema": SCHEMA, **said})
        return ExitCode.OK
    rows = [
        [
            each["name"],
            each["orders"],
            "-" if each["left_s"] is None else f"{each['left_s']:.0f}s",
            str(each["held"]),
        ]
        for each in said["impaired"]
    ]
    nothing = f"{port} is not impaired" if asked["show"] and port else "no port is impaired"
    answer(table(["PORT", "IMPAIRED BY", "LEFT", "HELD"], rows) if rows else nothing)
    return ExitCode.OK
