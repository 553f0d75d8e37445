"""A network in memory, seeded: loss, delay, reordering, duplication, damage, NAT rebinding.

    async with open_network(seed=1, link=Link(loss=0.05, delay=0.02, jitter=0.01)) as network:
        a, b = network.socket("10.0.0.1"), network.socket("10.0.0.2", 7450)

What happens on the way is the `Link`'s for every pair of hosts, until they get emulated paths
(`transport.emulation`), with a rate, a bounded queue, an MTU, loss in runs:

    network.uplink("10.0.0.1", PathSpec(rate=5e6, queue=62_500, delay=0.02))
    way = network.path("10.0.0.2", "10.0.0.1", PathSpec(burst_loss=0.05, burst_length=10))
    way.change(PathSpec(up=False), trio.current_time())

Sockets implement `transport.DatagramSocket`, so the real endpoint runs on them. Time is
Trio's: under `trio.testing.MockClock(autojump_threshold=0)` a day passes in moments, and the
same seed gives the same run. `network.log` tells what happened to each datagram.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from heapq import heappop, heappush

import trio
from attrs import define, frozen

from transport.emulation import Direction, PathSpec, flip
from transport.handshake.floodgate import OPEN, Shares
from transport.wire.trains import Address, Refusal, Train, cut

IPV4_UDP, IPV6_UDP = 20 + 8, 40 + 8  # bytes of headers


class Paths:
    """All emulated paths of a network; each has a seed of its own, which follows from `seed`.

    A datagram passes the uplink of its source's host, the path between the two hosts, and the
    downlink of the destination's host: as many of them as there are. All sockets of a host share
    its uplink and downlink with their queues, and all sockets of two hosts the path between them.
    """

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


class MemorySocket:
    """One end: what a UDP socket is for an endpoint; made by `Network.socket`.

    Datagrams come out in the order in which the network delivered them; a closed socket wakes
    whoever waits on it. Errors: `trio.ClosedResourceError` after `close`.
    """

    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.drained = True
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque(maxlen=1024)
        self.barred: dict[Address, str] = {}  # where nothing can be sent to, and why
        self.mtu = 1500  # of its interface, which takes nothing longer, and says so
        self.shares = OPEN  # of inits; it lets in all the same
        self.sent: list[tuple[bytes, Address]] | None = None  # set to a list to record

    @property
    def local_address(self) -> Address:
        return self._address

    @property
    def waiting(self) -> int:
        """Datagrams that arrived and were not read."""
        return len(self._queue)

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not (self._queue or self.refused):
            if self._closed:
                raise trio.ClosedResourceError
            await self._readers.park()

    def receive_nowait(self, limit: int) -> list[Train]:
        if self._closed:
            raise trio.ClosedResourceError
        datagrams = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        self.drained = not self._queue
        return [(datagram, source, len(datagram)) for datagram, source in datagrams]

    def send_nowait(self, trains: Iterable[Train]) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        for train in trains:
            for datagram in cut(train):
                if train[1] in self.barred:
                    self.refused.append((train[1], len(datagram), 1, self.barred[train[1]]))
                    continue
                if len(datagram) + IPV4_UDP > self.mtu:
                    self.refused.append((train[1], len(datagram), 1, ""))
                    continue
                if self.sent is not None:
                    self.sent.append((datagram, train[1]))
                self._network.carry(datagram, self._address, train[1])

    def deliver(self, datagram: bytes, source: Address) -> None:
        """Put a datagram into the receive queue, as from `source`."""
        self._queue.append((datagram, source))
        self._readers.unpark_all()

    def notify(self, address: Address, why: str) -> None:
        """Somebody on the way says why nothing arrives there, as ICMP does."""
        self.refused.append((address, 0, 0, why))
        self._readers.unpark_all()

    def rebind(self) -> None:
        """Nothing to do."""

    def limit_inits(self, shares: Shares) -> None:
        self.shares = shares

    def close(self) -> None:
        self._closed = True
        self._network.forget(self)
        self._readers.unpark_all()


@define
class Link:
    """What happens to a datagram on its way; the same for every pair, and may be changed."""

    delay: float = 0.0  # seconds, one way
    jitter: float = 0.0  # seconds, added uniformly: more than the spacing reorders
    loss: float = 0.0  # probability
    duplicate: float = 0.0
    corrupt: float = 0.0  # one random bit
    up: bool = True
    mtu: int = 9000  # bytes with headers: what is longer vanishes, as where no router says so


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
            if not link.up or len(datagram) + IPV4_UDP > link.mtu or chance() < link.loss:
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
