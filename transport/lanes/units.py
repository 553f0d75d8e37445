"""How large sealed units are: many slices while nothing is lost, one when something is.

A unit of many slices costs as many kernel and Python steps as a small one, but one lost datagram
loses all of it. So the size begins with one slice, falls to it at a loss and doubles after enough
bytes went through without one: at 1 % loss it stays at one slice, at 0.1 % at a few, below at the
most. (Begun with large units, a path of 5 % loss stands still for seconds before the first of
them are through.) And a unit is never more than leaves in a millisecond at the pace of the path, or
two slices, or it would be a burst that a short buffer cannot hold.

Pure arithmetic.
"""

from __future__ import annotations

from math import inf
from typing import Final

from transport.congestion.pacing import burst
from transport.constants import KCP_HEADER_SIZE, MAX_SLICES, SLICE_SIZE, TAG_SIZE

# Bytes without a loss, per slice now, before the size doubles: at one slice the 180 datagrams of
# 256 kB pass unharmed with probability 0.16 at 1 % loss, and 0.83 at 0.1 %.
CLEAN_BYTES: Final = 256 * 1024
BURST: Final = 0.001  # seconds that a unit may take to leave, on a slow path, but
TOGETHER: Final = 2  # slices at least: headers are a ninth of one alone, and a twelfth of two
# Of a message in a pipe, where a unit has all that leave at once. On the next path each is a unit
# by itself: where that loses one datagram in ten, 300 kB have arrived after 1 s, with 12 slices
# after 3 s, with 16 after 10 s (simulated), and those of 44 need a hundred attempts each.
PIPE_SLICES: Final = 8


def unit_bytes(slices: int, slice_size: int = SLICE_SIZE) -> int:
    """Bytes of plaintext in a unit of so many full slices."""
    return slices * slice_size - TAG_SIZE


class UnitSize:
    """The size of the units that one session sends."""

    __slots__ = (
        "_clean_slices",
        "_kcp_mtu",
        "_limit",
        "allowed",
        "clean",
        "grows_at",
        "most",
        "pace",
        "slice_size",
        "slices",
    )

    def __init__(self, kcp_mtu: int) -> None:
        """`kcp_mtu`: bytes of the largest unit that both sides take."""
        self._kcp_mtu = kcp_mtu
        self._limit = MAX_SLICES
        self.clean = 0  # bytes since the last loss or growth; whoever sends adds what leaves
        self.grows_at: float = CLEAN_BYTES  # of them `grow` is to be called
        self.pace = inf
        self.allowed = self.slices = 1  # until the pace of the path is known
        self._clean_slices, self.most = 1, 2
        self.resize(SLICE_SIZE)

    def resize(self, slice_size: int) -> None:
        """The path takes datagrams of another size: as many slices as before, or all that fit."""
        whole = self._clean_slices == self.most
        self.slice_size = slice_size  # bytes of a unit in one datagram
        self.most = min(self._limit, -(-(self._kcp_mtu + TAG_SIZE) // slice_size))
        self._clean_slices = self.most if whole else min(self.most, self._clean_slices)
        self._await_growth()
        self.on_pace(self.pace)

    @property
    def message_size(self) -> int:
        """Bytes of a message that fills one unit now."""
        unit, most = self.slices * self.slice_size - TAG_SIZE, self._kcp_mtu
        return (unit if unit < most else most) - KCP_HEADER_SIZE

    def on_pace(self, pace: float) -> None:
        """Bytes a second that the path takes now; infinite while that is not known. HOT PATH."""
        self.pace = pace
        if pace < inf:
            allowed = burst(pace, BURST) / self.slice_size
            self.allowed = int(min(self.most, max(TOGETHER, allowed)))
        self.slices = min(self._clean_slices, self.allowed)

    def on_lost(self) -> None:
        """Something was lost."""
        self._clean_slices = self.slices = 1
        self.clean = 0
        self._await_growth()

    def change_path(self, *, in_pipe: bool) -> None:
        """The path is a pipe from now on, or none any more. Nothing gets lost in one, but a segment
        keeps its size on the path that comes after it, which may lose much.
        """
        self._limit = PIPE_SLICES if in_pipe else MAX_SLICES
        self.resize(self.slice_size)
        self.on_lost()
        if in_pipe:
            self._clean_slices = self.most
            self._await_growth()
            self.on_pace(self.pace)

    def grow(self) -> None:
        """Enough has left without a loss."""
        self._clean_slices, self.clean = min(self.most, 2 * self._clean_slices), 0
        self.slices = min(self._clean_slices, self.allowed)
        self._await_growth()

    def _await_growth(self) -> None:
        largest = self._clean_slices == self.most
        self.grows_at = inf if largest else CLEAN_BYTES * self._clean_slices
