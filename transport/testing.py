"""A network in memory, seeded: loss, delay, reordering, duplication, damage, NAT rebinding.

    async with open_network(seed=1, link=Link(loss=0.05, delay=0.02, jitter=0.01)) as network:
        a, b = network.socket("10.0.0.1"), network.socket("10.0.0.2", 7450)

Sockets implement `transport.udp.DatagramSocket`, so the real endpoint runs on them. Time is
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

from transport.paths import Address
from transport.trains import Refusal, Train, cut

__all__ = ["Fate", "Link", "MemorySocket", "Network", "open_network"]

HEADERS = 28  # bytes of IPv4 and UDP


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
    verdict: str  # sent, lost, duplicated, corrupted, unreachable, overflow


class MemorySocket:
    """One end; made by `Network.socket`."""

    def __init__(self, network: Network, address: Address) -> None:
        self._network = network
        self._address = address
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque(maxlen=1024)
        self.mtu = 1500  # of its interface, which takes nothing longer, and says so
        self.sent: list[tuple[bytes, Address]] | None = None  # set to a list to record

    @property
    def local_address(self) -> Address:
        return self._address

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._closed:
                raise trio.ClosedResourceError
            await self._readers.park()

    def receive_nowait(self, limit: int) -> list[Train]:
        if self._closed:
            raise trio.ClosedResourceError
        datagrams = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
        return [(datagram, source, len(datagram)) for datagram, source in datagrams]

    def send_nowait(self, trains: Iterable[Train]) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        for train in trains:
            for datagram in cut(train):
                if len(datagram) + HEADERS > self.mtu:
                    self.refused.append((train[1], len(datagram), 1))
                    continue
                if self.sent is not None:
                    self.sent.append((datagram, train[1]))
                self._network.carry(datagram, self._address, train[1])

    def deliver(self, datagram: bytes, source: Address) -> None:
        """Put a datagram into the receive queue, as from `source`."""
        self._queue.append((datagram, source))
        self._readers.unpark_all()

    def close(self) -> None:
        self._closed = True
        self._network.forget(self)
        self._readers.unpark_all()


class Network:
    """All sockets and what is under way between them."""

    QUEUE = 10_000  # datagrams of one socket, so that a test that does not read stays bounded

    def __init__(self, seed: int, link: Link) -> None:
        self.link = link
        self.log: deque[Fate] = deque(maxlen=10_000)
        self._random = random.Random(seed)
        self._sockets: dict[Address, MemorySocket] = {}
        self._outside: dict[Address, Address] = {}  # NAT: inner address to the one seen
        self._on_the_way: list[tuple[float, int, bytes, Address, Address]] = []
        self._serial = 0
        self._wake = trio.Event()

    def socket(self, host: str, port: int = 0) -> MemorySocket:
        """A socket at that address; port 0 takes a free one."""
        while not port or (host, port) in self._sockets:
            port = self._random.randrange(1024, 65536)
        sock = self._sockets[(host, port)] = MemorySocket(self, (host, port))
        return sock

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
        link, chance = self.link, self._random.random
        source = self._seen_as(source)
        copies = 2 if chance() < link.duplicate else 1
        if copies == 2:
            self._note(source, destination, datagram, "duplicated")
        for _ in range(copies):
            if not link.up or len(datagram) + HEADERS > link.mtu or chance() < link.loss:
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
            self._serial += 1
            due = trio.current_time() + delay
            heappush(self._on_the_way, (due, self._serial, copy, source, destination))
            self._wake.set()

    def _arrive(self, datagram: bytes, source: Address, destination: Address) -> None:
        # A rebound address is reachable only where the NAT shows it now.
        inner = self._outside.get(destination)
        if inner is None and destination not in self._outside.values():
            inner = destination
        sock = None if inner is None else self._sockets.get(inner)
        if sock is None:
            self._note(source, destination, datagram, "unreachable")
        elif len(sock._queue) >= self.QUEUE:
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
            _, _, datagram, source, destination = heappop(self._on_the_way)
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
