"""How the switch does on slow and lossy paths: real processes, an emulated wire.

    python -m benchmarks.paths --quick --json FILE   # about ten minutes
    python -m benchmarks.paths matrix                # 117 paths, about an hour
    python -m benchmarks.paths matrix --only 20x50   # some of them
    python -m benchmarks.paths peers --rounds 3      # beside other programs
    python -m benchmarks.paths fairness              # two streams on one bottleneck
    python -m benchmarks.paths lanes --seconds 5     # KCP beside datagrams, 26 paths, six minutes
    python -m benchmarks.paths lanes --lanes kcp     # one of them
    python -m benchmarks.paths --show FILE           # the tables of an earlier result

matrix: one iperf3 stream from A to B through S, where the path of A is slow, long and lossy.
lanes: `join --lane kcp` and `datagram` on paths that lose and are long; only when asked for.
peers: the same for vswitch, fastd, tinc, n2n and openvpn on a path that loses, without a limit.
Each figure stands beside what was asked for. Run `python -m benchmarks.emulator` first: if that
says `void`, no figure from here counts.

Needs root and the peers' programs (those that are missing are named and left out):
apt-get install openvpn tinc n2n fastd iperf3 iproute2 iputils-ping ethtool openssl procps

The exit status is 1 if a cell does not count or misses a target.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.bed import Bed, open_bed
from benchmarks.command import check_machine, name_of, names_of, stop_on_signal, tell
from benchmarks.facts import facts
from benchmarks.paths import fairness, lanes, matrix, peers, report
from benchmarks.paths.cells import PEER_LOSSES, PathCell, Plan, full_cells, quick_cells
from benchmarks.paths.report import PARTS
from benchmarks.peers import PEERS, Peer, ours
from benchmarks.underlays import UNDERLAYS

SCHEMA = 1
TOOLS = {
    "iperf3": "iperf3",
    "ethtool": "ethtool",
    "ping": "iputils-ping",
    "bridge": "iproute2",
    "ss": "iproute2",
    "sysctl": "procps",
}
SECONDS, QUICK_SECONDS = 20.0, 8.0
FAIR_SECONDS, QUICK_FAIR_SECONDS = 45.0, 15.0
PINGS, PEER_PINGS, LANE_PINGS = 60, 200, 100
USUAL = tuple(part for part in PARTS if part != "lanes")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.show is not None:
        print(report.told(json.loads(args.show.read_text())))
        return 0
    check_machine("paths", TOOLS)
    stop_on_signal()
    chosen = _installed(args.peers) if "peers" in args.parts else [PEERS["vswitch"]]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "facts": facts(chosen),
        "plan": {"quick": args.quick, "rounds": _rounds(args), "congestion": args.congestion},
        "matrix": [],
        "peers": [],
        "fairness": [],
        "lanes": [],
    }
    steps = list(_steps(args, chosen))
    done = 0
    try:
        with contextlib.ExitStack() as stack:
            beds = _Beds(stack)
            for done, (part, show, step) in enumerate(steps, start=1):
                cell = step(beds)
                result[part].append(cell)
                tell(f"[{done}/{len(steps)}] {show(cell)}")
                if args.json is not None:
                    args.json.write_text(json.dumps(result, indent=1) + "\n")
    except KeyboardInterrupt:
        tell("interrupted: what follows is what was measured so far")
        done = min(done, len(steps) - 1)
    print(report.told(result))
    return 0 if done == len(steps) and _good(result) else 1


class _Beds:
    """The bed of the matrix: made when first needed, and anew after a cell that failed."""

    def __init__(self, outer: contextlib.ExitStack) -> None:
        self._stack = outer.enter_context(contextlib.ExitStack())
        self._bed: Bed | None = None
        self._lane: str | None = None  # of a bed that is not the matrix's

    def lane_cell(self, cell: lanes.LaneCell, plan: Plan) -> dict[str, Any]:
        if self._bed is None or self._lane != cell.lane:
            self.close()
            bed = self._stack.enter_context(open_bed(UNDERLAYS["nic"], {"a": lanes.clean_wire()}))
            ours.start(bed, cell.lane)
            matrix.forget_paths(bed)
            self._bed, self._lane = bed, cell.lane
        found = lanes.measure(self._bed, cell, plan)
        if found["problem"]:
            self.close()
        return found

    def cell(self, cell: PathCell, plan: Plan) -> dict[str, Any]:
        if self._bed is None:
            bed = self._stack.enter_context(open_bed(UNDERLAYS["nic"], {"a": cell.wire()}))
            PEERS["vswitch"].start(bed)
            matrix.forget_paths(bed)
            self._bed = bed
        found = matrix.measure(self._bed, cell, plan)
        if found["problem"]:
            self.close()
        return found

    def close(self) -> None:
        self._bed = self._lane = None
        self._stack.close()


Step = tuple[str, Callable[[dict[str, Any]], str], Callable[[_Beds], dict[str, Any]]]


def _steps(args: argparse.Namespace, chosen: list[Peer]) -> Iterator[Step]:
    """What to measure, in order: the part of the result, how to tell it, and how to do it."""
    seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
    plan = Plan(seconds, PINGS, congestion=args.congestion)
    if "matrix" in args.parts:
        for cell in quick_cells() if args.quick else full_cells():
            if cell.name.startswith(tuple(args.only)):
                yield "matrix", report.matrix_line, _together(cell, plan)
    if "peers" in args.parts:
        plan = attrs.evolve(plan, pings=PEER_PINGS, every=0.02)
        for number in range(1, _rounds(args) + 1):
            turn = (number - 1) % len(chosen)  # each round begins with another
            for loss in PEER_LOSSES:
                for peer in chosen[turn:] + chosen[:turn]:
                    yield (
                        "peers",
                        report.peers_line,
                        _apart(peers.measure, peer, loss, plan, number),
                    )
    if "lanes" in args.parts:
        plan = Plan(seconds, LANE_PINGS, every=0.02, congestion=args.congestion)
        for lane_cell in lanes.lane_cells(args.lanes):
            if lane_cell.name.startswith(tuple(args.only)):
                yield "lanes", lanes.lanes_line, _in_lane(lane_cell, plan)
    if "fairness" in args.parts:
        fair = args.seconds or (QUICK_FAIR_SECONDS if args.quick else FAIR_SECONDS)
        plan = Plan(fair, 0, congestion=args.congestion)
        for kind in fairness.KINDS:
            yield "fairness", report.fairness_line, _apart(fairness.measure, kind, plan)


def _together(cell: PathCell, plan: Plan) -> Callable[[_Beds], dict[str, Any]]:
    """A step in the bed of the matrix."""
    return lambda beds: beds.cell(cell, plan)


def _in_lane(cell: lanes.LaneCell, plan: Plan) -> Callable[[_Beds], dict[str, Any]]:
    """A step in the bed of its lane."""
    return lambda beds: beds.lane_cell(cell, plan)


def _apart(measure: Callable[..., dict[str, Any]], *arguments: Any) -> Callable[[_Beds], Any]:
    """A step that makes a bed of its own, when that of the matrix is gone."""

    def step(beds: _Beds) -> dict[str, Any]:
        beds.close()
        return measure(*arguments)

    return step


def _rounds(args: argparse.Namespace) -> int:
    rounds: int = args.rounds or (1 if args.quick else 3)
    return rounds


def _installed(names: list[str]) -> list[Peer]:
    for name in names:
        if PEERS[name].missing():
            tell(f"left out: {name}: {PEERS[name].remedy()}")
    return [PEERS[name] for name in names if not PEERS[name].missing()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paths",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("parts", nargs="*", type=name_of(PARTS), default=list(USUAL), help=" ".join(PARTS))
    add("--quick", action="store_true", help="fewer paths, one round, shorter streams")
    add("--seconds", type=float, metavar="N", help="of each stream (20; quick 8; fairness 45, 15)")
    names = "cells whose name begins so: 20x50-q1-l5"
    add("--only", nargs="+", default=[""], metavar="TEXT", help=names)
    add(
        "--peers",
        type=names_of(PEERS),
        default=list(peers.NAMES),
        metavar="A,B",
        help=",".join(PEERS),
    )
    add(
        "--lanes",
        type=names_of((*lanes.LANES, "auto")),
        default=list(lanes.LANES),
        metavar="A,B",
        help="kcp,datagram",
    )
    add("--rounds", type=int, metavar="N", help="how often each peer is measured (3)")
    add("--congestion", default="cubic", metavar="NAME", help="of the streams' own TCP (cubic)")
    add("--show", type=Path, metavar="FILE", help="measure nothing: tell what a --json has")
    add("--json", type=Path, metavar="FILE", help="write everything here too")
    return parser


def _good(result: dict[str, Any]) -> bool:
    cells = [cell for part in PARTS for cell in result[part]]
    met = [check["met"] for cell in cells for check in cell.get("checks", [])]
    for checks in report.peers_checks(report.peers_summary(result["peers"])).values():
        met += [check.met for check in checks]
    return all(met) and not any(cell["problem"] for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
