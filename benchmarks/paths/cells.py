"""Which paths are measured, and how long. Pure.

A cell of the matrix is one bottleneck, the same both ways. Its name is what `--only` looks for:
`20x50-q1-l5` is 20 Mbit/s, a round trip of 50 ms, a queue of 1 BDP, 5 % loss; `b5` instead of
`l5` is the same loss in bursts.
"""

from __future__ import annotations

from itertools import product

import attrs

from vswitch.lab import PathSpec, WireSpec

__all__ = [
    "FULL_LOSSES",
    "FULL_QUEUES",
    "FULL_RATES",
    "FULL_RTTS",
    "PEER_LOSSES",
    "PEER_RTT",
    "PathCell",
    "Plan",
    "full_cells",
    "open_path",
    "quick_cells",
]

FULL_RATES, FULL_RTTS = (5, 20, 100), (10, 50, 200)  # Mbit/s, ms
FULL_QUEUES, FULL_LOSSES = (0.25, 1.0, 4.0), (0.0, 0.1, 1.0, 5.0)  # BDP, per cent each way
BURST_LOSS, BURST_LENGTH = 5.0, 10.0  # per cent, packets
# Bytes: what is shorter holds no packet while another is on the link, which no router does. A
# quarter BDP is less at 5 Mbit/s and 10 ms alone.
LEAST_QUEUE = 3000
PEER_RTT = 50  # ms
PEER_LOSSES = (0.0, 1.0, 5.0)  # per cent, each way


@attrs.frozen
class PathCell:
    """One path of the matrix."""

    rate: float  # Mbit/s of IP packets
    rtt: float  # ms
    queue: float = 1.0  # BDP
    loss: float = 0.0  # per cent, each way
    burst: bool = False  # the loss comes in runs of BURST_LENGTH

    @property
    def name(self) -> str:
        letter = "b" if self.burst else "l"
        return f"{self.rate:g}x{self.rtt:g}-q{self.queue:g}-{letter}{self.loss:g}"

    @property
    def bdp(self) -> float:
        """Bytes that the path holds without its queue."""
        return self.rate * 1e6 / 8 * self.rtt / 1e3

    def spec(self, *, lossless: bool = False) -> PathSpec:
        """One direction of it."""
        loss = 0.0 if lossless else self.loss / 100
        return PathSpec(
            rate=self.rate * 1e6,
            queue=max(int(self.bdp * self.queue), LEAST_QUEUE),
            delay=self.rtt / 2e3,
            loss=0.0 if self.burst else loss,
            burst_loss=loss if self.burst else 0.0,
            burst_length=BURST_LENGTH if self.burst else 1.0,
        )

    def wire(self) -> WireSpec:
        """Both directions, as a bed is opened with: nothing is lost while members join."""
        return WireSpec(forward=self.spec(lossless=True), back=self.spec(lossless=True), seed=1)


def full_cells() -> list[PathCell]:
    """The matrix, and a cell with burst loss for each rate and round trip."""
    matrix = product(FULL_RATES, FULL_RTTS, FULL_QUEUES, FULL_LOSSES)
    return [PathCell(*each) for each in matrix] + [
        PathCell(rate, rtt, 1.0, BURST_LOSS, burst=True)
        for rate, rtt in product(FULL_RATES, FULL_RTTS)
    ]


def quick_cells() -> list[PathCell]:
    """A sixth of them: a cross through the middle, 1 BDP of queue."""
    paths = ((20, 10), (20, 50), (20, 200), (5, 50), (100, 50))
    return [PathCell(rate, rtt, 1.0, loss) for rate, rtt in paths for loss in PEER_LOSSES] + [
        PathCell(20, 50, 1.0, BURST_LOSS, burst=True)
    ]


def open_path(rtt: float, loss: float = 0.0) -> PathSpec:
    """One direction of a path without a bottleneck; `loss` in per cent."""
    return PathSpec(delay=rtt / 2e3, loss=loss / 100)


@attrs.frozen
class Plan:
    """How long to look."""

    seconds: float  # of a stream; its first third counts for nothing
    pings: int  # before it, with the path to themselves
    every: float = 0.05  # s between two pings
    congestion: str = "cubic"  # of the streams' own TCP

    @property
    def warm_up(self) -> float:
        """Seconds of the stream that count for nothing."""
        return self.seconds / 3
