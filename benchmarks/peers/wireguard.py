"""WireGuard with VXLAN over it, as those do who need Ethernet; S bridges the two VXLANs.

WireGuard runs in processes of its own, wireguard-go, so that it does not matter whether this kernel
has the module. ChaCha20-Poly1305 is the only cipher it has. The MTU is what IPv4 leaves of 1500
(wg-quick would take 20 bytes more off, for IPv6), and VXLAN takes its 50 bytes from that.
"""

from __future__ import annotations

import functools

from benchmarks.bed import Bed
from benchmarks.peers.kernel import OVERHEAD, bridged
from benchmarks.peers.peer import Peer, version_of

__all__ = ["PEER"]

PORT = 51820
INTERFACE = "wg0"
MTU = 1440  # what is left of 1500 beside IPv4, UDP and 32 bytes of WireGuard
ADDRESSES = {"a": "10.98.0.1", "s": "10.98.0.254", "b": "10.98.0.2"}


def _start(bed: Bed) -> None:
    public = {}
    for role in "sab":
        host = bed.host(role)
        bed.own(role, "/run")  # where wireguard-go has the socket that wg speaks to
        bed.spawn(role, ["wireguard-go", "-f", INTERFACE])
        key = bed.directory(role) / "key"
        key.write_text(host.run(["wg", "genkey"]).stdout)
        public[role] = host.run(["wg", "pubkey"], input=key.read_text()).stdout.strip()
        configure = ["wg", "set", INTERFACE, "private-key", str(key), "listen-port", str(PORT)]
        bed.wait(
            lambda host=host, argv=configure: host.run(argv, check=False).returncode == 0,
            f"{INTERFACE} in {role}",
        )
        host.run(["ip", "address", "add", f"{ADDRESSES[role]}/24", "dev", INTERFACE])
        host.run(["ip", "link", "set", INTERFACE, "mtu", str(MTU), "up"])
    for role in "ab":
        _know(bed, role, public["s"], ADDRESSES["s"], bed.s_underlay)
        _know(bed, "s", public[role], ADDRESSES[role], getattr(bed, f"{role}_underlay"))
    bridged(bed, ADDRESSES, MTU)


def _know(bed: Bed, role: str, key: str, address: str, underlay: str) -> None:
    """Tell this host of a peer: its key, its address inside, and where it listens."""
    allowed = ["allowed-ips", f"{address}/32", "endpoint", f"{underlay}:{PORT}"]
    bed.host(role).run(["wg", "set", INTERFACE, "peer", key, *allowed])


PEER = Peer(
    name="wireguard-vxlan",
    about=f"wireguard-go, VXLAN and bridge of the kernel over it, MTU {MTU - OVERHEAD}",
    programs=("wireguard-go", "wg", "ip"),
    package="wireguard-go wireguard-tools iproute2",
    version=functools.partial(version_of, "wireguard-go", "--version"),
    start=_start,
)
