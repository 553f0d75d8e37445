"""R20: a flood of handshakes beside goodput that was there, and a member who comes meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from benchmarks.bed import Bed, open_bed
from benchmarks.faults.plan import Plan
from benchmarks.figures import LARGE, probe
from benchmarks.paths.verdict import Check
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS
from benchmarks.usage import resident_mib, usage
from transport import load_key_file
from vswitch.lab.lan import PORT, SWITCH_ADDRESS
from vswitch.state import StateDir

__all__ = ["measure"]

KEPT, NEWCOMER, SHARE = 0.9, 3.0, 40.0  # of the goodput; s; per cent of a core for the flood
SOURCES = "10.0.0.0/8"  # where the flood seems to come from


def measure(plan: Plan) -> tuple[dict[str, Any], list[Check]]:
    """Goodput and CPU time alone, then beside the flood, in one bed."""
    with open_bed(UNDERLAYS["nic"]) as bed:
        PEERS["vswitch"].start(bed)
        bed.wait_up()
        stranger = bed.lan.host("stranger")
        # What the switch answers leaves it, as it does where there is an Internet.
        bed.lan.host("newcomer")
        bed.s.run(["ip", "route", "add", SOURCES, "via", "192.0.2.13"])
        key = load_key_file(StateDir(bed.lan.state(bed.s)).server_key).public.raw.hex()
        invite = bed.lan.invite("newcomer")
        alone = _goodput(bed, plan)
        argv = [sys.executable, "-m", "benchmarks.faults.sources", "flood", SWITCH_ADDRESS]
        argv += [str(PORT), key, str(plan.flood), str(2 * plan.seconds + 10)]
        before = _seen(bed)
        flood = stranger.popen(argv, stdout=subprocess.PIPE)
        time.sleep(2)  # it has made its initiations
        beside = _goodput(bed, plan)
        began = time.monotonic()
        bed.lan.join("newcomer", invite=invite)
        bed.lan.wait_connected("newcomer")
        newcomer = time.monotonic() - began
        flood.wait(3 * plan.seconds + 60)
        assert flood.stdout is not None
        sent, seen = int(flood.stdout.read()), _seen(bed) - before
        resident = resident_mib(bed.pids["s"])
    found = {
        "offered_mbit": plan.mbit,
        "alone_mbit": alone[0],
        "beside_mbit": beside[0],
        "flood_per_s": sent / (2 * plan.seconds + 10),
        "switch_got": seen,
        "switch_core_percent_alone": alone[1],
        "switch_core_percent_beside": beside[1],
        "newcomer_s": newcomer,
        "switch_mib": resident,
    }
    return found, [
        Check("goodput kept", beside[0] / max(alone[0], 1e-9), low=KEPT),
        Check("newcomer s, with start of Python", newcomer, high=NEWCOMER),
        Check("CPU for the flood, % of a core", beside[1] - alone[1], high=SHARE),
    ]


def _goodput(bed: Bed, plan: Plan) -> tuple[float, float]:
    """Mbit/s that arrive of what is offered, and the switch's share of a core meanwhile."""
    before, began = usage(bed.pids["s"]), time.monotonic()
    found = probe(bed, LARGE, plan.mbit * 1e6 / 8 / LARGE, plan.seconds)
    used, spent = usage(bed.pids["s"]) - before, time.monotonic() - began
    return found.received * LARGE * 8 / 1e6, 100 * used.processes / spent


def _seen(bed: Bed) -> int:
    """Datagrams that the switch's socket has brought up, and refused as handshakes."""
    drops = (bed.lan.status() or {}).get("transport_drops", {})
    return sum(count for name, count in drops.items() if isinstance(count, int))
