"""Replay window: which counters of a peer have been seen, so that no datagram is taken twice.

A ring of the last 4,096 counters, slot = counter modulo 4,096 (the idea of RFC 6479 with whole
counters instead of bits: 32 kB per session, no shifting). A counter is new if it is above every
marked one, or within the window below the highest and not in its slot.

Invariant: for every counter, `mark` answers True at most once. `check` is a cheap look before the
AEAD opens and changes nothing; only what has opened may be marked, or forged counters would move
the window.

Error contract: nothing is raised for counters in 0 ... 2**64 - 1.
"""

from __future__ import annotations

from array import array
from typing import Final

from transport.constants import REJECT_AFTER_UNITS

WINDOW: Final = 4096  # counters; a burst of sealed units reordered by this much is still taken
COUNTER_LIMIT: Final = REJECT_AFTER_UNITS  # first counter that is never taken

_MASK: Final = WINDOW - 1
_EMPTY: Final = array("Q", [2**64 - 1]) * WINDOW  # above the limit: equals no counter that asks


class ReplayWindow:
    """The counters of one direction under one key."""

    __slots__ = ("_slots", "highest")

    highest: int
    """The highest marked counter, -1 before the first; read it, do not set it."""

    def __init__(self) -> None:
        self.highest = -1
        self._slots = _EMPTY[:]

    def check(self, counter: int) -> bool:
        """Would this counter be taken? True: open the datagram, then `mark` it."""
        highest = self.highest
        if counter > highest:
            return counter < COUNTER_LIMIT
        return highest - counter < WINDOW and self._slots[counter & _MASK] != counter

    def mark(self, counter: int) -> bool:
        """Record a counter whose datagram has opened.

        Returns:
            True if it was new. False if it has been marked, or has left the window, since
            `check` was asked (several datagrams of one burst); drop the datagram as a replay.
        """
        highest = self.highest
        if counter > highest:
            if counter >= COUNTER_LIMIT:
                return False
            self.highest = counter
        elif highest - counter >= WINDOW or self._slots[counter & _MASK] == counter:
            # An old counter must not overwrite its slot: the newer one there could come again.
            return False
        self._slots[counter & _MASK] = counter
        return True
