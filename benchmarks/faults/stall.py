"""R22: a member that reads nothing, and one behind 64 kbit/s, while all is sent to them, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from benchmarks.bed import Bed, open_bed
from benchmarks.faults.plan import Plan
from benchmarks.figures import LARGE, probe
from benchmarks.paths.flow import percentile, pings
from benchmarks.paths.verdict import Check
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS
from benchmarks.usage import resident_mib
from vswitch.lab import PathSpec, WireSpec
from vswitch.switch.egress import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES

__all__ = ["KINDS", "measure"]

KINDS = ("stopped", "64 kbit/s")
KEPT, PING_MORE = 0.95, 1.1  # of the goodput; p99 of pings, times what it is with the same load
PING_FREE = 3.0  # ms: two runs of the same differ by that on a busy machine
MEMORY = 16.0  # MiB that the switch may grow: a window, a queue, and Python's allocator
BROADCAST = "10.64.255.255"
SIZE = 500  # bytes of what is sprayed
SLOW = PathSpec(rate=64e3, queue=8000, delay=0.02)


def measure(kind: str, plan: Plan) -> tuple[dict[str, Any], list[Check]]:
    """The same load twice, in one bed: C well, then C not."""
    fast = PathSpec(delay=0.02)
    with open_bed(UNDERLAYS["nic"], {"c": WireSpec(forward=fast, back=fast)}) as bed:
        PEERS["vswitch"].start(bed)
        member = bed.lan.join("c")
        (port,) = bed.lan.wait_connected("c")
        bed.wait_up()
        there = str(port["address"]).partition("/")[0]
        well = _look(bed, there, plan)
        memory = resident_mib(bed.pids["s"])
        if kind == "stopped":
            os.kill(member.process.pid, signal.SIGSTOP)
        else:
            bed.wire("c").change(forward=SLOW, back=SLOW)
        badly = _look(bed, there, plan)
        grown = resident_mib(bed.pids["s"]) - memory
        port = bed.lan.port("c") or {}
        if kind == "stopped":
            os.kill(member.process.pid, signal.SIGCONT)
    found = {"well": well, "badly": badly, "grown_mib": grown, "port": port.get("drops")}
    limit = max(PING_MORE * well["p99"], well["p99"] + PING_FREE)
    return found, [
        Check("goodput kept", badly["mbit"] / max(well["mbit"], 1e-9), low=KEPT),
        Check("p99 of the others' pings, ms", badly["p99"], high=limit),
        Check("pings lost", badly["lost"], high=0),
        Check("queued frames", badly["queued_frames"], high=MAX_QUEUED_FRAMES),
        Check("queued bytes", badly["queued_bytes"], high=MAX_QUEUED_BYTES),
        Check("switch grew, MiB", grown, high=MEMORY),
    ]


def _look(bed: Bed, there: str, plan: Plan) -> dict[str, float]:
    """Pings and goodput from A to B while A's host sprays C and everybody."""
    spans = plan.pings * 0.05 + plan.seconds + 4
    sources = [
        bed.a.popen(
            [
                *(sys.executable, "-m", "benchmarks.faults.sources", "spray", target, "9"),
                *(str(SIZE), str(plan.spray), str(spans)),
            ],
            stdout=subprocess.DEVNULL,
        )
        for target in (there, BROADCAST)
    ]
    time.sleep(1)
    trips = pings(bed.a, bed.b_address, plan.pings, 0.05)
    goodput = probe(bed, LARGE, plan.mbit * 1e6 / 8 / LARGE, plan.seconds)
    port = bed.lan.port("c") or {}
    for each in sources:
        each.wait(spans + 30)
    return {
        "mbit": goodput.received * LARGE * 8 / 1e6,
        "p50": percentile(trips.times, 50),
        "p99": percentile(trips.times, 99),
        "lost": trips.lost,
        "queued_frames": port.get("queued_frames", 0),
        "queued_bytes": port.get("queued_bytes", 0),
    }
