"""A port that invents addresses: `python -m benchmarks.macflood`.

Frames of a million sources from one port, in batches of 64, through `Switch.ingress`: once with
the limit of a port, once without it, so that the table itself has to keep the peace. Prints what a
frame costs, by how much memory grew, how many of the victims' entries are still there, and how
many events were kept.
"""

from __future__ import annotations

import argparse
import resource
import time

import trio

from benchmarks.forwarding import BATCH, Sink
from vswitch import open_switch
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.records import frame_record

VICTIMS = 100


def _frame(number: int) -> bytes:
    source = b"\x02" + number.to_bytes(5, "big")
    return frame_record(BROADCAST + source + b"\x08\x00" + bytes(46))


async def flood(sources: int, limit: int) -> None:
    """One attacker, one victim."""
    async with open_switch() as switch:
        FeatureManager(
            switch, Settings(ports={"attacker": {"mac_limit": limit}, "victim": {"mac_limit": 256}})
        )
        victim = switch.attach(Sink("victim"), name="victim")
        attacker = switch.attach(Sink("attacker"), name="attacker")
        switch.ingress(victim, [_frame(1 << 32 | number) for number in range(VICTIMS)])
        switch.ingress(attacker, [_frame(number) for number in range(20_000)])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, spent = 0, 0.0
        while start < sources:
            batch = [_frame(number) for number in range(start, min(start + BATCH, sources))]
            began = time.perf_counter()
            switch.ingress(attacker, batch)
            spent += time.perf_counter() - began
            start += BATCH
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        kept = sum(entry.port == victim.number for entry in switch.fdb_entries())
        drops = attacker.counters.snapshot().drops.get("mac_limit", 0)
        print(
            f"limit {limit:4}: {spent / sources * 1e6:.1f} µs a frame, memory +{grown} KiB, "
            f"{kept} of {VICTIMS} entries of the victim kept, {switch.fdb.statistics().entries} "
            f"in the table, {drops} frames dropped, {len(switch.events.since())} events"
        )


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=1_000_000)
    sources = parser.parse_args().sources
    for limit in (32, 8192):
        trio.run(flood, sources, limit)


if __name__ == "__main__":
    main()
