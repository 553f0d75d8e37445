"""R20: a flood of handshakes beside goodput that was there, and a member who comes meanwhile.

The flood's source, the kernel's way from it to the switch and all members share this machine, which
no switch on the Internet has to. So there is a control: the same flood to the same host, at a port
where a socket refuses all of it by the filter that the switch would use. What is kept beside the
flood of what is kept beside that is the switch's own doing; both are told.

Then the same with inits that have ML-KEM-768 in them, and with slices of those. Last a flood of
which half has made-up proofs of address, which are a class of their own to the switch: the most
that it can be made to look at.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.bed import Bed, open_bed
from benchmarks.faults.plan import Plan
from benchmarks.faults.sources import LONGEST
from benchmarks.figures import LARGE, probe
from benchmarks.paths.verdict import Check
from benchmarks.peers import PEERS
from benchmarks.underlays import UNDERLAYS
from benchmarks.usage import resident_mib, usage
from transport import load_key_file
from transport.endpoint import socketfilter
from vswitch.lab import Host, wait_until
from vswitch.lab.lan import PORT, SWITCH_ADDRESS
from vswitch.state import StateDir

__all__ = ["measure"]

KEPT_HYBRID = 0.95  # of the goodput
KEPT, NEWCOMER, SHARE = 0.9, 3.0, 40.0  # of the goodput; s; per cent of a core for the flood
SOURCES = "10.0.0.0/8"  # where the flood seems to come from
ELSEWHERE = PORT + 1  # of the switch's host, where nothing of the switch's is
SETTLED = 1.0  # s until switch and members have got used to the flood

_sinks: list[socket.socket] = []


@attrs.frozen
class _Look:
    """What was seen for some seconds."""

    mbit: float  # that arrived
    switch: float  # its per cent of a core
    machine: float  # per cent of all cores that were busy
    inits: float  # a second that the switch has looked at
    lost: float  # datagrams for which the switch's socket had no room


def measure(plan: Plan) -> tuple[dict[str, Any], list[Check]]:
    """Goodput and CPU time alone, beside the flood to elsewhere, and beside the flood."""
    with open_bed(UNDERLAYS["nic"]) as bed:
        PEERS["vswitch"].start(bed)
        bed.wait_up()
        stranger = bed.lan.host("stranger")
        # What the switch answers leaves it, as it does where there is an Internet.
        bed.s.run(["ip", "route", "add", SOURCES, "via", "192.0.2.13"])
        bed.s.call(_refuse_all, ELSEWHERE)
        key = load_key_file(StateDir(bed.lan.state(bed.s)).server_key).public.raw.hex()
        join_alone = _join(bed, "early", bed.lan.invite("early"))
        handshakes_alone = _handshakes(bed, "early", key, plan.seconds / 2)
        rates: list[float] = []
        looks: dict[str, list[_Look]] = {"alone": [], "elsewhere": [], "beside": []}
        for _ in range(plan.rounds):  # in turns: other work on the machine comes and goes
            looks["alone"].append(_look(bed, plan))
            for what, port in (("elsewhere", ELSEWHERE), ("beside", PORT)):
                with _flood(stranger, port, key, plan, rates):
                    looks[what].append(_look(bed, plan))
        alone, elsewhere, beside = map(_median, looks.values())
        hybrids = {
            kind: _hybrid(bed, stranger, key, plan, rates, kind) for kind in ("hybrid", "slices")
        }
        invite = bed.lan.invite("newcomer")
        bed.lan.host("newcomer")
        with _flood(stranger, PORT, key, plan, rates):
            join = _join(bed, "newcomer", invite)
            handshakes = _handshakes(bed, "newcomer", key, 2 * plan.seconds)
        with _flood(stranger, PORT, key, plan, rates, kind="mixed"):
            mixed = _look(bed, plan)
            mixed_handshakes = _handshakes(bed, "newcomer", key, plan.seconds)
        resident = resident_mib(bed.pids["s"])
    spread = _spread(handshakes)
    found = {
        "offered_mbit": plan.mbit,
        "flood_per_s": [round(rate) for rate in rates],
        "mbit": {what: [each.mbit for each in seen] for what, seen in looks.items()},
        "alone": attrs.asdict(alone),
        "flood_elsewhere": attrs.asdict(elsewhere),
        "flood": attrs.asdict(beside),
        "kept_percent_of_alone": 100 * beside.mbit / max(alone.mbit, 1e-9),
        "join_s": {"alone": join_alone, "beside": join},
        "handshake_s_alone": _spread(handshakes_alone),
        "handshake_s_beside": spread,
        "half_with_made_up_proofs": attrs.asdict(mixed),
        "handshake_s_beside_those": _spread(mixed_handshakes),
        **hybrids,
        "switch_mib": resident,
    }
    kept = beside.mbit / max(elsewhere.mbit, 1e-9)
    return found, [
        Check("goodput kept, of that beside a flood elsewhere", kept, low=KEPT),
        Check("handshake of a newcomer, s, 9 of 10", spread["p90"], high=NEWCOMER),
        Check("CPU for the flood, % of a core", beside.switch - elsewhere.switch, high=SHARE),
        Check("the same, half with proofs", mixed.switch - elsewhere.switch, high=SHARE),
        *(
            Check(f"goodput kept beside {kind}, the same way", each["kept"], low=KEPT_HYBRID)
            for kind, each in hybrids.items()
        ),
    ]


def _hybrid(
    bed: Bed, stranger: Host, key: str, plan: Plan, rates: list[float], kind: str
) -> dict[str, float]:
    """Medians of goodput beside a flood of that kind, and beside the same to elsewhere."""
    looks: dict[int, list[_Look]] = {ELSEWHERE: [], PORT: []}
    for _ in range(plan.rounds):
        for port, seen in looks.items():
            with _flood(stranger, port, key, plan, rates, kind=kind):
                seen.append(_look(bed, plan))
    elsewhere, beside = _median(looks[ELSEWHERE]), _median(looks[PORT])
    return {
        "kept": beside.mbit / max(elsewhere.mbit, 1e-9),
        "switch_percent": beside.switch - elsewhere.switch,
        "inits_per_s": beside.inits,
    }


def _median(looks: list[_Look]) -> _Look:
    """Of each figure by itself."""
    columns = zip(*(attrs.astuple(look) for look in looks), strict=True)
    return _Look(*map(statistics.median, columns))


def _look(bed: Bed, plan: Plan) -> _Look:
    """Mbit/s that arrive of what is offered, and what that costs."""
    lost, inits = bed.s.call(_overruns), _inits(bed)
    before, began = usage(bed.pids["s"]), time.monotonic()
    found = probe(bed, LARGE, plan.mbit * 1e6 / 8 / LARGE, plan.seconds)
    used, spent = usage(bed.pids["s"]) - before, time.monotonic() - began
    return _Look(
        mbit=found.received * LARGE * 8 / 1e6,
        switch=100 * used.processes / spent,
        machine=100 * used.machine / spent / (os.cpu_count() or 1),
        inits=(_inits(bed) - inits) / (time.monotonic() - began),
        lost=bed.s.call(_overruns) - lost,
    )


@contextlib.contextmanager
def _flood(
    stranger: Host, port: int, key: str, plan: Plan, rates: list[float], *, kind: str = "flood"
) -> Iterator[None]:
    """The flood, while the body runs; its rate is added to `rates`."""
    argv = [sys.executable, "-m", "benchmarks.faults.sources", kind, SWITCH_ADDRESS]
    argv += [str(port), key, str(plan.flood), str(LONGEST)]
    source = stranger.popen(argv, stdout=subprocess.PIPE, text=True)
    assert source.stdout is not None
    source.stdout.readline()  # it has made its initiations
    began = time.monotonic()
    time.sleep(SETTLED)
    try:
        yield
    finally:
        lasted = time.monotonic() - began
        source.terminate()
        sent = source.communicate(timeout=10)[0]
    rates.append(int(sent) / lasted)


def _join(bed: Bed, name: str, invite: str) -> float:
    """Seconds from the start of the program until it says that it is connected. It is ended."""
    began = time.monotonic()
    member = bed.lan.join(name, invite=invite)
    wait_until(lambda: " connected " in member.log.read_text(), f"connected {name}", timeout=60)
    took = time.monotonic() - began
    member.stop()
    return took


def _handshakes(bed: Bed, name: str, key: str, seconds: float) -> list[float]:
    """Seconds that each took of those that a member's key made, in a program that has started."""
    host = bed.lan.members[name]
    path = StateDir(bed.lan.state(host)).key(name)
    argv = [sys.executable, "-m", "benchmarks.faults.newcomer", str(path), key]
    done = host.run([*argv, SWITCH_ADDRESS, str(PORT), str(seconds)], timeout=seconds + 30)
    times: list[float] = json.loads(done.stdout)
    return times


def _spread(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "number": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p90": round(ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))], 2),
        "worst": round(ordered[-1], 2),
    }


def _refuse_all(port: int) -> None:
    """A socket of this host there that takes no init, for as long as the host lasts."""
    sink = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    socketfilter.apply(sink, (0.0, 0.0))
    sink.bind(("::", port))
    _sinks.append(sink)


def _overruns() -> int:
    """Datagrams so far for which a socket of this host had no room, by snmp(5) counters."""
    names, values = (
        line.split()
        for line in Path("/proc/self/net/snmp").read_text().splitlines()
        if line.startswith("Udp:")
    )
    return int(values[names.index("RcvbufErrors")])


def _inits(bed: Bed) -> int:
    """Handshakes so far that the switch has refused."""
    drops = (bed.lan.status() or {}).get("transport_drops", {})
    return sum(count for name, count in drops.items() if isinstance(count, int))
