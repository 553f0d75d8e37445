"""Redundant transmission: duplicates of units on a lossy path, within a byte budget.

What is repeated holds up all that came after it, for as long as it takes: its copy goes with it.
And while a source uses little of the path, so does what leaves for the first time: a TCP that
begins doubles its speed each round trip until a loss held it up (HyStart, RFC 9406), and then it
takes a hundred of them. Those copies leave when nothing else wants to, and soon or not at all.

A path loses things from the first loss on, until enough has come through in a row; until a part of
that has, it may lose many, and one copy would not be enough. Copies have a budget: so much at
once, what is new some windows of it, and a share of what is sent. Small units are free.

Pure; sizes in bytes, times in seconds. No errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from transport.constants import SLICE_SIZE

CLEAN_UNITS: Final = 256  # in a row without a loss: a path that loses 1 % seldom shows as many
HALF_CLEAN_UNITS: Final = 64  # the same of one that loses 5 %, and whose frames take two datagrams
BUDGET: Final = 2 * 1024 * 1024  # bytes of copies at once; of what is new
BUDGET_WINDOWS: Final = 3  # times the window: a TCP that begins has sent two when it fills the path
BYTES_PER_COPY: Final = 10  # bytes have to be sent for one more
LARGEST_COPIED: Final = 2 * SLICE_SIZE  # of a unit; larger ones leave where little is lost
# Bytes of a unit that costs nothing: acknowledgements of a TCP, of which each that is lost holds up
# those behind it, and so the TCP.
SMALL: Final = 400
MOST_WAITING: Final = 256  # copies that wait; the oldest are forgotten


class Redundancy:
    """The duplicates that one lane sends."""

    __slots__ = ("_clean", "_most_new", "path_lossy", "spent", "waiting")

    def __init__(self) -> None:
        self._clean = CLEAN_UNITS  # units acknowledged since something was lost
        # The path has lost something, and has not shown since that this was all.
        self.path_lossy = False
        self.spent = 0  # bytes of the budget
        self._most_new = 0  # bytes of it that what is new may have
        # When each is of no more use, and the unit.
        self.waiting: deque[tuple[float, bytes]] = deque(maxlen=MOST_WAITING)

    def on_acked(self, units: int) -> None:
        """So many have arrived, of a path that is lossy. HOT PATH there."""
        self._clean += units
        self.path_lossy = self._clean < CLEAN_UNITS

    def on_lost(self) -> None:
        """Something was found lost."""
        self._clean = 0
        self.path_lossy = True

    def on_sent(self, size: int) -> None:
        """So many bytes leave, after some of the budget was `spent`."""
        self.spent = max(0, self.spent - size // BYTES_PER_COPY)

    def on_parity(self, size: int) -> None:
        """So many bytes of parity leave: what is new needs so many fewer copies."""
        if self.spent < self._most_new:
            self.spent = min(self.spent + size, self._most_new)

    def duplicates(self, units: Sequence[bytes]) -> list[bytes]:
        """What leaves at once beside these, which are repeated: one copy of each, at most."""
        return [unit for unit in units if self.path_lossy and self._pays(unit, BUDGET)]

    def defer(self, units: Sequence[bytes], until: float, window: int) -> None:
        """Copies of these, which are new, are of use until that time; `window`: bytes that may be
        under way.
        """
        self._most_new = min(BUDGET, BUDGET_WINDOWS * window)
        if self.path_lossy:
            for _ in range(2 if self._clean < HALF_CLEAN_UNITS else 1):
                self.waiting.extend([(until, unit) for unit in units])

    def take(self, now: float) -> bytes | None:
        """The next of those that wait, if one is of use still."""
        while self.waiting:
            until, unit = self.waiting.popleft()
            if now <= until and (len(unit) <= SMALL or self._pays(unit, self._most_new)):
                return unit
        return None

    def clear(self) -> None:
        """None of those that wait is of use."""
        self.waiting.clear()

    def _pays(self, unit: bytes, most: int) -> bool:
        if self.spent >= most or len(unit) > LARGEST_COPIED:
            return False
        self.spent += len(unit)
        return True
