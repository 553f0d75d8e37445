"""Pipes in memory: two endpoints joined beside their network, in order, nothing lost.

    async with open_pipe(first, second, rate=2.5e6, delay=0.02) as pipe:
        channel = await first.connect(peer, [pipe.first.address])

What an end takes waits (`backlog`) until the rate lets it leave, and arrives after the delay.
`cut` breaks the pipe: what is under way in it is gone, and both endpoints hear that it is closed.
Time is Trio's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from transport.constants import PIPE_BACKLOG
from transport.endpoint.endpoint import Endpoint
from transport.wire.trains import Address, Bytes


class MemoryPipe:
    """One end. `address` is its own endpoint's name for it."""

    def __init__(self, endpoint: Endpoint, description: str, rate: float, delay: float) -> None:
        self.endpoint = endpoint
        self.rate = rate  # bytes a second that leave; may be infinite
        self.delay = delay  # seconds, one way
        self.sent: list[bytes] = []  # all that it was ever given
        self.aborted = False
        self.most_waiting = 0  # bytes, ever
        self._description = description
        self._waiting: deque[bytes] = deque()
        self._backlog = 0
        self._under_way: deque[tuple[float, list[bytes]]] = deque()
        self._wake = trio.Event()
        self._cut = False
        self.other: MemoryPipe
        self.address: Address = endpoint.add_pipe(self)

    # --- What the endpoint calls --------------------------------------------------------------

    def send_nowait(self, datagrams: Sequence[Bytes]) -> None:
        if self._cut or self.aborted:
            return
        new = [bytes(each) for each in datagrams]
        self.sent += new
        self._waiting.extend(new)
        self._backlog += sum(map(len, new))
        self.most_waiting = max(self.most_waiting, self._backlog)
        self._wake.set()

    @property
    def backlog(self) -> int:
        return self._backlog

    @property
    def description(self) -> str:
        return self._description

    def abort(self) -> None:
        self.aborted = True
        self._wake.set()

    # --- The way ------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break the pipe, both ways."""
        for end in (self, self.other):
            if not end._cut:
                end._cut = True
                end._waiting.clear()
                end._under_way.clear()
                end._backlog = 0
                end._wake.set()
        for end in (self, self.other):
            end.endpoint.close_pipe(end.address)

    async def send_task(self) -> None:
        """What waits leaves at the rate."""
        while True:
            if not self._waiting:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            batch: list[bytes] = []
            size = 0
            while self._waiting and size < PIPE_BACKLOG // 4:
                batch.append(self._waiting.popleft())
                size += len(batch[-1])
            await trio.sleep(size / self.rate)
            if self._cut:
                return
            full = self._backlog >= PIPE_BACKLOG
            self._backlog -= size
            self._under_way.append((trio.current_time() + self.delay, batch))
            self.other._wake_arrivals.set()
            if full and self._backlog < PIPE_BACKLOG and not self.aborted:
                self.endpoint.pipe_writable(self.address)

    _wake_arrivals: trio.Event

    async def receive_task(self) -> None:
        """What has left the other end arrives."""
        while True:
            under_way = self.other._under_way
            if not under_way:
                self._wake_arrivals = trio.Event()
                await self._wake_arrivals.wait()
                continue
            await trio.sleep_until(under_way[0][0])
            if under_way and not self.aborted:
                self.endpoint.pipe_received(self.address, under_way.popleft()[1])
            elif self.aborted:
                under_way.clear()


class PipePair:
    """Both ends."""

    def __init__(self, first: MemoryPipe, second: MemoryPipe) -> None:
        self.first, self.second = first, second
        first.other, second.other = second, first

    def cut(self) -> None:
        """Break it."""
        self.first.cut()


@asynccontextmanager
async def open_pipe(
    first: Endpoint, second: Endpoint, *, rate: float = 1e9, delay: float = 0.01
) -> AsyncIterator[PipePair]:
    """A pipe between two endpoints, until the context ends; `rate` in bytes a second."""
    pair = PipePair(
        MemoryPipe(first, "memory:second", rate, delay),
        MemoryPipe(second, "memory:first", rate, delay),
    )
    async with trio.open_nursery() as nursery:
        for end in (pair.first, pair.second):
            end._wake_arrivals = trio.Event()
            nursery.start_soon(end.send_task)
            nursery.start_soon(end.receive_task)
        try:
            yield pair
        finally:
            pair.cut()
            nursery.cancel_scope.cancel()
