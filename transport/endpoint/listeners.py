"""Several sockets as one: an endpoint that listens at several places.

A peer's address has the number of its socket behind, so that answers leave where the peer was
heard, and a peer that comes to another place is seen to move. The kernel says which sockets have
something (epoll), so that one that is quiet costs nothing.

Error contract: as `udp.py`.
"""

from __future__ import annotations

import select
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import trio

from transport.endpoint.udp import DatagramSocket, UdpSocket
from transport.handshake.floodgate import Shares
from transport.wire.trains import Address, Refusal, Train


class Listeners:
    """Sockets as one `DatagramSocket`, which owns them."""

    def __init__(self, sockets: Sequence[UdpSocket]) -> None:
        self.drops: Counter[str] = Counter()
        self.refused: deque[Refusal] = deque()  # bounded by those of the sockets
        self.drained = True
        self._sockets = tuple(sockets)
        self._numbers = {each.fileno(): number for number, each in enumerate(sockets)}
        self._ready = select.epoll()
        for each in sockets:
            each.drops = self.drops
            self._ready.register(each.fileno(), select.EPOLLIN)

    @property
    def local_address(self) -> Address:
        """Of the first."""
        return self._sockets[0].local_address

    async def wait_readable(self) -> None:
        if self._ready.closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._ready.fileno())

    def receive_nowait(self, limit: int) -> list[Train]:
        """Trains of all that have some, of each about `limit` reads. HOT PATH."""
        trains: list[Train] = []
        self.drained = True
        for descriptor, _ in self._ready.poll(0):
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
        if not self._ready.closed:
            trio.lowlevel.notify_closing(self._ready.fileno())
            self._ready.close()
        for each in self._sockets:
            each.close()


def listen_at(sockets: Sequence[UdpSocket]) -> DatagramSocket:
    """The sockets as one, which is the first itself where there is no other."""
    return sockets[0] if len(sockets) == 1 else Listeners(sockets)
