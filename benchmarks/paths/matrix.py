"""One cell of the matrix: a stream from A to B through S, where A's wire is the bottleneck.

One bed serves many cells. For each, A's wire becomes the cell's path, still without loss, and A's
`join` is started anew: a session that knew another path would first have to forget its round
trip, which is another experiment (roaming). S and B, whose own path never changes, go on. Then
loss begins, pings have the path to themselves, and the stream starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

from benchmarks.bed import Bed
from benchmarks.paths import verdict
from benchmarks.paths.cells import PathCell, Plan
from benchmarks.paths.flow import Health, Stream, pings
from vswitch.errors import VswitchError

__all__ = ["forget_paths", "measure", "observe", "trouble"]

SETTLE = 0.5  # s after a member came up, and after the path changed: neighbours know each other


def measure(bed: Bed, cell: PathCell, plan: Plan) -> dict[str, Any]:
    """Put the bed's wire into that state, and measure. `problem` says why it does not count."""
    result: dict[str, Any] = {
        "name": cell.name,
        "rate": cell.rate,
        "rtt": cell.rtt,
        "queue": cell.queue,
        "loss": cell.loss,
        "burst": cell.burst,
        "problem": None,
        "load_before": os.getloadavg()[0],
        "checks": [],
    }
    began = time.monotonic()
    try:
        _rejoin(bed, cell)
        found = observe(bed, plan, looks=True)
        found["goodput_percent"] = 100 * found["mbit"] / cell.rate
        result["figures"] = found
        result["problem"] = found.pop("problem")
        if not result["problem"]:
            result["checks"] = [check.row() for check in verdict.of_matrix(cell, found)]
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        result["problem"] = trouble(error)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def observe(bed: Bed, plan: Plan, *, looks: bool) -> dict[str, Any]:
    """Pings alone, then a stream with pings beside its last two thirds, across A's wire.

    With `looks`, `vswitch status` of A and S as the stream ends is part of it.
    """
    time.sleep(SETTLE)
    health = Health.of(bed, "a")
    alone = pings(bed.a, bed.b_address, plan.pings, plan.every)
    with Stream(bed.a, bed.b, bed.b_address, plan.congestion) as stream:
        time.sleep(plan.warm_up)
        first, lost = stream.sample(), bed.wire("a").statistics().forward
        number = int((plan.seconds - plan.warm_up) / plan.every)
        beside = pings(bed.a, bed.b_address, number, plan.every)
        last, now = stream.sample(), bed.wire("a").statistics().forward
        inner, status = stream.inner(), _status(bed) if looks else None
    health = Health.of(bed, "a") - health
    payload = last.payload - first.payload
    return {
        "mbit": payload * 8 / (last.at - first.at) / 1e6,
        "wire_per_payload": (last.wire - first.wire) / max(payload, 1),
        "dropped_by_queue": now.queue_full - lost.queue_full,
        "lost_by_chance": now.lost - lost.lost,
        "ping_alone": alone.figures(),
        "ping_beside": beside.figures(),
        "inner_tcp": inner,
        "status": status,
        "wire": {"frames": health.frames, "late": health.late, "missed": health.missed},
        "problem": health.problem,
    }


def forget_paths(bed: Bed) -> None:
    """Have the kernels of A and B remember no round trips between two connections."""
    for host in (bed.a, bed.b):
        host.run(["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"])


def trouble(error: Exception) -> str:
    """What went wrong, with what the hosts said about it."""
    return "; ".join([str(error), *getattr(error, "__notes__", [])])[:2000]


def _status(bed: Bed) -> dict[str, Any]:
    """What the member and the switch say of themselves."""
    said = bed.lan.command(bed.a, "status", "--json", check=False).stdout
    joins = json.loads(said)["joins"] if said else []
    ports = (bed.lan.status() or {}).get("ports", [])
    keys = ("name", "rtt_ms", "drops", "transport_drops")
    return {
        name: [{key: each[key] for key in keys if key in each} for each in entries]
        for name, entries in (("join", joins), ("ports", ports))
    }


def _rejoin(bed: Bed, cell: PathCell) -> None:
    clean, real = cell.spec(lossless=True), cell.spec()
    bed.wire("a").change(forward=clean, back=clean)
    lan = bed.lan
    if lan.programs["a"].running:
        lan.programs["a"].stop()
    bed.pids["a"] = [lan.join("a").process.pid]
    lan.wait_connected("a")
    bed.wait_up()
    bed.wire("a").change(forward=real, back=real)
