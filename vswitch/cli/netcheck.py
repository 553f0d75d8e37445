"""`vswitch netcheck`: how well a switch is reached from here, by which paths."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, add_command, answer, print_json
from vswitch.cli.doctor import exit_code, lines_of, look
from vswitch.config.options import DoctorConfig
from vswitch.config.sources import add_flags
from vswitch.doctor.findings import PathFacts, behind_nat, judge
from vswitch.management.status import SCHEMA, to_json
from vswitch.management.tables import table


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    parser = add_command(
        subparsers,
        "netcheck",
        "Ask a switch by UDP and by HTTPS, and say how soon it answers and how large datagrams may "
        "be. Of a switch by a join string (which is not used up), the name of a membership, or "
        "HOST:PORT; without one, of all memberships here. The exit code is 1 if there is a "
        "problem.",
        "vswitch netcheck pc1",
    )
    parser.add_argument("target", nargs="?", metavar="STRING|NAME|PLACE", help="which switch")
    add_flags(parser, DoctorConfig)


def run(args: argparse.Namespace) -> int:
    """Ask, and print what was measured and what is wrong."""
    config, facts = look(args, way_alone=True)
    findings = judge(facts)
    if config.json:
        data = {"paths": to_json(list(facts.paths)), "findings": to_json(findings)}
        print_json({"schema": SCHEMA, **data})
    else:
        heads = ["SWITCH", "UDP", "HTTPS", "DATAGRAM", "LINK MTU", "SEEN AT", "NAT"]
        answer(table(heads, [_row(each) for each in facts.paths]), *lines_of(findings))
    return exit_code(findings)


def _row(path: PathFacts) -> list[str]:
    return [
        path.place,
        _shown(path.udp_ms, "ms"),
        _shown(path.https_ms, "ms"),
        _shown(path.datagram_size, "bytes"),
        _shown(path.link_mtu, "bytes"),
        path.seen or "-",
        {None: "-", True: "yes", False: "no"}[behind_nat(path)],
    ]


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"
