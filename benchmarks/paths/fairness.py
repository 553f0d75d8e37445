"""Streams that share one bottleneck: S's own wire, and S runs a member too, which they go to.

`two of ours`: A to S through the switch, B to S a third of the time later. `against CUBIC`: A to
S through the switch, and a plain TCP stream from B to S beside it, on the underlay; either is
first. Shares are of the time in which both run, its first third left out.
"""

from __future__ import annotations

import os
import subprocess
import time
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

KINDS = ("two of ours", "CUBIC late", "CUBIC first")
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
            health = Health.of(bed, "s")
            found = {"kind": kind, **_shares(bed, kind, hub, plan, path)}
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


def _shares(bed: Bed, kind: str, hub: str, plan: Plan, path: PathCell) -> dict[str, Any]:
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
            before = ours.sample(), other.sample()
            time.sleep(plan.seconds - plan.warm_up)
            after = ours.sample(), other.sample()
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
