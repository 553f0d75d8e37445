"""n2n through its supernode: the edges cannot reach each other, so it relays all of it.

Debian 12 has version 1.3 (Twofish, LZO), later ones have 3.1 (AES, its default with a key, no
compression). Both are told the addresses, a key and the largest MTU that leaves their datagrams
whole within 1500 (the default of 3.1 is 1290); 3.1 also not to try without the supernode, and to
let multicast through, which IPv6 needs.
"""

from __future__ import annotations

from benchmarks.bed import A_ADDRESS, B_ADDRESS, DEVICE, PREFIX, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]

PORT = 7654
KEY = "a key"  # of a network that lives for a minute
OLD_MTU, MTU = 1364, 1396


def _version() -> str:
    return version_of("supernode", "-h")


def _start(bed: Bed) -> None:
    old = _version().startswith("1.")
    # Whoever changes its user no longer dies with a benchmark that is killed. (The supernode of 3.1
    # knows no other way: only a benchmark that ends by itself or by a signal it can take ends it.)
    stay = ["-u", "0", "-g", "0"]
    # -f is "run as a daemon" to the old ones and "do not" to the others.
    server = ["-l", str(PORT)] if old else ["-p", str(PORT), "-f"]
    bed.spawn("s", ["supernode", *server])
    for role, address in (("a", A_ADDRESS), ("b", B_ADDRESS)):
        argv = ["edge", "-d", DEVICE, "-c", "benchmark", "-k", KEY, *stay]
        argv += ["-l", f"{bed.s_underlay}:{PORT}"]
        if old:
            argv += ["-a", address, "-s", "255.255.255.0"]
        else:
            argv += ["-f", "-a", f"static:{address}/{PREFIX}", "-M", str(MTU), "-S1", "-E"]
        bed.spawn(role, argv)
    if old:
        bed.address_device(mtu=OLD_MTU)


PEER = Peer(
    name="n2n",
    about="n2n, encrypted, all through the supernode",
    programs=("edge", "supernode"),
    package="n2n",
    version=_version,
    start=_start,
)
