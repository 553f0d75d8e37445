"""What the lab's emulated wire can carry, and how true it is: `python -m benchmarks.emulator`.

A figure that was made across a wire says something about the path that was asked for only while
the wire itself is not the bottleneck. So this measures the wire: what it carries at most, the
latency that it adds, and how near rate and loss come to what was asked. It ends with `valid` or
`void` (exit status 1), and `void` means: no figure made with the emulator on this machine counts.

It needs iperf3 and ping, and what a lab needs. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from benchmarks import traffic
from vswitch.devices import netlink
from vswitch.lab import Host, Lab, PathSpec, Wire, wait_until

IP_UDP, IP_TCP = 28, 52  # bytes of headers, with timestamps in those of TCP
FULL = 1500  # bytes of IP in a frame of 1,514
PAYLOAD, SEGMENT = FULL - IP_UDP, FULL - IP_TCP
NEEDED = 300e6  # bit/s of full-size packets with acknowledgements back: twice what any peer of
# the comparison reaches where loss and delay are emulated
WHOLE = 0.999  # of the packets of a stream must arrive for it to count as carried
RATE_ERROR = 0.01  # of the rate that was asked for
SIGMAS = 5  # of a binomial distribution: what is outside is no accident
ADDED = 0.001  # s that the wire may add to the median of a round trip; a third of the least delay
ADDED_P99 = 0.003  # s
STEPS = (300e6, 400e6, 500e6, 600e6, 700e6, 800e6)  # bit/s
BARE = ("198.18.4.1/30", "198.18.4.2/30")
PORT = 9000
PERFECT = PathSpec()


@attrs.frozen
class Row:
    """One line of the table."""

    what: str
    asked: str
    found: str
    good: bool | None  # None: told, but no condition


@attrs.define
class Bench:
    """Two hosts, the wire between them, and a plain veth pair beside it."""

    wire: Wire
    seconds: float
    _port: int = PORT

    def stream(self, rate: float, payload: int = PAYLOAD) -> tuple[int, traffic.Heard]:
        """UDP from A to B at `rate` bit/s of IP: how many were sent, and what was heard."""
        self._port += 1
        a, b = self.wire.a, self.wire.b
        b.call(traffic.listen, self._port)
        counting = b.start(traffic.count, self._port, 2 * self.seconds + 10)
        per_second = rate / 8 / (payload + IP_UDP)
        sent = a.call(
            traffic.send, self.wire.b_end.ip, self._port, payload, per_second, self.seconds
        )
        return sent.datagrams, counting.result(3 * self.seconds + 30)

    def tcp(self, *options: str) -> float:
        """One TCP stream from A to B: bit/s of payload that arrived."""
        argv = ["iperf3", "-J", "-c", self.wire.b_end.ip, "-t", f"{self.seconds:g}", "-O", "1"]
        done = self.wire.a.run([*argv, *options], timeout=60 + 2 * self.seconds)
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])

    def pings(self, to: str, count: int = 500) -> list[float]:
        """Round trips from A, sorted, in seconds."""
        argv = ["ping", "-n", "-i", "0.01", "-c", str(count), to]
        out = self.wire.a.run(argv, check=False).stdout
        times = sorted(float(each) / 1000 for each in re.findall(r"time=([\d.]+) ms", out))
        return times or [math.inf]

    def set(self, forward: PathSpec = PERFECT, back: PathSpec = PERFECT) -> None:
        self.wire.change(forward=forward, back=back)


def carries(bench: Bench) -> Iterator[Row]:
    """What it carries: TCP with its acknowledgements, then UDP step by step."""
    bench.set()
    most = bench.tcp() * FULL / SEGMENT
    yield Row("TCP, no limit", "≥ 300 Mbit/s", f"{most / 1e6:.0f} Mbit/s", most >= NEEDED)
    bench.set(PathSpec(rate=NEEDED, queue=750_000, delay=0.01), PathSpec(delay=0.01))
    at_rate = bench.tcp() * FULL / SEGMENT
    yield Row(
        "TCP, 300 Mbit/s, RTT 20 ms, queue 1 BDP",
        "≥ 95 %",
        f"{at_rate / NEEDED:.1%}",
        at_rate >= 0.95 * NEEDED,
    )
    bench.set()
    reached, missed = 0.0, bench.wire.missed()
    for rate in STEPS:
        sent, heard = bench.stream(rate)
        offered = sent * FULL * 8 / bench.seconds
        if heard.datagrams < WHOLE * sent or offered < 0.95 * rate:
            break
        reached = rate
    yield Row(
        "UDP, frames of 1,514 bytes, < 0.1 % lost",
        "≥ 300 Mbit/s",
        f"{reached / 1e6:.0f} Mbit/s" + ("" if rate != STEPS[-1] else " (not more was tried)"),
        reached >= NEEDED,
    )
    yield Row("not seen by the carrier", "", f"{bench.wire.missed() - missed} frames", None)


def latency(bench: Bench) -> Iterator[Row]:
    """What it adds to a round trip: idle, with a delay, and beside a stream."""
    bench.set()
    bare = bench.pings(BARE[1].partition("/")[0])
    yield Row("ping, veth", "", _trips(bare), None)
    idle = bench.pings(bench.wire.b_end.ip)
    yield _added("ping, wire", idle, _percentile(bare, 50))
    bench.set(PathSpec(delay=0.025), PathSpec(delay=0.025))
    yield _added("ping, delay 25 ms each way", bench.pings(bench.wire.b_end.ip), 0.05)
    for rate in (100e6, NEEDED):
        bench.set(PathSpec(delay=0.025), PathSpec(delay=0.025))
        late = bench.wire.statistics().late
        bench.wire.b.call(traffic.listen, PORT)
        counting = bench.wire.b.start(traffic.count, PORT, 20)
        sending = bench.wire.a.start(
            traffic.send, bench.wire.b_end.ip, PORT, PAYLOAD, rate / 8 / FULL, 6
        )
        trips = bench.pings(bench.wire.b_end.ip, 400)
        sending.result()
        counting.result()
        beside = f"the same beside {rate / 1e6:.0f} Mbit/s"
        yield _added(beside, trips, 0.05)
        late = bench.wire.statistics().late - late
        yield Row("  frames more than 1 ms late", "", str(late), None)


def truth(bench: Bench) -> Iterator[Row]:
    """How near rate and loss come to what was asked."""
    for rate in (5e6, 20e6, 100e6):
        # A queue of 0.1 s: the sender may rest as long, and the link never does.
        bench.set(PathSpec(rate=rate, queue=int(rate / 80)))
        _, heard = bench.stream(1.3 * rate)
        found = (heard.datagrams - 1) * FULL * 8 / heard.seconds
        error = found / rate - 1
        yield Row(f"rate {rate / 1e6:g} Mbit/s", "± 1 %", f"{error:+.2%}", abs(error) < RATE_ERROR)
    for spec, length in (
        (PathSpec(loss=0.01), 1),
        (PathSpec(loss=0.05), 1),
        (PathSpec(burst_loss=0.05, burst_length=10), 10),
    ):
        bench.set(spec)
        sent, heard = bench.stream(100e6)
        mean = spec.loss + spec.burst_loss
        # Packets of a run go together: there are so many fewer independent trials.
        spread = SIGMAS * math.sqrt(mean * (1 - mean) * (2 * length - 1) / sent)
        found = 1 - heard.datagrams / sent
        runs = f" in runs of {length}" if length > 1 else ""
        yield Row(
            f"loss {mean:.0%}{runs}, {sent} packets",
            f"± {spread:.2%}",
            f"{found - mean:+.2%}",
            abs(found - mean) < spread,
        )


def _added(what: str, trips: list[float], without: float) -> Row:
    good = _percentile(trips, 50) - without < ADDED and _percentile(trips, 99) - without < ADDED_P99
    asked = f"≤ {(without + ADDED) * 1e3:.1f} / {(without + ADDED_P99) * 1e3:.1f} ms"
    return Row(what, asked, _trips(trips), good)


def _trips(trips: list[float]) -> str:
    return f"p50 {_percentile(trips, 50) * 1e3:.2f}, p99 {_percentile(trips, 99) * 1e3:.2f} ms"


def _percentile(ordered: list[float], percent: int) -> float:
    if len(ordered) < 2:
        return ordered[0]
    return statistics.quantiles(ordered, n=100, method="inclusive")[percent - 1]


def _lay_bare(a: Host, b: Host) -> None:
    a.call(netlink.create_veth, "bare0", "bare0", peer_pid=b.pid)
    for host, address in zip((a, b), BARE, strict=True):
        host.call(netlink.configure, "bare0", up=True)
        host.call(netlink.add_address, "bare0", address)


def _served(bench: Bench) -> Callable[[], bool]:
    probe = ["iperf3", "-c", bench.wire.b_end.ip, "-n", "1K"]
    return lambda: bench.wire.a.run(probe, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.emulator", allow_abbrev=False)
    parser.add_argument("--seconds", type=float, default=4, help="of each transfer (4)")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    options = parser.parse_args()
    rows: list[Row] = []
    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        _lay_bare(a, b)
        with Wire(lab, a, b, seed=1) as wire:
            bench = Bench(wire, options.seconds)
            b.popen(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(_served(bench), "iperf3 server")
            for part in (carries, latency, truth):
                for row in part(bench):
                    rows.append(row)
                    word = {True: "ok", False: "VOID", None: ""}[row.good]
                    print(f"{row.what:44} {row.asked:18} {row.found:28} {word}", flush=True)
    valid = all(row.good is not False for row in rows)
    print("valid" if valid else "void: figures made with the emulator here do not count")
    if options.json:
        result: dict[str, Any] = {"valid": valid, "rows": [attrs.asdict(row) for row in rows]}
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)
    return 0 if valid else 1


if __name__ == "__main__":
    sys.exit(main())
