"""An emulated wire between two hosts of a lab: a rate, a delay, loss, and all else of `PathSpec`.

    with Lab() as lab:
        a, b = lab.host("a"), lab.host("b")
        with Wire(lab, a, b, forward=PathSpec(rate=20e6, delay=0.025), back=slow) as wire:
            a.run(["ping", "-c", "3", wire.b_end.ip])
            wire.change(forward=PathSpec(loss=0.01))
            print(wire.statistics())

Each host gets a TAP interface, and a process of its own carries the frames from one to the other
(`carrier.py`), so anything above Ethernet passes: ARP, IPv4, IPv6. With `nat`, A is behind one.
An end may hang in a bridge instead of having addresses: `Lan` puts a wire between a host and its
underlay that way.

Invariants: what the carrier did not get to see is counted too (`missed`): figures that were made
with such losses, or with many late frames, say nothing about the path that was asked for. The
interfaces are gone when the wire is, also when the lab was killed.

Errors: `VswitchError` when the carrier is gone or refuses; what hosts and interfaces raise.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs

from transport.emulation import PathSpec
from vswitch.devices import netlink
from vswitch.devices.tap import TapConfig, attach
from vswitch.errors import TimedOut, VswitchError
from vswitch.lab.host import Host
from vswitch.lab.job import Carried, WireSpec
from vswitch.lab.lab import Lab
from vswitch.lab.nat import NatSpec
from vswitch.namespaces.holder import PACKAGES

IFNAME = "wire0"
# RFC 2544: addresses for benchmarks.
A_ADDRESS, B_ADDRESS = "198.18.0.1/30", "198.18.0.2/30"
# Frames that wait for the carrier: 15 MB, or 0.4 s at 300 Mbit/s. A burst never finds it full,
# so the path's own queue is the only one that drops.
TXQUEUELEN = 10_000
ANSWER_TIMEOUT = 20  # s: a loaded machine starts Python slowly
STOP_TIMEOUT = 5  # s
COLUMN_DROPPED = 11  # of /proc/net/dev, counted after the name: frames not sent


@attrs.frozen
class End:
    """The interface at one end."""

    ifname: str = IFNAME
    addresses: tuple[str, ...] = ()  # in CIDR form
    master: str | None = None  # a bridge of that host

    @property
    def ip(self) -> str:
        """The first address alone."""
        return self.addresses[0].partition("/")[0]


@attrs.define(eq=False)
class Wire:
    """A context manager that lays the wire and takes it away."""

    lab: Lab
    a: Host
    b: Host
    forward: PathSpec = attrs.field(default=PathSpec(), kw_only=True)  # from A to B
    back: PathSpec = attrs.field(default=PathSpec(), kw_only=True)
    nat: NatSpec | None = attrs.field(default=None, kw_only=True)  # A is inside
    mtu: int = attrs.field(default=1500, kw_only=True)  # of the interfaces; that of the path is
    # a matter of the specs
    seed: int = attrs.field(default=0, kw_only=True)
    a_end: End = attrs.field(default=End(addresses=(A_ADDRESS,)), kw_only=True)
    b_end: End = attrs.field(default=End(addresses=(B_ADDRESS,)), kw_only=True)
    _process: subprocess.Popen[bytes] | None = attrs.field(init=False, default=None)
    _control: Connection | None = attrs.field(init=False, default=None)

    def __enter__(self) -> Wire:
        fds: list[int] = []
        try:
            a_end = self.a_end
            if self.nat is not None and self.nat.address is not None:
                outside = f"{self.nat.address}/32"  # so that the kernel of A answers ARP for it
                a_end = attrs.evolve(a_end, addresses=(*a_end.addresses, outside))
            fds.append(self._lay(self.a, a_end))
            fds.append(self._lay(self.b, self.b_end))
            self._start(fds)
        finally:
            for fd in fds:
                os.close(fd)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def change(self, *, forward: PathSpec | None = None, back: PathSpec | None = None) -> None:
        """Be another path from now on; what is under way keeps its time of arrival."""
        self._ask("change", forward, back)
        self.forward, self.back = forward or self.forward, back or self.back

    def set_up(self, up: bool) -> None:
        """Cut the path, both ways, or mend it."""
        self.change(forward=attrs.evolve(self.forward, up=up), back=attrs.evolve(self.back, up=up))

    def rebind(self) -> None:
        """The NAT forgets its mappings: whoever sends next from A gets a new port."""
        self._ask("rebind")

    def statistics(self) -> Carried:
        """What the carrier has done with the frames so far."""
        carried: Carried = self._ask("carried")
        return carried

    def missed(self) -> int:
        """Frames that the kernel dropped since the carrier was not quick enough to read them."""
        return sum(
            _dropped(host.pid, end.ifname)
            for host, end in ((self.a, self.a_end), (self.b, self.b_end))
        )

    @property
    def pid(self) -> int:
        """The process id of the carrier."""
        if self._process is None:
            raise VswitchError("the wire is not there")
        return self._process.pid

    def close(self) -> None:
        """End the carrier, and the interfaces with it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _lay(self, host: Host, end: End) -> int:
        """Make the interface in the host, and fetch its descriptor from there."""
        path = self.lab.directory / f"{host.name}-{end.ifname}.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            try:
                listener.listen(1)
                host.call(_open_end, end, self.mtu, str(path))
                with listener.accept()[0] as sender:
                    _, fds, _, _ = socket.recv_fds(sender, 1, 1)
                    return fds[0]
            finally:
                path.unlink()

    def _start(self, fds: list[int]) -> None:
        ours, theirs = Pipe()
        passed = [*fds, theirs.fileno()]
        self._control = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vswitch.lab.carrier", *map(str, passed)],
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(PACKAGES)},
            stdin=subprocess.DEVNULL,
            pass_fds=passed,
            start_new_session=True,
        )
        theirs.close()
        try:
            spec = WireSpec(forward=self.forward, back=self.back, nat=self.nat, seed=self.seed)
            ours.send(spec)
            self._answer()
        except BaseException:
            self.close()
            raise

    def _ask(self, verb: str, *arguments: object) -> Any:
        if self._control is None:
            raise VswitchError("the wire is not there")
        try:
            self._control.send((verb, *arguments))
        except OSError as error:
            raise VswitchError("the carrier of the wire is gone") from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._control is not None  # asked for above
        try:
            if not self._control.poll(ANSWER_TIMEOUT):
                raise TimedOut(f"the carrier of the wire did not answer in {ANSWER_TIMEOUT} s")
            ok, value = self._control.recv()
        except (EOFError, ConnectionResetError) as error:
            raise VswitchError("the carrier of the wire is gone") from error
        if not ok:
            raise VswitchError(f"the carrier of the wire refused: {value}")
        return value


def _open_end(end: End, mtu: int, path: str) -> None:
    """Make the interface and hand its descriptor over. Runs in the host."""
    attached = attach(TapConfig(end.ifname, mtu=mtu, txqueuelen=TXQUEUELEN))
    try:
        for address in end.addresses:
            netlink.add_address(end.ifname, address)
        if end.master is not None:
            netlink.configure(end.ifname, master=end.master)
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(path)
            socket.send_fds(sender, [b"\0"], [attached.fd])
    finally:
        os.close(attached.fd)


def _dropped(pid: int, ifname: str) -> int:
    """Frames that the interface did not send, in the network namespace of that process."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, columns = line.partition(":")
        if name.strip() == ifname:
            return int(columns.split()[COLUMN_DROPPED])
    return 0
