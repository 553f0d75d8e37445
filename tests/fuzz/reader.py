"""Bytes read as decisions: how an input tells a target what to do.

At its end an input gives zeros, so each prefix of an input is an input. Nothing is raised.
"""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

FILLER = bytes(range(256)) * 300  # what blobs are made of that say no content


class Reader:
    """An input, from front to back. True as long as something is left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, size: int = 1) -> int:
        """The next bytes as a number, little-endian."""
        return int.from_bytes(self.take(size), "little")

    def below(self, limit: int) -> int:
        return self.number(1 if limit <= 256 else 2) % limit

    def choice(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def chance(self, share: float) -> bool:
        """Never at the end of the input."""
        return self.number() > 255 * (1 - share)

    def edge(self, bits: int) -> int:
        """A number of so many bits, mostly next to where something changes."""
        kind = self.number()
        if kind >= 0xC0:
            return self.number(bits // 8)
        if kind >= 0x80:
            return kind - 0x80  # small
        power = 1 << min(bits, kind >> 1)
        return (power - (kind & 1)) % (1 << bits)

    def blob(self, limit: int) -> bytes:
        """Content of its own if it is short, a filler if it is long."""
        size = self.number()
        if size < 0xE0:
            return self.take(min(size, limit))
        return FILLER[: min(limit, self.number(2))]

    def rest(self) -> bytes:
        return self.take(len(self._data))
