"""Set this checkout against another one of this project, in one interleaved run.

    python -m benchmarks.versions --against DIR                # all, five starts: 75 minutes
    python -m benchmarks.versions --against DIR nic --quick    # three starts: four minutes
    python -m benchmarks.versions --against DIR lossy --starts 7
    python -m benchmarks.versions --against . --against-python "python3.13 -O" nic
    python -m benchmarks.versions --show result.json

Each start runs three variants with processes of their own, all up at once and measured in turn:
this checkout, the other, and the other once more as the control, for two sets of the same processes
differ too. A checkout with a .venv runs with that, any other with this interpreter.

strict, nic, veth: idle pings and their CPU, pings beside TCP, one TCP stream both ways and its CPU,
1,400-byte and 64-byte datagrams. lossy: one TCP stream and pings where A's path has a round trip of
50 and 200 ms, loses 1 and 5 % each way, and has no limit.

Needs root, and: apt-get install iperf3 ethtool iproute2 iputils-ping procps. Nothing leaves the
network namespaces that it makes. The exit status is 1 if it was interrupted, or if something did
not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.command import check_machine, name_of, stop_on_signal, tell
from benchmarks.facts import facts
from benchmarks.figures import Plan
from benchmarks.paths.cells import Plan as PathPlan
from benchmarks.underlays import UNDERLAYS
from benchmarks.versions import measure, report
from benchmarks.versions.code import code_of, known
from benchmarks.versions.report import CONTROL, NEW, OLD

SCHEMA = 1
TOOLS = {
    "iperf3": "iperf3",
    "ethtool": "ethtool",
    "ping": "iputils-ping",
    "bridge": "iproute2",
    "ss": "iproute2",
    "sysctl": "procps",
}
PARTS = (*UNDERLAYS, measure.LOSSY)
STARTS, QUICK_STARTS = 5, 3
LOOKS, QUICK_LOOKS = 3, 1
FULL = Plan(tcp=2, udp=1.5, rates=6, fast_pings=400, slow_pings=40, loaded=2, overloads=(300_000,))
QUICK = Plan(tcp=2, udp=0.5, rates=3, fast_pings=300, slow_pings=30, loaded=1, overloads=(300_000,))
PATHS, QUICK_PATHS = PathPlan(15, 100, every=0.02), PathPlan(6, 50, every=0.02)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.show is not None:
        print(report.table(json.loads(args.show.read_text())))
        return 0
    if args.against is None:
        raise SystemExit("versions: --against DIR: which checkout to set this one against")
    check_machine("versions", TOOLS)
    stop_on_signal()
    new = code_of(python=args.python, variables=args.env)
    old = code_of(args.against, args.against_python, args.against_env)
    codes = {NEW: new, OLD: old, CONTROL: old}
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "facts": facts(()),
        "code": {NEW: known(new), OLD: known(old)},
        "quick": args.quick,
        "rows": [],
    }
    starts = args.starts or (QUICK_STARTS if args.quick else STARTS)
    orders = [(number, part) for number in range(1, starts + 1) for part in args.parts]
    done = 0
    try:
        for done, (number, part) in enumerate(orders, start=1):
            rows = _start(part, quick=args.quick)(codes, number=number)
            result["rows"] += rows
            tell(f"[{done}/{len(orders)}] start {number}, {part}: {_line(rows)}")
            if args.json is not None:
                args.json.write_text(json.dumps(result, indent=1) + "\n")
    except KeyboardInterrupt:
        tell("interrupted: what follows is what was measured so far")
        done -= 1
    print(report.table(result))
    out = any(row["problem"] or row.get("void") for row in result["rows"])
    return 1 if out or done < len(orders) else 0


def _start(part: str, *, quick: bool) -> Callable[..., list[dict[str, Any]]]:
    if part == measure.LOSSY:
        return partial(measure.lossy, plan=QUICK_PATHS if quick else PATHS)
    plan, looks = (QUICK, QUICK_LOOKS) if quick else (FULL, LOOKS)
    return partial(measure.underlay, UNDERLAYS[part], plan=plan, looks=looks)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.versions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("parts", nargs="*", type=name_of(PARTS), default=list(PARTS), help=" ".join(PARTS))
    add("--against", type=Path, metavar="DIR", help="the other checkout")
    add("--starts", type=int, metavar="N", help=f"of each ({STARTS}; quick {QUICK_STARTS})")
    add("--quick", action="store_true", help="shorter measurements")
    for whose, words in (("", "this checkout"), ("against-", "the other")):
        add(f"--{whose}python", metavar="COMMAND", help=f"interpreter of {words}, with options")
        add(
            f"--{whose}env",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"in the environment of {words}",
        )
    add("--show", type=Path, metavar="FILE", help="measure nothing: tell what a --json has")
    add("--json", type=Path, metavar="FILE", help="write everything here too")
    return parser


def _line(rows: list[dict[str, Any]]) -> str:
    bad = [
        f"{row['variant']} is out: {row['problem'].splitlines()[0]}"
        for row in rows
        if row["problem"]
    ]
    return "; ".join(bad) or "ok"


if __name__ == "__main__":
    sys.exit(main())
