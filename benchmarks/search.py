"""The search for the highest rate that loses next to nothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

__all__ = ["LOSS_LIMIT", "Probe", "best_clean"]

LOSS_LIMIT = 0.01  # of what was sent
SHORT = 0.9  # a sender that reaches less than this of what it was asked for is at its own limit
BACK = 0.9  # of what came through when too much was offered: a rate that should hold
UP = 1.5  # how much more to try after a rate that held


@attrs.frozen
class Probe:
    """One attempt. Rates are datagrams a second."""

    offered: float  # what was asked of the sender
    sent: float
    received: float
    loss: float  # share of the sent ones, 0 to 1

    @property
    def clean(self) -> bool:
        return self.received > 0 and self.loss < LOSS_LIMIT


def best_clean(
    probe: Callable[[float], Probe], start: float, steps: int, known: list[Probe] | None = None
) -> tuple[Probe | None, list[Probe]]:
    """Try at most `steps` rates from `start` on: the best clean attempt, and all of them.

    `known` are attempts that were made before; they narrow the search and count as found.
    """
    tried = list(known or ())
    rate = start
    for _ in range(steps):
        low = max((each.offered for each in tried if each.clean), default=0.0)
        high = min((each.offered for each in tried if not each.clean), default=math.inf)
        if tried and any(each.clean and each.sent < SHORT * each.offered for each in tried):
            break  # the sender's limit, not the peer's
        if not low < rate < high:
            rate = math.sqrt(low * high) if low and math.isfinite(high) else max(low, 1) * UP
        if math.isfinite(high) and low > high * (1 - LOSS_LIMIT * 5):
            break
        attempt = probe(rate)
        tried.append(attempt)
        if attempt.clean:
            rate = rate * UP if rate * UP < high else math.sqrt(rate * high)
        else:
            below = min(BACK * attempt.received, rate / 1.2)
            rate = below if below > low else math.sqrt(max(low, 1) * rate)
    best = max((each for each in tried if each.clean), key=lambda e: e.received, default=None)
    return best, tried
