"""The three kinds of underlay, by what the veth pairs do for their hosts.

What a veth pair saves by default no wire gives: with `tx-udp-segmentation` a datagram train of
64 kB crosses it whole, which flatters every program that sends with UDP_SEGMENT, and with `tso`
the same holds for TCP. `nic` is the one nearest to a real network: frames of one MTU on the wire,
joined again by the receiver's driver.
"""

from __future__ import annotations

import attrs

from vswitch.lab import Host

__all__ = ["UNDERLAYS", "WIRE_LIMIT", "Underlay"]

WIRE_LIMIT = 1514  # bytes: MTU 1500 and the Ethernet header, without FCS
FEATURES = ("tso", "gso", "gro", "tx-udp-segmentation")


@attrs.frozen
class Underlay:
    """One kind. `real_wire` says that no frame may be longer than `WIRE_LIMIT`."""

    name: str
    about: str
    at_hosts: frozenset[str]  # features on at the hosts' ends
    at_bridge: frozenset[str]  # features on at the ends that hang in the bridge
    real_wire: bool

    def apply_host(self, host: Host, ifname: str) -> None:
        """Set the features at a host's end."""
        _set(host, ifname, self.at_hosts)

    def apply_bridge(self, segment: Host, ifname: str) -> None:
        """Set the features at the end that hangs in the bridge."""
        _set(segment, ifname, self.at_bridge)


def _set(host: Host, ifname: str, on: frozenset[str]) -> None:
    wanted = [word for name in FEATURES for word in (name, "on" if name in on else "off")]
    host.run(["ethtool", "-K", ifname, *wanted])


_NONE: frozenset[str] = frozenset()
_ALL = frozenset(FEATURES)
UNDERLAYS = {
    each.name: each
    for each in (
        Underlay("strict", "frames of one MTU, no GRO", _NONE, _NONE, True),
        Underlay("nic", "frames of one MTU, GRO at the receivers", frozenset({"gro"}), _NONE, True),
        Underlay("veth", "all offloads of veth on", _ALL, _ALL, False),
    )
}
