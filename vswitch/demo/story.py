"""The demo from beginning to end: build, connect, ping, transfer, watch.

Blocking, in the main thread. Whatever ends it, `Lab` takes everything down. Errors: the
`VswitchError` of whatever did not come up, with the end of that program's log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import permutations

from vswitch.demo.echo import ping
from vswitch.demo.report import Flow, Member, Pings, Report
from vswitch.demo.transfer import receive, send
from vswitch.demo.watch import Sight
from vswitch.devices import netlink
from vswitch.errors import VswitchError
from vswitch.lab import Host, wait_until
from vswitch.lab.lan import DEV, PORT, UNDERLAY, Lan

NAMES = ("pc1", "pc2")
PINGS = 20
TCP_PORT = 5201
CHECKED = 1 << 20  # bytes each way while the underlay is watched
UNLIMITED = 1 << 60  # bytes


def tell(lan: Lan, *, pattern: bytes, seconds: float, say: Callable[[str], None]) -> Report:
    """Start everything on `lan`, measure for `seconds` each way, and report."""
    say("starting the switch: vswitch serve")
    lan.serve()
    report = Report()
    with _watching(lan.switch, UNDERLAY, pattern) as underlay:
        for name in NAMES:
            say(f"plugging in {name}: vswitch join - --name {name}")
            lan.join(name)
        report.members = [_member(lan, name) for name in NAMES]
        with _watching(lan.members[NAMES[-1]], DEV, pattern) as inside:
            say("pinging both ways")
            for version in (4, 6):
                for source, target in permutations(report.members, 2):
                    report.pings.append(_ping(lan, source, target, version, pattern))
            say("sending data both ways, with somebody listening on the wire")
            checked = [
                _flow(lan, *pair, pattern=pattern, seconds=60, limit=CHECKED)
                for pair in permutations(report.members, 2)
            ]
        report.inside = inside
    report.underlay = underlay
    say(f"sending data both ways for {seconds:g} s each, with nobody listening")
    report.flows = [flow for flow in checked if not flow.right]
    report.flows += [
        _flow(lan, *pair, pattern=pattern, seconds=seconds, limit=UNLIMITED)
        for pair in permutations(report.members, 2)
    ]
    return report


def _member(lan: Lan, name: str) -> Member:
    port = lan.wait_connected(name)[0]
    if port["address"] is None:
        raise VswitchError(f"the switch gave {name} no address")
    return Member(
        name=name,
        address=port["address"].partition("/")[0],
        link_local=wait_until(
            partial(link_local, lan.members[name]), f"IPv6 link-local address of {name}"
        ),
        via=port.get("via"),
    )


def link_local(host: Host) -> str | None:
    """The IPv6 link-local address of the host on the LAN, without prefix, if it has one by now."""
    found = [each for each in host.call(netlink.addresses, DEV) if each.startswith("fe80:")]
    return found[0].partition("/")[0] if found else None


def _ping(lan: Lan, source: Member, target: Member, version: int, pattern: bytes) -> Pings:
    address = target.address if version == 4 else target.link_local
    echoes = lan.members[source.name].call(
        ping, address, version=version, payload=pattern, count=PINGS, dev=DEV
    )
    return Pings(source.name, target.name, version, echoes)


def _flow(
    lan: Lan, source: Member, target: Member, *, pattern: bytes, seconds: float, limit: int
) -> Flow:
    receiving = lan.members[target.name].start(receive, target.address, TCP_PORT)
    sending = lan.members[source.name].start(
        send, target.address, TCP_PORT, pattern=pattern, seconds=seconds, limit=limit
    )
    patience = seconds + 60
    return Flow(source.name, target.name, sending.result(patience), receiving.result(patience))


@contextmanager
def _watching(host: Host, ifname: str, pattern: bytes) -> Iterator[Sight]:
    """Watch an interface while the block runs; what was seen is in the yielded object after it."""
    process = host.popen(
        [sys.executable, "-m", "vswitch.demo.watch", ifname, pattern.hex(), str(PORT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None  # asked for above
    assert process.stderr is not None
    if process.stdout.readline() != "watching\n":
        raise VswitchError(f"cannot watch {ifname} of {host.name}: {process.stderr.read()}")
    sight = Sight()
    yield sight
    output, errors = process.communicate(timeout=60)
    if process.returncode != 0:
        raise VswitchError(f"the watch of {ifname} on {host.name} failed: {errors}")
    for name, value in json.loads(output).items():
        setattr(sight, name, value)
