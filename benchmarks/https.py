"""What the HTTPS path costs: throughput beside UDP, and a ping beside a stream on a slow line.

    python -m benchmarks.https                # three rounds
    python -m benchmarks.https --rounds 1 --seconds 5

One TCP stream from a member on HTTPS, and from one on UDP, to a third on UDP, in turn and without a
limit; then the first again behind 20 Mbit/s with a buffer of 200 ms (tbf), with a ping beside it
and without. Needs root, iperf3, ping and tc. The exit status is 1 where a figure is not as asked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess

from benchmarks.command import check_machine
from vswitch.errors import VswitchError
from vswitch.lab import Host, Lab, wait_until
from vswitch.lab.lan import UNDERLAY, Lan

LINE = 20.0  # Mbit/s
ASKED_RATIO = 0.5  # of the throughput over UDP
ASKED_SHARE = 0.85  # of the line
ASKED_ADDED = 60.0  # ms that the stream may add to the 95th percentile of the ping
INTERVAL = 0.05  # s between pings


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.https",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    args = parser.parse_args()
    check_machine("benchmarks.https", {"iperf3": "iperf3", "ping": "iputils-ping"})
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    ratios: list[float] = []
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve("--https", ":443")
        for name, path in (("https", "https"), ("udp", "udp"), ("target", "udp")):
            lan.join(name, "--path", path)
        ports = lan.wait_connected("https", "udp", "target")
        address = ports[-1]["address"].partition("/")[0]
        target, slow = lan.members["target"], lan.members["https"]
        server = target.popen(
            ["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: "5201" in target.run(["ss", "-ltn"]).stdout, "a listening iperf3")
        for number in range(args.rounds):
            udp, https = (
                _stream(lan.members[name], target, address, args.seconds)
                for name in ("udp", "https")
            )
            ratios.append(https / udp)
            print(
                f"{number + 1}: UDP {udp:.0f} Mbit/s, HTTPS {https:.0f}: {ratios[-1]:.2f}",
                flush=True,
            )
        shape = f"tc qdisc add dev {UNDERLAY} root tbf rate {LINE:.0f}mbit burst 16kb latency 200ms"
        slow.run(shape.split())
        seconds = 3 * args.seconds
        idle = _p95(_ping(slow, address, seconds))
        ping = _ping(slow, address, seconds)
        share = _stream(slow, target, address, seconds) / LINE
        beside = _p95(ping)
        server.terminate()
        server.wait(60)
        lan.stop()
    ratio = statistics.median(ratios)
    print(f"HTTPS: {ratio:.2f} of UDP (median), asked {ASKED_RATIO}")
    print(f"on {LINE:.0f} Mbit/s: the stream has {share:.2f} of that, asked {ASKED_SHARE}")
    print(
        f"there: ping p95 {idle:.1f} ms idle, {beside:.1f} ms beside the stream, asked at most "
        f"{ASKED_ADDED:.0f} ms more"
    )
    good = ratio >= ASKED_RATIO and share >= ASKED_SHARE and beside - idle <= ASKED_ADDED
    raise SystemExit(not good)


def _stream(source: Host, target: Host, address: str, seconds: int) -> float:
    """Mbit/s that arrive."""
    wait_until(lambda: _idle(target), "the end of the run before")
    client = ["iperf3", "-J", f"-t{seconds}", "-c", address]
    said = json.loads(source.run(client, timeout=seconds + 60).stdout)
    if "error" in said:
        raise VswitchError(f"iperf3: {said['error']}")
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e6


def _idle(server: Host) -> bool:
    """Whether iperf3 takes a client: it has one at a time, and sees the end of one late."""
    return "5201" not in server.run(["ss", "-Htn", "state", "established"]).stdout


def _ping(source: Host, address: str, seconds: int) -> subprocess.Popen[bytes]:
    count = round(seconds / INTERVAL)
    ping = ["ping", "-n", "-i", str(INTERVAL), "-c", str(count), address]
    return source.popen(ping, stdout=subprocess.PIPE)


def _p95(ping: subprocess.Popen[bytes]) -> float:
    """The 95th percentile of its round trips, in milliseconds; one that was lost is refused."""
    said = ping.communicate(timeout=120)[0].decode()
    if " 0% packet loss" not in said:
        raise VswitchError(f"ping: {said[-200:]}")
    times = [float(each) for each in re.findall(r"time=([\d.]+) ms", said)]
    return statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
