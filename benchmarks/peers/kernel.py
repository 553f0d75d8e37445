"""Bounds: the kernel's VXLAN and bridge in place of a switch, and the underlay by itself."""

from __future__ import annotations

import platform

from benchmarks.bed import DEVICE, Bed
from benchmarks.peers.peer import Peer

__all__ = ["BARE", "VXLAN"]

PORT = 4789  # RFC 7348
MTU = 1450  # what VXLAN over IPv4 leaves of 1500


def _vxlan(bed: Bed, role: str, name: str, number: int, remote: str) -> None:
    link = ["ip", "link", "add", name, "mtu", str(MTU), "type", "vxlan", "id", str(number)]
    way = ["local", getattr(bed, f"{role}_underlay"), "remote", remote, "dstport", str(PORT)]
    bed.host(role).run([*link, *way])
    bed.host(role).run(["ip", "link", "set", name, "up"])


def _start(bed: Bed) -> None:
    bed.s.run(["ip", "link", "add", "switch", "type", "bridge"])
    for number, (role, remote) in enumerate((("a", bed.a_underlay), ("b", bed.b_underlay)), 1):
        _vxlan(bed, "s", f"vx{number}", number, remote)
        bed.s.run(["ip", "link", "set", f"vx{number}", "master", "switch"])
        _vxlan(bed, role, DEVICE, number, bed.s_underlay)
    bed.s.run(["ip", "link", "set", "switch", "up"])
    bed.address_device()


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
