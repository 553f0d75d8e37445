"""How long to look, and at how much. Pure."""

from __future__ import annotations

import attrs

__all__ = ["FULL", "QUICK", "Plan"]


@attrs.frozen
class Plan:
    """Seconds, rates a second."""

    seconds: float = 10.0  # of each look
    mbit: float = 60.0  # offered from A to B: less than what the machine can carry
    flood: float = 20_000.0  # initiations a second
    rounds: int = 3  # of alone, flood elsewhere, flood; the median counts
    spray: float = 400.0  # datagrams a second to the stalled member, and as many to all
    pings: int = 200  # of each look, 50 ms apart
    outages: tuple[float, ...] = (5.0, 30.0, 59.0)
    mtus: tuple[int, ...] = (1300, 1280, 1000)
    rebindings: int = 12  # of a NAT, five seconds apart


FULL = Plan()
QUICK = Plan(
    seconds=4.0,
    mbit=20.0,
    flood=5_000.0,
    rounds=1,
    pings=60,
    outages=(5.0,),
    mtus=(1280,),
    rebindings=3,
)
