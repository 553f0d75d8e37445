"""`vswitch netcheck`: how well a switch is reached from here, by which paths, through what NAT."""

from __future__ import annotations

import argparse

from vswitch.cli.common import Subparsers, config_from
from vswitch.cli.doctor import add_examination, look, report
from vswitch.config.options import NetcheckConfig
from vswitch.doctor.findings import PathFacts, behind_nat
from vswitch.errors import NotFound
from vswitch.management.status import to_json
from vswitch.management.tables import table


def add_parser(subparsers: Subparsers) -> None:
    """Add the command and its flags."""
    add_examination(
        subparsers,
        "netcheck",
        "Ask a switch by UDP and by HTTPS, and say how soon it answers, how large datagrams may "
        "be, and what can be told of a NAT.",
        NetcheckConfig,
    )


def run(args: argparse.Namespace) -> int:
    """Ask, and print what was measured and what is wrong."""
    config = config_from(args, NetcheckConfig)
    facts = look(config, args.target, way_alone=True, time=config.time or 0.0)
    if not facts.paths and not facts.failed:
        raise NotFound(
            f"this machine is no member, in {config.files.path}: give a join string, or HOST:PORT "
            "of a switch"
        )
    heads = ["SWITCH", "UDP", "HTTPS", "DATAGRAM", "LINK MTU", "SEEN AT", "NAT", "PORTS", "KEEPS"]
    shown = table(heads, [_row(each) for each in facts.paths])
    return report(config, facts, {"paths": to_json(list(facts.paths))}, [shown])


def _row(path: PathFacts) -> list[str]:
    return [
        path.place,
        _shown(path.udp_ms, "ms"),
        _shown(path.https_ms, "ms"),
        _shown(path.datagram_size, "bytes"),
        _shown(path.link_mtu, "bytes"),
        path.seen or "-",
        "carrier" if path.carrier else {None: "-", True: "yes", False: "no"}[behind_nat(path)],
        {None: "-", True: "one", False: "by destination"}[path.one_port],
        _kept(path),
    ]


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f} {unit}"


def _kept(path: PathFacts) -> str:
    """How long a mapping without traffic lives."""
    if path.outlived is None:
        return "-"
    if path.forgotten is None:
        return f"{path.outlived:g} s or more"
    return f"{path.outlived:g} to {path.forgotten:g} s"
