"""CPU time and memory: of the whole machine, and of processes with all their descendants.

The machine's is read from /proc in steps of a tick, 10 ms; that of a process from its own clock, to
the nanosecond: what a hundred pings cost is less than a tick each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

__all__ = ["Usage", "resident_mib", "usage"]

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
IDLE = (3, 4, 7)  # columns of the cpu line (proc(5)): idle, iowait, steal
CPUCLOCK_SCHED = 2  # linux/posix-timers.h: the clock of all that a process has run
COLUMNS = 8  # guest time, which follows, is in user time already


@attrs.frozen
class Usage:
    """Seconds of CPU so far."""

    machine: float  # everything that was not idle, kernel and interrupts included
    processes: float

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.machine - other.machine, self.processes - other.processes)


def usage(pids: Iterable[int]) -> Usage:
    """What the machine and these processes have used."""
    with open("/proc/stat") as file:
        columns = [int(field) for field in file.readline().split()[1 : 1 + COLUMNS]]
    busy = sum(ticks for number, ticks in enumerate(columns) if number not in IDLE)
    return Usage(busy / TICKS, sum(_seconds(pid) for pid in _with_descendants(pids)))


def resident_mib(pids: Iterable[int]) -> float:
    """Resident memory; pages that processes share count once for each."""
    pages = 0
    for pid in _with_descendants(pids):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * PAGE / 2**20


def _with_descendants(pids: Iterable[int]) -> set[int]:
    found: set[int] = set()
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid in found:
            continue
        found.add(pid)
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        waiting += [int(child) for child in children.split()]
    return found


def _seconds(pid: int) -> float:
    """User and system time of a process, threads that have ended included; 0 if it is gone."""
    try:
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return 0.0
