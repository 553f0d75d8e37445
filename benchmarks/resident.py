"""What memory the switch keeps under full load: `python -m benchmarks.resident [--minutes 10]`.

The bed of the comparison, underlay nic. One TCP stream, four, and an overload of 64-byte datagrams
take turns, in both directions, for that long; after each turn the resident memory of the processes
is noted. Flat means: the largest in the last half is not above the largest in the first by more
than a tenth. The exit status is 1 where that, or `--most`, does not hold.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

from benchmarks import figures
from benchmarks.bed import open_bed
from benchmarks.figures import probe
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS

OVERLOAD = 160_000  # datagrams offered a second
TCP_SECONDS, UDP_SECONDS = 15, 5
FLAT = 1.1


def measure(minutes: float) -> list[dict[str, float]]:
    """Resident MiB of A's, S's and B's processes after each turn, and what it has carried."""
    rows: list[dict[str, float]] = []
    with open_bed(UNDERLAYS["nic"]) as bed:
        PEERS["vswitch"].start(bed)
        bed.wait_up()
        began = time.monotonic()
        while time.monotonic() - began < 60 * minutes:
            mbit = [
                figures.tcp(bed, streams, TCP_SECONDS, reverse=reverse)["mbit"]
                for streams in (1, 4)
                for reverse in (False, True)
            ]
            datagrams = probe(bed, 64, OVERLOAD, UDP_SECONDS).received
            row = {
                "minutes": round((time.monotonic() - began) / 60, 1),
                "tcp_mbit": round(sum(mbit) / len(mbit)),
                "udp_per_s": round(datagrams),
                **bed.resident(),
            }
            rows.append(row)
            print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    return rows


def verdict(rows: Sequence[dict[str, float]], most: float) -> list[str]:
    """What of the switch's memory is not as it should be."""
    sizes = [row["s"] for row in rows]
    half = len(sizes) // 2
    problems = []
    if max(sizes) > most:
        problems.append(f"{max(sizes):g} MiB, asked ≤ {most:g}")
    if half and max(sizes[half:]) > FLAT * max(sizes[:half]):
        problems.append(f"it grows: {max(sizes[:half]):g} MiB, then {max(sizes[half:]):g}")
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--most", type=float, default=80.0, help="MiB that the switch may have")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    rows = measure(args.minutes)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=2)
    problems = verdict(rows, args.most)
    print("; ".join(problems) or "flat, and within the limit")
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
