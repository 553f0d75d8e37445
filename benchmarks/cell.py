"""One cell of the comparison: one peer on one underlay, once. All figures, and the proofs.

A figure counts only if the proofs hold: S relayed what was moved (the counters of its port), and
on a real wire no frame was longer than the MTU allows (the capture). A cell that fails them, or
whose peer does not come up, carries a `problem` and no place in the medians.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from benchmarks import figures
from benchmarks.bed import Bed, open_bed
from benchmarks.figures import Plan
from benchmarks.peers import Peer
from benchmarks.underlays import WIRE_LIMIT, Underlay
from vswitch.errors import VswitchError

__all__ = ["measure", "proof"]

RELAYED = 0.9  # of the payload must be seen to go into and out of S; headers only add to it


def measure(peer: Peer, underlay: Underlay, plan: Plan, number: int) -> dict[str, Any]:
    """Build a bed, run the peer, measure, take it down."""
    cell: dict[str, Any] = {
        "peer": peer.name,
        "underlay": underlay.name,
        "round": number,
        "problem": None,
        "load_before": os.getloadavg()[0],
    }
    began = time.monotonic()
    try:
        with open_bed(underlay) as bed:
            peer.start(bed)
            bed.wait_up()
            bed.begin_capture()
            try:
                cell["figures"] = _figures(bed, plan)
            finally:
                wire = bed.end_capture()
                cell["oversize_frames"] = wire.oversize
                cell["longest_frame"] = wire.longest
            problem = proof(cell, underlay) if peer.relayed else None
            if problem:
                cell["problem"] = problem
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        cell["problem"] = "; ".join([str(error), *getattr(error, "__notes__", [])])[:2000]
    cell["seconds"] = round(time.monotonic() - began, 1)
    return cell


def _figures(bed: Bed, plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = {"ping": figures.pings(bed, plan)}
    found["tcp"] = {
        f"{streams}_{'down' if reverse else 'up'}": figures.tcp(
            bed, streams, plan.tcp, reverse=reverse
        )
        for streams in (1, 4)
        for reverse in (False, True)
    }
    found["udp_1400"] = figures.udp_large(bed, plan, found["tcp"]["1_up"]["mbit"])
    found["udp_64"] = figures.udp_small(bed, plan)
    found["resident_mib"] = bed.resident()
    return found


def proof(cell: dict[str, Any], underlay: Underlay) -> str | None:
    """Why the figures of a cell that S relays do not count, if so."""
    if underlay.real_wire and cell["oversize_frames"]:
        return (
            f"{cell['oversize_frames']} wire frames longer than {WIRE_LIMIT} bytes,"
            f" up to {cell['longest_frame']}: not a wire of MTU 1500"
        )
    for name, flow in cell["figures"]["tcp"].items():
        through = min(flow["into_switch"], flow["out_of_switch"])
        if through < RELAYED:
            return f"TCP {name}: only {through:.0%} of it went through S"
    return None
