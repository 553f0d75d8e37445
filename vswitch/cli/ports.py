"""`vswitch ports`: the ports of the running switch, or all that is known of one."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ExitCode, NotFound
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, PortStatus, SwitchStatus, from_json, to_json
from vswitch.management.tables import age, ports_table, size, table


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "ports",
        "List the ports of the running switch, or show all that is known of one: its path, lanes,\n"
        "counters, drops, and settings that somebody has said.",
        "vswitch ports pc1",
    )
    parser.add_argument("port", nargs="?", metavar="PORT", help="name or number; all without it")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    status = from_json(request(config.files.control_socket, "status"), SwitchStatus)
    ports = [port for port in status.ports if args.port in (None, port.name, str(port.port))]
    if args.port is not None and not ports:
        raise NotFound(f"no port {args.port!r}: see `vswitch ports`")
    if config.json:
        print_json({"schema": SCHEMA, "ports": to_json(ports)})
    elif args.port is None:
        answer(ports_table(ports))
    else:
        answer("\n\n".join(table(["PORT", each.name], list(_facts(each))) for each in ports))
    return ExitCode.OK


def _facts(port: PortStatus) -> Iterator[list[str]]:
    """A line for each that there is something to say of."""
    yield ["number", str(port.port)]
    yield ["state", port.state if port.blocked is None else f"{port.state}: {port.blocked}"]
    if port.since is not None:
        yield ["since", f"{age(time.time() - port.since)} ago"]
    for name in ("address", "via", "lane", "datagram_size", "impaired"):
        if (value := getattr(port, name)) is not None:
            yield [name.replace("_", " "), str(value)]
    if port.post_quantum is not None:
        yield ["post-quantum", "yes" if port.post_quantum else "no"]
    if port.rtt_ms is not None:
        yield ["round trip", f"{port.rtt_ms:.2f} ms"]
    if port.routes or port.offered:
        yield ["networks", f"{_listed(port.routes)}, of {_listed(port.offered)} that it offers"]
    yield ["from it", f"{port.rx_frames} frames, {size(port.rx_bytes)}B"]
    yield ["to it", f"{port.tx_frames} frames, {size(port.tx_bytes)}B"]
    if port.queued_frames:
        yield ["queued", f"{port.queued_frames} frames, {size(port.queued_bytes)}B"]
    for reason, count in sorted(port.drops.items()):
        yield [f"drops {reason}", str(count)]
    for reason, count in sorted(port.transport_drops.items()):
        yield [f"datagrams dropped {reason}", str(count)]
    for key, value in sorted(port.settings.items()):
        yield [key, str(value)]


def _listed(networks: list[str]) -> str:
    return " ".join(networks) or "none"
