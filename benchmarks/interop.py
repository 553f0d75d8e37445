"""Do two versions of this project work together? Real processes: four minutes.

    python -m benchmarks.interop --against DIR
    python -m benchmarks.interop --against DIR --only switch --json result.json
    python -m benchmarks.interop --against DIR --pq off      # this checkout's side of handshakes

Twice: A's member is the other checkout's and the rest is this one's, then the other way round.
Pings and TCP streams between A and B; new keys beside a stream, two minutes after A joined as in
any session; A gets another address; the switch is killed and started again. It says what was found,
and what falls short of what was asked.

Needs root, and: apt-get install iperf3 ethtool iproute2 iputils-ping. The exit status is 1 if
something falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from benchmarks import figures, wire
from benchmarks.bed import Bed, open_bed
from benchmarks.command import check_machine, stop_on_signal, tell
from benchmarks.faults.path import Pinging
from benchmarks.paths.flow import Stream
from benchmarks.paths.flow import pings as ping
from benchmarks.paths.verdict import Check
from benchmarks.peers import ours
from benchmarks.underlays import UNDERLAYS
from benchmarks.versions.code import code_of, known
from transport.constants import REKEY_AFTER, REKEY_JITTER
from transport.wire.datagrams import RESPONSE
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import UNDERLAY, Code

CASES = {"member": "the other's member on this switch", "switch": "this member on the other's"}
TOOLS = {"iperf3": "iperf3", "ethtool": "ethtool", "ping": "iputils-ping", "ss": "iproute2"}
SECONDS = 4  # of a stream
LEAST = 10.0  # Mbit/s: that it works, not how well
KEPT = ("-b", "20M")  # a stream that is no load, while keys are renewed
SLACK = 20.0  # s that new keys may be late
PAUSE, BACK = 1.0, 5.0  # s without an answer: while A moves, after the switch answers again
AFTER = 3.0  # s that are looked at behind each event

Found = Iterator[tuple[str, list[Check]]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.interop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--against", type=Path, required=True, metavar="DIR", help="the other checkout")
    add("--only", choices=CASES, help="one of the two ways round")
    add("--pq", choices=("auto", "off"), default="auto", help="what this checkout is told (auto)")
    add("--json", type=Path, metavar="FILE", help="write the rows here too")
    args = parser.parse_args(argv)
    check_machine("interop", TOOLS)
    stop_on_signal()
    own = code_of(variables=[f"VSWITCH_PQ={args.pq}"])
    other = code_of(args.against)
    said = {name: known(code) for name, code in (("this", own), ("other", other))}
    commits = "; ".join(f"{name}: {each['commit'][:12]}" for name, each in said.items())
    tell(f"load {os.getloadavg()[0]:.1f}; {commits}")
    rows: list[dict[str, Any]] = []
    for case in [args.only] if args.only else CASES:
        member, rest = (other, own) if case == "member" else (own, other)
        for text, checks in measure(member, rest):
            rows.append({"case": case, "found": text, "checks": [check.row() for check in checks]})
            short = [f"  SHORT {check}" for check in checks if not check.met]
            print("\n".join([f"{CASES[case]:34} {text}", *short]), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps({"code": said, "rows": rows}, indent=1) + "\n")
    return 0 if all(check["met"] for row in rows for check in row["checks"]) else 1


def measure(member: Code, rest: Code) -> Found:
    """All of it, with one session of A until the switch is killed."""
    with open_bed(UNDERLAYS["nic"]) as bed:
        bed.lan.code = {"a": member, "b": rest, "switch": rest}
        ours.start(bed)
        bed.wait_up()
        since = _since(bed)
        port = bed.lan.ports["a"]
        bed.lan.underlay.call(wire.begin, port, wire.udp_that_begins(RESPONSE))
        yield _pings(bed)
        yield from _streams(bed)
        yield _rekey(bed, port)
        yield _move(bed)
        same = _since(bed) == since
        yield "one session so far", [Check("is that of the beginning", float(same), low=1)]
        yield _restart(bed)
        yield _pings(bed)
        yield from _streams(bed)


def _pings(bed: Bed) -> tuple[str, list[Check]]:
    trips = ping(bed.a, bed.b_address, 200, 0.01).figures()
    return f"ping p50 {trips.get('p50', float('nan')):.2f} ms", [
        Check("pings lost", trips["lost"], high=0)
    ]


def _streams(bed: Bed) -> Found:
    for word, reverse in (("to B", False), ("to A", True)):
        mbit = figures.tcp(bed, 1, SECONDS, reverse=reverse)["mbit"]
        yield f"TCP {word} {mbit:.0f} Mbit/s", [Check("Mbit/s", mbit, low=LEAST)]


def _rekey(bed: Bed, port: str) -> tuple[str, list[Check]]:
    """The answers to A's handshakes since it joined are those that gave it new keys."""

    def renewed() -> bool:
        return bed.lan.underlay.call(wire.seen, port) > 0

    limit, began = REKEY_AFTER + REKEY_JITTER + SLACK, time.monotonic()
    kept = Stream(bed.a, bed.b, bed.b_address, "cubic", options=KEPT)
    with kept as stream, Pinging(bed) as trips:
        wait_until(renewed, "new keys for A", timeout=limit)
        waited, before = time.monotonic() - began, stream.sample().payload
        time.sleep(AFTER)
        after = stream.sample().payload - before
    return f"new keys after {waited:.0f} s of a stream, longest ping {trips.longest:.0f} ms", [
        Check("pings lost", trips.lost, high=0),
        Check("longest ping, s", trips.longest / 1000, high=PAUSE),
        Check("MB with new keys", after / 1e6, low=1),
    ]


def _move(bed: Bed) -> tuple[str, list[Check]]:
    """A gets another address, as from another network."""
    old = f"{bed.a_underlay}/24"
    new = old.replace(f".{bed.a_underlay.rpartition('.')[2]}/", ".211/")
    with Pinging(bed, 0.02) as trips:
        bed.a.call(netlink.remove_address, UNDERLAY, old)
        bed.a.call(netlink.add_address, UNDERLAY, new)
        time.sleep(AFTER)
    via = _port(bed).get("via", "")
    moved = via.startswith(f"udp:{new.partition('/')[0]}:")
    return f"A moves, longest ping {trips.longest:.0f} ms", [
        Check("pings lost", trips.lost, high=0),
        Check("longest ping, s", trips.longest / 1000, high=PAUSE),
        Check("the switch knows the new address", float(moved), low=1),
    ]


def _restart(bed: Bed) -> tuple[str, list[Check]]:
    """Killed, and started again. Both members talk: who has nothing to say learns of it by his
    keepalive, a quarter of a minute later.
    """
    address = _port(bed).get("address")
    bed.b.popen(["ping", "-n", "-q", "-i", "0.05", "-w", "60", bed.a_address], stdout=DEVNULL)
    with Pinging(bed, 0.05) as trips:
        bed.lan.programs["switch"].stop(signal.SIGKILL)
        bed.lan.serve()
        answers = time.time()
        bed.lan.wait_connected("a", "b")
        bed.wait_up()
        time.sleep(AFTER)
    back = trips.first_after(answers) - answers
    return f"switch killed and started, A reaches B {back:.1f} s later", [
        Check("back, s", back, high=BACK),
        Check("the address is kept", float(_port(bed)["address"] == address), low=1),
    ]


def _port(bed: Bed) -> dict[str, Any]:
    return bed.lan.port("a") or {}


def _since(bed: Bed) -> Any:
    return _port(bed).get("since")


if __name__ == "__main__":
    sys.exit(main())
