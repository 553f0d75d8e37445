"""What a handshake costs: `python -m benchmarks.handshakes --against DIR`.

Two endpoints of one process on loopback, with real sockets and all of the transport, and nothing of
the switch. Told are the time until a connection is there (median of `--connects`, one after the
other), the same for `--crowd` clients that all connect at once, each with a socket of its own, and
the processor time of both sides for each handshake. This checkout, the other, and the other once
more as the control take turns, in fresh processes; medians of the rounds, and their ratios.

The other checkout is any that has `open_endpoint`; it runs under its .venv, if it has one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

CHECKOUT = Path(__file__).resolve().parents[1]
FIGURES = {"latency_ms": "one connection, ms", "crowd_s": "a crowd, s", "cpu_ms": "CPU of both, ms"}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.handshakes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--against", type=Path, metavar="DIR", default=CHECKOUT)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connects", type=int, default=200)
    parser.add_argument("--crowd", type=int, default=200)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.connects, args.crowd)))
        return
    variants = {"this": CHECKOUT, "other": args.against.resolve()}
    variants["control"] = variants["other"]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)
    for number in range(1, args.rounds + 1):
        for name, checkout in variants.items():
            found[name].append(_run(checkout, args.connects, args.crowd))
        told = [f"{name} {found[name][-1]['latency_ms']:.2f} ms" for name in variants]
        print(f"round {number}: {', '.join(told)}", flush=True)
    for figure, text in FIGURES.items():
        middle = {name: median(each[figure] for each in found[name]) for name in variants}
        values = ", ".join(f"{name} {value:.3f}" for name, value in middle.items())
        ratio = middle["this"] / middle["other"]
        print(f"{text}: {values}; {ratio:.2f} x, control {middle['control'] / middle['other']:.2f}")


def _run(checkout: Path, connects: int, crowd: int) -> dict[str, float]:
    own = checkout / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    done = subprocess.run(
        [python, __file__, "--worker", f"--connects={connects}", f"--crowd={crowd}"],
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def work(connects: int, crowd: int) -> dict[str, float]:
    """In a process of its own, with the `transport` of any checkout."""
    import trio

    return trio.run(_measure, connects, crowd)


async def _measure(connects: int, crowd: int) -> dict[str, float]:
    import trio

    from transport import Grant, Peer, PrivateKey, open_endpoint, open_udp

    class Everybody:
        def look_up(self, peer: object, credential: object) -> Grant:
            return Grant()

    async def hold(channel: object) -> None:
        await trio.sleep_forever()

    identity = PrivateKey.generate()
    peer = Peer(identity.public)
    async with (
        open_endpoint(open_udp("127.0.0.1"), identity, authority=Everybody()) as server,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, hold)
        where = [("127.0.0.1", server.local_address[1])]
        times, cpu = [], time.process_time()
        for _ in range(connects):
            async with open_endpoint(open_udp("127.0.0.1"), PrivateKey.generate()) as client:
                begun = time.perf_counter()
                channel = await client.connect(peer, where)
                times.append(time.perf_counter() - begun)
                channel.close()
            # The bucket of one address has more, but not for as long as this goes on.
            await trio.sleep(0.06)
        cpu = time.process_time() - cpu
        lasted = await _crowd(peer, where, crowd)
        nursery.cancel_scope.cancel()
    return {
        "latency_ms": 1000 * median(times),
        "cpu_ms": 1000 * cpu / connects,
        "crowd_s": lasted,
    }


async def _crowd(peer: object, where: list[tuple[str, int]], crowd: int) -> float:
    import trio

    from transport import PrivateKey, open_endpoint, open_udp

    ready, over, connected = 0, trio.Event(), 0
    gate, done = trio.Event(), trio.Event()

    async def member() -> None:
        nonlocal ready, connected
        async with open_endpoint(open_udp("127.0.0.1"), PrivateKey.generate()) as client:
            ready += 1
            if ready == crowd:
                over.set()
            await gate.wait()
            await client.connect(peer, where, patience=60.0)  # type: ignore[arg-type]
            connected += 1
            if connected == crowd:
                done.set()
            await done.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(crowd):
            nursery.start_soon(member)
        await over.wait()
        begun = time.perf_counter()
        gate.set()
        await done.wait()
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
