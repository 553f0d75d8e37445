"""A pipe: a reliable way of datagrams beside the socket, in order, none lost, such as a WebSocket.

It has two ends, and no addresses but that which `Endpoint.add_pipe` gives it; a session takes that
for the address of its peer, and may move from it and to it. Whoever makes a pipe bounds how many
there are, reads it, and hands on what it brings:

    address = endpoint.add_pipe(pipe)
    endpoint.pipe_received(address, datagrams)  whether a session is there: others are held back
    endpoint.pipe_writable(address)             room again: see `Pipe.backlog`
    endpoint.close_pipe(address)                it is broken, or over

What a session does where its path is a pipe: units leave whole, whatever their size, with all
segments that leave at once; nothing is repeated or copied, and the size of the path is not
searched; window and pace stay. It gives a pipe nothing more while as many bytes wait there as
leave in `PIPE_TIME` seconds, at least `PIPE_BACKLOG` and at most `PIPE_MOST`. On another path all
is repeated that is not acknowledged, each segment by itself.

`Pipes` is the endpoint's table of them. Error contract: nothing is raised for what a pipe does.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Protocol

from transport.wire.trains import Address, Bytes, PipeAddress, Train, cut


class Pipe(Protocol):
    """What an endpoint needs of a pipe."""

    def send_nowait(self, datagrams: Sequence[Bytes]) -> None:
        """Queue all, and write them as one. Never waits and never raises: a pipe that is broken
        drops them, and whoever made it says so with `Endpoint.close_pipe`, not from in here.
        """

    @property
    def backlog(self) -> int:
        """Bytes taken and not yet given to the kernel. When they fall below `PIPE_BACKLOG`, having
        been as many or more, `Endpoint.pipe_writable` has to be called.
        """

    @property
    def description(self) -> str:
        """For people, such as `https:203.0.113.5:443`."""

    def abort(self) -> None:
        """The endpoint lets go of it: nothing more is sent here, and what comes is not heard."""


class Pipes:
    """The pipes of one endpoint, by their addresses."""

    def __init__(self) -> None:
        self._pipes: dict[Address, tuple[Pipe, PipeAddress]] = {}
        self._number = 0
        self._unused: set[Address] = set()  # as of the last `sweep`

    def __len__(self) -> int:
        return len(self._pipes)

    def __contains__(self, address: Address) -> bool:
        return address in self._pipes

    def add(self, pipe: Pipe) -> PipeAddress:
        """An address that no other has or has had."""
        self._number += 1
        address = PipeAddress(self._number, pipe.description, lambda: pipe.backlog)
        self._pipes[address] = pipe, address
        return address

    def remove(self, address: Address) -> Pipe | None:
        """From now on it takes nothing; None if it was gone already."""
        found = self._pipes.pop(address, None)
        if found is None:
            return None
        pipe, own = found
        own.closed = True
        self._unused.discard(address)
        return pipe

    def send(self, trains: Iterable[Train]) -> tuple[list[Train], int]:
        """Give each pipe what is for it. The others, and how many datagrams are for a pipe that is
        gone.
        """
        others: list[Train] = []
        by_pipe: dict[Address, list[Bytes]] = {}
        for train in trains:
            data, address, size = train
            if isinstance(address, PipeAddress):
                to = by_pipe.setdefault(address, [])
                to += (data,) if len(data) <= size else cut(train)
            else:
                others.append(train)
        lost = 0
        for address, datagrams in by_pipe.items():
            found = self._pipes.get(address)
            if found is None:
                lost += len(datagrams)
            else:
                found[0].send_nowait(datagrams)
        return others, lost

    def abort(self) -> None:
        """Let go of all."""
        for address in list(self._pipes):
            pipe = self.remove(address)
            if pipe is not None:
                pipe.abort()

    def sweep(self, used: Container[Address]) -> list[Pipe]:
        """Take out those that were not `used` now, nor the last time."""
        unused = {address for address in self._pipes if address not in used}
        over = [self.remove(address) for address in unused & self._unused]
        self._unused = unused & self._pipes.keys()
        return [pipe for pipe in over if pipe is not None]
