"""Units that were sealed whole and leave in pieces: on a path too narrow for them at once.

A unit keeps its size when it is sent again, and may be from a time when the path was faster. All at
once it would be longer than the queue before the narrowest place, and never get through; so its
datagrams leave a few at a time, with a pause after each few.

Pure; `now` in seconds.
"""

from __future__ import annotations

from collections import deque
from math import inf

from transport.trains import Bytes

__all__ = ["Trickle"]

Piece = tuple[Bytes, int]
"""A train's bytes, and the size of its datagrams."""


class Trickle:
    """The pieces of one session that wait for their moment."""

    __slots__ = ("_pieces", "at")

    def __init__(self) -> None:
        self._pieces: deque[tuple[Bytes, int, float]] = deque()  # with the pause after each
        self.at = inf  # when the next is due

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def add(self, train: Bytes, size: int, burst: int, pause: float, now: float) -> Piece | None:
        """Cut a train into pieces of `burst` datagrams. Gives the first if it may leave at once."""
        step = burst * size
        self._pieces += [(train[at : at + step], size, pause) for at in range(0, len(train), step)]
        if self.at < inf:
            return None
        self.at = now + pause
        first, size, _ = self._pieces.popleft()
        return first, size

    def next(self, now: float) -> Piece:
        """The piece that is due."""
        train, size, pause = self._pieces.popleft()
        self.at = now + pause if self._pieces else inf
        return train, size

    def done_at(self, now: float) -> float:
        """When the last has left, about."""
        return now + sum(pause for _, _, pause in self._pieces)

    def clear(self) -> None:
        """Forget all of them."""
        self._pieces.clear()
        self.at = inf
