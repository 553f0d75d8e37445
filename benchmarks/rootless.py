"""What a member without root keeps of the throughput of one with a TAP, with real processes.

    python -m benchmarks.rootless                # five rounds of both, one after the other
    python -m benchmarks.rootless --rounds 2 --seconds 3

One TCP stream to and from a third member, by `vswitch exec` and by a member with a TAP of root, in
turn. Needs root and iperf3. The exit status is 1 where the median is less than 0.8 of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Sequence

from vswitch.lab import Host, Lab, wait_until
from vswitch.lab.lan import Lan

ASKED = 0.8  # of the TAP member's throughput
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
    kept: dict[str, list[float]] = {way: [] for way in WAYS}
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

        def mbit(host: Host, *before: str, options: Sequence[str]) -> float:
            serving = pc2.popen(["iperf3", "-s", "-1", "-B", address], stdout=subprocess.DEVNULL)
            wait_until(lambda: "5201" in pc2.run(["ss", "-ltn"]).stdout, "a listening iperf3")
            client = ["iperf3", "-c", address, f"-t{args.seconds}", "-J", *options]
            done = host.run([*before, *client], timeout=args.seconds * 5 + 60)
            serving.wait(60)
            end = json.loads(done.stdout)["end"]
            return float(end["sum_received"]["bits_per_second"]) / 1e6

        argv = lan.argv(box, "exec", "--name", "t1")
        box.run([*argv, lan.invite("t1"), "--", "true"])
        for number in range(args.rounds):
            for way, options in WAYS.items():
                tap = mbit(lan.members["pc1"], options=options)
                own = mbit(box, *argv, "--", options=options)
                kept[way].append(own / tap)
                print(
                    f"{number + 1} {way}: TAP {tap:.0f} Mbit/s, exec {own:.0f}: {own / tap:.2f}",
                    flush=True,
                )
        lan.stop()
    medians = {way: statistics.median(ratios) for way, ratios in kept.items()}
    print("exec, of a TAP:", ", ".join(f"{way} {ratio:.2f}" for way, ratio in medians.items()))
    raise SystemExit(0 if min(medians.values()) >= ASKED else 1)


if __name__ == "__main__":
    main()
