"""Finds runs of six or more lines of code that stand in several places, the longest first.

Blank lines, comments, docstrings, imports and lines of mere punctuation are left out before lines
are compared, and whitespace is folded. A run is as long as all of its places agree, on both sides;
places of one run never overlap. Time grows with the code and with how much of it repeats.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.structure.source import PACKAGES, code_lines, sources

SHORTEST = 6
WITH_TESTS = ("tests", "benchmarks")


@dataclass(frozen=True)
class Place:
    file: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.file}:{self.first}-{self.last}"


@dataclass(frozen=True)
class Repeat:
    length: int  # lines of code; a place may span more lines of its file
    places: tuple[Place, ...]

    def __str__(self) -> str:
        return " = ".join(map(str, self.places))


def find(root: Path, packages: tuple[str, ...], shortest: int = SHORTEST) -> list[Repeat]:
    """All repeats in these folders."""
    text: list[str | int] = [0]  # all files end to end; numbers, each its own, keep them apart
    where: list[tuple[str, int]] = [("", 0)]
    for package in packages:
        for path in sources(root, package):
            name = path.relative_to(root).as_posix()
            for number, line in code_lines(path.read_text(encoding="utf-8"), imports=False):
                if any(character.isalnum() or character == "_" for character in line):
                    text.append(line)
                    where.append((name, number))
            text.append(len(text))
            where.append(("", 0))
    found = [
        Repeat(
            length,
            tuple(
                Place(where[start][0], where[start][1], where[start + length - 1][1])
                for start in starts
            ),
        )
        for starts, length in _runs(text, shortest)
    ]
    return sorted(found, key=lambda repeat: (-repeat.length, str(repeat)))


def _runs(text: list[str | int], shortest: int) -> Iterator[tuple[list[int], int]]:
    """Starts and length of each run that can grow neither way with all its places."""
    windows: defaultdict[tuple[str | int, ...], list[int]] = defaultdict(list)
    for start in range(len(text) - shortest + 1):
        windows[tuple(text[start : start + shortest])].append(start)
    growing = [(starts, shortest) for starts in windows.values() if len(starts) > 1]
    while growing:
        starts, length = growing.pop()
        if len({text[start - 1] for start in starts}) == 1:
            continue  # the window one line above finds it, and more
        by_next: defaultdict[str | int, list[int]] = defaultdict(list)
        for start in starts:
            by_next[text[start + length]].append(start)
        growing += [(group, length + 1) for group in by_next.values() if len(group) > 1]
        if len(by_next) > 1:
            apart: list[int] = []
            for start in starts:
                if not apart or start >= apart[-1] + length:
                    apart.append(start)
            if len(apart) > 1:
                yield apart, length


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tests", action="store_true", help="look in tests and benchmarks too")


def run(args: argparse.Namespace) -> int:
    found = find(args.root, PACKAGES + WITH_TESTS if args.tests else PACKAGES)
    for repeat in found:
        print(f"{repeat.length:4}  {repeat}")
    print(f"{len(found)} runs of {SHORTEST} lines or more stand in several places")
    return 0
