"""Reassembly: from trains of datagrams to sealed units, whose slices are put together.

A unit that needs several datagrams travels in slices; all share receiver index and counter and
say how many they are. Usually they lie side by side in one train and are joined in one go. What
comes scattered, across trains too, is kept until it is whole, bounded, oldest out first.

Nothing here is authentic yet: whoever can read a path can write slices that spoil a unit, as it
could drop one. What it cannot do is make us keep more than a few megabytes for each session.

Error contract: malformed slices are counted in `drops`; nothing is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from transport.constants import DATA_HEADER_SIZE, MAX_SLICES, PARTIAL_BYTES, PARTIAL_UNITS
from transport.wire.trains import Bytes

Unit = tuple[bytes, Bytes]
"""The header of slice 0, which names the number of slices, and the sealed content behind it."""

_HEADER = DATA_HEADER_SIZE
_PLACES = bytes(range(MAX_SLICES))


class Reassembly:
    """The units of one session on their way in."""

    __slots__ = ("_drops", "_limit", "_parts", "_seen", "held")

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
        self.held = 0  # bytes that wait for others of their unit, headers included

    def __len__(self) -> int:
        """Units of which something is missing."""
        return len(self._parts)

    @property
    def waiting(self) -> int:
        """Slices that wait for others of their unit."""
        return sum(part is not None for parts in self._parts.values() for part in parts)

    def clear(self) -> None:
        """The session is over: what waits is of no use."""
        self._parts.clear()
        self.held = 0

    def take_untrusted(self, train: Bytes, size: int) -> list[Unit]:
        """The units that are whole now; good as long as the train is.

        `train`: datagrams of at least a header, of `size` bytes but the last. HOT PATH.
        """
        units: list[Unit] = []
        at, end = 0, len(train)
        while at < end:
            slices = train[at + 2]
            stop = at + slices * size
            if slices == 1:
                units.append((bytes(train[at : at + _HEADER]), train[at + _HEADER : stop]))
            elif 1 < slices <= MAX_SLICES and stop - size < end:
                stop = min(stop, end)
                if not _in_order(train, at, stop, size):
                    stop = self._take_slice(train, at, size, units)
                elif stop - at - _HEADER * slices > self._limit:
                    self._drops["malformed"] += slices
                else:
                    view, step = memoryview(train), size - _HEADER
                    pieces = [view[a : a + step] for a in range(at + _HEADER, stop, size)]
                    units.append((bytes(train[at : at + _HEADER]), b"".join(pieces)))
            else:
                stop = self._take_slice(train, at, size, units)
            at = stop
        return units

    def _take_slice(self, train: Bytes, at: int, size: int, units: list[Unit]) -> int:
        """One slice that lies apart from its neighbours; where the next datagram begins."""
        datagram = bytes(train[at : at + size])
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
            self.held += len(datagram)
            if None in parts:
                self._bound()  # for each slice, or one unit after the other could grow later
            else:
                pieces = self._forget(key)
                sealed = b"".join([piece[_HEADER:] for piece in pieces])
                if len(sealed) > self._limit:
                    self._drops["malformed"] += slices
                else:
                    units.append((pieces[0][:_HEADER], sealed))
        return at + size

    def _bound(self) -> None:
        while len(self._parts) > PARTIAL_UNITS or self.held > PARTIAL_BYTES:
            self._drops["incomplete"] += len(self._forget(next(iter(self._parts))))

    def _forget(self, key: bytes) -> list[bytes]:
        """Take a unit out; the pieces of it that came."""
        parts = [part for part in self._parts.pop(key) if part is not None]
        self.held -= sum(map(len, parts))
        return parts


def _in_order(train: Bytes, at: int, stop: int, size: int) -> bool:
    """Whether the datagrams from `at` to `stop` are the slices of one unit, from 0 on. HOT PATH.

    A look at their numbers and at the end of the counter is enough: it is the AEAD that says
    whether they belong together.
    """
    slices, low, high = train[at + 2], train[at + 8], train[at + 9]
    return (
        train[at + 1 : stop : size] == _PLACES[:slices]
        and train[at + 2 : stop : size] == bytes((slices,)) * slices
        and train[at + 8 : stop : size] == bytes((low,)) * slices
        and train[at + 9 : stop : size] == bytes((high,)) * slices
    )
