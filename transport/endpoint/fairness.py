"""Whose datagrams are worked on next: each session has a fair share of this process's time.

One task receives for all sessions, so what one of them costs, the others wait. When datagrams of
several have come, or more than a chunk, they are queued by session, and the session that has used
the least time goes first (start-time fair queueing, Goyal and others, 1996, with seconds of the
processor for bytes of a link):

    add(session, train, address)     sorted into chunks; False: the queue of the session is full
    pop()                            the next chunk, and whose it is
    charge(session, seconds)         what it has cost; after each `pop`
    keep()                           before the buffer that was read into is used again
    spend(session, seconds)          what the session costs besides: what it sends

A session that was idle has saved nothing up: it begins where the others are. One that is alone has
all the time that there is. What waits is bounded for each session and in all, so whoever sends dear
things faster than its share of the time can take loses datagrams, as on a link that is too slow.

Pure: seconds come from the caller. Nothing raises.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Final

from transport.session.session import Session
from transport.wire.trains import Address, Bytes

CHUNK: Final = 512 << 10  # bytes worked on before anybody else is looked at; more than one read
TURN: Final = 0.010  # seconds of work until the other tasks have their turn
READS_WHEN_BEHIND: Final = 16  # of 128 datagrams, before the next turn: 200,000 a second
WAITING: Final = 4 << 20  # bytes of one session: a whole read of the socket
WAITING_TOTAL: Final = 16 << 20  # of all: beyond it only who has nothing waiting may add some

Run = tuple[list[tuple[Bytes, int]], Address]  # trains with the size of their datagrams; from where


class FairQueue:
    """The sessions whose datagrams wait, and what they have used."""

    def __init__(self) -> None:
        # Chunks of each session, with their bytes; only sessions that have some.
        self._chunks: dict[Session, deque[tuple[Run, int]]] = {}
        self._bytes: dict[Session, int] = {}
        self.total = 0  # bytes that wait
        # Those of which something waits, by what they have used; the number keeps their order.
        self._order: list[tuple[float, int, Session]] = []
        self._numbers = count()
        self._at_work: Session | None = None  # between `pop` and `charge`
        self._virtual = 0.0  # how much a session has used that has always wanted some

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, session: Session, train: tuple[Bytes, int], address: Address) -> bool:
        """Queue a train; False if there is no room for it."""
        size = len(train[0])
        chunks = self._chunks.get(session)
        if chunks is None:
            chunks = self._chunks[session] = deque()
            self._bytes[session] = 0
            session.time_used = max(session.time_used, self._virtual)
            if session is not self._at_work:
                self._enter(session)
        elif self._bytes[session] + size > WAITING or self.total + size > WAITING_TOTAL:
            return False
        self._bytes[session] += size
        self.total += size
        if chunks:
            (trains, whence), held = chunks[-1]
            if whence == address and held + size <= CHUNK:
                trains.append(train)
                chunks[-1] = ((trains, whence), held + size)
                return True
        chunks.append((([train], address), size))
        return True

    def pop(self) -> tuple[Session, Run]:
        """The next chunk of the session that has used least. Only while something waits."""
        while True:
            self._virtual, _, session = heappop(self._order)
            if self._virtual >= session.time_used:
                break
            self._enter(session)  # it has spent more since then
        self._at_work = session
        chunks = self._chunks[session]
        run, size = chunks.popleft()
        self.total -= size
        if chunks:
            self._bytes[session] -= size
        else:
            del self._chunks[session], self._bytes[session]
        return session, run

    def keep(self) -> None:
        """What waits now, waits on after the buffer that it was read into is used again."""
        for chunks in self._chunks.values():
            for (trains, _), _ in chunks:
                trains[:] = [(bytes(data), size) for data, size in trains]

    def charge(self, session: Session, seconds: float) -> None:
        """What working on the chunk has cost that `pop` gave."""
        session.time_used += seconds
        self._at_work = None
        if session in self._chunks:
            self._enter(session)

    def spend(self, session: Session, seconds: float) -> None:
        """It has cost so much, whether something of it waits or not."""
        session.time_used += seconds

    def _enter(self, session: Session) -> None:
        heappush(self._order, (session.time_used, next(self._numbers), session))
