"""Load shedding in a flood of inits: how large a share of them the kernel lets in.

Each init costs the kernel and us some 30 µs until it has turned out to be worth nothing, whatever
the gate in `admission.py` says; twenty thousand a second would leave members nothing. Above `LIMIT`
a second the kernel is asked to drop most of them at random before they are queued
(`endpoint/udp.py`), so that about as many are left. Whoever is honest sends again, more copies each
time.

Those that carry a cookie's proof are counted and let in apart, so a flood of the usual kind, whose
senders cannot read what is answered, does not touch who has one.

Pure; `now` in seconds. Raises nothing.
"""

from __future__ import annotations

from math import inf
from typing import Final

LIMIT: Final = 5000.0  # inits a second of each kind that are looked at: a fifth of a core at most
SLOT: Final = 0.25  # seconds over which they are counted
LEAST: Final = 1 / 256  # of those that arrive

Shares = tuple[float, float]
"""Of the inits without and with a proof of address, from 0 to 1."""

OPEN: Final[Shares] = (1.0, 1.0)


class FloodGate:
    """The shares of one endpoint."""

    __slots__ = ("_seen", "_since", "shares")

    def __init__(self, now: float) -> None:
        self.shares = OPEN
        self._seen = [0, 0]
        self._since = now

    def saw(self, *, proven: bool, now: float) -> None:
        """An init has come through. HOT PATH of a flood."""
        seen = self._seen
        seen[proven] += 1
        flooded = seen[proven] >= LIMIT * SLOT * 2 and self.shares[proven] == 1.0
        if flooded or now - self._since >= SLOT:
            self._judge(now)

    def deadline(self) -> float:
        """When `handle_timeout` wants to be called: while something is held back."""
        return inf if self.shares == OPEN else self._since + SLOT

    def handle_timeout(self, now: float) -> None:
        """Open again when there is no flood any more."""
        if now >= self._since + SLOT:
            self._judge(now)

    def _judge(self, now: float) -> None:
        lasted = max(now - self._since, 1e-3)
        # Of a count that began long ago nobody knows when they came: the last slot will tell.
        if lasted <= 4 * SLOT:
            bare, proven = self._seen
            self.shares = (
                _share(bare / lasted, self.shares[0]),
                _share(proven / lasted, self.shares[1]),
            )
        elif self.shares != OPEN:
            self.shares = OPEN
        self._seen = [0, 0]
        self._since = now


def _share(rate: float, share: float) -> float:
    """The next share, where so many a second have come through with this one."""
    arriving = rate / share
    wanted = 1.0 if arriving <= LIMIT else max(LEAST, LIMIT / arriving)
    return min(wanted, 2 * share)  # a flood that has paused may go on
