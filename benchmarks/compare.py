"""Set the switch beside other programs, in one interleaved run on this machine.

    python -m benchmarks.compare                       # all of it, three rounds: about four hours
    python -m benchmarks.compare --quick               # one short round: half an hour
    python -m benchmarks.compare --quick --rounds 3 --underlays nic
    python -m benchmarks.compare --peers vswitch,fastd-aes128-gcm --underlays nic --rounds 3

Needs root, and the peers' programs on PATH; those that are missing are left out, and named below
the table with where to get them. Those that Debian has:

    apt-get install openvpn tinc n2n fastd softether-vpnserver softether-vpnclient \
        softether-vpncmd wireguard-go wireguard-tools iperf3 ethtool iproute2 iputils-ping openssl

Newer ones than an older Debian has: benchmarks/peers/newer.

Nothing leaves the network namespaces that it makes. The exit status is 1 if a peer did not come
up, did not go through S, or put a frame on the wire that the underlay does not allow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.cell import measure
from benchmarks.command import check_machine, names_of, stop_on_signal, tell
from benchmarks.facts import facts
from benchmarks.figures import FULL, QUICK
from benchmarks.peers import PEERS, Peer
from benchmarks.report import medians, not_measured, table
from benchmarks.underlays import UNDERLAYS

SCHEMA = 1
TOOLS = {"iperf3": "iperf3", "ethtool": "ethtool", "ping": "iputils-ping", "bridge": "iproute2"}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    check_machine("compare", TOOLS)
    stop_on_signal()
    peers = [PEERS[name] for name in args.peers]
    absent = {peer.name: peer.remedy() for peer in peers if peer.missing()}
    for name, remedy in absent.items():
        tell(f"left out: {name}: {remedy}")
    peers = [peer for peer in peers if peer.name not in absent]
    plan = QUICK if args.quick else FULL
    rounds = args.rounds or (1 if args.quick else 3)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "facts": facts(peers),
        "missing": absent,
        "plan": {"quick": args.quick, "rounds": rounds, **attrs.asdict(plan)},
        "summary": [],
        "cells": [],
    }
    orders = [
        (number, name, peer)
        for number in range(1, rounds + 1)
        for name in args.underlays
        for peer in _turned(peers, number)
    ]
    try:
        for done, (number, name, peer) in enumerate(orders, start=1):
            cell = measure(peer, UNDERLAYS[name], plan, number)
            result["cells"].append(cell)
            result["summary"] = medians(_in_order(result["cells"], args))
            tell(f"[{done}/{len(orders)}] {_line(cell)}")
            if args.json is not None:
                args.json.write_text(json.dumps(result, indent=1) + "\n")
    except KeyboardInterrupt:
        tell("interrupted: what follows is what was measured so far")
    print(_head(result))
    print(table(result["summary"], _abouts(result), plan.overloads))
    print(not_measured(absent), end="")
    bad = [cell for cell in result["cells"] if cell["problem"]]
    return 1 if bad or len(result["cells"]) < len(orders) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--quick", action="store_true", help="one round of short measurements")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is measured (3)")
    parser.add_argument(
        "--peers", type=names_of(PEERS), default=list(PEERS), metavar="A,B", help=",".join(PEERS)
    )
    parser.add_argument(
        "--underlays",
        type=names_of(UNDERLAYS),
        default=list(UNDERLAYS),
        metavar="A,B",
        help=",".join(UNDERLAYS),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here too")
    return parser


def _turned(peers: list[Peer], number: int) -> list[Peer]:
    """Each round begins with another peer, so that none always runs on the same kind of moment."""
    turn = (number - 1) % max(len(peers), 1)
    return peers[turn:] + peers[:turn]


def _in_order(cells: list[dict[str, Any]], args: argparse.Namespace) -> list[dict[str, Any]]:
    return sorted(
        cells,
        key=lambda cell: (args.underlays.index(cell["underlay"]), args.peers.index(cell["peer"])),
    )


def _line(cell: dict[str, Any]) -> str:
    where = f"round {cell['round']} {cell['underlay']:6} {cell['peer']:15} {cell['seconds']:5} s"
    if cell["problem"]:
        return f"{where}  FAILED: {cell['problem']}"
    found = cell["figures"]
    return (
        f"{where}  TCP {found['tcp']['1_up']['mbit']:.0f} Mbit/s,"
        f" 64B {found['udp_64']['clean_per_s'] / 1000:.0f} k/s,"
        f" ping {found['ping']['ms2'].get('p50', float('nan')):.2f} ms"
    )


def _head(result: dict[str, Any]) -> str:
    known, plan = result["facts"], result["plan"]
    machine = known["machine"]
    loads = [cell["load_before"] for cell in result["cells"]] or [0.0]
    return "\n".join(
        (
            f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']},"
            f" Python {known['python']}; {known['when']}",
            f"commit {known['commit'][:12]}, changed files {known['changed_files']};"
            f" {plan['rounds']} round(s){', quick' if plan['quick'] else ''};"
            f" load before a cell {min(loads):.1f} to {max(loads):.1f}",
            "",
        )
    )


def _abouts(result: dict[str, Any]) -> dict[str, str]:
    known = result["facts"]["peers"]
    return {name: f"{entry['about']} ({entry['version']})" for name, entry in known.items()}


if __name__ == "__main__":
    sys.exit(main())
