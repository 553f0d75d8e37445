"""One direction of an emulated path: a bottleneck with a bounded queue, then everything bad.

    way = Direction(PathSpec(rate=20e6, queue=125_000, delay=0.025, loss=0.01), seed=1)
    for arrival, bit in way.offer(1500, now):
        ...  # the packet arrives at `arrival`, with `bit` flipped unless that is None

A packet meets, in this order: a path that is down, the MTU, the queue, the link, loss,
duplication; then each copy by itself delay, jitter, reordering and corruption. So what is lost or
too late has used the link, as it does where the bottleneck is at home; what is too big or finds
the queue full has not. Sizes are whatever the caller counts in bytes, the MTU and the rate
with them: `transport.testing` and the lab's wire count IP packets.

Invariants: pure (`now` is an argument, in seconds, and never goes back); the same seed, specs and
offers give the same fates; packets that leave in order arrive in order, but for those that
jitter (unless `ordered`) or reordering delays; at every moment
`offered + duplicated = delivered + lost + queue_full + too_big + down`.

Errors: `ValueError` for a spec that no path can have; nothing else.
"""

from __future__ import annotations

import math
import random

import attrs

# Bytes by which the queue may be overfull: times are floats, and at 10 Gbit/s one step of them
# after a day of uptime is 0.02 bytes.
ROUNDING = 0.1
SLOWEST = 1.0  # bit/s: a slower link is one that is down
DEFAULT_QUEUE = 150_000  # bytes: 100 packets of 1,500, what small routers are shipped with


def _check(value: float, name: str, least: float, most: float = math.inf) -> None:
    if not least <= value <= most or value == math.inf:
        bounds = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        raise ValueError(f"{name} must be {bounds}, not {value}")


@attrs.frozen(kw_only=True)
class PathSpec:
    """What one direction of a path is like. The default is a perfect one."""

    rate: float | None = None  # bit/s; None: no limit, and no queue
    # Bytes that may wait, the rest of the packet on the link included. Whoever finds the link
    # idle passes, however long it is.
    queue: int = DEFAULT_QUEUE
    delay: float = 0.0  # s, one way, after the link
    jitter: float = 0.0  # s, uniform from 0 to this on top of the delay, for each packet
    ordered: bool = False  # jitter holds the later ones back rather than letting them overtake
    loss: float = 0.0  # probability for each packet, independently
    # Gilbert-Elliott: this share of all packets is lost in runs whose mean length, in packets, is
    # `burst_length` (geometrically distributed); on top of `loss`.
    burst_loss: float = 0.0
    burst_length: float = 1.0
    reorder: float = 0.0  # probability for each copy to be held back by `reorder_delay`
    reorder_delay: float = 0.0  # s
    duplicate: float = 0.0  # probability for each packet to arrive twice
    corrupt: float = 0.0  # probability for each copy that one random bit is flipped
    mtu: int | None = None  # bytes; what is longer vanishes
    up: bool = True  # down: what is offered is gone, what is under way arrives

    def __attrs_post_init__(self) -> None:
        for name in ("loss", "burst_loss", "reorder", "duplicate", "corrupt"):
            _check(getattr(self, name), name, 0, 1)
        for name in ("queue", "delay", "jitter", "reorder_delay"):
            _check(getattr(self, name), name, 0)
        _check(self.burst_length, "burst_length", 1)
        if self.mtu is not None:
            _check(self.mtu, "mtu", 1)
        if self.rate is not None:
            _check(self.rate, "rate", SLOWEST)
        if self.burst_entry > 1:
            raise ValueError(
                f"no runs of {self.burst_length:g} make a loss of {self.burst_loss:g}:"
                " the pauses between them would be shorter than a packet"
            )

    @property
    def burst_entry(self) -> float:
        """The probability that a packet after a delivered one begins a run of lost ones."""
        if self.burst_loss == 1:
            return math.inf
        return self.burst_loss / ((1 - self.burst_loss) * self.burst_length)


@attrs.define
class Counts:
    """Packets by fate, since the beginning."""

    offered: int = 0
    delivered: int = 0  # copies that arrive, damaged ones included
    lost: int = 0  # by chance, alone or in runs
    queue_full: int = 0
    too_big: int = 0
    down: int = 0
    duplicated: int = 0  # additional copies
    corrupted: int = 0
    reordered: int = 0  # held back; whether anything overtook them is not looked at
    delivered_bytes: int = 0


class Direction:
    """One direction of a path."""

    def __init__(self, spec: PathSpec, seed: int = 0) -> None:
        self.counts = Counts()
        self.last_drop = ""  # the name of the counter of what was dropped last
        self._chance = random.Random(seed).random
        self._empty_at = 0.0  # when the queue is empty, if nothing more is offered
        self._free_at = 0.0  # when the link has sent what it took; later only after a speed-up
        self._last_arrival = 0.0
        self._in_run = False  # of lost packets
        self._apply(spec)

    @property
    def spec(self) -> PathSpec:
        return self._spec

    def change(self, spec: PathSpec, now: float) -> None:
        """Be another path from now on; what was taken before keeps its time of arrival."""
        backlog = self.backlog(now)
        self._apply(spec)
        self._empty_at = now + backlog * self._per_byte
        self._free_at = max(self._free_at, self._empty_at)

    def backlog(self, now: float) -> float:
        """Bytes that wait for the link, the rest of the packet on it included."""
        return max(self._empty_at - now, 0.0) / self._per_byte if self._per_byte else 0.0

    def _apply(self, spec: PathSpec) -> None:
        self._spec = spec
        self._up = spec.up
        self._delay = spec.delay
        self._mtu: float = math.inf if spec.mtu is None else spec.mtu
        self._per_byte = 0.0 if spec.rate is None else 8 / spec.rate
        self._queue = spec.queue + ROUNDING
        self._entry, self._exit = spec.burst_entry, 1 / spec.burst_length
        self._in_run = self._in_run and spec.burst_loss > 0
        self._certain = not (
            spec.jitter
            or spec.loss
            or spec.burst_loss
            or spec.reorder
            or spec.duplicate
            or spec.corrupt
        )

    def offer(self, size: int, now: float) -> list[tuple[float, int | None]]:
        """Decide over a packet: when it arrives, and which bit is flipped, once for each copy.

        An empty list if it does not arrive at all; `last_drop` says why then. HOT PATH.
        """
        counts = self.counts
        counts.offered += 1
        if not self._up:
            counts.down += 1
            self.last_drop = "down"
            return []
        if size > self._mtu:
            counts.too_big += 1
            self.last_drop = "too_big"
            return []
        leaves = self._free_at if self._free_at > now else now
        if self._per_byte:
            empty = self._empty_at
            if empty <= now:
                empty = now
            elif (empty - now) / self._per_byte + size > self._queue:
                counts.queue_full += 1
                self.last_drop = "queue_full"
                return []
            sending = size * self._per_byte
            self._empty_at = empty + sending
            self._free_at = leaves = leaves + sending
        if not self._certain:
            return self._by_chance(size, leaves)
        arrival = leaves + self._delay
        if arrival < self._last_arrival:  # the delay became shorter
            arrival = self._last_arrival
        self._last_arrival = arrival
        counts.delivered += 1
        counts.delivered_bytes += size
        return [(arrival, None)]

    def _by_chance(self, size: int, leaves: float) -> list[tuple[float, int | None]]:
        spec, chance, counts = self._spec, self._chance, self.counts
        if spec.burst_loss:
            self._in_run = chance() >= self._exit if self._in_run else chance() < self._entry
        # A number is drawn for each thing that the spec has, whatever came of the one before.
        lost = bool(spec.loss) and chance() < spec.loss
        copies = 2 if spec.duplicate and chance() < spec.duplicate else 1
        if lost or self._in_run:
            counts.lost += 1
            self.last_drop = "lost"
            return []
        counts.duplicated += copies - 1
        counts.delivered += copies
        counts.delivered_bytes += copies * size
        return [(self._arrival(leaves), self._damage(size)) for _ in range(copies)]

    def _arrival(self, leaves: float) -> float:
        spec, chance = self._spec, self._chance
        arrival = leaves + spec.delay + (spec.jitter * chance() if spec.jitter else 0.0)
        if spec.reorder and chance() < spec.reorder:
            self.counts.reordered += 1
            return arrival + spec.reorder_delay
        if spec.ordered or not spec.jitter:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        return arrival

    def _damage(self, size: int) -> int | None:
        if not self._spec.corrupt or self._chance() >= self._spec.corrupt or not size:
            return None
        self.counts.corrupted += 1
        return int(self._chance() * size * 8)


def flip(packet: bytes, bit: int, offset: int = 0) -> bytes:
    """The packet with one bit flipped, counted from byte `offset`."""
    at = offset + bit // 8
    return packet[:at] + bytes((packet[at] ^ (1 << bit % 8),)) + packet[at + 1 :]
