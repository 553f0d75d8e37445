"""See `tests/traces/__init__.py`."""

import argparse
import sys

from tests.traces.record import SCENARIOS, record, recorded, result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.traces")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="compare with the record")
    what.add_argument("--record", action="store_true", help="write the record anew")
    what.add_argument("--dump", metavar="NAME", choices=SCENARIOS, help="the trace of one scenario")
    chosen = parser.parse_args()
    if chosen.dump:
        sys.stdout.write(run(chosen.dump).text)
        return 0
    known = recorded() if chosen.check else {}
    if chosen.check and list(known) != list(SCENARIOS):
        print("the record is of other scenarios", file=sys.stderr)
        return 1
    results = {}
    for name in SCENARIOS:
        results[name] = sha256, lines = result(name)
        print(name, sha256, lines, flush=True)
        if chosen.check and known[name] != [sha256, lines]:
            print(f"{name} differs from the record: {known[name]}", file=sys.stderr)
            return 1
    if chosen.record:
        record(results)
    return 0


sys.exit(main())
