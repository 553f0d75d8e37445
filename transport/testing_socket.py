"""One end of the network in memory: what a UDP socket is for an endpoint (`transport.udp`).

Invariants: datagrams come out in the order in which the network delivered them; a closed socket
wakes whoever waits on it. Errors: `trio.ClosedResourceError` after `close`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Protocol

import trio

from transport.floodgate import OPEN, Shares
from transport.paths import Address
from transport.trains import Refusal, Train, cut

__all__ = ["Carrier", "MemorySocket"]


HEADERS = 28  # bytes of IPv4 and UDP


class Carrier(Protocol):
    """What a socket needs of its network."""

    def carry(self, datagram: bytes, source: Address, destination: Address) -> None: ...

    def forget(self, sock: MemorySocket) -> None: ...


class MemorySocket:
    """One end; made by `Network.socket`."""

    def __init__(self, network: Carrier, address: Address) -> None:
        self._network = network
        self._address = address
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._readers = trio.lowlevel.ParkingLot()
        self._closed = False
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque(maxlen=1024)
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

    def rebind(self) -> None:
        """Nothing to do."""

    def limit_inits(self, shares: Shares) -> None:
        self.shares = shares

    def close(self) -> None:
        self._closed = True
        self._network.forget(self)
        self._readers.unpark_all()
