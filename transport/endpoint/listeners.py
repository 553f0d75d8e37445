"""Several sockets as one: an endpoint that listens at several places.

A peer's address has the number of its socket behind, so that answers leave where the peer was
heard, and a peer that comes to another place is seen to move. The kernel says which sockets have
something (epoll on Linux), so that one that is quiet costs nothing.

Error contract: as `udp.py`.
"""

from __future__ import annotations

import select
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import trio

from transport.endpoint.udp import DatagramSocket, UdpSocket
from transport.handshake.floodgate import Shares
from transport.platform import LINUX
from transport.wire.trains import Address, Refusal, Train


class Ready(Protocol):
    """Which of some descriptors can be read."""

    def __init__(self, descriptors: Sequence[int]) -> None: ...

    async def wait(self) -> None:
        """Until one can. ClosedResourceError after close."""

    def now(self) -> list[tuple[int, int]]:
        """Those that can, each with flags. HOT PATH."""

    def close(self) -> None:
        """Idempotent; before the descriptors are closed."""


class EpollReady:
    """As Linux has it: the kernel keeps the list of those that can be read."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._epoll = select.epoll()
        for each in descriptors:
            self._epoll.register(each, select.EPOLLIN)

    async def wait(self) -> None:
        if self._epoll.closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._epoll.fileno())

    def now(self) -> list[tuple[int, int]]:
        return self._epoll.poll(0)

    def close(self) -> None:
        if not self._epoll.closed:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()


class PollReady:
    """As POSIX has it: the kernel is told all of them each time."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = tuple(descriptors)
        self._poll = select.poll()
        for each in descriptors:
            self._poll.register(each, select.POLLIN)

    async def wait(self) -> None:
        if not self._descriptors:
            raise trio.ClosedResourceError
        closed = False

        async def one(descriptor: int) -> None:
            nonlocal closed
            try:
                await trio.lowlevel.wait_readable(descriptor)
            except trio.ClosedResourceError:
                closed = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for each in self._descriptors:
                nursery.start_soon(one, each)
        if closed:
            raise trio.ClosedResourceError

    def now(self) -> list[tuple[int, int]]:
        return self._poll.poll(0) if self._descriptors else []

    def close(self) -> None:
        for each in self._descriptors:
            trio.lowlevel.notify_closing(each)
        self._descriptors = ()


READY: Final[type[Ready]] = EpollReady if LINUX else PollReady


class Listeners:
    """Sockets as one `DatagramSocket`, which owns them."""

    def __init__(self, sockets: Sequence[UdpSocket], ready: type[Ready] = READY) -> None:
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque()  # bounded by those of the sockets
        self.drained = True
        self._sockets = tuple(sockets)
        self._numbers = {each.fileno(): number for number, each in enumerate(sockets)}
        self._ready = ready(tuple(self._numbers))
        for each in sockets:
            each.drops = self.drops

    @property
    def local_address(self) -> Address:
        """Of the first."""
        return self._sockets[0].local_address

    async def wait_readable(self) -> None:
        await self._ready.wait()

    def receive_nowait(self, limit: int) -> list[Train]:
        """Trains of all that have some, of each about `limit` reads. HOT PATH."""
        trains: list[Train] = []
        self.drained = True
        for descriptor, _ in self._ready.now():
            number = self._numbers[descriptor]
            sock = self._sockets[number]
            trains += [
                (data, (*address, number), size)
                for data, address, size in sock.receive_nowait(limit)
            ]
            self.drained &= sock.drained
        return trains

    def send_nowait(self, trains: Iterable[Train]) -> None:
        # HOT PATH
        for data, address, size in trains:
            number = address[-1]
            sock = self._sockets[number]
            sock.send_nowait(((data, address[:-1], size),))
            if sock.refused:
                self.refused += [
                    ((*to, number), octets, count, why) for to, octets, count, why in sock.refused
                ]
                sock.refused.clear()

    def rebind(self) -> None:
        for each in self._sockets:
            each.rebind()

    def limit_inits(self, shares: Shares) -> None:
        for each in self._sockets:
            each.limit_inits(shares)

    def close(self) -> None:
        self._ready.close()
        for each in self._sockets:
            each.close()


def listen_at(sockets: Sequence[UdpSocket]) -> DatagramSocket:
    """The sockets as one, which is the first itself where there is no other."""
    return sockets[0] if len(sockets) == 1 else Listeners(sockets)
