"""From trains of datagrams to sealed units: slices are put together, across trains if need be.

A unit that needs several datagrams travels in slices; all share receiver index and counter and
say how many they are. Usually they lie side by side in one train and are joined in one go. What
comes scattered is kept until it is whole, bounded, oldest out first.

Nothing here is authentic yet: whoever can read a path can write slices that spoil a unit, as it
could drop one. What it cannot do is make us keep more than a few megabytes for each session.

Error contract: malformed slices are counted in `drops`; nothing is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from transport.constants import DATA_HEADER_SIZE, MAX_SLICES, PARTIAL_BYTES, PARTIAL_UNITS

__all__ = ["Assembly"]

_HEADER = DATA_HEADER_SIZE
_PLACES = [bytes((place,)) for place in range(MAX_SLICES)]


class Assembly:
    """The units of one session on their way in."""

    __slots__ = ("_bytes", "_drops", "_limit", "_parts", "_seen")

    def __init__(
        self, limit: int, drops: Counter[str], seen: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        """`limit`: bytes of sealed content, tag included, that a unit may have. `seen`: whether
        the unit that a slice belongs to has come in already.
        """
        self._limit = limit
        self._drops = drops
        self._seen = seen
        # By index and counter: the pieces by place, None where one is missing.
        self._parts: dict[bytes, list[bytes | None]] = {}
        self._bytes = 0  # of all pieces, headers included

    def __len__(self) -> int:
        """Units of which something is missing."""
        return len(self._parts)

    @property
    def waiting(self) -> int:
        """Slices that wait for others of their unit."""
        return sum(part is not None for parts in self._parts.values() for part in parts)

    def take_untrusted(self, train: bytes, size: int) -> list[bytes]:
        """The units that are whole now, each with the header of its slice 0 in front.

        `train`: datagrams of at least a header, of `size` bytes but the last. HOT PATH.
        """
        units: list[bytes] = []
        at, end = 0, len(train)
        while at < end:
            slices = train[at + 2]
            stop = at + slices * size
            if slices == 1:
                units.append(train[at:stop])
            elif 1 < slices <= MAX_SLICES and stop - size < end:
                stop = min(stop, end)
                tail = train[at + 2 : at + _HEADER]
                starts = range(at, stop, size)
                heads = [train[start + 1 : start + _HEADER] for start in starts]
                if heads != [place + tail for place in _PLACES[:slices]]:
                    stop = self._take_slice(train, at, size, units)
                elif stop - at - _HEADER * (slices - 1) > self._limit + _HEADER:
                    self._drops["malformed"] += slices
                else:
                    pieces = [train[start + _HEADER : start + size] for start in starts]
                    units.append(train[at : at + _HEADER] + b"".join(pieces))
            else:
                stop = self._take_slice(train, at, size, units)
            at = stop
        return units

    def _take_slice(self, train: bytes, at: int, size: int, units: list[bytes]) -> int:
        """One slice that lies apart from its neighbours; where the next datagram begins."""
        datagram = train[at : at + size]
        place, slices = datagram[1], datagram[2]
        key = datagram[4:_HEADER]
        parts = self._parts.get(key)
        if (
            not place < slices <= MAX_SLICES
            or len(datagram) > self._limit + _HEADER
            or (parts is not None and len(parts) != slices)
        ):
            self._drops["malformed"] += 1
        elif (parts is not None and parts[place] is not None) or self._seen(datagram):
            self._drops["replay"] += 1
        else:
            if parts is None:
                parts = self._parts[key] = [None] * slices
            parts[place] = datagram
            self._bytes += len(datagram)
            if None in parts:
                self._bound()  # for each slice, or one unit after the other could grow later
            else:
                unit = datagram[:0].join(
                    part if number == 0 else part[_HEADER:]
                    for number, part in enumerate(self._forget(key))
                )
                if len(unit) > self._limit + _HEADER:
                    self._drops["malformed"] += slices
                else:
                    units.append(unit)
        return at + size

    def _bound(self) -> None:
        while len(self._parts) > PARTIAL_UNITS or self._bytes > PARTIAL_BYTES:
            self._drops["incomplete"] += len(self._forget(next(iter(self._parts))))

    def _forget(self, key: bytes) -> list[bytes]:
        """Take a unit out; the pieces of it that came."""
        parts = [part for part in self._parts.pop(key) if part is not None]
        self._bytes -= sum(map(len, parts))
        return parts
