"""What rules cost a switch that runs: `python -m benchmarks.rules`.

A real `serve` and two members. In each of several starts the switch goes by no rules, by 100, and
by none again, changed live, round after round: so each ratio is of one process and one minute, and
that of the two without rules says how far chance goes. All 100 are about ports, and the last two
about these members, so that each of their frames is looked at. Frames are datagrams of 64 bytes at
a steady rate (processor time of the switch a frame), then one TCP stream (its rate).

Needs root and iperf3. The exit status is 1 where a frame costs more than 1.15 times as much, or
TCP has less than 0.95 times its rate.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median

from benchmarks import traffic
from benchmarks.churn import goodput
from benchmarks.usage import usage
from vswitch.lab import Lab
from vswitch.lab.lan import Lan

COST = 1.15  # times what a frame costs without rules
KEPT = 0.95  # of the rate of TCP
RULES = [
    *(f"deny lab{number} -> nas{number} tcp {number}" for number in range(1, 99)),
    "deny pc1 -> pc2 tcp 22",
    "deny pc2 -> pc1 udp 53",
]
SETTINGS = ("none", "rules", "none again")
PORT = 7777


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="in each start")
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement")
    parser.add_argument("--rate", type=int, default=30_000, help="datagrams a second")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    costs: list[float] = []
    rates: list[float] = []
    for number in range(1, args.starts + 1):
        cost, rate = _start(args.rounds, args.seconds, args.rate)
        for what, found, ratios in (("frame", cost, costs), ("TCP", rate, rates)):
            first, control = found["rules"] / found["none"], found["none again"] / found["none"]
            ratios.append(2 * found["rules"] / (found["none"] + found["none again"]))
            print(f"start {number}, {what}: rules {first:.3f}, control {control:.3f}", flush=True)
    cost_of, kept = median(costs), median(rates)
    print(f"medians, rules over none: CPU a frame {cost_of:.3f}, rate of TCP {kept:.3f}")
    raise SystemExit(0 if cost_of <= COST and kept >= KEPT else 1)


def _start(rounds: int, seconds: int, rate: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of one start: seconds of CPU a frame, and Mbit/s, by setting."""
    costs: dict[str, list[float]] = {each: [] for each in SETTINGS}
    rates: dict[str, list[float]] = {each: [] for each in SETTINGS}
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        goodput(lan, 2)
        for _ in range(rounds):
            for setting in SETTINGS:
                _go_by(lan, RULES if setting == "rules" else [])
                costs[setting].append(_cost(lan, seconds, rate))
                rates[setting].append(goodput(lan, seconds))
        lan.stop()
    return (
        {setting: median(found) for setting, found in costs.items()},
        {setting: median(found) for setting, found in rates.items()},
    )


def _go_by(lan: Lan, rules: list[str]) -> None:
    file: Path = lan.switch.directory / "rules.toml"
    file.write_text(f"[rules]\nlist = {json.dumps(rules)}\n")
    lan.command(lan.switch, "rules", "load", str(file))


def _cost(lan: Lan, seconds: int, rate: int) -> float:
    """Seconds of CPU of the switch for each frame that arrives."""
    port = lan.port("pc2")
    assert port is not None
    address = port["address"].partition("/")[0]
    pc1, pc2 = lan.members["pc1"], lan.members["pc2"]
    pid = lan.programs["switch"].process.pid
    pc2.call(traffic.listen, PORT)
    before = usage([pid])
    pc1.call(traffic.send, address, PORT, 22, rate, seconds)  # 64 bytes as a frame
    spent = usage([pid]) - before
    heard = pc2.call(traffic.count, PORT, 60.0)
    return spent.processes / heard.datagrams


if __name__ == "__main__":
    main()
