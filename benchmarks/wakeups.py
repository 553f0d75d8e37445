"""How often sparse traffic wakes the processes: `python -m benchmarks.wakeups [--against DIR]`.

Member, switch and member, three real processes between TAPs in network namespaces; pings go from
one member to the other, so far apart that each finds all three asleep. strace counts the calls of
epoll_wait in each process meanwhile: each is a turn of Trio's loop, and a ping needs five of them.
What is more are timers and lone acknowledgements. With another checkout the two take turns, each
with the interpreter of its own `.venv`, and the median of the rounds counts. strace slows what it
watches, so nothing here is a time. Prints JSON with --json. Needs root, and strace.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bed import Bed, open_bed
from benchmarks.peers import ours
from benchmarks.underlays import UNDERLAYS

CHECKOUT = Path(__file__).resolve().parents[1]
ROLES = {"a": "member A", "s": "switch", "b": "member B"}
INTERVAL = 0.05  # seconds between pings
SETTLE = 20  # pings that nobody counts: the path's size is found, addresses are resolved
LONGEST = 120  # seconds that one command may take

Counts = dict[str, float]  # by role, a ping


def counted(summary: str) -> int:
    """Calls of epoll_wait in a summary of `strace -c`."""
    found = re.findall(
        r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?epoll_p?wait2?$", summary, re.M
    )
    if not found:
        raise SystemExit(f"wakeups.py: strace has counted nothing:\n{summary}")
    return sum(map(int, found))


def measure(pings: int) -> Counts:
    """Wake-ups a ping, of one set of processes."""
    with open_bed(UNDERLAYS["veth"]) as bed, tempfile.TemporaryDirectory() as directory:
        ours.start(bed)
        bed.wait_up()
        _ping(bed, SETTLE)
        files = {role: Path(directory) / role for role in ROLES}
        watchers = [_watch(bed.pids[role][0], file) for role, file in files.items()]
        try:
            _ping(bed, pings)
        finally:
            for watcher in watchers:
                watcher.send_signal(signal.SIGINT)
                watcher.communicate(timeout=LONGEST)
        return {role: counted(file.read_text()) / pings for role, file in files.items()}


def _ping(bed: Bed, count: int) -> None:
    argv = ["ping", "-n", "-q", "-i", str(INTERVAL), "-c", str(count), bed.b_address]
    done = bed.a.run(argv, check=False)
    if done.returncode != 0:
        raise SystemExit(f"wakeups.py: pings were lost\n{bed.story()}")


def _watch(pid: int, file: Path) -> subprocess.Popen[str]:
    """Count from now on."""
    argv = ["strace", "-f", "-c", "-e", "trace=epoll_wait,epoll_pwait", "-o", str(file)]
    watcher = subprocess.Popen([*argv, "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    assert watcher.stderr is not None
    said = watcher.stderr.readline()
    if "attached" not in said:
        watcher.kill()
        raise SystemExit(f"wakeups.py: {said.strip() or 'strace has ended'}")
    return watcher


def measure_in(checkout: Path, pings: int) -> Counts:
    """The same, of the code in a checkout: with this file, as another may not have it."""
    done = subprocess.run(
        [checkout / ".venv/bin/python", "-P", __file__, "--once", "--pings", str(pings)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        timeout=2 * LONGEST,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"wakeups.py: {checkout} could not be measured")
    counts: Counts = json.loads(done.stdout.splitlines()[-1])
    return counts


def medians(rounds: list[Counts]) -> Counts:
    """Of the rounds, for each process and for their sum."""
    sums = [{**each, "sum": sum(each.values())} for each in rounds]
    return {name: round(statistics.median(each[name] for each in sums), 2) for name in sums[0]}


def table(result: list[Counts]) -> str:
    """This checkout, the other where there is one, this over the other."""
    lines = []
    for name, title in {**ROLES, "sum": "all three"}.items():
        figures = [each[name] for each in result]
        ratio = f"  ratio {figures[0] / figures[1]:.2f}" if len(figures) > 1 else ""
        lines.append(f"  {title:9}" + "".join(f"  {each:5.2f}" for each in figures) + ratio)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pings", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(measure(args.pings)))
        return
    if shutil.which("strace") is None:
        sys.exit("wakeups.py: strace is not installed")
    checkouts = [CHECKOUT, *([args.against.resolve()] if args.against else [])]
    rounds: list[list[Counts]] = [[] for _ in checkouts]
    for _ in range(args.rounds):
        for checkout, counts in zip(checkouts, rounds, strict=True):
            counts.append(measure_in(checkout, args.pings))
    result = [medians(each) for each in rounds]
    if args.json:
        print(json.dumps(dict(zip(map(str, checkouts), result, strict=True)), indent=2))
        return
    print(f"epoll_wait a ping, pings {1000 * INTERVAL:g} ms apart, median of {args.rounds} rounds")
    print(table(result))


if __name__ == "__main__":
    main()
