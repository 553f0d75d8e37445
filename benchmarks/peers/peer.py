"""What the comparison knows of a peer."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

import attrs

from benchmarks.bed import Bed

__all__ = ["Peer", "find", "version_of"]


@attrs.frozen
class Peer:
    """One program, or one way to run it.

    `start` starts it in a bed, so that A reaches B at the bed's addresses soon; it may return
    before that is so.
    """

    name: str
    about: str  # what it does, in the words of the table's legend
    programs: tuple[str, ...]  # that must be installed
    package: str  # that has them in Debian; empty if it has none
    version: Callable[[], str]
    start: Callable[[Bed], None]
    encrypted: bool = True
    relayed: bool = True  # False: A and B reach each other without S
    source: str = ""  # whose programs to build and put on PATH, where Debian has none

    def missing(self) -> list[str]:
        """Programs that are not installed."""
        return [name for name in self.programs if find(name) is None]

    def remedy(self) -> str:
        """What is missing and how to get it; empty if nothing is."""
        if not self.missing():
            return ""
        if self.package:
            how = f"apt-get install {self.package}"
        else:
            how = f"not in Debian: build {self.source}, put its programs on PATH"
        return f"no {', '.join(self.missing())} ({how})"


def find(program: str) -> str | None:
    """Where a program is; also where only root's PATH has it."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def version_of(*argv: str) -> str:
    """The first number in what a program says of itself, such as 2.6.14."""
    found = re.search(r"\bv?\.?([0-9]+(?:\.[0-9]+)*)\b", said(*argv))
    return found.group(1) if found else "unknown"


def said(*argv: str) -> str:
    """What a program says on both outputs; empty if it is not installed."""
    path = find(argv[0])
    if path is None:
        return ""
    done = subprocess.run(
        [path, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=10,
        check=False,
    )
    return done.stdout
