"""How much memory the sessions of one endpoint hold together, and who is to go when it is too much.

Each session is bounded by itself; a thousand of them at their bounds are more than a host has. So
what they hold, and what the program above keeps of it, is summed up: above `TIGHT` of the limit
nobody new is let in, above `FULL` the session that holds most is ended, since that is the one that
neither reads nor acknowledges.

Pure bookkeeping, in bytes; constant time for each change.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

TIGHT: Final = 0.80  # of the limit
FULL: Final = 0.95

T = TypeVar("T", bound=Hashable)


class MemoryBudget(Generic[T]):
    """The accounts of all holders."""

    __slots__ = ("_held", "full_above", "tight_above", "total")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of all together."""
        if limit < 1:
            raise ValueError("a memory budget has at least one byte")
        self.total = 0
        self.tight_above = TIGHT * limit  # with a larger total nobody new should be let in
        self.full_above = FULL * limit  # with a larger one somebody has to go
        self._held: dict[T, int] = {}

    def account(self, holder: T, held: int) -> None:
        """`holder` has so many bytes now; with 0 it is forgotten. HOT PATH."""
        before = self._held.get(holder, 0)
        if held == before:
            return
        self.total += held - before
        if held:
            self._held[holder] = held
        else:
            del self._held[holder]

    def largest(self) -> T:
        """Who holds most. `ValueError` when nobody holds anything."""
        return max(self._held, key=self._held.__getitem__)
