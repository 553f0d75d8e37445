"""Run the soak and say what was checked: `python -m benchmarks.soak [--minutes 10] [--seed 1]`.

Minutes and hours are virtual. The same seed gives the same run: as the flows of queues are hashed,
the program starts itself again with a fixed PYTHONHASHSEED. The exit status is 1 where an invariant
was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from benchmarks.soak.world import Plan, Report, soak

CHECKED = {
    "I1": "each frame once, in order, unmodified; what is missing was refused by its queue",
    "I2": "every counter of every port is what its station sent and got; the totals add up",
    "I3": "who dies loses what was under way and a window, at most",
    "I4": "nothing back to its sender, nothing against the policy, nothing for a known other",
    "I5": "tasks, descriptors, objects and memory are what they were",
    "I6": "no nonce twice under a key, no frame in clear",
    "I7": "strangers and replays get no more than three times their bytes, and no frame",
    "I8": "nobody lost a session that nobody ended; no error in the log",
}


def told(report: Report, seconds: float) -> str:
    """The result for people."""
    plan = report.plan
    lines = [
        f"{plan.members} members, seed {plan.seed}: {plan.seconds / 60:g} virtual minutes"
        f" in {seconds:.0f} s",
        *(f"  {name:32} {count}" for name, count in sorted(report.counts.items())),
        "drops: " + ", ".join(f"{name} {count}" for name, count in sorted(report.drops.items())),
        f"first look {report.looks[0]}",
        f"last look  {report.looks[-1]}",
    ]
    for name, what in CHECKED.items():
        broken = [line for line in report.breaches if line.startswith(name)]
        lines.append(f"{name} {'BROKEN' if broken else 'held  '} {what}")
        lines += [f"     {line}" for line in broken]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--hours", type=float, help="instead of minutes")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED", "random") == "random":
        os.environ["PYTHONHASHSEED"] = str(args.seed)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.soak", *sys.argv[1:]])
    seconds = 3600 * args.hours if args.hours else 60 * args.minutes
    begun = time.monotonic()
    plan = Plan(seconds=seconds, seed=args.seed, members=args.members)
    report = soak(plan, lambda line: print(line, file=sys.stderr, flush=True))
    print(told(report, time.monotonic() - begun))
    raise SystemExit(1 if report.breaches else 0)


if __name__ == "__main__":
    main()
