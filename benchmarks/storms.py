"""What others keep of their goodput while one member floods, with real processes.

    python -m benchmarks.storms                # 100,000 broadcasts a second, limits on and off
    python -m benchmarks.storms --kind unknown --seconds 5

Three members of one switch: a TCP transfer of a fixed rate and pings between two, alone and beside
the storm of the third. Everything shares this machine, the programs that make the storm included:
what is printed as `storm` is what has really reached the switch. Needs root, iperf3 and ping. The
exit status is 1 where the others kept less than 90 % with the limits on.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import DEV, Lan

KEPT = 0.9  # of the goodput
TARGETS = {
    "broadcast": "ffffffffffff",
    "multicast": "01005e010203",
    "unknown": "020000000099",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kind", choices=TARGETS, default="broadcast")
    parser.add_argument("--rate", type=int, default=100_000, help="frames a second")
    parser.add_argument("--mbit", type=int, default=20, help="of the transfer beside it")
    parser.add_argument("--seconds", type=int, default=8)
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    rows = measure(args.kind, args.rate, args.mbit, args.seconds)
    for row in rows:
        print("  ".join(f"{name} {_told(value)}" for name, value in row.items()), flush=True)
    raise SystemExit(0 if rows[1]["kept"] >= KEPT else 1)


def measure(kind: str, rate: int, mbit: int, seconds: int) -> list[dict[str, Any]]:
    """Alone, beside a storm with the limits on, and with them off."""
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        names = ("pc1", "pc2", "pc3")
        for name in names:
            lan.join(name)
        lan.wait_connected(*names)
        rows = [{"what": "alone", **_goodput(lan, mbit, seconds)}]
        alone = rows[0]["mbit"]
        for what, limit in (("limits on", None), ("limits off", "off")):
            if limit is not None:
                keys = ("storm_broadcast", "storm_multicast", "storm_unknown")
                changes = [f"{key}={limit}" for key in keys]
                lan.command(lan.switch, "port", "set", "*", *changes, "loop_guard=no")
            row = _beside(lan, kind, rate, mbit, seconds)
            rows.append({"what": what, "kept": row["mbit"] / alone if alone else 0.0, **row})
        lan.stop()
    return rows


def _beside(lan: Lan, kind: str, rate: int, mbit: int, seconds: int) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.storms", "--storm", TARGETS[kind]]
    argv += [str(rate), str(seconds + 6)]
    before, dropped = _came_in(lan), _dropped(lan)
    begun = time.monotonic()
    storm = lan.members["pc3"].popen(argv, stdout=subprocess.DEVNULL)
    time.sleep(2)
    found = _goodput(lan, mbit, seconds)
    storm.wait(seconds + 60)
    came = (_came_in(lan) - before) / (time.monotonic() - begun)
    return {**found, "storm": came, "dropped": _dropped(lan) - dropped}


def _came_in(lan: Lan) -> int:
    return int((lan.port("pc3") or {}).get("rx_frames", 0))


def _dropped(lan: Lan) -> int:
    return sum((lan.port("pc3") or {}).get("drops", {}).values())


def _goodput(lan: Lan, mbit: int, seconds: int) -> dict[str, Any]:
    """Mbit/s that TCP received of so many, the median ping, and what the switch used of a core."""
    port = lan.port("pc2")
    assert port is not None
    address = port["address"].partition("/")[0]
    server = lan.members["pc2"].popen(
        ["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL
    )
    wait_until(
        lambda: "5201" in lan.members["pc2"].run(["ss", "-ltn"]).stdout, "a listening iperf3"
    )
    ping = lan.members["pc1"].popen(
        ["ping", "-i0.2", f"-c{seconds * 5}", "-W5", address], stdout=subprocess.PIPE, text=True
    )
    used, begun = _cpu(lan), time.monotonic()
    client = ["iperf3", "-c", address, f"-t{seconds}", f"-b{mbit}M", "-J"]
    done = lan.members["pc1"].run(client, check=False, timeout=seconds * 5 + 60)
    used = (_cpu(lan) - used) / (time.monotonic() - begun)
    server.kill()
    server.wait()
    times = sorted(
        float(line.split("time=")[1].split()[0])
        for line in ping.communicate()[0].splitlines()
        if "time=" in line
    )
    received = json.loads(done.stdout).get("end", {}).get("sum_received", {})
    return {
        "mbit": received.get("bits_per_second", 0.0) / 1e6,
        "ping_ms": times[len(times) // 2] if times else float("inf"),
        "switch_core_percent": 100 * used,
    }


def _cpu(lan: Lan) -> float:
    with open(f"/proc/{lan.programs['switch'].process.pid}/stat") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _storm(destination: str, rate: int, seconds: int) -> None:
    """In a member's namespace: frames to that address out of its interface."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((DEV, 0))
        source = sock.getsockname()[4]
        frame = bytes.fromhex(destination) + source + b"\x88\xb6" + bytes(46)
        begun, sent = time.monotonic(), 0
        while (now := time.monotonic() - begun) < seconds:
            due = min(int(now * rate) - sent, 1000)
            for _ in range(due):
                try:
                    sock.send(frame)
                except OSError:
                    pass  # the interface's queue is full: that much of the storm is lost
            sent += due
            if due < 100:
                time.sleep(0.001)


def _told(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--storm"]:
        _storm(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
