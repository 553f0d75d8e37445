"""One peer on one lossy path: a bed of its own for each, loss from when A reaches B."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from benchmarks.bed import open_bed
from benchmarks.paths.cells import PEER_RTT, Plan, open_path
from benchmarks.paths.matrix import observe, trouble
from benchmarks.peers import Peer
from benchmarks.underlays import UNDERLAYS
from vswitch.errors import VswitchError
from vswitch.lab import WireSpec

__all__ = ["NAMES", "OURS", "measure"]

OURS = "vswitch"
NAMES = (OURS, "fastd-aes128-gcm", "tinc", "n2n", "openvpn")


def measure(peer: Peer, loss: float, plan: Plan, number: int) -> dict[str, Any]:
    """Build a bed, run the peer, measure, take it down."""
    result: dict[str, Any] = {
        "peer": peer.name,
        "rtt": PEER_RTT,
        "loss": loss,
        "round": number,
        "problem": None,
        "load_before": os.getloadavg()[0],
    }
    clean, lossy = open_path(PEER_RTT), open_path(PEER_RTT, loss)
    began = time.monotonic()
    try:
        spec = WireSpec(forward=clean, back=clean, seed=number)
        with open_bed(UNDERLAYS["nic"], {"a": spec}) as bed:
            peer.start(bed)
            bed.wait_up()
            bed.wire("a").change(forward=lossy, back=lossy)
            found = observe(bed, plan, looks=peer.name == OURS)
            result["figures"] = found
            result["problem"] = found.pop("problem")
    except (VswitchError, OSError, subprocess.SubprocessError) as error:
        result["problem"] = trouble(error)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result
