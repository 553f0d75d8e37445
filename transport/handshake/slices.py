"""Inits and responses in slices, for paths that do not take a hybrid one whole.

An initiator whose whole init did not get through, or does not fit its interface, sends it in three
datagrams of 548 bytes at most, each with its own MACs. The responder keeps a slice only if its mac2
is right, so memory costs an address that can be read at; what has no proof is answered with a
cookie. An answer to slices comes in slices, together smaller than they were.

Slices may come in any order, and again: the initiator sends all of them until one of each has come.
What was kept goes after `SLICE_LIFETIME`, or when a newer message needs its place. That is taken
from whoever has most of them, so nobody pushes out who has less.

Pure; `now` in seconds. Raises nothing: the sizes of slices leave no two ways to join them.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from attrs import define

from transport.wire.datagrams import HandshakeSlice

SLICE_LIFETIME: Final = 5.0  # seconds from the first slice of a message to its last
SLICED_INITS: Final = 512  # that are incomplete, 1.5 kB each: all members of a site at once


@define(eq=False)
class _Partial:
    group: Hashable
    expires: float
    pieces: list[bytes]


class SliceTable:
    """Messages that are not whole yet, the oldest first."""

    def __init__(self, most: int = SLICED_INITS) -> None:
        self._most = most
        self._partial: dict[Hashable, _Partial] = {}
        self._groups: dict[Hashable, dict[Hashable, None]] = {}  # what each has, oldest first

    def __len__(self) -> int:
        return len(self._partial)

    def add(
        self, piece: HandshakeSlice, source: Hashable, group: Hashable, now: float
    ) -> bytes | None:
        """The whole message, if this slice was the last that it lacked.

        Args:
            source: whose slices belong together, an address and a port.
            group: who shares what one may have of the table.
        """
        key = (source, piece.id)
        partial = self._partial.get(key)
        if partial is not None and now >= partial.expires:
            self._remove(key)
            partial = None
        if partial is None:
            self._make_room(now)
            partial = _Partial(group, now + SLICE_LIFETIME, [b""] * piece.count)
            self._partial[key] = partial
            self._groups.setdefault(group, {})[key] = None
        if not partial.pieces[piece.number]:
            partial.pieces[piece.number] = piece.piece
        if not all(partial.pieces):
            return None
        self._remove(key)
        return b"".join(partial.pieces)

    def _make_room(self, now: float) -> None:
        while self._partial:
            oldest = next(iter(self._partial))
            if now < self._partial[oldest].expires:
                break
            self._remove(oldest)
        if len(self._partial) >= self._most:
            largest = max(self._groups.values(), key=len)
            self._remove(next(iter(largest)))

    def _remove(self, key: Hashable) -> None:
        group = self._partial.pop(key).group
        of_group = self._groups[group]
        del of_group[key]
        if not of_group:
            del self._groups[group]
