"""What a published service keeps of one that the switch's host reaches over its own TAP.

    python -m benchmarks.publish                 # three rounds of all, one after the other
    python -m benchmarks.publish --rounds 1 --seconds 3 --connections 200

nginx on a member, asked by wrk on the switch's host: over the TAP of `serve --local-port`, through
a published port of the same switch, and through one of a switch without a TAP, whose way onto the
LAN is a sandbox. Then UDP by iperf3 through the published ports, at a rate. Needs root, nginx, wrk
and iperf3. The exit status is 1 where a connection was refused, or where the median of a way is
less than 0.7 of the TAP.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from vswitch.errors import VswitchError
from vswitch.lab import Host, Lab, wait_until
from vswitch.lab.lan import Lan

ASKED = 0.7  # of the requests a second over the TAP
HERE = "127.0.0.1"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="of each run")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1000, help="bytes of the page")
    parser.add_argument("--rate", default="50M", help="of UDP, in bits a second")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    kept: dict[str, list[float]] = {"beside": [], "inside": []}
    refused = 0
    with Lab() as one, Lab() as other:
        beside, inside = _lan(one, "--local-port"), _lan(other)
        with _served(beside, args.size), _served(inside, args.size):
            for number in range(args.rounds):
                tap = _wrk(beside.switch, _address(beside), 80, args)
                for way, lan in ("beside", beside), ("inside", inside):
                    rate = _wrk(lan.switch, HERE, 8080, args)
                    kept[way].append(rate / tap)
                    print(f"{number + 1} {way}: {rate:.0f}/s of {tap:.0f}/s: {rate / tap:.2f}")
            for way, lan in ("beside", beside), ("inside", inside):
                refused += _refused(lan)
                print(f"{way}: {_udp(lan, args)}", flush=True)
        for lan in (beside, inside):
            lan.stop()
    medians = {way: statistics.median(ratios) for way, ratios in kept.items()}
    for way, ratio in medians.items():
        print(f"{way}: {ratio:.2f} of the TAP, asked {ASKED}; {refused} connections refused")
    raise SystemExit(refused > 0 or any(ratio < ASKED for ratio in medians.values()))


def _lan(lab: Lab, *options: str) -> Lan:
    lan = Lan(lab)
    lan.serve(*options)
    lan.join("pc1")
    lan.wait_connected("pc1")
    for listen, to in ("tcp://:8080", "pc1:80"), ("tcp://:5201", "pc1:5201"):
        lan.command(lan.switch, "publish", listen, to, "--max-per-client", "off")
    lan.command(lan.switch, "publish", "udp://:5201", "pc1:5201")
    return lan


def _address(lan: Lan) -> str:
    port = lan.port("pc1")
    assert port is not None
    return str(port["address"]).partition("/")[0]


@contextmanager
def _served(lan: Lan, size: int) -> Iterator[None]:
    """nginx with one page, and iperf3, on the member."""
    host, address = lan.members["pc1"], _address(lan)
    root = host.directory / "web"
    root.mkdir()
    (root / "index.html").write_text("x" * size)
    (root / "nginx.conf").write_text(
        f"daemon off; pid {root}/pid; error_log {root}/error.log; user root; worker_processes 1;"
        "events { worker_connections 4096; } worker_rlimit_nofile 8192;"
        f"http {{ access_log off; server {{ listen {address}:80 backlog=4096; root {root};"
        " keepalive_requests 1000000; } }"
    )
    servers = [
        host.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for argv in (
            ["nginx", "-c", str(root / "nginx.conf"), "-p", str(root)],
            ["iperf3", "-s", "-B", address],
        )
    ]
    listening = ("ss", "-Htln", "sport", "=", ":80", "or", "sport", "=", ":5201")
    wait_until(lambda: len(host.run(listening).stdout.splitlines()) == 2, "servers")
    try:
        yield
    finally:
        for server in servers:
            server.terminate()
            server.wait(60)


def _wrk(host: Host, address: str, port: int, args: argparse.Namespace) -> float:
    """Requests a second."""
    argv = ["wrk", "-t1", f"-c{args.connections}", f"-d{args.seconds}s", "--timeout", "60s"]
    said = host.run([*argv, f"http://{address}:{port}/"], timeout=args.seconds * 5 + 120).stdout
    if "Socket errors" in said or "Non-2xx" in said:
        raise VswitchError(f"wrk: {said}")
    found = re.search(r"Requests/sec: +([\d.]+)", said)
    assert found is not None
    return float(found[1])


def _refused(lan: Lan) -> int:
    """Connections that came to nothing but by wrk's own resets."""
    status = lan.status()
    assert status is not None
    return sum(
        count
        for rule in status["published"]
        for why, count in rule["failed"].items()
        if why != "reset"
    )


def _udp(lan: Lan, args: argparse.Namespace) -> str:
    argv = ["iperf3", "-c", HERE, "-u", "-l1200", f"-b{args.rate}", f"-t{args.seconds}", "-J"]
    said = json.loads(lan.switch.run(argv, timeout=args.seconds * 5 + 60).stdout)
    if "error" in said:
        raise VswitchError(f"iperf3: {said['error']}")
    total = said["end"]["sum"]
    return f"UDP at {args.rate}: {total['lost_percent']:.2f} % lost"


if __name__ == "__main__":
    main()
