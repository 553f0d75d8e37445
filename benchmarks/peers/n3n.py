"""n3n, which goes on from n2n 3: all through the supernode, AES as the payload's cipher.

It is told the addresses, a key, that cipher (its default is none), to send nothing from edge to
edge, to let multicast through, which IPv6 needs, and the largest MTU that leaves its datagrams
whole within 1500 (its default is 1290). Header encryption and compression stay off, as they are by
default.
"""

from __future__ import annotations

import functools

from benchmarks.bed import A_ADDRESS, B_ADDRESS, DEVICE, PREFIX, Bed
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]

PORT = 7654
MTU = 1396
KEY = "a key"  # of a network that lives for a minute


def _start(bed: Bed) -> None:
    for role in "sab":
        bed.own(role, "/run")  # where the socket of its management is
    # Whoever changes its user no longer dies with the benchmark.
    stay = ["-O", "daemon.userid=0", "-O", "daemon.groupid=0"]
    bind = ["-O", f"connection.bind={bed.s_underlay}:{PORT}"]
    bed.spawn("s", ["n3n-supernode", *bind, *stay, "start"])
    settings = {
        "community.name": "benchmark",
        "community.cipher": "AES",
        "community.key": KEY,
        "community.supernode": f"{bed.s_underlay}:{PORT}",
        "connection.allow_p2p": "false",
        "filter.allow_multicast": "true",
        "tuntap.name": DEVICE,
        "tuntap.mtu": str(MTU),
        "tuntap.address_mode": "static",
    }
    for role, address in (("a", A_ADDRESS), ("b", B_ADDRESS)):
        argv = ["n3n-edge", *stay, "-O", f"tuntap.address={address}/{PREFIX}"]
        for name, value in settings.items():
            argv += ["-O", f"{name}={value}"]
        bed.spawn(role, [*argv, "start"])
        bed.wait_device(role)


PEER = Peer(
    name="n3n",
    about=f"n3n, AES, all through the supernode, MTU {MTU}",
    programs=("n3n-edge", "n3n-supernode"),
    package="",
    source="n3n (https://github.com/n42n/n3n)",
    version=functools.partial(version_of, "n3n-edge", "-V"),
    start=_start,
)
