"""Which emulated paths a datagram of the network in memory takes, by the hosts at both ends.

A datagram passes the uplink of its source's host, the path between the two hosts, and the
downlink of the destination's host: as many of them as there are. All sockets of a host share its
uplink and downlink with their queues, and all sockets of two hosts the path between them.

Sizes are those of IP packets: the payload and the headers of UDP and IP. Pure; no errors.
"""

from __future__ import annotations

from transport.emulation import Direction, PathSpec

__all__ = ["Paths", "packet_size"]

IPV4_UDP, IPV6_UDP = 20 + 8, 40 + 8  # bytes of headers


class Paths:
    """All emulated paths of a network; each has a seed of its own, which follows from `seed`."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0
        self._between: dict[tuple[str, str], Direction] = {}
        self._up: dict[str, Direction] = {}
        self._down: dict[str, Direction] = {}

    def between(self, source: str, destination: str, spec: PathSpec) -> Direction:
        """The path from one host to the other is like that; the way back is another."""
        way = self._between[(source, destination)] = self._make(spec)
        return way

    def up(self, host: str, spec: PathSpec) -> Direction:
        """Everything that a host sends passes this first."""
        way = self._up[host] = self._make(spec)
        return way

    def down(self, host: str, spec: PathSpec) -> Direction:
        """Everything that comes to a host passes this last."""
        way = self._down[host] = self._make(spec)
        return way

    def route(self, source: str, destination: str) -> tuple[Direction, ...]:
        """What a datagram passes, first to last; nothing if no path was made for these hosts."""
        ways = (
            self._up.get(source),
            self._between.get((source, destination)),
            self._down.get(destination),
        )
        return tuple(way for way in ways if way is not None)

    def _make(self, spec: PathSpec) -> Direction:
        self._count += 1
        return Direction(spec, self._seed * 1_000_003 + self._count)


def packet_size(datagram: bytes, host: str) -> int:
    """Bytes of the IP packet that carries a datagram to that host."""
    return len(datagram) + (IPV6_UDP if ":" in host else IPV4_UDP)
