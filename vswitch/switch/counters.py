"""What the switch counts, and the names of the reasons to drop a frame.

Invariant, exact to the frame, per switch: every frame that came in, and every further copy that
flooding made of it, either went out, was dropped under one named reason, or still waits:

    rx_frames + flood_copies = tx_frames + sum(drops) + queued + held

Held are frames that an impairment delays; copies are those of floods, mirrors and impairments.

A superframe counts as the frames that it stands for, whether or not it is cut on its way, and bytes
are those of Ethernet: see `frames/load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import attrs

from vswitch.frames.load import load_of


class Drop(StrEnum):
    """Why a frame went no further; the values are the names in status, metrics and logs.

    Whoever drops frames declares its reasons as members of a class of this: the switch in
    `DropReason`, a feature in its own file.
    """


class DropReason(Drop):
    """What the switch itself drops, whatever features are on."""

    # Counted at the port where the frame came in.
    RUNT = "runt"  # shorter than its Ethernet header, or than the tag it announces
    OVERSIZE = "oversize"  # longer than the switch's MTU, a header and two tags
    SOURCE_MULTICAST = "source_multicast"  # nobody can own a group address
    SOURCE_ZERO = "source_zero"  # 00:00:00:00:00:00 is no station
    RESERVED_DESTINATION = "reserved_destination"  # 01-80-C2-00-00-0X ends at a bridge (802.1D)
    SAME_PORT = "same_port"  # the destination is where the frame came from
    NO_DESTINATION = "no_destination"  # to be flooded, and there is no other port
    NOT_REACHED = "not_reached"  # the destination is on a port that this one does not reach
    MAC_REFUSED = "mac_refused"  # from an address that is another port's, or not one of this port's
    # A superframe that no honest kernel makes, to be flooded or to be cut.
    BAD_SUPERFRAME = "bad_superframe"
    # Counted at the port where the frame was to go out.
    QUEUE_FULL = "queue_full"  # the device takes frames more slowly than they come
    QUEUE_DELAY = "queue_delay"  # a flow has waited for the device too long, for too long (CoDel)
    PORT_DETACHED = "port_detached"  # the port went away before its device took the frame
    FEATURE_FAILED = "feature_failed"  # a fault of vswitch, which took the port down: see the log


@attrs.frozen
class CounterSnapshot:
    """Counters as they stood at one moment.

    A growing `queue_full` or `queue_delay` means that the port's device or its path is slower than
    what is sent to it; a growing `runt` or `oversize`, that its MTU does not match the switch's.
    """

    rx_frames: int  # into the switch
    rx_bytes: int
    tx_frames: int  # taken by the device
    tx_bytes: int
    flood_copies: int  # made of frames that came in here, beyond the first of each
    drops: Mapping[Drop, int]  # reasons that occurred; read-only

    @property
    def dropped(self) -> int:
        """Frames dropped, all reasons together."""
        return sum(self.drops.values())


@attrs.define(eq=False)
class PortCounters:
    """The running counters of one port. Plain integers: added to on every batch."""

    rx_frames: int = 0
    rx_bytes: int = 0
    tx_frames: int = 0
    tx_bytes: int = 0
    flood_copies: int = 0
    drops: dict[Drop, int] = attrs.Factory(dict)

    def drop(self, reason: Drop, frames: int) -> None:
        """Count `frames` dropped frames."""
        if frames:
            self.drops[reason] = self.drops.get(reason, 0) + frames

    def refuse(self, records: list[bytes], reason: Drop) -> None:
        """Count a batch that came in and went nowhere."""
        load = load_of(records)
        self.rx_frames += load.frames
        self.rx_bytes += load.bytes
        self.drop(reason, load.frames)

    def add(self, other: PortCounters) -> None:
        """Add the counts of another port, for totals."""
        self.rx_frames += other.rx_frames
        self.rx_bytes += other.rx_bytes
        self.tx_frames += other.tx_frames
        self.tx_bytes += other.tx_bytes
        self.flood_copies += other.flood_copies
        for reason, frames in other.drops.items():
            self.drop(reason, frames)

    def snapshot(self) -> CounterSnapshot:
        """The counts now, frozen."""
        return CounterSnapshot(
            rx_frames=self.rx_frames,
            rx_bytes=self.rx_bytes,
            tx_frames=self.tx_frames,
            tx_bytes=self.tx_bytes,
            flood_copies=self.flood_copies,
            drops=MappingProxyType(dict(self.drops)),
        )
