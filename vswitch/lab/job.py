"""What a `Wire` and its carrier tell each other, pickled: data, and nothing that does anything."""

from __future__ import annotations

import attrs

from transport.emulation import Counts, PathSpec
from vswitch.lab.nat import NatCounts, NatSpec


@attrs.frozen(kw_only=True)
class WireSpec:
    """What a wire between A and B is like; its carrier's first message."""

    forward: PathSpec = attrs.field(factory=PathSpec)  # from A to B
    back: PathSpec = attrs.field(factory=PathSpec)
    nat: NatSpec | None = None  # at A: A is inside
    seed: int = 0


@attrs.frozen
class Carried:
    """What has happened so far."""

    forward: Counts
    back: Counts
    nat: NatCounts | None
    nat_ports: list[int]  # external ones in use
    late: int  # frames that left more than a millisecond after their time
    worst: float  # s: the latest of all
    refused: int  # frames that the kernel did not take
