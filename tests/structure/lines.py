"""Counts lines of code, without blanks, comments and docstrings, by room and package.

With `--against DIR` another checkout's stand beside them, and the exit code is 1 when this one has
more in total.
"""

import argparse
from collections import Counter
from pathlib import Path

from tests.structure.source import PACKAGES, code_lines, directory, module_name, room_of, sources


def count(root: Path) -> dict[str, Counter[str]]:
    """Lines of code for each package, by room."""
    counts: dict[str, Counter[str]] = {}
    for package in PACKAGES:
        counts[package] = Counter()
        for path in sources(root, package):
            number = len(code_lines(path.read_text(encoding="utf-8")))
            counts[package][room_of(module_name(path, root))] += number
    return counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=directory, metavar="DIR", help="another checkout")


def run(args: argparse.Namespace) -> int:
    ours = count(args.root)
    theirs = count(args.against) if args.against else None

    def show(name: str, here: int, there: int) -> None:
        beside = "" if theirs is None else f" {there:7} {here - there:+7}"
        print(f"{name:32} {here:7}{beside}")

    print(f"{'':32} {'lines':>7}" + ("" if theirs is None else f" {'against':>7} {'more':>7}"))
    for package, rooms in ours.items():
        others = theirs[package] if theirs else Counter[str]()
        for room in sorted(rooms.keys() | others.keys()):
            name = "its public face" if room == package else room.removeprefix(f"{package}.")
            show(f"  {name}", rooms[room], others[room])
        show(package, rooms.total(), others.total())
    total = sum(rooms.total() for rooms in ours.values())
    before = sum(rooms.total() for rooms in theirs.values()) if theirs else 0
    show("total", total, before)
    return int(theirs is not None and total > before)
