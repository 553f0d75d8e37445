"""What leaves more than once, on a path that loses things; as far as that is cheap.

What is repeated holds up all that came after it, for as long as it takes: its copy goes with it.
And while a source uses little of the path, so does what leaves for the first time: a TCP that
begins doubles its speed each round trip until a loss held it up (HyStart, RFC 9406), and then it
takes a hundred of them. Those copies leave when nothing else wants to, and soon or not at all.

A path loses things from the first loss on, until enough has come through in a row; until a part of
that has, it may lose many, and one copy would not be enough. Copies have a budget: so much at once,
what is new some windows of it, and a share of what is sent. Pure; sizes in bytes, times in seconds.
No errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from transport.constants import SLICE_SIZE

PROVEN: Final = 256  # units in a row without a loss: a path that loses 1 % seldom shows as many
HALF_PROVEN: Final = 64  # the same of one that loses 5 %, and whose frames take two datagrams
MOST: Final = 2 * 1024 * 1024  # bytes of copies at once; of what is new
MOST_WINDOWS: Final = 3  # times the window: a TCP that begins has sent two when it fills the path
SHARE: Final = 10  # bytes have to be sent for one more
DOUBLED_MOST: Final = 2 * SLICE_SIZE  # of a unit; large ones are for where next to nothing is lost
WAITING_MOST: Final = 256  # copies that wait; the oldest are forgotten


class Copies:
    """The copies of one lane."""

    __slots__ = ("_clean", "_most_new", "_spent", "_waiting")

    def __init__(self) -> None:
        self._clean = PROVEN  # units acknowledged since something was lost
        self._spent = 0  # bytes of the budget
        self._most_new = 0  # bytes of it that what is new may have
        # When each is of no more use, and the unit.
        self._waiting: deque[tuple[float, bytes]] = deque(maxlen=WAITING_MOST)

    @property
    def wanted(self) -> bool:
        """The path has lost something, and has not shown since that this was all."""
        return self._clean < PROVEN

    @property
    def waiting(self) -> bool:
        """`take` may have one."""
        return bool(self._waiting)

    def on_acked(self, units: int) -> None:
        """So many have arrived. HOT PATH."""
        self._clean += units

    def on_lost(self) -> None:
        """Something was found lost."""
        self._clean = 0

    def on_sent(self, size: int) -> None:
        """So many bytes leave. HOT PATH."""
        if self._spent:
            self._spent = max(0, self._spent - size // SHARE)

    def of(self, units: Sequence[bytes]) -> list[bytes]:
        """What leaves at once beside these, which are repeated: one copy of each, at most."""
        return [unit for unit in units if self.wanted and self._pays(unit, MOST)]

    def put_off(self, units: Sequence[bytes], until: float, window: int) -> None:
        """Copies of these, which are new, are of use until that time; `window`: bytes that may be
        under way.
        """
        self._most_new = min(MOST, MOST_WINDOWS * window)
        if self.wanted:
            for _ in range(2 if self._clean < HALF_PROVEN else 1):
                self._waiting.extend([(until, unit) for unit in units])

    def take(self, now: float) -> bytes | None:
        """The next of those that wait, if one is of use still."""
        while self._waiting:
            until, unit = self._waiting.popleft()
            if now <= until and self._pays(unit, self._most_new):
                return unit
        return None

    def forget(self) -> None:
        """None of those that wait is of use."""
        self._waiting.clear()

    def _pays(self, unit: bytes, most: int) -> bool:
        if self._spent >= most or len(unit) > DOUBLED_MOST:
            return False
        self._spent += len(unit)
        return True
