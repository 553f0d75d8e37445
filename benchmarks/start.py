"""What starting a command costs: `python -m benchmarks.start --against DIR`.

Starts `vswitch --help`, `status` and `members` of this checkout and of another, each in a fresh
process with its own `.venv/bin/vswitch`, in turn, and prints the median of the CPU time, user and
system, and the ratio of the two. Then it names which of the heavy libraries each start loads. The
state directory is empty, so `status` and `members` say that nothing is there: what counts is the
start. Any other exit code ends the benchmark. Prints JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from vswitch.errors import ExitCode

CHECKOUT = Path(__file__).resolve().parents[1]
STARTS = {  # arguments, and the exit code where nothing runs
    "--help": ExitCode.OK,
    "status": ExitCode.NOT_REACHABLE,
    "members": ExitCode.NOT_FOUND,
}
HEAVY = ("trio", "pyroute2", "cryptography")


def arguments(command: str, state: str) -> list[str]:
    return [command] if command.startswith("--") else [command, "--state", state]


def check(checkout: Path, command: str, code: int) -> None:
    if code != STARTS[command]:
        raise SystemExit(f"start.py: vswitch {command} of {checkout} ended with {code}")


def cpu_seconds(checkout: Path, command: str, state: str) -> float:
    """User and system time of one start, from the kernel's account of the ended process."""
    process = subprocess.Popen(
        [checkout / ".venv/bin/vswitch", *arguments(command, state)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=state,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    check(checkout, command, process.returncode)
    return usage.ru_utime + usage.ru_stime


def imported(report: str) -> set[str]:
    """The top-level packages in what `-X importtime` wrote."""
    names = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+([\w.]+)$", report, re.MULTILINE)
    return {name.split(".")[0] for name in names}


def loads(checkout: Path, command: str, state: str) -> list[str]:
    """Which heavy libraries a start loads."""
    vswitch = checkout / ".venv/bin"
    done = subprocess.run(
        [
            vswitch / "python",
            "-X",
            "importtime",
            vswitch / "vswitch",
            *arguments(command, state),
        ],
        capture_output=True,
        text=True,
        cwd=state,
    )
    check(checkout, command, done.returncode)
    names = imported(done.stderr)
    if "vswitch" not in names:
        raise SystemExit(f"start.py: {checkout} did not report its imports")
    return [name for name in HEAVY if name in names]


def measure(checkouts: list[Path], starts: int) -> dict[str, list[dict[str, object]]]:
    """For each command the figures of each checkout, which take turns."""
    result: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as state:
        for command in STARTS:
            loaded = [loads(checkout, command, state) for checkout in checkouts]  # and warms up
            spent: list[list[float]] = [[] for _ in checkouts]
            for _ in range(starts):
                for checkout, times in zip(checkouts, spent, strict=True):
                    times.append(cpu_seconds(checkout, command, state))
            result[command] = [
                {"cpu_seconds": round(statistics.median(times), 4), "loads": names}
                for times, names in zip(spent, loaded, strict=True)
            ]
    return result


def table(result: dict[str, list[dict[str, object]]]) -> str:
    """The figures as lines: this checkout, the other where there is one, this over the other."""
    lines = []
    for command, figures in result.items():
        times = [float(str(each["cpu_seconds"])) for each in figures]
        ratio = f"  ratio {times[0] / times[1]:.2f}" if len(times) > 1 else ""
        spent = "  ".join(f"{1000 * each:6.0f} ms" for each in times)
        names = "; ".join(" ".join(map(str, each["loads"])) or "none" for each in figures)  # type: ignore[call-overload]
        lines.append(f"  {command:8} {spent}{ratio}  loads {names}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    checkouts = [CHECKOUT, *([args.against.resolve()] if args.against else [])]
    result = measure(checkouts, args.starts)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    print(f"CPU time of a start, median of {args.starts}: {' and '.join(map(str, checkouts))}")
    print(table(result))


if __name__ == "__main__":
    main()
