"""R5, R10, R13 on a real wire: the NAT forgets, one direction is cut, the path shrinks."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks.bed import Bed, open_bed
from benchmarks.faults.plan import Plan
from benchmarks.paths.flow import Stream
from benchmarks.paths.verdict import Check
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS
from vswitch.devices import netlink
from vswitch.lab import NatSpec, PathSpec, WireSpec
from vswitch.lab.lan import DEV

__all__ = ["measure"]

PATH = PathSpec(rate=20e6, queue=125_000, delay=0.02)
NOTICED, RESUMED = 5.0, 1.0  # s
FORGETS = 5.0  # s between two rebindings
SETTLE, AFTER = 3.0, 8.0  # s of a stream before its path shrinks, and watched from then on
EVERY = 0.1  # s between two pings, or looks at a stream
ANSWER = re.compile(r"^\[([0-9.]+)\].*icmp_seq=(\d+) .*time=([0-9.]+) ms", re.MULTILINE)


def measure(plan: Plan) -> tuple[dict[str, Any], list[Check]]:
    """All three, one after the other, with one session."""
    spec = WireSpec(forward=PATH, back=PATH, nat=NatSpec())
    with open_bed(UNDERLAYS["nic"], {"a": spec}) as bed:
        PEERS["vswitch"].start(bed)
        bed.wait_up()
        _know_each_other(bed)
        since = (bed.lan.port("a") or {}).get("since")
        rows = [_rebind(bed, plan)]
        rows += [_cut(bed, each) for each in plan.outages]
        rows += [_shrink(bed, each) for each in plan.mtus]
        same = (bed.lan.port("a") or {}).get("since") == since
    found = {name: value for figures, _ in rows for name, value in figures.items()}
    checks = [check for _, checks in rows for check in checks]
    return found, [*checks, Check("the session is the same", float(same), low=1)]


def _know_each_other(bed: Bed) -> None:
    """A kernel asks by ARP whether its neighbour still is, and drops what it has for him while
    there is no answer: in a minute's outage that would be counted as lost.
    """
    ends = ((bed.a, bed.b, bed.b_address), (bed.b, bed.a, bed.a_address))
    for host, other, address in ends:
        link = other.call(netlink.find_link, DEV)
        entry = ["ip", "neigh", "replace", address, "lladdr", link.mac, "dev", DEV]
        host.run([*entry, "nud", "permanent"])


def _rebind(bed: Bed, plan: Plan) -> tuple[dict[str, Any], list[Check]]:
    with Pinging(bed) as pinging:
        for _ in range(plan.rebindings):
            time.sleep(FORGETS)
            bed.wire("a").rebind()
        time.sleep(1)
    lost, longest = pinging.lost, pinging.longest
    name = f"NAT forgets {plan.rebindings} times"
    return {name: f"{pinging.sent} pings, longest {longest:.0f} ms"}, [
        Check(f"{name}: lost", lost, high=0)
    ]


def _cut(bed: Bed, seconds: float) -> tuple[dict[str, Any], list[Check]]:
    """Nothing reaches the switch for so long."""
    # All answers come at once then, and ping's own socket has room for some 200 of them.
    with Pinging(bed, max(EVERY, seconds / 120)) as pinging:
        time.sleep(2)
        bed.wire("a").change(forward=attrs.evolve(PATH, up=False))
        time.sleep(seconds)
        bed.wire("a").change(forward=PATH)
        healed = time.time()
        time.sleep(4)
    name = f"cut {seconds:g} s, one direction"
    resumed = pinging.first_after(healed) - healed
    return {name: f"{pinging.sent} pings, answers again after {resumed:.2f} s"}, [
        Check(f"{name}: resumes, s", resumed, high=RESUMED),
        Check(f"{name}: lost", pinging.lost, high=0),
    ]


def _shrink(bed: Bed, mtu: int) -> tuple[dict[str, Any], list[Check]]:
    """Longer packets vanish in silence, both ways, in the middle of a transfer."""
    small = attrs.evolve(PATH, mtu=mtu)
    with Stream(bed.a, bed.b, bed.b_address, "cubic") as stream:
        time.sleep(SETTLE)
        bed.wire("a").change(forward=small, back=small)
        began = last = time.monotonic()
        longest, payload = 0.0, stream.sample().payload
        first = payload
        while (now := time.monotonic()) < began + AFTER:
            time.sleep(EVERY)
            if (arrived := stream.sample().payload) > payload:
                payload, last = arrived, time.monotonic()
            longest = max(longest, now - last)
    bed.wire("a").change(forward=PATH, back=PATH)
    name = f"MTU falls to {mtu}"
    return {name: f"{longest:.1f} s without data, then {(payload - first) / 1e6:.1f} MB"}, [
        Check(f"{name}: stands still, s", longest, high=NOTICED),
        Check(f"{name}: goes on, MB", (payload - first) / 1e6, low=1),
    ]


class Pinging:
    """A context manager: pings from A to B, which wait for their answers as long as it takes."""

    def __init__(self, bed: Bed, every: float = EVERY) -> None:
        self._bed, self._every = bed, every
        self._log: Path = bed.a.directory / f"ping-{time.monotonic_ns()}.txt"
        self.sent = self.lost = 0
        self.longest = 0.0
        self._at: list[float] = []

    def __enter__(self) -> Pinging:
        argv = ["ping", "-n", "-D", "-i", f"{self._every:g}", "-W", "90", self._bed.b_address]
        with self._log.open("wb") as output:
            self._process = self._bed.a.popen(argv, stdout=output, stderr=subprocess.STDOUT)
        time.sleep(1)
        return self

    def __exit__(self, *reason: object) -> None:
        # What was asked last has had no time to be answered: it does not count.
        time.sleep(1)
        self._process.send_signal(2)
        self._process.wait(10)
        said = self._log.read_text()
        answers = [(float(at), int(n), float(ms)) for at, n, ms in ANSWER.findall(said)]
        self.sent = max((n for _, n, _ in answers), default=0)
        self.lost = self.sent - len({n for _, n, _ in answers})
        self.longest = max((ms for *_, ms in answers), default=0.0)
        self._at = [at for at, *_ in answers]

    def first_after(self, moment: float) -> float:
        """When the first answer after that moment came."""
        return min((at for at in self._at if at >= moment), default=float("inf"))
