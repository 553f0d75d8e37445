"""What goes on while something is wrong: real processes, with the figures that are asked for.

    python -m benchmarks.faults                # all, about seven minutes
    python -m benchmarks.faults flood stall    # R20, R22
    python -m benchmarks.faults path --quick   # R5, R10, R13, shorter and milder

Needs root and iperf3, ping, ss. The exit status is 1 where a figure was missed: with other work on
the machine it may.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from pathlib import Path

from benchmarks.faults import flood, path, stall
from benchmarks.faults.plan import FULL, QUICK

PARTS = {
    "flood": {"R20, a flood of handshakes": flood.measure},
    "stall": {f"R22, a member is {kind}": partial(stall.measure, kind) for kind in stall.KINDS},
    "path": {"R5, R10, R13, a path that changes": path.measure},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    plan, results, met = QUICK if args.quick else FULL, {}, True
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
    for part in args.parts or PARTS:
        for title, measure in PARTS[part].items():
            figures, checks = measure(plan)
            print(f"\n{title}", flush=True)
            for name, value in figures.items():
                print(f"  {name}: {_told(value)}")
            for check in checks:
                print(f"  {'ok   ' if check.met else 'SHORT'} {check}", flush=True)
            results[title] = {"figures": figures, "checks": [check.row() for check in checks]}
            met = met and all(check.met for check in checks)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    raise SystemExit(0 if met else 1)


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list):
        return " ".join(map(_told, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    return str(value)


if __name__ == "__main__":
    main()
