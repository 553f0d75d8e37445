"""One start of all variants: a bed for each, all up at once, measured in turn.

What is measured goes round the variants before the next thing is, so that those that are set
against each other ran within seconds of each other. A variant whose processes did not come up,
whose measurement failed or whose proofs do not hold is out of this start, with a `problem`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs

from benchmarks import figures
from benchmarks.bed import Bed, open_bed
from benchmarks.cell import proof
from benchmarks.figures import Plan
from benchmarks.paths import cells as path_cells
from benchmarks.paths import lanes
from benchmarks.paths.matrix import forget_paths, trouble
from benchmarks.peers import ours
from benchmarks.report import merged
from benchmarks.underlays import UNDERLAYS, Underlay
from vswitch.errors import VswitchError
from vswitch.lab import WireSpec
from vswitch.lab.lan import Code

__all__ = ["LOSSY", "LOSSY_CELLS", "lossy", "turned", "underlay"]

Figures = dict[str, Any]
LOSSY = "lossy"
LOSSY_CELLS = [lanes.LaneCell("kcp", rtt, loss) for rtt in (50, 200) for loss in (1.0, 5.0)]


def turned(names: Iterable[str], number: int) -> list[str]:
    """Each start begins with another, so that none always comes first."""
    order = list(names)
    turn = (number - 1) % len(order)
    return order[turn:] + order[:turn]


def underlay(
    on: Underlay, codes: Mapping[str, Code], plan: Plan, number: int, looks: int
) -> list[dict[str, Any]]:
    """Pings, TCP and UDP on one of the three underlays: a row for each variant.

    Pings and TCP go round as often as `looks` says, and count with their median: what else the
    machine does comes in bursts that are longer than one of them.
    """

    def pings(bed: Bed, found: Figures) -> None:
        found.setdefault("ping", []).append(figures.pings(bed, plan))

    def tcp(bed: Bed, found: Figures) -> None:
        ways = (("1_up", False), ("1_down", True))
        flows = {name: figures.tcp(bed, 1, plan.tcp, reverse=back) for name, back in ways}
        found.setdefault("tcp", []).append(flows)

    def middle(bed: Bed, found: Figures) -> None:
        found.update({name: merged(found[name]) for name in ("ping", "tcp")})

    def large(bed: Bed, found: Figures) -> None:
        found["udp_1400"] = figures.udp_large(bed, plan, found["tcp"]["1_up"]["mbit"])

    def small(bed: Bed, found: Figures) -> None:
        found["udp_64"] = figures.udp_small(bed, plan)
        found["resident_mib"] = bed.resident()

    steps = [*(pings, tcp) * looks, middle, large, small]
    with _beds(on.name, on, None, codes, number) as (beds, rows):
        for bed in beds.values():
            bed.begin_capture()
        for step in steps:
            for name, bed in beds.items():
                if rows[name]["problem"] is None:
                    with _counted(rows[name]):
                        step(bed, rows[name]["figures"])
        for name, bed in beds.items():
            wire, row = bed.end_capture(), rows[name]
            row |= {"oversize_frames": wire.oversize, "longest_frame": wire.longest}
            row["problem"] = row["problem"] or proof(row, on)
    return list(rows.values())


def lossy(codes: Mapping[str, Code], plan: path_cells.Plan, number: int) -> list[dict[str, Any]]:
    """A stream and pings over each lossy path, A's `join` new on each: a row for each variant.

    A path on which the emulated wire did not keep up has no figures, and says why in `void`.
    """
    wire = attrs.evolve(lanes.clean_wire(), seed=number)  # other packets are lost in each start
    with _beds(LOSSY, UNDERLAYS["nic"], {"a": wire}, codes, number) as (beds, rows):
        for bed in beds.values():
            forget_paths(bed)
        for cell in LOSSY_CELLS:
            for name, bed in beds.items():
                found = lanes.measure(bed, cell, plan)
                if found["problem"]:
                    rows[name].setdefault("void", {})[cell.name] = found["problem"]
                else:
                    rows[name]["figures"][cell.name] = found["figures"]
    return list(rows.values())


@contextmanager
def _beds(
    part: str,
    on: Underlay,
    paths: Mapping[str, WireSpec] | None,
    codes: Mapping[str, Code],
    number: int,
) -> Iterator[tuple[dict[str, Bed], dict[str, dict[str, Any]]]]:
    """The beds of those that came up, and a row for each variant."""
    rows: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        beds: dict[str, Bed] = {}
        for name in turned(codes, number):
            load = os.getloadavg()[0]
            rows[name] = row = {"part": part, "start": number, "variant": name, "problem": None}
            row |= {"load_before": load, "figures": {}}
            with _counted(row):
                bed = stack.enter_context(open_bed(on, paths))
                bed.lan.code = dict.fromkeys(("a", "b", "switch"), codes[name])
                ours.start(bed)
                bed.wait_up()
                beds[name] = bed
        yield beds, rows


@contextmanager
def _counted(row: dict[str, Any]) -> Iterator[None]:
    """What fails in here takes the variant out of this start; what it says first is kept."""
    try:
        yield
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        row["problem"] = row["problem"] or trouble(error)
