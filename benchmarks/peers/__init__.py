"""The programs that are compared, by name."""

from __future__ import annotations

from benchmarks.peers import (
    fastd,
    kernel,
    n2n,
    n3n,
    openvpn,
    ours,
    softether,
    tinc,
    wireguard,
    zerotier,
)
from benchmarks.peers.peer import Peer

__all__ = ["PEERS", "Peer"]

PEERS = {
    each.name: each
    for each in (
        ours.PEER,
        *fastd.PEERS,
        openvpn.PEER,
        tinc.PEER,
        n2n.PEER,
        n3n.PEER,
        softether.PEER,
        zerotier.PEER,
        wireguard.PEER,
        kernel.VXLAN,
        kernel.BARE,
    )
}
