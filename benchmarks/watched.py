"""What it costs a switch that runs to be looked at: `python -m benchmarks.watched`.

A real `serve` and two members with one TCP stream. Round after round its rate is measured while
nobody looks, while somebody does with all that there is (an open event stream as a page has it,
`--calls` requests of the API by eight clients, spread over the measurement, and a capture of all
frames' first bytes at one port), and while nobody looks again. So each ratio is of one process
and one minute, and that of the two without lookers says how far chance goes.

Needs root and iperf3. The exit status is 1 where TCP has less than 0.95 times its rate.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.churn import goodput
from vswitch.lab import Lab
from vswitch.lab.lan import Lan

KEPT = 0.95  # of the rate of TCP
CLIENTS = 8  # each waits for the round trip that a status measures
SETTINGS = ("alone", "watched", "alone again")


class _Unix(http.client.HTTPConnection):
    """HTTP over the control socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.watched",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="of each measurement")
    parser.add_argument("--calls", type=int, default=10_000, help="of the API, in that time")
    parser.add_argument("--look", metavar="SOCKET", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look is not None:
        look(args.look, args.calls, args.seconds)
        return
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    ratios, controls = [], []
    for number, found in enumerate(_rounds(args.rounds, args.seconds, args.calls), 1):
        ratios.append(2 * found["watched"] / (found["alone"] + found["alone again"]))
        controls.append(found["alone again"] / found["alone"])
        print(f"round {number}: {ratios[-1]:.3f}, control {controls[-1]:.3f}", flush=True)
    print(f"medians: watched over alone {median(ratios):.3f}, control {median(controls):.3f}")
    raise SystemExit(0 if median(ratios) >= KEPT else 1)


def _rounds(rounds: int, seconds: int, calls: int) -> list[dict[str, float]]:
    """Mbit/s of TCP by setting, of each round."""
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        goodput(lan, 2)
        found = [
            {setting: _measure(lan, setting, seconds, calls) for setting in SETTINGS}
            for _ in range(rounds)
        ]
        lan.stop()
        return found


def _measure(lan: Lan, setting: str, seconds: int, calls: int) -> float:
    if setting != "watched":
        return goodput(lan, seconds)
    path = lan.state(lan.switch) / "control.sock"
    root = Path(__file__).resolve().parents[1]
    looker = lan.switch.popen(
        [
            *(sys.executable, "-m", "benchmarks.watched", "--look", str(path)),
            *("--calls", str(calls), "--seconds", str(seconds)),
        ],
        env={"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )
    rate = goodput(lan, seconds)
    said, _ = looker.communicate(timeout=10 * seconds + 60)
    print(f"  {said.strip()}", flush=True)
    return rate


def look(path: str, calls: int, seconds: int) -> None:
    """Do all that somebody does who looks, for so long, and say how much of it was done."""
    over = time.monotonic() + seconds
    streams = [
        threading.Thread(target=_read, args=(path, target, accept), daemon=True)
        for target, accept in (
            ("/v1/events", "text/event-stream"),
            (f"/v1/capture?port=pc1&snaplen=96&seconds={seconds}", "*/*"),
        )
    ]
    for each in streams:
        each.start()
    begun = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        share = calls // CLIENTS
        done = sum(clients.map(lambda _: _ask(path, share, begun, over), range(CLIENTS)))
    print(f"{done} calls in {time.monotonic() - begun:.1f} s")


def _ask(path: str, calls: int, begun: float, over: float) -> int:
    """So many calls, spread over the time: how many were answered in it."""
    connection, done = _Unix(path), 0
    while (now := time.monotonic()) < over and done < calls:
        due = begun + (over - begun) * done / calls
        if due > now:
            time.sleep(due - now)
        connection.request("GET", ("/v1/status", "/v1/ports", "/v1/macs", "/metrics")[done % 4])
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{answer.status} {answer.reason}")
        done += 1
    return done


def _read(path: str, target: str, accept: str) -> None:
    connection = _Unix(path)
    connection.request("GET", target, headers={"Accept": accept})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"{target}: {answer.status}")
    while answer.read1(65536):
        pass


if __name__ == "__main__":
    main()
