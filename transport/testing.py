"""A network in memory, seeded: loss, delay, reordering, duplication, damage, NAT rebinding.

    async with open_network(seed=1, link=Link(loss=0.05, delay=0.02, jitter=0.01)) as network:
        a, b = network.socket("10.0.0.1"), network.socket("10.0.0.2", 7450)

What happens on the way is the `Link`'s for every pair of hosts, until they get emulated paths
(`transport.emulation`), with a rate, a bounded queue, an MTU, loss in runs:

    network.uplink("10.0.0.1", PathSpec(rate=5e6, queue=62_500, delay=0.02))
    way = network.path("10.0.0.2", "10.0.0.1", PathSpec(burst_loss=0.05, burst_length=10))
    way.change(PathSpec(up=False), trio.current_time())

Sockets implement `transport.udp.DatagramSocket`, so the real endpoint runs on them. Time is
Trio's: under `trio.testing.MockClock(autojump_threshold=0)` a day passes in moments, and the
same seed gives the same run. `network.log` tells what happened to each datagram.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush

import trio
from attrs import define, frozen

from transport.emulation import Direction, PathSpec, flip
from transport.paths import Address
from transport.testing_paths import Paths, packet_size
from transport.testing_socket import MemorySocket

__all__ = ["Direction", "Fate", "Link", "MemorySocket", "Network", "PathSpec", "open_network"]


@define
class Link:
    """What happens to a datagram on its way; the same for every pair, and may be changed."""

    delay: float = 0.0  # seconds, one way
    jitter: float = 0.0  # seconds, added uniformly: more than the spacing reorders
    loss: float = 0.0  # probability
    duplicate: float = 0.0
    corrupt: float = 0.0  # one random bit
    up: bool = True


@frozen
class Fate:
    """A line of the log."""

    time: float
    source: Address
    destination: Address
    size: int
    first_byte: int
    # sent, lost, duplicated, corrupted, unreachable, overflow; with emulated paths also
    # queue_full, too_big, down
    verdict: str


# When something happens to a datagram, a serial number, what, from where, to where, and the
# emulated paths that are still to come.
_Travelling = tuple[float, int, bytes, Address, Address, tuple[Direction, ...]]


class Network:
    """All sockets and what is under way between them."""

    QUEUE = 10_000  # datagrams of one socket, so that a test that does not read stays bounded

    def __init__(self, seed: int, link: Link) -> None:
        self.link = link
        self.log: deque[Fate] = deque(maxlen=10_000)
        self._random = random.Random(seed)
        self._sockets: dict[Address, MemorySocket] = {}
        self._outside: dict[Address, Address] = {}  # NAT: inner address to the one seen
        self._paths = Paths(seed)
        self._on_the_way: list[_Travelling] = []
        self._serial = 0
        self._wake = trio.Event()

    def socket(self, host: str, port: int = 0) -> MemorySocket:
        """A socket at that address; port 0 takes a free one."""
        while not port or (host, port) in self._sockets:
            port = self._random.randrange(1024, 65536)
        sock = self._sockets[(host, port)] = MemorySocket(self, (host, port))
        return sock

    def path(self, source: str, destination: str, spec: PathSpec) -> Direction:
        """From now on datagrams from one host to the other take this path; one way only.

        Hosts are addresses as sockets have them. `PathSpec`'s sizes and rate count IP packets.
        """
        return self._paths.between(source, destination, spec)

    def uplink(self, host: str, spec: PathSpec) -> Direction:
        """All that the sockets of this host send passes one link, before any `path`."""
        return self._paths.up(host, spec)

    def downlink(self, host: str, spec: PathSpec) -> Direction:
        """All that comes to the sockets of this host passes one link, after any `path`."""
        return self._paths.down(host, spec)

    def random_bytes(self, size: int) -> bytes:
        """For endpoints under test: numbers that come from the seed."""
        return self._random.randbytes(size)

    def rebind(self, sock: MemorySocket) -> Address:
        """As a NAT that forgot: from now on the socket is seen at another port."""
        host, inner = sock.local_address[0], sock.local_address
        for outside, inside in list(self._outside.items()):
            if inside == inner:
                del self._outside[outside]
        port = self._random.randrange(1024, 65536)
        self._outside[(host, port)] = inner
        return (host, port)

    def forget(self, sock: MemorySocket) -> None:
        self._sockets.pop(sock.local_address, None)

    def _seen_as(self, inner: Address) -> Address:
        for outside, inside in self._outside.items():
            if inside == inner:
                return outside
        return inner

    def carry(self, datagram: bytes, source: Address, destination: Address) -> None:
        """Decide what happens to one datagram."""
        ways = self._paths.route(source[0], destination[0])
        source = self._seen_as(source)
        if ways:
            self._pass(datagram, source, destination, ways)
            return
        link, chance = self.link, self._random.random
        copies = 2 if chance() < link.duplicate else 1
        if copies == 2:
            self._note(source, destination, datagram, "duplicated")
        for _ in range(copies):
            if not link.up or chance() < link.loss:
                self._note(source, destination, datagram, "lost")
                continue
            copy = datagram
            if chance() < link.corrupt and datagram:
                at = self._random.randrange(len(datagram))
                flipped = datagram[at] ^ (1 << self._random.randrange(8))
                copy = datagram[:at] + bytes((flipped,)) + datagram[at + 1 :]
                self._note(source, destination, copy, "corrupted")
            self._note(source, destination, copy, "sent")
            delay = link.delay + link.jitter * chance()
            if delay <= 0:
                self._arrive(copy, source, destination)
                continue
            self._send_on(trio.current_time() + delay, copy, source, destination, ())

    def _pass(
        self, datagram: bytes, source: Address, destination: Address, ways: tuple[Direction, ...]
    ) -> None:
        """A datagram enters the first of these paths."""
        way, rest = ways[0], ways[1:]
        copies = way.offer(packet_size(datagram, destination[0]), trio.current_time())
        if not copies:
            self._note(source, destination, datagram, way.last_drop)
        if len(copies) > 1:
            self._note(source, destination, datagram, "duplicated")
        for due, bit in copies:
            copy = datagram
            if bit is not None and datagram:
                # The headers are not there to be damaged: the payload takes it all.
                copy = flip(datagram, bit % (len(datagram) * 8))
                self._note(source, destination, copy, "corrupted")
            if not rest:
                self._note(source, destination, copy, "sent")
            self._send_on(due, copy, source, destination, rest)

    def _send_on(
        self,
        due: float,
        datagram: bytes,
        source: Address,
        destination: Address,
        ways: tuple[Direction, ...],
    ) -> None:
        self._serial += 1
        heappush(self._on_the_way, (due, self._serial, datagram, source, destination, ways))
        self._wake.set()

    def _arrive(self, datagram: bytes, source: Address, destination: Address) -> None:
        # A rebound address is reachable only where the NAT shows it now.
        inner = self._outside.get(destination)
        if inner is None and destination not in self._outside.values():
            inner = destination
        sock = None if inner is None else self._sockets.get(inner)
        if sock is None:
            self._note(source, destination, datagram, "unreachable")
        elif sock.waiting >= self.QUEUE:
            self._note(source, destination, datagram, "overflow")
        else:
            sock.deliver(datagram, source)

    def _note(self, source: Address, destination: Address, datagram: bytes, verdict: str) -> None:
        first = datagram[0] if datagram else -1
        now = trio.current_time()
        self.log.append(Fate(now, source, destination, len(datagram), first, verdict))

    async def run(self) -> None:
        """Deliver what is under way; the task of `open_network`."""
        while True:
            if not self._on_the_way:
                self._wake = trio.Event()
                await self._wake.wait()
            due = self._on_the_way[0][0]
            if trio.current_time() < due:
                self._wake = trio.Event()
                with trio.move_on_at(due):
                    await self._wake.wait()
                continue
            _, _, datagram, source, destination, ways = heappop(self._on_the_way)
            if ways:
                self._pass(datagram, source, destination, ways)
            else:
                self._arrive(datagram, source, destination)
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_network(seed: int = 0, link: Link | None = None) -> AsyncIterator[Network]:
    """A network that delivers until the context ends."""
    network = Network(seed, link or Link())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        try:
            yield network
        finally:
            nursery.cancel_scope.cancel()
