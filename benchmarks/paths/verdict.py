"""What is asked of a cell, and whether it was found. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs

from benchmarks.paths.cells import PathCell

__all__ = ["Check", "of_fairness", "of_matrix", "of_peers"]

GOODPUT, GOODPUT_LOSSY, GOODPUT_BURST = 85.0, 70.0, 50.0  # per cent of the rate
PING_MORE = 30.0  # ms above the path left alone
WIRE_CLEAN, WIRE_LOSSY = 1.15, 1.3  # bytes of IP for a byte of payload
LOSSY = 5.0  # per cent
TIMES_BEST_LOSSY, TIMES_BEST_CLEAN = 40.0, 0.9
P99_ROUNDS, P99_MORE = 2, 10.0  # round trips and ms
JAIN = 0.9
SHARE = (25.0, 75.0)  # per cent of the link, beside plain CUBIC


@attrs.frozen
class Check:
    """One target: `found` at least `low` and at most `high`."""

    what: str
    found: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def met(self) -> bool:
        return self.low <= self.found <= self.high

    def __str__(self) -> str:
        asked = "" if self.low == -math.inf else f" ≥ {self.low:g}"
        asked += "" if self.high == math.inf else f" ≤ {self.high:.3g}"
        return f"{self.what} {self.found:.3g}, asked{asked}"

    def row(self) -> dict[str, Any]:
        """For the result; no bound is null, which JSON knows."""
        bounds = {"low": self.low, "high": self.high}
        return {
            "what": self.what,
            "found": self.found if math.isfinite(self.found) else None,
            "met": self.met,
            **{name: value if math.isfinite(value) else None for name, value in bounds.items()},
        }


def of_matrix(cell: PathCell, figures: dict[str, Any]) -> list[Check]:
    """The targets for this path. Pings that were never answered count as endless."""
    goodput = figures["goodput_percent"]
    if cell.burst:
        return [Check("goodput %", goodput, low=GOODPUT_BURST)]
    lossy = cell.loss >= LOSSY
    checks = [Check("goodput %", goodput, low=GOODPUT_LOSSY if lossy else GOODPUT)]
    # The median of the path left alone: at 5 % its p95 has a lost packet in it already.
    alone = figures["ping_alone"].get("p50", math.nan)
    beside = _answered(figures["ping_beside"], 95)
    if cell.loss >= 1:
        checks.append(Check("ping p95 ms", beside, high=alone + cell.rtt + PING_MORE))
    elif cell.queue >= 1:
        checks.append(Check("ping p95 ms", beside, high=alone + PING_MORE))
    if cell.loss == 0:
        checks.append(Check("wire", figures["wire_per_payload"], high=WIRE_CLEAN))
    elif lossy:
        checks.append(Check("wire", figures["wire_per_payload"], high=WIRE_LOSSY))
    return checks


def of_peers(
    rtt: float, loss: float, ours: dict[str, Any], others: Iterable[dict[str, Any]]
) -> list[Check]:
    """Ours against the best of the others on the same path."""
    best = max((each["mbit"] for each in others), default=math.nan)
    times = ours["mbit"] / best if best else math.inf
    if loss < 1:
        return [Check("× best peer", times, low=TIMES_BEST_CLEAN)]
    limit = P99_ROUNDS * rtt + P99_MORE
    checks = [Check("× best peer", times, low=TIMES_BEST_LOSSY)]
    for key, words in (("ping_alone", "pings"), ("ping_beside", "pings beside it")):
        checks.append(Check(f"{words} lost", ours[key]["lost"], high=0))
        checks.append(Check(f"{words} p99 ms", _answered(ours[key], 99), high=limit))
    return checks


def of_fairness(figures: dict[str, Any]) -> list[Check]:
    """Several of ours, or one of ours and a plain CUBIC flow."""
    if figures["kind"].endswith("of ours"):
        return [Check("Jain", figures["jain"], low=JAIN)]
    return [Check("our share %", figures["share_percent"], *SHARE)]


def _answered(trips: dict[str, float], percent: int) -> float:
    """The percentile among all that were sent, as far as that many were answered."""
    if trips["lost"] > trips["sent"] * (1 - percent / 100):
        return math.inf
    return trips.get(f"p{percent}", math.inf)
