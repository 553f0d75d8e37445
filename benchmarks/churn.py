"""What a stream keeps while routes that do not lead to the switch come and go, with real processes.

    python -m benchmarks.churn                 # ten changes a second, 20 Mbit/s, 80 ms
    python -m benchmarks.churn --changes 1 --seconds 20

One TCP stream from a member to another, across an emulated path: quiet, with the changes, and quiet
again, so that the ratio is of one minute. A container host or a router changes routes like that.
Needs root, iperf3 and iproute2. The exit status is 1 where less than 95 % was kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

from transport.emulation import PathSpec
from vswitch.lab import Lab, wait_until
from vswitch.lab.job import WireSpec
from vswitch.lab.lan import Lan

KEPT = 0.95  # of the goodput
DESTINATION = "198.18.0.0/24"  # RFC 2544: nobody's way to anywhere


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.churn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--changes", type=float, default=10.0, help="a second")
    parser.add_argument("--mbit", type=float, default=20.0, help="of the path")
    parser.add_argument("--rtt", type=float, default=80.0, help="of the path, ms")
    parser.add_argument("--seconds", type=int, default=15, help="of each run")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    rate, delay = args.mbit * 1e6, args.rtt / 2000
    way = PathSpec(rate=rate, delay=delay, queue=max(30_000, round(rate * 2 * delay / 8)))
    with Lab() as lab:
        lan = Lan(lab, paths={"pc1": WireSpec(forward=way, back=way)})
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        goodput(lan, 5)  # the path's size and rate are found
        before = goodput(lan, args.seconds)
        argv = [sys.executable, "-m", "benchmarks.churn", "--churn", str(args.changes)]
        changing = lan.members["pc1"].popen(argv, stdout=subprocess.PIPE, text=True)
        during = goodput(lan, args.seconds)
        changing.terminate()
        made = changing.communicate(timeout=60)[0]
        after = goodput(lan, args.seconds)
        lan.stop()
    kept = 2 * during / (before + after)
    print(f"quiet {before:.2f} Mbit/s, changing {during:.2f}, quiet {after:.2f}: kept {kept:.3f}")
    print(f"changes made: {made.strip()}")
    raise SystemExit(0 if kept >= KEPT else 1)


def goodput(lan: Lan, seconds: int) -> float:
    """Mbit/s that TCP received."""
    port = lan.port("pc2")
    assert port is not None
    address = port["address"].partition("/")[0]
    host = lan.members["pc2"]
    server = host.popen(["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL)
    wait_until(lambda: "5201" in host.run(["ss", "-ltn"]).stdout, "a listening iperf3")
    client = ["iperf3", "-c", address, f"-t{seconds}", "-J"]
    done = lan.members["pc1"].run(client, timeout=seconds * 5 + 60)
    server.wait(60)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6


def _churn(changes: float) -> None:
    """In a member's namespace, until terminated: a route comes, and goes with the next change."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    begun, made = time.monotonic(), 0
    try:
        while True:
            verb = ("replace", "del")[made % 2]
            subprocess.run(["ip", "route", verb, DESTINATION, "dev", "lo"], check=True)
            made += 1
            time.sleep(max(0.0, begun + made / changes - time.monotonic()))
    finally:
        print(f"{made} in {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--churn"]:
        from benchmarks.command import stop_on_signal

        stop_on_signal()
        try:
            _churn(float(sys.argv[2]))
        except KeyboardInterrupt:
            pass
    else:
        main()
