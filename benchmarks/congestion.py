"""How much of a path a session uses, and at what price: `python -m benchmarks.congestion`.

Two real reliable lanes over a simulated bottleneck, in virtual time, one flow that always has more
to send. A cell shows, for the losses given (both ways, by chance): goodput in per cent of the
link's rate; the 95th percentile of the bottleneck's queue in ms; bytes on the wire for each byte of
payload at the least and at the most loss. The first third of a run is left out of the first two.
With several seeds a cell is the median, and the goodput of the worst seed follows in brackets where
it is more than 2 points less.
"""

from __future__ import annotations

import argparse
from statistics import median

from benchmarks.bottleneck import bottleneck

RATES = (5.0, 20.0, 100.0)
RTTS = (10.0, 50.0, 200.0)
QUEUES = (0.25, 1.0, 4.0)
LOSSES = (0.0, 0.001, 0.01, 0.05)
SECONDS = 15.0


def measure(
    mbit: float, rtt: float, queue: float, loss: float, *, seed: int, seconds: float
) -> tuple[float, float, float]:
    """Goodput as a share of the rate, queue p95 in seconds, and wire bytes a byte."""
    network = bottleneck(mbit, rtt, queue, loss, seed=seed)
    flow = network.flow()
    network.run(seconds)
    start = seconds / 3
    goodput = flow.rate(start, seconds) / (mbit * 1e6)
    return goodput, network.queue_p95(start, seconds), network.wire()


def cell(mbit: float, rtt: float, queue: float, seeds: list[int], seconds: float) -> str:
    goodputs, queues, wires = [], [], []
    for loss in LOSSES:
        runs = [measure(mbit, rtt, queue, loss, seed=seed, seconds=seconds) for seed in seeds]
        goodput, wait, wire = (median(column) for column in zip(*runs, strict=True))
        worst = min(run[0] for run in runs)
        note = f" ({100 * worst:.0f})" if worst < goodput - 0.02 else ""
        goodputs.append(f"{100 * goodput:.0f}{note}")
        queues.append(f"{1000 * wait:.0f}")
        wires.append(f"{wire:.2f}")
    return f"{' '.join(goodputs)} · {' '.join(queues)} · {wires[0]}/{wires[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description="the matrix of paths, in virtual time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of virtual time, a run")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="Mbit/s")
    options = parser.parse_args()
    print("| Mbit/s × ms | " + " | ".join(f"queue {queue:g} BDP" for queue in QUEUES) + " |")
    print("|---" * (1 + len(QUEUES)) + "|")
    for mbit in options.rates:
        for rtt in RTTS:
            cells = [cell(mbit, rtt, queue, options.seeds, options.seconds) for queue in QUEUES]
            print(f"| {mbit:g} × {rtt:g} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
