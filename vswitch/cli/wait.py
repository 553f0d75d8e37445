"""`vswitch wait`: until what runs here is connected, for scripts and units."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json
from vswitch.config.options import LookConfig
from vswitch.config.quantities import to_duration
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode, NotReachable, TimedOut
from vswitch.management.client import request
from vswitch.management.status import SCHEMA, JoinStatus, SwitchStatus, from_json
from vswitch.state import StateDir

_PAUSE = 0.2  # seconds between two looks


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "wait",
        "Wait until the switch here answers and every join here is connected; with a name, until\n"
        "that join is, or until the switch has a port of that name which is up. With --gone until\n"
        "there is none. Ends with 6 when the time is over.",
        "vswitch wait pc1 --timeout 1m",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only this join or port")
    parser.add_argument("--gone", action="store_true", help="until it is not there any more")
    parser.add_argument("--timeout", default="30s", metavar="TIME", help="how long: 10s, 5m (30s)")
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Look again and again."""
    config = config_from(args, LookConfig)
    try:
        limit = to_duration(args.timeout)
    except ValueError as error:
        raise ConfigError(f"--timeout {args.timeout!r}: {error}") from None
    deadline = time.monotonic() + limit
    while True:
        states = _states(config.files, args.name)
        up = bool(states) and all(state == "up" for state in states.values())
        if (not states) if args.gone else up:
            break
        if time.monotonic() >= deadline:
            raise TimedOut(f"after {args.timeout}: {_told(states, args.name)}")
        time.sleep(min(_PAUSE, max(deadline - time.monotonic(), 0)))
    if config.json:
        print_json({"schema": SCHEMA, "states": states})
    else:
        answer(_told(states, args.name))
    return ExitCode.OK


def _states(files: StateDir, name: str | None) -> dict[str, str]:
    """Of the switch and the joins that run here, or of all that have this name."""
    states: dict[str, str] = {}
    with suppress(NotReachable):
        status = from_json(request(files.control_socket, "status"), SwitchStatus)
        if name is None:
            states["switch"] = "up"
        states |= {port.name: port.state for port in status.ports if port.name == name}
    for path in files.join_sockets():
        with suppress(NotReachable):
            join = from_json(request(path, "status"), JoinStatus)
            if name in (None, join.name):
                states[join.name] = join.state
    return states


def _told(states: dict[str, str], name: str | None) -> str:
    if not states:
        return f"nothing {'runs here' if name is None else f'here is named {name}'}"
    return ", ".join(f"{each} is {state}" for each, state in states.items())
