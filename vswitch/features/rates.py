"""Rates of a port, in both directions: bits and frames a second.

 policer   what is above the rate is dropped at once, and nothing is delayed: bits that come in, and
           frames either way. Its burst is 100 ms of the rate, at least two superframes. Below half
           of it one record is dropped now and then, so that TCP slows down before it loses many.
 shaper    what is above the rate waits in the queue of the port, which is fair between flows and
           does not stand (`switch/egress.py`): bits that go out. TCP loses next to nothing to it.

A superframe counts as what it is on a wire: each of its frames has headers of its own. It passes
whole or not at all. Bits are those of Ethernet frames without preamble and checksum.
"""

from __future__ import annotations

import attrs

from vswitch.config.quantities import to_frame_rate, to_rate
from vswitch.config.sources import option
from vswitch.features.base import Feature, Stages
from vswitch.frames.load import load_of, wire_bytes
from vswitch.frames.virtio import stands_for
from vswitch.switch.bucket import Bucket
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.shaper import Shaper
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

BURST = 0.1  # seconds of the rate
MIN_BURST_BYTES = 128 * 1024  # two superframes: less would never let one through after another
MIN_BURST_FRAMES = 128
EARLY = 0.5  # of the burst of bytes, below which there are early drops
EARLY_INTERVAL = 0.1  # seconds between two of them: about what TCP needs to answer one


@attrs.frozen(kw_only=True, slots=False)
class RateSettings:
    """Of a port."""

    rate_in: float | None = attrs.field(
        default=None,
        converter=to_rate,
        metadata=option("bits a second that the member may send, as 50M, or off"),
    )
    rate_out: float | None = attrs.field(
        default=None,
        converter=to_rate,
        metadata=option("bits a second that the member gets, as 50M, or off"),
    )
    frames_in: float | None = attrs.field(
        default=None,
        converter=to_frame_rate,
        metadata=option("frames a second that the member may send, as 10k, or off"),
    )
    frames_out: float | None = attrs.field(
        default=None,
        converter=to_frame_rate,
        metadata=option("frames a second that the member gets, as 10k, or off"),
    )


class RateDrop(Drop):
    """What is above a rate."""

    RATE_IN = "rate_in"  # more bits or frames a second than the port may send
    RATE_OUT = "rate_out"  # more bits or frames a second than the port is to get


@attrs.define(eq=False)
class RateStage:
    """The limits of a port in one direction; at least one of the two."""

    reason: RateDrop
    octets: Bucket | None
    frames: Bucket | None
    _next_early: float = attrs.field(init=False, default=0.0)

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """What is within the rates. HOT PATH."""
        load = load_of(records)
        size = load.bytes if not load.superframes else sum(map(wire_bytes, records))
        if self._is_early(now):
            counters.drop(self.reason, stands_for(records[0]))
            records = records[1:]
            load = load_of(records)
            size = sum(map(wire_bytes, records))
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

    def _is_early(self, now: float) -> bool:
        """Whether it is time to warn whoever sends."""
        if self.octets is None or now < self._next_early:
            return False
        if self.octets.could(now, self.octets.burst * EARLY):
            return False
        self._next_early = now + EARLY_INTERVAL
        return True

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


def rate_stage(reason: RateDrop, bits: float | None, frames: float | None) -> RateStage | None:
    """The stage for limits a second; None if there are none."""
    if bits is None and frames is None:
        return None
    size = None if bits is None else bits / 8
    return RateStage(
        reason,
        None if size is None else Bucket(size, max(size * BURST, MIN_BURST_BYTES)),
        None if frames is None else Bucket(frames, max(frames * BURST, MIN_BURST_FRAMES)),
    )


class Rates(Feature[object, RateSettings]):
    """Limits in bits and frames a second; off unless a port has some."""

    def __init__(self, switch: Switch) -> None:
        pass

    def port_stages(self, port: Port, settings: RateSettings) -> Stages:
        """What the member may send, and what it gets."""
        return Stages(
            rate_stage(RateDrop.RATE_IN, settings.rate_in, settings.frames_in),
            rate_stage(RateDrop.RATE_OUT, None, settings.frames_out),
            None if settings.rate_out is None else Shaper(settings.rate_out),
        )
