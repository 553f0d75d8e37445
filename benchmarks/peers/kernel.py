"""Bounds: the kernel's VXLAN and bridge in place of a switch, and the underlay by itself.

`bridged` is also what makes a LAN of a system that carries IP alone.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from benchmarks.bed import DEVICE, Bed
from benchmarks.peers.peer import Peer

__all__ = ["BARE", "OVERHEAD", "VXLAN", "bridged"]

PORT = 4789  # RFC 7348
OVERHEAD = 50  # bytes of an IP packet on the LAN: outer IPv4, UDP, VXLAN, inner Ethernet header


def bridged(bed: Bed, addresses: Mapping[str, str], mtu: int) -> None:
    """VXLAN between these IPv4 addresses of A, S and B, over a network of that MTU; S bridges."""

    def vxlan(role: str, name: str, number: int, remote: str) -> None:
        link = ["ip", "link", "add", name, "mtu", str(mtu - OVERHEAD)]
        way = ["local", addresses[role], "remote", addresses[remote], "dstport", str(PORT)]
        bed.host(role).run([*link, "type", "vxlan", "id", str(number), *way])
        bed.host(role).run(["ip", "link", "set", name, "up"])

    bed.s.run(["ip", "link", "add", "switch", "type", "bridge"])
    for number, role in enumerate("ab", 1):
        vxlan("s", f"vx{number}", number, role)
        bed.s.run(["ip", "link", "set", f"vx{number}", "master", "switch"])
        vxlan(role, DEVICE, number, "s")
    bed.s.run(["ip", "link", "set", "switch", "up"])
    bed.address_device()


def _start(bed: Bed) -> None:
    bridged(bed, {"a": bed.a_underlay, "s": bed.s_underlay, "b": bed.b_underlay}, 1500)


def _bare(bed: Bed) -> None:
    bed.isolate(False)
    bed.a_address, bed.b_address = bed.a_underlay, bed.b_underlay


VXLAN = Peer(
    name="vxlan",
    about="the kernel's VXLAN and bridge, no encryption: a bound",
    programs=("ip",),
    package="iproute2",
    version=platform.release,
    start=_start,
    encrypted=False,
)
BARE = Peer(
    name="bare",
    about="A to B on the underlay, no S: what the bed and the generators give",
    programs=(),
    package="",
    version=platform.release,
    start=_bare,
    encrypted=False,
    relayed=False,
)
