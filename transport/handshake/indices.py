"""Receiver indices: the 32-bit numbers by which a peer names what its datagrams are for.

Random, so that an outsider cannot guess a live one; never zero; unique among the live ones. Those
of a responder have a part that only it can compute (`reset.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Any, contravariant=True)


class IndexTable(Generic[T]):
    """Index to owner."""

    __slots__ = ("_random", "owners")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random = random_bytes
        self.owners: dict[int, Any] = {}  # read by the demux for each run of datagrams

    def unused(self, form: Callable[[int], int] = int) -> int:
        """An index that nobody has; taken by the next assignment.

        `form` makes one of 32 bits of chance, where an index has to be of a certain form.
        """
        while True:
            index = form(int.from_bytes(self._random(4), "little"))
            if index and index not in self.owners:
                return index

    def __setitem__(self, index: int, owner: T) -> None:
        self.owners[index] = owner

    def release(self, index: int) -> None:
        self.owners.pop(index, None)
