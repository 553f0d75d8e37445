"""The test bed: hosts A, S and B on one bridge, where A and B reach each other through S alone.

A and B hang in isolated ports of the bridge, which the kernel lets speak to S's port only. The
peer under test runs in all three, and makes one interface in A and one in B: the LAN.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from benchmarks import wire as capture
from benchmarks.underlays import WIRE_LIMIT, Underlay
from benchmarks.usage import resident_mib
from vswitch.devices import netlink
from vswitch.errors import TimedOut, VswitchError
from vswitch.lab import Host, Lab, Wire, WireSpec, wait_until
from vswitch.lab.lan import UNDERLAY, Lan

__all__ = ["A_ADDRESS", "B_ADDRESS", "DEVICE", "PREFIX", "Bed", "Relayed", "open_bed"]

DEVICE = "lan0"  # what peers call the interface that they make
A_ADDRESS, B_ADDRESS, PREFIX = "10.99.0.1", "10.99.0.2", 24
UP_TIMEOUT = 30  # seconds until an interface is there, and until A reaches B
STORY_LINES = 8


@attrs.frozen
class Relayed:
    """Bytes at S's port so far: from A and B to S, and from S to them."""

    to_switch: int
    from_switch: int

    def __sub__(self, other: Relayed) -> Relayed:
        return Relayed(self.to_switch - other.to_switch, self.from_switch - other.from_switch)


@attrs.define(eq=False)
class Bed:
    """The hosts and what runs in them."""

    lan: Lan
    underlay: Underlay
    a: Host
    b: Host
    s: Host
    a_underlay: str  # addresses of the hosts on the underlay
    b_underlay: str
    s_underlay: str
    a_address: str = A_ADDRESS  # addresses on the LAN that the peer makes
    b_address: str = B_ADDRESS
    pids: dict[str, list[int]] = attrs.field(factory=lambda: {"a": [], "s": [], "b": []})
    device: str = DEVICE  # the interface that the peer makes in A and B
    ports_used: int = 0
    iperf: subprocess.Popen[bytes] | None = None  # the server in B

    @property
    def all_pids(self) -> list[int]:
        return [pid for pids in self.pids.values() for pid in pids]

    def directory(self, role: str) -> Path:
        """A directory for the files of the peer in this host."""
        path: Path = self.host(role).directory / "peer"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def own(self, role: str, *directories: str) -> None:
        """Empty directories of this host alone, for programs that write to fixed places."""
        for directory in directories:
            self.host(role).run(["mount", "-t", "tmpfs", "tmpfs", directory])

    def host(self, role: str) -> Host:
        return {"a": self.a, "b": self.b, "s": self.s}[role]

    def spawn(self, role: str, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start one of the peer's programs; its output goes to a file for `story`."""
        with (self.directory(role) / "log").open("ab") as log:
            process = self.host(role).popen(
                list(argv), stdout=log, stderr=subprocess.STDOUT, cwd=self.directory(role)
            )
        self.pids[role].append(process.pid)
        return process

    def wait_device(self, role: str) -> None:
        """Wait for the interface that the peer makes in this host."""
        host = self.host(role)
        self.wait(
            lambda: host.call(netlink.find_link, self.device) is not None,
            f"{self.device} in {role}",
        )

    def raise_device(self, role: str, *, mtu: int | None = None) -> None:
        """Wait for that interface, and bring it up."""
        self.wait_device(role)
        self.host(role).call(netlink.configure, self.device, mtu=mtu, up=True)

    def address_device(self, *, mtu: int | None = None) -> None:
        """Bring up the interfaces in A and B, with an address each."""
        for role, address in (("a", self.a_address), ("b", self.b_address)):
            self.raise_device(role, mtu=mtu)
            self.host(role).call(netlink.add_address, self.device, f"{address}/{PREFIX}")

    def wait_up(self) -> None:
        """Wait until A reaches B on the LAN."""
        ping = ["ping", "-n", "-c", "1", "-W", "1", self.b_address]
        self.wait(lambda: self.a.run(ping, check=False).returncode == 0, "way from A to B")

    def wire(self, role: str) -> Wire:
        """The emulated wire of that host: forward is away from the host."""
        return self.lan.wires[_name(role)]

    def isolate(self, on: bool) -> None:
        """Whether the bridge keeps A and B from each other."""
        for role in ("a", "b"):
            port = self.lan.ports[role]
            word = "on" if on else "off"
            self.lan.underlay.run(["bridge", "link", "set", "dev", port, "isolated", word])

    def relayed(self) -> Relayed:
        """The counters of S's port in the bridge."""
        read = self.lan.underlay.call(_counters, self.lan.ports["switch"])
        return Relayed(to_switch=read[0], from_switch=read[1])

    def resident(self) -> dict[str, float]:
        """Resident MiB of the peer by host."""
        return {role: round(resident_mib(pids), 1) for role, pids in self.pids.items()}

    def story(self) -> str:
        """The last lines of what the peer's programs said."""
        said = []
        for role in "sab":
            log = self.directory(role) / "log"
            if log.exists():
                lines = log.read_text(errors="replace").splitlines()[-STORY_LINES:]
                said += [f"  {role}: {line}" for line in lines]
        return "\n".join(said)

    def wait(self, question: Callable[[], bool], what: str) -> None:
        """Wait until it is so; what the peer said is in the error if it does not become so."""
        try:
            wait_until(question, what, timeout=UP_TIMEOUT)
        except TimedOut as error:
            raise TimedOut(f"{error}\n{self.story()}") from None

    def begin_capture(self) -> None:
        program = capture.longer_than(WIRE_LIMIT)
        self.lan.underlay.call(capture.begin, self.lan.ports["switch"], program)

    def end_capture(self) -> capture.Wire:
        return self.lan.underlay.call(capture.end, self.lan.ports["switch"])

    def next_port(self) -> int:
        """A UDP port that was not used yet: nothing late is counted in the next figure."""
        self.ports_used += 1
        return 20000 + self.ports_used


@contextlib.contextmanager
def open_bed(underlay: Underlay, paths: Mapping[str, WireSpec] | None = None) -> Iterator[Bed]:
    """Build it; when the context ends, everything that runs in it is ended.

    `paths` puts emulated wires between hosts and the bridge, by role (`a`, `b`, `s`): see
    `Bed.wire`. They carry frames of one MTU, joined by no receiver, whatever the underlay.
    """
    with Lab() as lab:
        lan = Lan(lab, {_name(role): spec for role, spec in (paths or {}).items()})
        a, b = lan.host("a"), lan.host("b")
        on_wire = {
            role: _first_address(host) for role, host in zip("abs", (a, b, lan.switch), strict=True)
        }
        bed = Bed(lan, underlay, a, b, lan.switch, on_wire["a"], on_wire["b"], on_wire["s"])
        for host, name in ((a, "a"), (b, "b"), (lan.switch, "switch")):
            if name in lan.wires:
                continue  # a TAP of that kind has no offloads to set
            underlay.apply_host(host, UNDERLAY)
            underlay.apply_bridge(lan.underlay, lan.ports[name])
        bed.isolate(True)
        direct = ["ping", "-n", "-c", "1", "-W", "1", bed.b_underlay]
        if a.run(direct, check=False).returncode == 0:
            raise VswitchError("A reaches B on the underlay: the bridge does not isolate its ports")
        yield bed


def _name(role: str) -> str:
    """What the lab calls the host."""
    return "switch" if role == "s" else role


def _first_address(host: Host) -> str:
    return host.call(netlink.addresses, UNDERLAY)[0].partition("/")[0]


def _counters(ifname: str) -> tuple[int, int]:
    """Bytes that the interface received and sent."""
    where = Path("/sys/class/net") / ifname / "statistics"
    received, sent = (int((where / f"{way}_bytes").read_text()) for way in ("rx", "tx"))
    return received, sent
