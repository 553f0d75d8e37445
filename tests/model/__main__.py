"""The command line: explores from each beginning and prints what was seen."""

import argparse
import sys
import time
from collections.abc import Sequence

import tests.model
from tests.model.explore import ROOTS, Trace, explore


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.model",
        description=tests.model.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--depth", type=int, default=2, help="actions from each beginning (2)")
    parser.add_argument("--states", type=int, default=20_000, help="at most, of each (20000)")
    parser.add_argument("--root", nargs="+", choices=ROOTS, help="only from these beginnings")
    args = parser.parse_args(argv)
    states = steps = failed = 0
    for root in args.root or ROOTS:
        began = time.monotonic()
        try:
            found = explore(root, args.depth, args.states)
        except Trace as trace:
            failed += 1
            print(f"{root:18} VIOLATED: {trace}", flush=True)
            continue
        states, steps = states + found.states, steps + found.steps
        depths = " ".join(f"{found.by_depth[each]}" for each in sorted(found.by_depth))
        end = "all" if found.complete else f"cut off at {args.states} states"
        seconds = time.monotonic() - began
        print(
            f"{root:18} {found.states:6} states ({depths}), {found.steps:7} steps,"
            f" {seconds:5.1f} s, {end}",
            flush=True,
        )
    print(f"{states} states, {steps} steps, {failed} violations")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
