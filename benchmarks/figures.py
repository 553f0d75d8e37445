"""What is measured of one peer on one underlay: TCP, UDP, ping, each with a bound in time."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks import traffic
from benchmarks.bed import Bed
from benchmarks.search import Probe, best_clean
from benchmarks.usage import usage
from vswitch.errors import VswitchError
from vswitch.lab import wait_until

__all__ = ["FULL", "QUICK", "Plan", "pings", "probe", "tcp", "udp_large", "udp_small"]

LARGE, SMALL = 1400, 64  # bytes of UDP payload
GRACE = 20  # seconds that a program may take beyond its own end
IPERF_PORT = 5201
TIME = re.compile(r"time=([0-9.]+) ms")


@attrs.frozen
class Plan:
    """How long to look. Seconds, and numbers of pings and of rates tried."""

    tcp: int  # whole: iperf3 takes 0.5 for 0, which is for ever
    udp: float
    rates: int
    fast_pings: int  # 2 ms apart
    slow_pings: int  # 50 ms apart
    loaded: int
    usual_pings: int = 0  # 1 s apart, as ping(8) does by itself; 0: that is not measured
    overloads: tuple[int, ...] = (80_000, 160_000, 300_000)  # datagrams offered a second


FULL = Plan(tcp=5, udp=2, rates=8, fast_pings=1000, slow_pings=100, loaded=5, usual_pings=20)
QUICK = Plan(tcp=2, udp=1, rates=4, fast_pings=300, slow_pings=20, loaded=2, usual_pings=5)


def tcp(bed: Bed, streams: int, seconds: int, *, reverse: bool) -> dict[str, float]:
    """iperf3 from A to B, or from B to A: Mbit/s, and CPU seconds a GB (1e9 bytes) of payload."""
    _serve_tcp(bed)
    relayed, before = bed.relayed(), usage(bed.all_pids)
    argv = _iperf(bed, streams, seconds, reverse=reverse)
    done = bed.a.run(argv, timeout=seconds + GRACE, check=False)
    used, passed = usage(bed.all_pids) - before, bed.relayed() - relayed
    try:
        end = json.loads(done.stdout)["end"]
        received = end["sum_received"]
        gigabytes = received["bytes"] / 1e9
    except (ValueError, KeyError) as error:
        raise VswitchError(f"iperf3 gave no result: {_why(bed, done)}") from error
    per = max(gigabytes, 1e-6)
    return {
        "mbit": received["bits_per_second"] / 1e6,
        "retransmits": end["sum_sent"].get("retransmits", 0),
        "gigabytes": gigabytes,
        "machine_s_per_gb": used.machine / per,
        "peer_s_per_gb": used.processes / per,
        # Shares of the payload that went into S and out of S: at least 1 where S relays it.
        "into_switch": passed.to_switch / 1e9 / per,
        "out_of_switch": passed.from_switch / 1e9 / per,
    }


def udp_large(bed: Bed, plan: Plan, start_mbit: float) -> dict[str, Any]:
    """1,400-byte datagrams from A to B at less than 1 % loss: the best rate found."""
    start = max(start_mbit, 10) * 1e6 / 8 / LARGE
    best, tried = best_clean(lambda rate: probe(bed, LARGE, rate, plan.udp), start, plan.rates)
    rate = best.received if best else 0.0
    return {"mbit": rate * LARGE * 8 / 1e6, "per_s": rate, "tried": _rows(tried)}


def udp_small(bed: Bed, plan: Plan) -> dict[str, Any]:
    """64-byte datagrams from A to B: received a second at each overload, and the best clean."""
    tried = [probe(bed, SMALL, rate, plan.udp) for rate in plan.overloads]
    overload = {f"{each.offered / 1000:.0f}k": each.received for each in tried}
    sent = {f"{each.offered / 1000:.0f}k": each.sent for each in tried}
    start = max(0.8 * max(each.received for each in tried), 1000)
    best, tried = best_clean(
        lambda rate: probe(bed, SMALL, rate, plan.udp), start, plan.rates, tried
    )
    clean = best.received if best else 0.0
    return {"clean_per_s": clean, "received_at": overload, "sent_at": sent, "tried": _rows(tried)}


def pings(bed: Bed, plan: Plan) -> dict[str, dict[str, float]]:
    """Round trips in ms: left alone (2 ms, 50 ms and 1 s apart), and beside one TCP stream A to B.

    `peer_us` is what the peer's processes spend while one is sent, in CPU microseconds.
    """
    found = {
        "ms2": _ping(bed, plan.fast_pings, 0.002),
        "ms50": _ping(bed, plan.slow_pings, 0.05),
    }
    if plan.usual_pings:
        found["ms1000"] = _ping(bed, plan.usual_pings, 1)
    _serve_tcp(bed)
    load = bed.a.popen(
        _iperf(bed, 1, plan.loaded + 1, reverse=False),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)  # the stream has found its speed
    found["loaded"] = _ping(bed, int(plan.loaded / 0.01), 0.01)
    load.wait(plan.loaded + GRACE)
    return found


def _serve_tcp(bed: Bed) -> None:
    """See that iperf3's server runs in B, for as long as the bed lasts, and listens.

    It may be ended by whoever ends all programs of that name; the next transfer has a new one.
    """
    if bed.iperf is not None and bed.iperf.poll() is None:
        return
    with (bed.b.directory / "iperf3.log").open("ab") as log:
        bed.iperf = bed.b.popen(
            ["iperf3", "-s", "-p", str(IPERF_PORT), "--forceflush"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: bed.b.call(_listens, IPERF_PORT), "iperf3 server in B")


def _listens(port: int) -> bool:
    """Whether a TCP socket of this host listens there (proc(5): state 0A)."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
    ]
    return any(fields[3] == "0A" and int(fields[1][-4:], 16) == port for fields in lines)


def _iperf(bed: Bed, streams: int, seconds: int, *, reverse: bool) -> list[str]:
    argv = ["iperf3", "-c", bed.b_address, "-p", str(IPERF_PORT), "-J", "-t", str(seconds)]
    return [*argv, "-P", str(streams), "--connect-timeout", "5000", *["-R"] * reverse]


def _why(bed: Bed, done: subprocess.CompletedProcess[str]) -> str:
    """What the client said, and whether the server still runs: its exit status if not."""
    said = re.findall(r'"error":\s*"([^"]*)"', done.stdout) or [done.stderr[-200:]]
    if bed.iperf is None or bed.iperf.poll() is None:
        return str(said[0])
    log = (bed.b.directory / "iperf3.log").read_text(errors="replace").strip()
    return f"{said[0]}; its server has ended: {log[-200:]!r}"


def probe(bed: Bed, size: int, rate: float, seconds: float) -> Probe:
    port = bed.next_port()
    bed.b.call(traffic.listen, port)
    counting = bed.b.start(traffic.count, port, seconds + 8)
    sent = bed.a.call(traffic.send, bed.b_address, port, size, rate, seconds)
    heard = counting.result(seconds + GRACE)
    lost = 1 - heard.datagrams / max(sent.datagrams, 1)
    # What still stood in queues when the sender stopped took time to arrive: it counts.
    received = heard.datagrams / max(heard.seconds, sent.seconds)
    return Probe(rate, sent.datagrams / sent.seconds, received, lost)


def _ping(bed: Bed, number: int, interval: float) -> dict[str, float]:
    limit = int(number * interval * 2) + 5
    argv = ["ping", "-n", "-i", f"{interval:g}", "-c", str(number), "-w", str(limit)]
    before = usage(bed.all_pids)
    done = bed.a.run([*argv, bed.b_address], timeout=limit + GRACE, check=False)
    used = usage(bed.all_pids) - before
    times = sorted(float(text) for text in TIME.findall(done.stdout))
    if not times:
        return {"lost": 1.0}
    return {
        "min": times[0],
        "p50": statistics.median(times),
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
        "lost": 1 - len(times) / number,
        "peer_us": 1e6 * used.processes / number,
    }


def _rows(tried: list[Probe]) -> list[dict[str, float]]:
    return [{key: round(value, 4) for key, value in attrs.asdict(each).items()} for each in tried]
