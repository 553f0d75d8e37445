"""This project, from the checkout that the benchmark runs from."""

from __future__ import annotations

from benchmarks.bed import Bed
from benchmarks.peers.peer import Peer

__all__ = ["PEER", "start"]


def start(bed: Bed, lane: str = "kcp") -> None:
    """Both members on that lane."""
    bed.lan.serve()
    bed.pids["s"].append(bed.lan.programs["switch"].process.pid)
    for role in ("a", "b"):
        bed.pids[role].append(bed.lan.join(role, "--lane", lane).process.pid)
    ports = bed.lan.wait_connected("a", "b")
    bed.a_address, bed.b_address = (str(port["address"]).partition("/")[0] for port in ports)


PEER = Peer(
    name="vswitch",
    about="this project: AEAD over KCP, three Python processes",
    programs=(),
    package="",
    version=lambda: "this checkout",
    start=start,
)
