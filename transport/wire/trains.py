"""Trains: datagrams of one peer laid end to end, as UDP GSO cuts and GRO joins them.

All are of one size but the last, which may be shorter. The transport moves trains both ways,
because a train of forty datagrams costs hardly more Python steps than one datagram.

Pure, and without errors: every train that is not empty can be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from transport.constants import PIPE_BACKLOG, PIPE_HOST, PIPE_MOST, PIPE_TIME

# What datagram sockets use: (host, port), with flow and scope behind it for IPv6.
Address = tuple[Any, ...]


class PipeAddress(tuple[Any, ...]):
    """An address that is a pipe: a reliable way of datagrams beside the socket, in order, with one
    end alone (`endpoint/pipes.py`). Equal to itself only, since its number is never given again.
    """

    description: str  # for people
    closed: bool  # what is sent here goes nowhere
    _backlog: Callable[[], int]

    def __new__(cls, number: int, description: str, backlog: Callable[[], int]) -> PipeAddress:
        """`backlog`: how many bytes wait in the pipe."""
        address = super().__new__(cls, (f"{PIPE_HOST}{number}", 0))
        address.description = description
        address.closed = False
        address._backlog = backlog
        return address

    def room(self, rate: float) -> float:
        """Bytes that the pipe should be given now, of which so many leave in a second; none if zero
        or less.
        """
        most = min(max(PIPE_BACKLOG, PIPE_TIME * rate), PIPE_MOST)
        return 0 if self.closed else most - self._backlog()


Bytes = bytes | bytearray | memoryview

Train = tuple[Bytes, Address, int]
"""The bytes, the peer's address, and the size of each datagram.

What a socket gives may be a view of its buffer: good until it receives again, so whoever keeps
some of it makes a copy.
"""

Refusal = tuple[Address, int, int, str]
"""Datagrams that did not leave: to whom, the size, how many, and why; no reason: they were too big
for the local interface. With no datagram it is what somebody on the way says of an earlier one.
"""


def cut(train: Train) -> list[bytes]:
    """The datagrams of a train, each by itself."""
    data, _, size = train
    if size >= len(data):
        return [bytes(data)]
    return [bytes(data[at : at + size]) for at in range(0, len(data), size)]


def lay(datagrams: Iterable[bytes], address: Address) -> list[Train]:
    """Trains of datagrams in their order: as few as possible."""
    trains: list[Train] = []
    run: list[bytes] = []
    size = 0
    for datagram in datagrams:
        length = len(datagram)
        if run and (length > size or len(run[-1]) < size or not size):
            trains.append((b"".join(run), address, size))
            run = []
        if not run:
            size = length
        run.append(datagram)
    if run:
        trains.append((b"".join(run), address, size))
    return trains
