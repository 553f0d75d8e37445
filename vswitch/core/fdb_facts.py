"""What the FDB says of itself, and whom it asks about addresses that are new on a port. Pure."""

from __future__ import annotations

from typing import Protocol

import attrs

from vswitch.core.counters import DropReason

__all__ = ["Admission", "FdbEntry", "FdbStatistics"]


@attrs.frozen
class FdbEntry:
    """One station, for status pages."""

    vlan: int  # 0: untagged
    mac: str
    port: int
    age: float  # seconds since it was last heard, to one second; 0 for a static one
    static: bool = False


@attrs.frozen
class FdbStatistics:
    """What happened to entries so far.

    A growing `evicted` means more stations than the table holds, or a port inventing addresses; a
    growing `moved`, a station that roams, or a loop.
    """

    entries: int
    capacity: int
    learned: int
    expired: int
    evicted: int
    flushed: int
    moved: int  # heard on another port than before
    static: int = 0  # of the entries


class Admission(Protocol):
    """Who may be learned where."""

    def admits(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> DropReason | None:
        """Why an address that is new on a port may not be there; None if it may, and will be.
        `known` is the port where it was heard until now.
        """

    def thaw(self) -> None:
        """Stations have moved for a reason that is over."""

    def judges(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> DropReason | None:
        """What `admits` would say; nothing is noted."""
