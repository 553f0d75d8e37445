"""`vswitch status`: what runs in a state directory, and how it does."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress

from vswitch.cli.common import Subparsers, add_command, answer, config_from
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotFound, NotRunning
from vswitch.management.client import request
from vswitch.management.status import (
    SCHEMA,
    JoinStatus,
    PortStatus,
    SwitchStatus,
    from_json,
    to_json,
)
from vswitch.management.tables import (
    ended_lines,
    joins_table,
    ports_table,
    proxy_table,
    published_table,
    refusals,
    rekey_line,
    routes_lines,
    switch_line,
)
from vswitch.state import StateDir


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "status",
        "Show the switch and the joins that run with this state directory, or the one of a name.",
        "vswitch status pc1 --json",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this join or port")
    parser.add_argument("--watch", action="store_true", help="every second, until stopped")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask everything that runs here."""
    config = config_from(args, LookConfig)
    if not args.watch:
        answer(_told(config, args.name))
        return ExitCode.OK
    if config.json:
        raise ConfigError("--watch is for people: ask for --json as often as you like instead")
    from vswitch.cli.live import watch_text  # rich, which nothing else needs

    return watch_text(lambda: _told(config, args.name))


def _told(config: LookConfig, name: str | None) -> str:
    switch, joins = _ask_all(config.files)
    if switch is None and not joins:
        raise NotRunning(
            f"nothing runs in {config.files.path}: start `vswitch serve` or `vswitch join`, or "
            "give the --state that they were started with"
        )
    if name is None:
        if config.json:
            data = {"switch": None if switch is None else to_json(switch), "joins": to_json(joins)}
            return json.dumps({"schema": SCHEMA, **data}, indent=2)
        return _text(switch, [] if switch is None else switch.ports, joins)
    ports = [port for port in switch.ports if port.name == name] if switch else []
    joins = [join for join in joins if join.name == name]
    if not ports and not joins:
        raise NotFound(f"no join and no port in {config.files.path} is named {name}")
    if config.json:
        said = {"schema": SCHEMA, "ports": to_json(ports), "joins": to_json(joins)}
        return json.dumps(said, indent=2)
    return _text(None, ports, joins)


def _ask_all(files: StateDir) -> tuple[SwitchStatus | None, list[JoinStatus]]:
    """Of what runs; `NotReachable` where something runs that does not answer."""
    switch = None
    with suppress(NotRunning):
        switch = from_json(request(files.control_socket, "status"), SwitchStatus)
    joins = []
    for path in files.join_sockets():
        with suppress(NotRunning):
            joins.append(from_json(request(path, "status"), JoinStatus))
    return switch, joins


def _text(switch: SwitchStatus | None, ports: list[PortStatus], joins: list[JoinStatus]) -> str:
    blocks = []
    if switch is not None:
        blocks.append(switch_line(switch))
        if moving := rekey_line(switch):
            blocks.append(moving)
        if ended := ended_lines(switch):
            blocks.append("\n".join(ended))
    if ports:
        blocks.append(ports_table(ports))
    if switch is not None and (rules := published_table(switch.published)):
        blocks.append(rules)
    if joins:
        blocks.append(joins_table(joins, time.time()))
    if listeners := proxy_table(joins):
        blocks.append(listeners)
    if routes := routes_lines(joins):
        blocks.append(routes)
    if refused := refusals(joins):
        blocks.append(refused)
    return "\n\n".join(blocks)
