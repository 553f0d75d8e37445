"""A TCP inside the LAN, on a simulated bottleneck: `python -m benchmarks.inner`.

The stream goes through two real lanes as a member's frames do: packets become records, records are
laid end to end and cut into messages, and what the lane does not take waits in a queue. Its
acknowledgements come back through the other lane. Nothing of it is ever lost, so what a controller
sees of a bad path is how long packets wait behind one that is repeated.

`Bbr` is version 1 as Linux has it (draft-cardwell-iccrg-bbr-congestion-control-00, and the bound on
aggregation that the kernel has added): rate and round trip are filtered, start-up, drain, eight
phases of gain, and a look at the empty path every ten seconds. `Cubic` is RFC 9438 with HyStart's
test of the round trip and without losses, so it only grows.

The stream is as fast as its host, and the path faster, unless told otherwise. The command shows for
each path and controller: goodput in Mbit/s, the inner round trip over that of the path (mean, and
95th percentile), and bytes on the wire for a byte of payload. The first third of a run is left out,
but for the wire.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Protocol

from attrs import Factory, define, field, frozen

from benchmarks.bottleneck import End, Flow, Network, bottleneck
from transport.lanes.reliable import ReliableLane

PAYLOAD = 1448  # bytes of a packet
OVERHEAD = 66  # of a frame around it: Ethernet, IPv4, TCP with its times
RECORD = 4  # flag and length
QUANTUM = 0.001  # seconds of the pace that leave together, as one superframe
SUPERFRAME = 44  # packets, at most
LIMIT = 4096  # packets under way, whatever the controller says: a receive window of 6 MB
SECONDS = 9.0
LINK = (
    4.0  # times what the stream's host makes: the queue at the bottleneck is not what is measured
)


@frozen
class Sample:
    """What one acknowledgement says."""

    acked: int  # packets
    rtt: float  # seconds, of the newest
    rate: float  # packets a second (draft-cheng-iccrg-delivery-rate-estimation)
    under_way: int  # packets, without those
    delivered: int  # packets since the beginning
    prior: int  # the same, when the newest of these was sent


class Control(Protocol):
    """The congestion control of an inner TCP; sizes in packets."""

    window: float
    pace: float  # packets a second

    def on_ack(self, sample: Sample, now: float) -> None: ...


class Bbr:
    """BBR, version 1."""

    HIGH = 2.885  # 2 / ln 2: doubles each round trip
    CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    MIN_RTT_LIFETIME, PROBE = 10.0, 0.2  # seconds
    ROUNDS = 10  # of the filter of rates, and of aggregation
    LEAST = 4.0  # packets
    MARGIN = 0.99  # of the rate, that is paced

    def __init__(self) -> None:
        self.window, self.pace = 10.0, inf
        self.mode, self._gain, self._window_gain = "startup", self.HIGH, self.HIGH
        self.min_rtt, self._min_rtt_at = inf, 0.0
        self._rates: deque[tuple[int, float]] = deque()  # (round, packets a second), falling
        self._round, self._round_ends = 0, 0
        self._full, self._full_rounds, self.filled = 0.0, 0, False
        self._phase, self._phase_at = 0, 0.0
        self._probe_until, self._before_probe = -1.0, 0.0
        self._epoch_at, self._epoch_acked = 0.0, 0.0
        self._extra: deque[tuple[int, float]] = deque()

    @property
    def rate(self) -> float:
        return self._rates[0][1] if self._rates else 0.0

    def _bdp(self, gain: float) -> float:
        return gain * self.rate * self.min_rtt

    def on_ack(self, sample: Sample, now: float) -> None:
        starts = sample.prior >= self._round_ends
        if starts:
            self._round += 1
            self._round_ends = sample.delivered
        self._keep(self._rates, sample.rate, self.ROUNDS)
        self._measure_aggregation(sample, now)
        self._advance_phase(sample, now)
        if starts and not self.filled:
            self._look_for_a_full_pipe()
        if self.mode == "startup" and self.filled:
            self.mode, self._gain, self._window_gain = "drain", 1 / self.HIGH, self.HIGH
        if self.mode == "drain" and sample.under_way <= self._bdp(1.0):
            self._cruise(now)
        self._update_min_rtt(sample, now)
        self._set_window(sample)

    def _keep(self, best: deque[tuple[int, float]], value: float, rounds: int) -> None:
        """A maximum over the last rounds."""
        while best and best[-1][1] <= value:
            best.pop()
        best.append((self._round, value))
        while best[0][0] <= self._round - rounds:
            best.popleft()

    def _measure_aggregation(self, sample: Sample, now: float) -> None:
        """How many more have been acknowledged, since an epoch began, than the rate explains."""
        expected = self.rate * (now - self._epoch_at)
        if self._epoch_acked <= expected:
            self._epoch_at, self._epoch_acked, expected = now, 0.0, 0.0
        self._epoch_acked += sample.acked
        extra = min(self._epoch_acked - expected, self.window)
        self._keep(self._extra, extra, self.ROUNDS)

    def _advance_phase(self, sample: Sample, now: float) -> None:
        if self.mode != "probe_bw":
            return
        lasted = now - self._phase_at > self.min_rtt
        if self._gain > 1:
            done = lasted and sample.under_way + sample.acked >= self._bdp(self._gain)
        elif self._gain < 1:
            done = lasted or sample.under_way <= self._bdp(1.0)
        else:
            done = lasted
        if done:
            self._phase, self._phase_at = (self._phase + 1) % len(self.CYCLE), now
            self._gain = self.CYCLE[self._phase]

    def _cruise(self, now: float) -> None:
        # Linux begins anywhere but in the phase that drains; 2 is one of those, and repeatable.
        self.mode, self._phase, self._phase_at = "probe_bw", 2, now
        self._gain, self._window_gain = self.CYCLE[self._phase], 2.0

    def _look_for_a_full_pipe(self) -> None:
        if self.rate >= 1.25 * self._full:
            self._full, self._full_rounds = self.rate, 0
            return
        self._full_rounds += 1
        self.filled = self._full_rounds >= 3

    def _update_min_rtt(self, sample: Sample, now: float) -> None:
        expired = now > self._min_rtt_at + self.MIN_RTT_LIFETIME
        if sample.rtt <= self.min_rtt or expired:
            self.min_rtt, self._min_rtt_at = sample.rtt, now
        if expired and self.mode != "probe_rtt":
            self.mode, self._gain, self._window_gain = "probe_rtt", 1.0, 1.0
            self._before_probe, self._probe_until = self.window, -1.0
        if self.mode != "probe_rtt":
            return
        if self._probe_until < 0:
            if sample.under_way <= self.LEAST:
                self._probe_until = now + max(self.PROBE, sample.rtt)
        elif now >= self._probe_until:
            self._min_rtt_at = now
            self.window = max(self.window, self._before_probe)
            if self.filled:
                self._cruise(now)
            else:
                self.mode, self._gain, self._window_gain = "startup", self.HIGH, self.HIGH

    def _set_window(self, sample: Sample) -> None:
        quantum = min(SUPERFRAME, max(2.0, self.rate * QUANTUM))
        extra = min(self._extra[0][1] if self._extra else 0.0, 0.1 * self.rate)
        target = self._bdp(self._window_gain) + 3 * quantum + (extra if self.filled else 0.0)
        if self.filled:
            self.window = min(self.window + sample.acked, target)
        elif self.window < target or sample.delivered < 10:
            self.window += sample.acked
        self.window = max(self.LEAST, self.window)
        if self.mode == "probe_rtt":
            self.window = min(self.window, self.LEAST)
        pace = self._gain * self.rate * self.MARGIN
        if self.filled or self.pace == inf or pace > self.pace:
            self.pace = pace


class Cubic:
    """CUBIC of a stream that loses nothing: slow start until all samples of a round are longer than
    the shortest ever by an eighth of it, as Linux has it, then the curve from there on.
    """

    C, NEEDED, LOW = 0.4, 8, 16  # samples of a round, and packets, before slow start may end

    def __init__(self) -> None:
        self.window, self.pace = 10.0, inf
        self._slow_start, self._epoch, self._best = True, 0.0, 0.0
        self._round_ends, self._samples, self._of_round = 0, 0, inf
        self._shortest = inf

    def on_ack(self, sample: Sample, now: float) -> None:
        if sample.prior >= self._round_ends:
            self._round_ends, self._samples, self._of_round = sample.delivered, 0, inf
        self._samples += 1
        self._of_round = min(self._of_round, sample.rtt)
        self._shortest = min(self._shortest, sample.rtt)
        if self._slow_start:
            self.window += sample.acked
            late = min(0.016, max(0.004, self._shortest / 8))
            seen = self._samples >= self.NEEDED and self.window >= self.LOW
            if seen and self._of_round > self._shortest + late:
                self._slow_start, self._epoch, self._best = False, now, self.window
            return
        target = self.C * (now - self._epoch + sample.rtt) ** 3 + self._best
        wanted = min(max(target, self.window), 1.5 * self.window)
        self.window += sample.acked * (wanted - self.window) / self.window


@define
class Packets:
    """Some packets that left together, as one superframe."""

    count: int
    sent: float
    ends: int  # bytes of the stream of records, with it
    delivered: int  # packets that had arrived when it left
    delivered_at: float
    first_sent: float


@define(eq=False)
class InnerTcp:
    """One stream, both ends of it."""

    network: Network
    control: Control
    fastest: float = inf  # packets a second that its host makes
    flow: Flow = field(init=False)
    got: list[tuple[float, int]] = Factory(list)  # (time, packets)
    rtts: list[tuple[float, float]] = Factory(list)  # (time, seconds)
    _sent: deque[Packets] = Factory(deque)  # and not yet acknowledged
    _arriving: deque[Packets] = Factory(deque)  # and not yet there
    _pending: int = 0  # bytes of records that no lane has taken
    _written: int = 0
    _read: int = 0
    _owed: int = 0  # bytes of acknowledgements that no lane has taken
    _under_way: int = 0
    _delivered: int = 0
    _delivered_at: float = 0.0
    _first_sent: float = 0.0
    _next: float = 0.0  # when the pace lets something leave
    _woken: bool = False
    _arrived: deque[int] = Factory(deque)  # superframes of each acknowledgement
    _acks_read: int = 0

    def start(self, *, parity: bool = True) -> None:
        self.flow = self.network.flow(program=self, parity=parity)

    def rate(self, start: float, end: float) -> float:
        """Bits of payload a second in that time."""
        packets = sum(count for at, count in self.got if start <= at < end)
        return packets * PAYLOAD * 8 / (end - start)

    def stretch(self, start: float, end: float, path: float) -> tuple[float, float]:
        """Mean and 95th percentile of the inner round trip, times that of the path."""
        rtts = sorted(rtt for at, rtt in self.rtts if start <= at < end)
        return sum(rtts) / len(rtts) / path, rtts[int(0.95 * len(rtts))] / path

    # --- What the network asks of a program -----------------------------------------------------

    def serve(self, end: End) -> None:
        """Give a lane what it takes."""
        lane = end.lane
        if end is self.flow.sender:
            self._send()
            self._pending -= self._give(lane, self._pending)
        else:
            self._owed -= self._give(lane, self._owed)

    def take(self, end: End, messages: list[bytes]) -> None:
        """What has arrived at an end."""
        size = sum(map(len, messages))
        if end is self.flow.sender:
            self._read_acks(size)
            return
        self._read += size
        superframes = packets = 0
        while self._arriving and self._arriving[0].ends <= self._read:
            packets += self._arriving.popleft().count
            superframes += 1
        if packets:
            self.got.append((self.network.now, packets))
            self._arrived.append(superframes)
            self._owed += OVERHEAD + RECORD

    # --- The sender -----------------------------------------------------------------------------

    def _give(self, lane: ReliableLane, waiting: int) -> int:
        given = 0
        while given < waiting and lane.credit > 0:
            size = min(lane.message_size, waiting - given)
            lane.send([bytes(size)], self.network.now)
            given += size
        return given

    def _send(self) -> None:
        now, control = self.network.now, self.control
        while self._under_way < min(LIMIT, int(control.window)):
            if now < self._next:
                if not self._woken:
                    self._woken = True
                    self.network.at(self._next, self._wake)
                return
            pace = min(control.pace, self.fastest)
            quantum = SUPERFRAME if pace == inf else max(2, int(pace * QUANTUM))
            room = min(LIMIT, int(control.window)) - self._under_way
            count = min(SUPERFRAME, quantum, room)
            if not self._sent:
                self._first_sent = self._delivered_at = now
            self._written += count * PAYLOAD + OVERHEAD + RECORD
            self._pending += count * PAYLOAD + OVERHEAD + RECORD
            packets = Packets(
                count, now, self._written, self._delivered, self._delivered_at, self._first_sent
            )
            self._sent.append(packets)
            self._arriving.append(packets)
            self._under_way += count
            if pace < inf:
                self._next = max(self._next, now) + count / pace

    def _wake(self) -> None:
        self._woken = False
        self.network.serve(self.flow, self.flow.sender)

    def _read_acks(self, size: int) -> None:
        self._acks_read += size
        while self._acks_read >= OVERHEAD + RECORD:
            self._acks_read -= OVERHEAD + RECORD
            self._acknowledge(self._arrived.popleft())

    def _acknowledge(self, superframes: int) -> None:
        now, acked = self.network.now, 0
        newest = self._sent[0]
        for _ in range(superframes):
            newest = self._sent.popleft()
            acked += newest.count
        self._under_way -= acked
        self._delivered += acked
        self._delivered_at = now
        # Neither a burst of acknowledgements nor one of packets is the rate of the path.
        interval = max(newest.sent - newest.first_sent, now - newest.delivered_at)
        self._first_sent = newest.sent
        rtt = now - newest.sent
        rate = (self._delivered - newest.delivered) / interval if interval > 0 else 0.0
        self.rtts.append((now, rtt))
        self.control.on_ack(
            Sample(acked, rtt, rate, self._under_way, self._delivered, newest.delivered), now
        )


CONTROLS: dict[str, Callable[[], Control]] = {"bbr": Bbr, "cubic": Cubic}


def measure(
    name: str,
    mbit: float,
    rtt: float,
    loss: float,
    *,
    seed: int,
    seconds: float = SECONDS,
    link: float = LINK,
    parity: bool = True,
) -> tuple[float, float, float, float]:
    """Goodput in Mbit/s, the inner round trip over the path's (mean and p95), wire bytes a byte."""
    network = bottleneck(mbit * link, rtt, 1.0, loss, seed=seed)
    inner = InnerTcp(network, CONTROLS[name](), mbit * 1e6 / 8 / PAYLOAD)
    inner.start(parity=parity)
    network.run(seconds)
    start = seconds / 3
    mean, p95 = inner.stretch(start, seconds, rtt / 1e3)
    payload = sum(count for _, count in inner.got) * PAYLOAD
    return inner.rate(start, seconds) / 1e6, mean, p95, network.forward.bytes / payload


def main() -> None:
    parser = argparse.ArgumentParser(description="a TCP inside the LAN, in virtual time")
    add = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[1])
    add("--seconds", type=float, default=SECONDS, help="of virtual time, a run")
    add("--link", type=float, default=LINK, help="rate of the path, times the rate")
    add("--rates", type=float, nargs="+", default=[20.0, 100.0], help="Mbit/s of the host")
    add("--rtts", type=float, nargs="+", default=[20.0, 50.0], help="ms")
    add("--losses", type=float, nargs="+", default=[0.0, 1.0, 5.0], help="per cent")
    add("--no-parity", action="store_true", help="as versions without it")
    add("--controls", nargs="+", choices=CONTROLS, default=list(CONTROLS))
    options = parser.parse_args()
    print(f"{'':28}{'Mbit/s':>8}{'× rtt':>8}{'p95':>8}{'wire':>8}")
    for name in options.controls:
        for mbit in options.rates:
            for rtt in options.rtts:
                for loss in options.losses:
                    for seed in options.seeds:
                        found = measure(
                            name,
                            mbit,
                            rtt,
                            loss / 100,
                            seed=seed,
                            seconds=options.seconds,
                            link=options.link,
                            parity=not options.no_parity,
                        )
                        path = f"{name} {mbit:g}x{rtt:g} {loss:g} % seed {seed}"
                        print(f"{path:28}" + "".join(f"{each:8.2f}" for each in found), flush=True)


if __name__ == "__main__":
    main()
