"""Inits and responses in slices, for paths that do not take a hybrid one whole.

An initiator whose whole init did not get through, or does not fit its interface, sends it in up to
three datagrams of 548 bytes at most, each with its own MACs. The responder keeps a slice only if
its mac2 is right, so memory costs an address that can be read at; what has no proof is answered
with a cookie. An answer to slices comes in slices, together smaller than they were.

Slices may come in any order, and again. One that is lost costs a retry, of all: what was kept of
the others goes after `SLICE_LIFETIME`, or when a newer message needs its place.

Pure; `now` in seconds. Raises `BadPacket` where slices of one message do not fit together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

from attrs import define

from transport.errors import BadPacket
from transport.wire.datagrams import HandshakeSlice

SLICE_LIFETIME: Final = 2.0  # seconds from the first slice of a message to its last
SLICED_INITS: Final = 512  # that are incomplete, 1.5 kB each: all members of a site at once
SLICED_PER_GROUP: Final = 64  # of one host, or IPv6 /64


@define(eq=False)
class _Partial:
    group: Hashable
    expires: float
    pieces: list[bytes | None]
    missing: int


class SliceTable:
    """Messages that are not whole yet, the oldest first."""

    def __init__(self, most: int = SLICED_INITS, per_group: int = SLICED_PER_GROUP) -> None:
        self._most = most
        self._per_group = per_group
        self._partial: dict[Hashable, _Partial] = {}
        self._groups: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._partial)

    def add_untrusted(
        self, piece: HandshakeSlice, source: Hashable, group: Hashable, now: float
    ) -> bytes | None:
        """The whole message, if this slice was the last that it lacked.

        Args:
            source: whose slices belong together, an address and a port.
            group: who shares a part of the table.
        """
        key = (source, piece.id)
        partial = self._partial.get(key)
        if partial is not None and now >= partial.expires:
            self._remove(key)
            partial = None
        if partial is None:
            self._make_room(group, now)
            partial = _Partial(group, now + SLICE_LIFETIME, [None] * piece.count, piece.count)
            self._partial[key] = partial
            self._groups[group] += 1
        if piece.count != len(partial.pieces):
            raise BadPacket("malformed")
        if partial.pieces[piece.number] is None:
            partial.pieces[piece.number] = piece.piece
            partial.missing -= 1
        if partial.missing:
            return None
        self._remove(key)
        return b"".join(each for each in partial.pieces if each is not None)

    def _make_room(self, group: Hashable, now: float) -> None:
        while self._partial:
            oldest = next(iter(self._partial))
            if now < self._partial[oldest].expires:
                break
            self._remove(oldest)
        if self._groups[group] >= self._per_group:
            self._remove(next(k for k, each in self._partial.items() if each.group == group))
        elif len(self._partial) >= self._most:
            self._remove(next(iter(self._partial)))

    def _remove(self, key: Hashable) -> None:
        group = self._partial.pop(key).group
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]
