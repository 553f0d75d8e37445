"""What a member without root keeps of the throughput of one with a TAP, with real processes.

    python -m benchmarks.rootless                # five rounds of both, one after the other
    python -m benchmarks.rootless --rounds 2 --seconds 3

One TCP stream to and from a third member, by a member with a TAP of root, by `vswitch exec`, and
through `--forward` of `vswitch proxy`, in turn. Needs root and iperf3. The exit status is 1 where
the median of a way is less than what was asked of it: 0.8 of the TAP, and 0.6.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from functools import partial

from vswitch.errors import VswitchError
from vswitch.lab import Host, Lab, wait_until
from vswitch.lab.lan import Lan

ASKED = {"exec": 0.8, "proxy": 0.6}  # of the TAP member's throughput
FORWARDED = "15201"
WAYS = {"up": (), "down": ("-R",)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rootless",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each run")
    args = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    kept: dict[tuple[str, str], list[float]] = {}
    with Lab() as lab:
        lan = Lan(lab)
        lan.serve()
        for name in ("pc1", "pc2"):
            lan.join(name)
        lan.wait_connected("pc1", "pc2")
        port = lan.port("pc2")
        assert port is not None
        address = port["address"].partition("/")[0]
        pc2, box = lan.members["pc2"], lan.host("box")
        server = pc2.popen(["iperf3", "-s", "-B", address], stdout=subprocess.DEVNULL)
        wait_until(lambda: "5201" in pc2.run(["ss", "-ltn"]).stdout, "a listening iperf3")
        inside = lan.argv(box, "exec", "--name", "t1")
        box.run([*inside, lan.invite("t1"), "--", "true"])
        box.run([*lan.argv(box, "exec", "--name", "t2"), lan.invite("t2"), "--", "true"])
        proxy = lan.argv(box, "proxy", "--name", "t2", "--forward", f"{FORWARDED}={address}:5201")
        relay = box.popen(proxy, stderr=subprocess.DEVNULL)
        wait_until(lambda: lan.port("t2") is not None, "the proxy on the LAN")
        seconds = args.seconds * 5 + 60
        for number in range(args.rounds):
            for way, options in WAYS.items():
                client = ["iperf3", f"-t{args.seconds}", "-J", *options, "-c"]
                wait_until(partial(_idle, pc2), "the end of the run before")
                tap = _mbit(lan.members["pc1"].run([*client, address], timeout=seconds).stdout)
                for what, host_argv in (
                    # It stays until its last segments have left.
                    ("exec", [*inside, "--", "sh", "-c", '"$@"; sleep 1', "sh", *client, address]),
                    ("proxy", [*client, "127.0.0.1", "-p", FORWARDED]),
                ):
                    wait_until(partial(_idle, pc2), "the end of the run before")
                    own = _mbit(box.run(host_argv, timeout=seconds).stdout)
                    kept.setdefault((what, way), []).append(own / tap)
                    print(
                        f"{number + 1} {way}: TAP {tap:.0f} Mbit/s, {what} {own:.0f}: "
                        f"{own / tap:.2f}",
                        flush=True,
                    )
        for each in (relay, server):
            each.terminate()
            each.wait(60)
        lan.stop()
    medians = {key: statistics.median(ratios) for key, ratios in kept.items()}
    for (what, way), ratio in medians.items():
        print(f"{what} {way}: {ratio:.2f} of a TAP, asked {ASKED[what]}")
    raise SystemExit(any(ratio < ASKED[what] for (what, _), ratio in medians.items()))


def _idle(server: Host) -> bool:
    """Whether iperf3 takes a client: it has one at a time, and sees the end of one late."""
    return "5201" not in server.run(["ss", "-Htn", "state", "established"]).stdout


def _mbit(report: str) -> float:
    said = json.loads(report)
    if "error" in said:
        raise VswitchError(f"iperf3: {said['error']}")
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e6


if __name__ == "__main__":
    main()
