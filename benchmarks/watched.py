"""What it costs a switch that runs to be looked at: `python -m benchmarks.watched [--against DIR]`.

A real `serve` and two members with one TCP stream. Round after round its rate is measured while
nobody looks, while somebody does with all that there is (an open event stream as a page has it,
`--calls` requests of the API by eight clients, spread over the measurement, and a capture of all
frames' first bytes at one port), and while nobody looks again. So each ratio is of one process
and one minute, and that of the two without lookers says how far chance goes. With another checkout
the two take turns, round by round.

    python -m benchmarks.watched --cost [--against DIR]

is of processor time, which other work on the machine changes less: that of `serve` for a call of
each kind, one after the other, for one of all kinds as above, and for a capture beside TCP at
`--mbit`, as a share of what its frames cost.

Needs root and iperf3. The exit status is 1 where TCP has less than 0.95 times its rate.
"""

from __future__ import annotations

import argparse
import http.client
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.churn import goodput
from benchmarks.usage import usage
from benchmarks.versions.code import code_of, known
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import Code, Lan

KEPT = 0.95  # of the rate of TCP
CLIENTS = 8  # each waits for the round trip that a status measures
SETTINGS = ("alone", "watched", "alone again")
CALLS = ("/v1/status", "/v1/ports", "/v1/macs", "/metrics")
CAPTURE = "/v1/capture?port=pc1&snaplen=96&seconds={}"
PIECE = 2.0  # seconds of TCP with a capture, then of TCP without, and so on


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
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--cost", action="store_true", help="processor time, not rates")
    parser.add_argument("--mbit", type=int, default=200, help="of TCP beside the capture of --cost")
    parser.add_argument("--look", metavar="SOCKET", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look is not None:
        look(args.look, args.calls, args.seconds)
        return
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    codes = {"this": code_of()}
    if args.against is not None:
        codes["other"] = code_of(args.against)
        known(codes["other"])
    if args.cost:
        for name, code in codes.items():
            _cost(name, code, args)
        return
    ratios: dict[str, list[float]] = {name: [] for name in codes}
    controls: dict[str, list[float]] = {name: [] for name in codes}
    for number in range(1, args.rounds + 1):
        for name, code in codes.items():
            found = _round(code, args.seconds, args.calls)
            ratio = 2 * found["watched"] / (found["alone"] + found["alone again"])
            ratios[name].append(ratio)
            controls[name].append(found["alone again"] / found["alone"])
            print(f"round {number}, {name}: {ratio:.3f}, control {controls[name][-1]:.3f}")
    for name in codes:
        of_rate, control = median(ratios[name]), median(controls[name])
        print(f"medians, {name}: watched over alone {of_rate:.3f}, control {control:.3f}")
    raise SystemExit(0 if median(ratios["this"]) >= KEPT else 1)


@contextmanager
def _lan(code: Code) -> Iterator[Lan]:
    """A switch and two members that are connected."""
    with Lab() as lab:
        lan = Lan(lab)
        lan.code.update(dict.fromkeys(("switch", "pc1", "pc2"), code))
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        yield lan
        lan.stop()


def _round(code: Code, seconds: int, calls: int) -> dict[str, float]:
    """Mbit/s of TCP by setting."""
    with _lan(code) as lan:
        goodput(lan, 2)
        return {setting: _measure(lan, setting, seconds, calls) for setting in SETTINGS}


def _cost(name: str, code: Code, args: argparse.Namespace) -> None:
    """Print it, of a switch in a state of its own."""
    with _lan(code) as lan:
        path = str(lan.state(lan.switch) / "control.sock")
        pid = lan.programs["switch"].process.pid

        def spent(what: Callable[[], object]) -> float:
            """Seconds of CPU of `serve`, less what it spends anyway."""
            begun, before = time.monotonic(), usage([pid]).processes
            what()
            return usage([pid]).processes - before - idle * (time.monotonic() - begun)

        idle = 0.0
        idle = spent(lambda: time.sleep(PIECE)) / PIECE
        for kind in (*CALLS, "/healthz"):
            _ask(path, 20, 0.0, math.inf, (kind,))
            cost = spent(lambda kind=kind: _ask(path, 500, 0.0, math.inf, (kind,))) / 500
            print(f"{name}: {kind:12} {1e3 * cost:.3f} ms, one after the other", flush=True)
        calls = args.calls * args.seconds // 60
        cost = spent(lambda: _ask_all(path, calls, args.seconds)) / calls
        print(f"{name}: all kinds    {1e3 * cost:.3f} ms, {calls} in {args.seconds} s", flush=True)
        frames, more = _cost_of_capture(lan, path, spent, args)
        print(f"{name}: capture      {more / frames:.3f} of what frames cost, {args.mbit} Mbit/s")


def _cost_of_capture(
    lan: Lan, path: str, spent: Callable[[Callable[[], object]], float], args: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of CPU for the frames of `PIECE` seconds, and more for a capture of them."""
    port = lan.port("pc2")
    assert port is not None
    address = port["address"].partition("/")[0]
    host, turns = lan.members["pc2"], max(3, round(args.seconds / 2 / PIECE))
    server = host.popen(["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL)
    wait_until(lambda: "5201" in host.run(["ss", "-ltn"]).stdout, "a listening iperf3")
    long = round(2 * turns * PIECE + 20)
    argv = ["iperf3", "-c", address, f"-t{long}", f"-b{args.mbit}M"]
    client = lan.members["pc1"].popen(argv, stdout=subprocess.DEVNULL)
    time.sleep(PIECE)
    alone, more = [], []
    for _ in range(turns):
        alone.append(spent(lambda: time.sleep(PIECE)))
        more.append(spent(lambda: _read(path, CAPTURE.format(PIECE), "*/*")) - alone[-1])
    for each in (client, server):
        each.kill()
        each.wait()
    return median(alone), median(more)


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
    streams = [
        threading.Thread(target=_read, args=(path, target, accept), daemon=True)
        for target, accept in (
            ("/v1/events", "text/event-stream"),
            (CAPTURE.format(seconds), "*/*"),
        )
    ]
    for each in streams:
        each.start()
    begun = time.monotonic()
    done = _ask_all(path, calls, seconds)
    print(f"{done} calls in {time.monotonic() - begun:.1f} s")


def _ask_all(path: str, calls: int, seconds: float) -> int:
    """Calls of all kinds, spread over the time: how many were answered in it."""
    begun = time.monotonic()
    over, share = begun + seconds, calls // CLIENTS
    with ThreadPoolExecutor(CLIENTS) as clients:
        return sum(clients.map(lambda _: _ask(path, share, begun, over, CALLS), range(CLIENTS)))


def _ask(path: str, calls: int, begun: float, over: float, kinds: Sequence[str]) -> int:
    """So many calls, spread over the time, if that has an end: how many were answered in it."""
    connection, done = _Unix(path), 0
    while (now := time.monotonic()) < over and done < calls:
        due = begun + (over - begun) * done / calls if over < math.inf else now
        if due > now:
            time.sleep(due - now)
        connection.request("GET", kinds[done % len(kinds)])
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
