"""Flows of reliable lanes over one bottleneck, in virtual time: no sockets, no clock, no Trio.

The lanes are the real ones, with KCP in them; sealing and the session are not here, but units leave
as a session lets them: cut into datagrams, the large ones of a path that has become slow in pieces.
The way forward has a rate and a queue that drops what does not fit, both ways lose and delay. The
same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import count
from math import inf
from typing import Protocol

from attrs import Factory, define, field

from transport.constants import DATA_HEADER_SIZE, KCP_MTU, RECEIVE_WINDOW, SLICE_SIZE, TAG_SIZE
from transport.lanes.reliable import ReliableLane

HEADERS = DATA_HEADER_SIZE + 28  # of a datagram beside the slice: ours, UDP's and IPv4's
LATE = 0.0005  # seconds that a timer may be late
SAMPLE = 0.005  # seconds between looks at the queue


@define
class Link:
    """One way of a path."""

    rate: float  # bits a second; infinite: never a queue
    queue: float  # bytes that may wait
    delay: float  # seconds
    loss: float = 0.0  # share, by chance
    burst: float = 0.0  # mean datagrams of a loss, one after the other; `loss` stays the share
    jitter: float = 0.0  # seconds more, evenly spread, so datagrams overtake
    bytes: int = field(default=0, init=False)  # that it took
    _free_at: float = field(default=0.0, init=False)
    _in_burst: bool = field(default=False, init=False)

    def waiting(self, now: float) -> float:
        """Seconds that the queue is long."""
        return max(0.0, self._free_at - now)

    def set_rate(self, rate: float, now: float) -> None:
        """What waits then leaves at the new rate."""
        self._free_at = now + self.waiting(now) * self.rate / rate
        self.rate = rate

    def send(self, size: int, now: float, rng: random.Random) -> float | None:
        """When a datagram arrives; None if it does not."""
        arrives = now
        if self.rate < inf:
            if self.waiting(now) * self.rate / 8 + size > self.queue:
                return None
            self._free_at = arrives = max(self._free_at, now) + size * 8 / self.rate
        self.bytes += size
        if self._loses(rng):
            return None
        return arrives + self.delay + self.jitter * rng.random()

    def _loses(self, rng: random.Random) -> bool:
        if not self.burst:
            return rng.random() < self.loss
        if self._in_burst:  # Gilbert's two states
            self._in_burst = rng.random() >= 1 / self.burst
        else:
            self._in_burst = rng.random() < self.loss / self.burst / (1 - self.loss)
        return self._in_burst


@define(eq=False)
class End:
    """One end of a flow: a lane and its way out."""

    lane: ReliableLane
    link: Link
    peer: End | None = None
    pieces: deque[tuple[list[int], int, bytes, float]] = Factory(deque)
    pieces_at: float = inf
    timer: float = inf
    partial: dict[int, int] = Factory(dict)  # datagrams of a unit that are missing yet


class Program(Protocol):
    """What uses the two lanes of a flow, in place of a sender that always has more."""

    def serve(self, end: End) -> None:
        """Give the lane of this end what it takes."""

    def take(self, end: End, messages: list[bytes]) -> None:
        """These have arrived at this end."""


@define
class Flow:
    """A sender and a receiver; what the one offers and the other got."""

    sender: End
    receiver: End
    start: float
    offered: float = inf  # bits a second
    size: int | None = None  # bytes of a message; what fills a unit else
    program: Program | None = None
    started: bool = False
    got: list[tuple[float, int]] = Factory(list)  # (time, bytes)
    sent_at: deque[float] = Factory(deque)
    delays: list[float] = Factory(list)  # of messages, with `offered`
    numbers: Iterator[int] = Factory(count)
    expected: Iterator[int] = Factory(count)

    def rate(self, start: float, end: float) -> float:
        """Bits of messages a second in that time."""
        return sum(size for at, size in self.got if start <= at < end) * 8 / (end - start)


class Network:
    """The bottleneck, its flows, and the time."""

    def __init__(self, forward: Link, back: Link, *, seed: int = 1) -> None:
        self.now = 0.0
        self.forward, self.back = forward, back
        self.flows: list[Flow] = []
        self.queue: list[tuple[float, float]] = []  # (time, seconds that it is long)
        self._rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._units = count()
        self.at(SAMPLE, self._look)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call it at that time."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), what))

    def flow(
        self,
        start: float = 0.0,
        *,
        offered: float = inf,
        size: int | None = None,
        program: Program | None = None,
        parity: bool = True,
    ) -> Flow:
        """One more sender, which has as much to send as the lane takes, or so much a second, or
        what `program` gives it; without `parity` both ends are of a version that has none.
        """
        ends = [End(_lane(parity), self.forward), End(_lane(parity), self.back)]
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        flow = Flow(*ends, start, offered, size, program)
        self.flows.append(flow)
        self.at(start, lambda: self._begin(flow))
        return flow

    def run(self, until: float) -> None:
        while self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def queue_p95(self, start: float, end: float) -> float:
        """Seconds."""
        waits = sorted(wait for at, wait in self.queue if start <= at < end)
        return waits[int(0.95 * len(waits))]

    def wire(self) -> float:
        """Bytes forward for each byte of messages that arrived."""
        return self.forward.bytes / sum(size for flow in self.flows for _, size in flow.got)

    def _look(self) -> None:
        self.queue.append((self.now, self.forward.waiting(self.now)))
        self.at(self.now + SAMPLE, self._look)

    # --- The program above the lanes -------------------------------------------------------------

    def _begin(self, flow: Flow) -> None:
        flow.started = True
        if flow.offered < inf:
            self._offer(flow)
        self.serve(flow, flow.sender)

    def _offer(self, flow: Flow) -> None:
        assert flow.size is not None
        message = next(flow.numbers).to_bytes(8, "big").ljust(flow.size, b"\0")
        flow.sender.lane.send([message], self.now)
        flow.sent_at.append(self.now)
        self.at(self.now + flow.size * 8 / flow.offered, lambda: self._offer(flow))
        self.serve(flow, flow.sender)

    def _take(self, flow: Flow, end: End) -> None:
        messages = end.lane.take_messages()
        if not messages:
            return
        if flow.program is not None:
            flow.program.take(end, messages)
            return
        if end is flow.sender:
            return
        flow.got.append((self.now, sum(map(len, messages))))
        for message in messages:
            number = next(flow.expected)
            if int.from_bytes(message[:8], "big") != number:
                raise AssertionError(f"message {number} is missing or comes twice")
            if flow.sent_at:
                flow.delays.append(self.now - flow.sent_at.popleft())

    # --- What a session does ---------------------------------------------------------------------

    def serve(self, flow: Flow, end: End) -> None:
        """After anything has happened to an end."""
        lane = end.lane
        if flow.program is not None:
            if flow.started:
                flow.program.serve(end)
        elif end is flow.sender and flow.started and flow.offered == inf:
            while lane.credit > 0:
                number = next(flow.numbers).to_bytes(8, "big")
                lane.send([number.ljust(lane.message_size, b"\0")], self.now)
        if self.now >= end.pieces_at:
            self._send_piece(flow, end)
        if lane.flush_due:
            self._send_units(flow, end)
        due = min(lane.deadline(), end.pieces_at)
        if due < end.timer:
            end.timer = due
            late = LATE * self._rng.random()
            self.at(max(due, self.now) + late, lambda: self._time_out(flow, end, due))

    def _time_out(self, flow: Flow, end: End, due: float) -> None:
        if end.timer == due:
            end.timer = inf
        end.lane.handle_timeout(self.now)
        self.serve(flow, end)

    def _send_units(self, flow: Flow, end: End) -> None:
        lane = end.lane
        units = lane.units_to_send(self.now, suspect=False, busy=bool(end.pieces))
        for unit in units:
            sizes = [
                min(SLICE_SIZE, len(unit) + TAG_SIZE - at)
                for at in range(0, len(unit) + TAG_SIZE, SLICE_SIZE)
            ]
            number, burst = next(self._units), lane.burst
            assert end.peer is not None
            end.peer.partial[number] = len(sizes)
            if len(sizes) <= burst:
                self._transmit(flow, end, sizes, number, unit)
                continue
            end.pieces += [
                (sizes[at : at + burst], number, unit, lane.spacing)
                for at in range(0, len(sizes), burst)
            ]
            if end.pieces_at == inf:
                self._send_piece(flow, end)
            left = self.now + sum(spacing for *_, spacing in end.pieces)
            lane.leaves_until(left)

    def _send_piece(self, flow: Flow, end: End) -> None:
        sizes, number, unit, spacing = end.pieces.popleft()
        self._transmit(flow, end, sizes, number, unit)
        end.pieces_at = self.now + spacing
        if not end.pieces:
            end.pieces_at = inf
            end.lane.flush_due = True

    def _transmit(self, flow: Flow, end: End, sizes: list[int], number: int, unit: bytes) -> None:
        """Some datagrams of a unit; it arrives when all of them have."""
        last, lost = 0.0, 0
        for size in sizes:
            arrives = end.link.send(size + HEADERS, self.now, self._rng)
            if arrives is None:
                lost += 1
            else:
                last = max(last, arrives)
        if not lost:
            self.at(last, lambda: self._arrive(flow, end, number, len(sizes), unit))

    def _arrive(self, flow: Flow, end: End, number: int, datagrams: int, unit: bytes) -> None:
        peer = end.peer
        assert peer is not None
        peer.partial[number] -= datagrams
        if not peer.partial[number]:
            del peer.partial[number]
            peer.lane.receive_units([unit], self.now)
            self._take(flow, peer)
            self.serve(flow, peer)


def _lane(parity: bool) -> ReliableLane:
    return ReliableLane(
        7,
        kcp_mtu=KCP_MTU,
        receive_window=RECEIVE_WINDOW,
        drops=Counter(),
        now=0.0,
        parity=parity,
    )


def bottleneck(
    mbit: float, rtt_ms: float, queue_bdp: float, loss: float = 0.0, *, seed: int = 1
) -> Network:
    """A path as the tables name it: a queue of so many bandwidth-delay products, no less than two
    datagrams; the same loss both ways.
    """
    rate, rtt = mbit * 1e6, rtt_ms / 1e3
    queue = max(3000.0, queue_bdp * rate * rtt / 8)
    forward = Link(rate, queue, rtt / 2, loss)
    return Network(forward, Link(inf, inf, rtt / 2, loss), seed=seed)


def jain(shares: list[float]) -> float:
    """Fairness: 1 when all are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
