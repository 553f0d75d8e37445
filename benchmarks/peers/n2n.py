"""n2n through its supernode: the edges cannot reach each other, so it relays all of it."""

from __future__ import annotations

import functools

from benchmarks.bed import A_ADDRESS, B_ADDRESS, DEVICE, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]

PORT = 7654
KEY = "benchmark"  # of a network that lives for a minute
SUPERNODE_ONLY = "-S1"  # n2n 3 can be told so; older ones fall back to it


def _start(bed: Bed) -> None:
    bed.spawn("s", ["supernode", "-l", str(PORT)])
    knows = SUPERNODE_ONLY[:2] in bed.a.run(["edge", "-h"], check=False).stdout
    for role, address in (("a", A_ADDRESS), ("b", B_ADDRESS)):
        argv = ["edge", "-d", DEVICE, "-a", address, "-s", "255.255.255.0", "-c", "benchmark"]
        argv += ["-k", KEY, "-l", f"{bed.s_underlay}:{PORT}", "-u", "0", "-g", "0"]
        bed.spawn(role, [*argv, *[SUPERNODE_ONLY] * knows])
    bed.address_device(mtu=1430)


PEER = Peer(
    name="n2n",
    about="n2n, encrypted, all through the supernode",
    programs=("edge", "supernode"),
    package="n2n",
    version=functools.partial(version_of, "supernode", "-h"),
    start=_start,
)
