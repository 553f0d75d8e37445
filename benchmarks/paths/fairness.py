"""Streams that share one bottleneck: S's own wire, and S runs a member too, which they go to.

`two of ours`: A to S through the switch, B to S a third of the time later. `against CUBIC`: A to
S through the switch, and a plain TCP stream from B to S beside it, on the underlay; either is
first. Shares are of the time in which both run, its first third left out. `third of ours`: A to S
and B to S, and C to S when they have run for as long as a stream does; shares are of what follows
when the third has run two thirds of that, 30 s of 45.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.bed import Bed, open_bed
from benchmarks.paths import verdict
from benchmarks.paths.cells import PathCell, Plan
from benchmarks.paths.flow import FIRST_PORT, Health, Stream
from benchmarks.paths.matrix import SETTLE, forget_paths, trouble
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS
from vswitch.errors import VswitchError

__all__ = ["KINDS", "jain", "measure"]

KINDS = ("two of ours", "third of ours", "CUBIC late", "CUBIC first")
HOST = "hub"  # what the member on S's host is called
PATH = PathCell(20, 50)


def jain(shares: list[float]) -> float:
    """Jain's index: 1 if all are equal, 1/n if one has everything."""
    squares = sum(each * each for each in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def measure(kind: str, plan: Plan, path: PathCell = PATH) -> dict[str, Any]:
    """Build a bed, run both streams, take it down."""
    result: dict[str, Any] = {
        "kind": kind,
        "path": path.name,
        "problem": None,
        "load_before": os.getloadavg()[0],
        "checks": [],
    }
    try:
        with open_bed(UNDERLAYS["nic"], {"s": path.wire()}) as bed:
            PEERS["vswitch"].start(bed)
            hub = _join_at_switch(bed)
            forget_paths(bed)
            if kind == "third of ours":
                third = bed.lan.join("c").process.pid
                bed.pids["s"].append(third)
                bed.lan.wait_connected("c")
            health = Health.of(bed, "s")
            shares = _three if kind == "third of ours" else _two
            found = {"kind": kind, **shares(bed, kind, hub, plan, path)}
            result["figures"] = found
            result["problem"] = (Health.of(bed, "s") - health).problem
        if not result["problem"]:
            result["checks"] = [check.row() for check in verdict.of_fairness(found)]
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        result["problem"] = trouble(error)
    return result


def _join_at_switch(bed: Bed) -> str:
    """The address of a member on the host of the switch, whose path has no wire in it."""
    bed.pids["s"].append(bed.lan.join(HOST, host=bed.s).process.pid)
    (port,) = bed.lan.wait_connected(HOST)
    return str(port["address"]).partition("/")[0]


def _two(bed: Bed, kind: str, hub: str, plan: Plan, path: PathCell) -> dict[str, Any]:
    time.sleep(SETTLE)
    ours = Stream(bed.a, bed.s, hub, plan.congestion, FIRST_PORT)
    if kind == "two of ours":
        other = Stream(bed.b, bed.s, hub, plan.congestion, FIRST_PORT + 1)
    else:
        other = Stream(bed.b, bed.s, bed.s_underlay, "cubic", FIRST_PORT + 1)
    first, second = (other, ours) if kind == "CUBIC first" else (ours, other)
    with first:
        time.sleep(plan.warm_up)
        with second:
            time.sleep(plan.warm_up)
            return _figures((ours, other), plan.seconds - plan.warm_up, path)


def _three(bed: Bed, kind: str, hub: str, plan: Plan, path: PathCell) -> dict[str, Any]:
    """The first figure is of A, the last of who came late."""
    time.sleep(SETTLE)
    hosts = (bed.a, bed.b, bed.lan.members["c"])
    streams = [
        Stream(host, bed.s, hub, plan.congestion, FIRST_PORT + number)
        for number, host in enumerate(hosts)
    ]
    with streams[0], streams[1]:
        time.sleep(plan.seconds)
        with streams[2]:
            time.sleep(plan.seconds - plan.warm_up)
            return _figures(streams, plan.seconds - plan.warm_up, path)


def _figures(streams: Sequence[Stream], seconds: float, path: PathCell) -> dict[str, Any]:
    """Who gets what in the seconds to come."""
    before = [each.sample() for each in streams]
    time.sleep(seconds)
    after = [each.sample() for each in streams]
    rates = [
        (end.payload - start.payload) * 8 / (end.at - start.at) / 1e6
        for start, end in zip(before, after, strict=True)
    ]
    return {
        "mbit": rates,
        "jain": jain(rates),
        "share_percent": 100 * rates[0] / path.rate,
        "link_percent": 100 * sum(rates) / path.rate,
    }
