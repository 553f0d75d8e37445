"""Rates of a port: bits and frames a second, in one direction.

A policer: what is above the rate is dropped at once, and nothing is delayed. It has a burst, so
that TCP, which sends in bursts, finds its rate: 100 ms of the rate, at least two superframes.

A superframe counts as what it is on a wire: each of its frames has headers of its own. It passes
whole or not at all. Bits are those of Ethernet frames without preamble and checksum. Pure.
"""

from __future__ import annotations

import attrs

from vswitch.core.bucket import Bucket
from vswitch.core.counters import DropReason, PortCounters
from vswitch.core.load import load_of
from vswitch.core.records import FRAME, HEADER_SIZE
from vswitch.core.stages import Explained
from vswitch.core.virtio import FRAME_AT, TCP_CSUM_OFFSET, VIRTIO_HEADER, stands_for

__all__ = ["BURST", "MIN_BURST_BYTES", "RateStage", "rate_stage", "wire_bytes"]

BURST = 0.1  # seconds of the rate
MIN_BURST_BYTES = 128 * 1024  # two superframes: less would never let one through after another
MIN_BURST_FRAMES = 128
_FRAME_FLAG = FRAME & 0xFF


def wire_bytes(record: bytes) -> int:
    """Bytes of Ethernet frames that a record is on a wire."""
    if record[1] == _FRAME_FLAG or len(record) < FRAME_AT:
        return len(record) - HEADER_SIZE
    frames = stands_for(record)
    if frames == 1:
        return len(record) - FRAME_AT
    start: int
    _, _, _, _, start, offset = VIRTIO_HEADER.unpack_from(record, HEADER_SIZE)
    headers = start + 8
    if offset == TCP_CSUM_OFFSET and FRAME_AT + start + 12 < len(record):
        headers = start + (record[FRAME_AT + start + 12] >> 4) * 4
    return len(record) - FRAME_AT + (frames - 1) * headers


@attrs.define(eq=False)
class RateStage:
    """The limits of a port in one direction; at least one of the two."""

    reason: DropReason
    octets: Bucket | None
    frames: Bucket | None

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """What is within the rates. HOT PATH."""
        load = load_of(records)
        size = load.bytes if not load.superframes else sum(map(wire_bytes, records))
        if self._holds(size, load.frames) and self._allow(now, size, load.frames):
            return records
        kept = []
        for record in records:
            frames = stands_for(record)
            if self._allow(now, wire_bytes(record), frames):
                kept.append(record)
            else:
                counters.drop(self.reason, frames)
        return kept

    def explain(self, record: bytes, now: float) -> Explained:
        """Whether a record is within the rates now."""
        if self._could(now, wire_bytes(record), stands_for(record)):
            return Explained(record, "")
        return Explained(None, "above the rate of the port", self.reason)

    def _holds(self, size: int, frames: int) -> bool:
        """Whether a full bucket has so much: a batch that is more than that passes in part."""
        return (self.octets is None or size <= self.octets.burst) and (
            self.frames is None or frames <= self.frames.burst
        )

    def _allow(self, now: float, size: int, frames: int) -> bool:
        if not self._could(now, size, frames):
            return False
        if self.octets is not None:
            self.octets.allow(now, size)
        if self.frames is not None:
            self.frames.allow(now, frames)
        return True

    def _could(self, now: float, size: int, frames: int) -> bool:
        return (self.octets is None or self.octets.could(now, size)) and (
            self.frames is None or self.frames.could(now, frames)
        )


def rate_stage(reason: DropReason, bits: float | None, frames: float | None) -> RateStage | None:
    """The stage for limits a second; None if there are none."""
    if bits is None and frames is None:
        return None
    size = None if bits is None else bits / 8
    return RateStage(
        reason,
        None if size is None else Bucket(size, max(size * BURST, MIN_BURST_BYTES)),
        None if frames is None else Bucket(frames, max(frames * BURST, MIN_BURST_FRAMES)),
    )
