"""How large sealed units are: many slices while nothing is lost, one when something is.

A unit of many slices costs as many kernel and Python steps as a small one, but one lost datagram
loses all of it. So the size halves to the smallest at a loss and doubles after enough bytes went
through without one: at 1 % loss it stays at one slice, at 0.1 % at a few, below at the most.

Pure arithmetic; the losses are those that KCP repaired.
"""

from __future__ import annotations

from transport.constants import KCP_HEADER_SIZE, SLICE_SIZE, TAG_SIZE

__all__ = ["UnitSize", "unit_bytes"]

# Bytes without a loss, per slice now, before the size doubles: at one slice the 180 datagrams of
# 256 kB pass unharmed with probability 0.16 at 1 % loss, and 0.83 at 0.1 %.
CLEAN_BYTES = 256 * 1024


def unit_bytes(slices: int, slice_size: int = SLICE_SIZE) -> int:
    """Bytes of plaintext in a unit of so many full slices."""
    return slices * slice_size - TAG_SIZE


class UnitSize:
    """The size of the units that one session sends."""

    __slots__ = ("_clean", "_kcp_mtu", "_most", "slice_size", "slices")

    def __init__(self, kcp_mtu: int) -> None:
        """`kcp_mtu`: bytes of the largest unit that both sides take."""
        self._kcp_mtu = kcp_mtu
        self._clean = 0
        self.slices = self._most = 1
        self.resize(SLICE_SIZE)
        self.slices = self._most

    def resize(self, slice_size: int) -> None:
        """The path takes datagrams of another size: as many slices as before, or all that fit."""
        whole = self.slices == self._most
        self.slice_size = slice_size  # bytes of a unit in one datagram
        self._most = -(-(self._kcp_mtu + TAG_SIZE) // slice_size)
        self.slices = self._most if whole else min(self._most, self.slices)

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one unit now."""
        return min(self._kcp_mtu, unit_bytes(self.slices, self.slice_size)) - KCP_HEADER_SIZE

    def on_sent(self, size: int, *, repaired: bool) -> None:
        """So many bytes left; `repaired` when some of them had left before. HOT PATH."""
        if repaired:
            self.slices, self._clean = 1, 0
        elif self.slices < self._most:
            self._clean += size
            if self._clean >= CLEAN_BYTES * self.slices:
                self.slices, self._clean = min(self._most, 2 * self.slices), 0
