"""Sealed units that arrived in several slices: collected until whole, bounded, oldest out first.

A slice is a datagram; all of a unit share receiver index and counter and say how many they are.
Nothing here is authentic yet: whoever can read a path can write slices that spoil a unit, as it
could drop one. What it cannot do is make us keep more than a few units of each session.

Error contract: `add_untrusted` raises `BadPacket` for a slice that contradicts itself or others.
"""

from __future__ import annotations

from transport.constants import DATA_HEADER_SIZE, MAX_SLICES, PARTIAL_BYTES, PARTIAL_UNITS
from transport.errors import BadPacket

__all__ = ["Assembly"]

_HEADER = DATA_HEADER_SIZE


class Assembly:
    """The partial units of one session."""

    __slots__ = ("_bytes", "_limit", "_parts", "evicted")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of sealed content, tag included, that a unit may have."""
        self._limit = limit
        # By index and counter: what is missing, and the pieces by place.
        self._parts: dict[bytes, list[bytes | None]] = {}
        self._bytes = 0  # of all pieces
        self.evicted = 0  # units that were given up

    def __len__(self) -> int:
        return len(self._parts)

    def add_untrusted(self, datagram: bytes) -> bytes | None:
        """Keep a slice; the whole unit, header of slice 0 in front, when it was the last one
        missing. HOT PATH.
        """
        place, slices = datagram[1], datagram[2]
        if not place < slices <= MAX_SLICES or datagram[3]:
            raise BadPacket("malformed")
        if len(datagram) > self._limit + _HEADER:
            raise BadPacket("malformed")
        key = datagram[4:_HEADER]
        parts = self._parts.get(key)
        if parts is None:
            if len(self._parts) >= PARTIAL_UNITS or self._bytes > PARTIAL_BYTES:
                self._forget(next(iter(self._parts)))
                self.evicted += 1
            parts = self._parts[key] = [None] * slices
        elif len(parts) != slices:
            raise BadPacket("malformed")
        if parts[place] is not None:
            raise BadPacket("replay")
        parts[place] = datagram if place == 0 else datagram[_HEADER:]
        self._bytes += len(datagram)
        if None in parts:
            return None
        self._forget(key)
        unit = b"".join(parts)  # type: ignore[arg-type]
        if len(unit) > self._limit + _HEADER:
            raise BadPacket("malformed")
        return unit

    def _forget(self, key: bytes) -> None:
        for part in self._parts.pop(key):
            if part is not None:
                self._bytes -= max(len(part), _HEADER)  # never below what is left
