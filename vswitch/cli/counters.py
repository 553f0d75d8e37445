"""`vswitch counters`: everything that the running switch counts, and how fast it grows."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotFound
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, PortStatus, SwitchStatus, from_json, to_json
from vswitch.management.tables import table

_GAUGES = ("queued_frames", "queued_bytes", "held_frames")  # that go down again
_PLAIN = ("rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "flood_copies", *_GAUGES)
_DATAGRAM_LANE = ("loose_sent", "loose_received", "loose_lost")
_CLEAR = "\x1b[H\x1b[2J"

Counters = dict[tuple[str, str], int]  # by port name and counter


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "counters",
        "Show every counter of the running switch that is not zero, of one port or of all, and of\n"
        "the switch as a whole. With --watch again and again, with what each grows by a second.",
        "vswitch counters pc1 --watch",
    )
    parser.add_argument("port", nargs="?", metavar="PORT", help="name or number; all without it")
    parser.add_argument("--watch", action="store_true", help="every second, until stopped")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Show them once, or until stopped."""
    config = config_from(args, LookConfig)
    if args.watch and config.json:
        raise ConfigError("--watch is for people: ask for --json as often as you like instead")
    path = config.files.control_socket
    before, then = None, 0.0
    while True:
        status = from_json(request(path, "status"), SwitchStatus)
        ports = [port for port in status.ports if args.port in (None, port.name, str(port.port))]
        if args.port is not None and not ports and not args.watch:
            raise NotFound(f"no port {args.port!r}: see `vswitch status`")
        totals = status.totals if args.port is None else {}
        if config.json:
            print_json({"schema": SCHEMA, "totals": totals, "ports": to_json(ports)})
            return ExitCode.OK
        now, counters = time.monotonic(), counters_of(ports, totals)
        if not args.watch:
            answer(counters_table(counters))
            return ExitCode.OK
        screen = _CLEAR if sys.stdout.isatty() else ""
        answer(screen + counters_table(counters, before, now - then) + "\n")
        before, then = counters, now
        time.sleep(1.0)


def counters_of(ports: list[PortStatus], totals: Mapping[str, int]) -> Counters:
    """All of them that are not zero."""
    found: Counters = {}
    for port in ports:
        named = {name: getattr(port, name, 0) for name in (*_PLAIN, *_DATAGRAM_LANE)}
        named |= {f"drops.{reason}": count for reason, count in sorted(port.drops.items())}
        datagrams = sorted(port.transport_drops.items())
        named |= {f"transport_drops.{reason}": count for reason, count in datagrams}
        found |= {(port.name, name): count for name, count in named.items() if count}
    return found | {("*", name): count for name, count in totals.items() if count}


def counters_table(counters: Counters, before: Counters | None = None, seconds: float = 1.0) -> str:
    """A line for each; with `before`, how much it has grown a second since then."""
    heads = ["PORT", "COUNTER", "COUNT"]
    rows = [[port, name, str(count)] for (port, name), count in counters.items()]
    if before is None:
        return table(heads, rows)
    for row, (key, count) in zip(rows, counters.items(), strict=True):
        grown = (count - before.get(key, 0)) / max(seconds, 0.001)
        # A port that has come again counts from zero.
        row.append("-" if key[1] in _GAUGES or grown < 0 else f"{grown:.0f}")
    return table([*heads, "PER SECOND"], rows)
