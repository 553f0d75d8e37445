"""`vswitch mac`: the MAC table of the running switch, listed and changed."""

from __future__ import annotations

import argparse
import json
from typing import Any

from vswitch.cli.common import Subparsers, add_command, answer, config_from, print_json, say
from vswitch.cli.following import follow
from vswitch.clocks import stamp
from vswitch.config.options import LookConfig
from vswitch.config.sources import add_flags
from vswitch.errors import ConfigError, ExitCode
from vswitch.logs import clean
from vswitch.management.client import request
from vswitch.management.status import SCHEMA
from vswitch.management.tables import age, table

_OPERANDS = {"list": (0, 0), "add": (2, 3), "del": (1, 2), "flush": (0, 0)}
_USAGE = {
    "list": "mac list takes no more than --port, --vlan and --watch",
    "add": "write vswitch mac add NAME MAC [VLAN]",
    "del": "write vswitch mac del MAC [VLAN]",
    "flush": "write vswitch mac flush with --port NAME, --vlan VLAN, both, or --all",
}


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "mac",
        "List the stations that the running switch knows; make an address that of one port until\n"
        "the switch ends (add), undo that (del), or forget what was learned (flush). What is to\n"
        "last stands in the configuration file of serve.",
        "vswitch mac list --port pc1",
        "vswitch mac add pc1 52:54:00:12:34:56",
        "vswitch mac del 52:54:00:12:34:56",
        "vswitch mac flush --port pc1",
    )
    parser.add_argument("action", nargs="?", choices=tuple(_OPERANDS), default="list")
    parser.add_argument(
        "operands", nargs="*", metavar="NAME MAC VLAN", help="add NAME MAC [VLAN], del MAC [VLAN]"
    )
    parser.add_argument("--port", metavar="NAME", help="only this port, with list and flush")
    parser.add_argument("--vlan", metavar="VLAN", rare=True, help="only this VLAN, 0 for untagged")
    parser.add_argument("--all", action="store_true", help="with flush: everything")
    parser.add_argument(
        "--watch", action="store_true", help="list, and show what comes, moves or goes then"
    )
    add_flags(parser, LookConfig)


def run(args: argparse.Namespace) -> int:
    """Ask the switch."""
    config = config_from(args, LookConfig)
    verb, asked = _request(args)
    if args.watch:
        show = bytes.decode if config.json else lambda line: _change(json.loads(line))
        return follow(config.files.control_socket, "mac-watch", show, **asked)
    said = request(config.files.control_socket, verb, **asked)
    if said.get("ports") == 0:
        say(f"vswitch: no port is called {said['name']} now: this is for one that comes")
    if config.json:
        print_json({"schema": SCHEMA, **said})
    else:
        answer(_told(verb, said))
    return ExitCode.OK


def _request(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The verb and its arguments; `ConfigError` if they do not fit together."""
    action, operands, scoped = args.action, args.operands, args.port or args.vlan
    least, most = _OPERANDS[action]
    if not least <= len(operands) <= most or (args.all and (action != "flush" or scoped)):
        raise ConfigError(_USAGE[action])
    if args.watch and action != "list":
        raise ConfigError("--watch goes with list alone")
    if action in ("add", "del"):
        if scoped:
            raise ConfigError(_USAGE[action])
        names = ("name", "mac", "vlan") if action == "add" else ("mac", "vlan")
        return f"mac-{action}", dict(zip(names, operands, strict=False))
    if action == "flush" and not scoped and not args.all:
        raise ConfigError(_USAGE[action])
    return f"mac-{action}", {"port": args.port, "vlan": args.vlan}


def _change(facts: dict[str, Any]) -> str:
    vlan = f" vlan={facts['vlan']}" if facts["vlan"] else ""
    before = f" from={facts['from']}" if "from" in facts else ""
    port = f" port={facts['name']}"
    return clean(f"{stamp(facts['at'])} {facts['change']} {facts['mac']}{vlan}{port}{before}")


def _told(verb: str, said: dict[str, Any]) -> str:
    if verb == "mac-list":
        rows = [
            [
                entry["mac"],
                str(entry["vlan"] or "-"),
                f"{entry['name']} ({entry['port']})",
                entry["kind"],
                "-" if entry["kind"] == "static" else age(entry["age_s"]),
            ]
            for entry in said["macs"]
        ]
        return table(["MAC", "VLAN", "PORT", "KIND", "AGE"], rows)
    if verb == "mac-add":
        where = f" in VLAN {said['vlan']}" if said["vlan"] else ""
        return f"{said['mac']}{where} is that of port {said['name']}"
    return f"{said.get('removed', said.get('flushed'))} forgotten"
