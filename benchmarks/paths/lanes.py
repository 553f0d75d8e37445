"""KCP beside datagrams: what `join --lane` is worth, on open paths that lose and are long.

A bed serves all cells of one lane. As in `matrix.py` A's `join` is started anew for each, and loss
begins when A reaches B. B, on a clean wire of its own, has joined with the same lane.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from typing import Any

import attrs

from benchmarks.bed import Bed
from benchmarks.paths.cells import PathCell, Plan, open_path
from benchmarks.paths.matrix import SETTLE, observe, trouble
from vswitch.errors import VswitchError
from vswitch.lab import PathSpec, WireSpec

__all__ = ["LANES", "LaneCell", "clean_wire", "lane_cells", "lanes_line", "lanes_table", "measure"]

LANES = ("kcp", "datagram")
LOSSES, RTTS = (0.0, 0.1, 1.0, 5.0), (10, 50, 200)  # per cent each way, ms
NARROW = PathCell(20, 50)  # a bottleneck that loses nothing by itself, with a queue of 1 BDP


@attrs.frozen
class LaneCell:
    """One lane on one path."""

    lane: str
    rtt: float  # ms
    loss: float = 0.0  # per cent, each way
    rate: float | None = None  # Mbit/s; None: no bottleneck

    @property
    def name(self) -> str:
        """What `--only` looks for."""
        rate = "open" if self.rate is None else f"{self.rate:g}"
        return f"{rate}x{self.rtt:g}-l{self.loss:g}"

    def spec(self, *, lossless: bool = False) -> PathSpec:
        """One direction of it."""
        if self.rate is not None:
            return attrs.evolve(NARROW, rate=self.rate, rtt=self.rtt).spec()
        return open_path(self.rtt, 0.0 if lossless else self.loss)


def lane_cells(lanes: Iterable[str] = LANES) -> list[LaneCell]:
    """All paths, lane by lane."""
    return [
        cell
        for lane in lanes
        for cell in (
            *(LaneCell(lane, rtt, loss) for rtt in RTTS for loss in LOSSES),
            LaneCell(lane, NARROW.rtt, rate=NARROW.rate),
        )
    ]


def clean_wire() -> WireSpec:
    """What a bed is opened with."""
    return WireSpec(forward=open_path(RTTS[0]), back=open_path(RTTS[0]), seed=1)


def measure(bed: Bed, cell: LaneCell, plan: Plan) -> dict[str, Any]:
    """Put the bed's wire into that state, join with that lane, and measure."""
    result: dict[str, Any] = {
        **attrs.asdict(cell),
        "problem": None,
        "load_before": os.getloadavg()[0],
    }
    began = time.monotonic()
    try:
        _rejoin(bed, cell)
        found = observe(bed, plan, looks=True)
        result["figures"] = found
        result["problem"] = found.pop("problem")
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        result["problem"] = trouble(error)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _rejoin(bed: Bed, cell: LaneCell) -> None:
    clean, real, lan = cell.spec(lossless=True), cell.spec(), bed.lan
    bed.wire("a").change(forward=clean, back=clean)
    if lan.programs["a"].running:
        lan.programs["a"].stop()
    bed.pids["a"] = [lan.join("a", "--lane", cell.lane).process.pid]
    lan.wait_connected("a")
    bed.wait_up()
    time.sleep(SETTLE)
    bed.wire("a").change(forward=real, back=real)


def lanes_line(cell: dict[str, Any]) -> str:
    """One lane on one path."""
    path = "open" if cell["rate"] is None else f"{cell['rate']:g}"
    head = f"{path:>6}{cell['rtt']:>7g}{cell['loss']:>7g}  {cell['lane']:9}"
    if cell["problem"]:
        return f"{head}{cell['problem'].splitlines()[0]}"
    found = cell["figures"]
    trips = [_trips(found[key]) for key in ("ping_alone", "ping_beside")]
    return f"{head}{found['mbit']:7.1f}  {trips[0]:20}{trips[1]}".rstrip()


def _trips(trips: dict[str, float]) -> str:
    if "p50" not in trips:
        return "none answered"
    lost = f" ({trips['lost']:g} lost)" if trips["lost"] else ""
    return f"{trips['p50']:.0f} / {trips['p99']:.0f}{lost}"


def lanes_table(cells: Iterable[dict[str, Any]]) -> str:
    """All of them, the lanes of a path side by side."""
    ordered = sorted(cells, key=lambda c: (c["rate"] or 0, c["rtt"], c["loss"], c["lane"] != "kcp"))
    head = (
        f"{'Mbit/s':>6}{'RTT ms':>7}{'loss %':>7}  {'lane':9}{'TCP':>7}  {'ping alone':20}beside it"
    )
    return "\n".join(
        [
            head,
            *map(lanes_line, ordered),
            "",
            "Mbit/s: of the path. TCP: Mbit/s of payload in one stream. ping: p50 / p99 in ms,",
            "and how many were lost. loss: each way.",
        ]
    )
