"""One TCP stream of iperf3 and pings beside it, looked at from outside while it runs.

What arrived is asked of the receiver's kernel (`ss`) at two moments, and what its host put on the
wire of the interface's counters at the same two: so what is still under way when a program ends
is no part of a figure. The stream is ended when enough was seen; nothing waits for it to drain.
"""

from __future__ import annotations

import math
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType

import attrs

from benchmarks.bed import Bed
from benchmarks.figures import GRACE, TIME
from vswitch.errors import VswitchError
from vswitch.lab import Host, wait_until
from vswitch.lab.lan import UNDERLAY

__all__ = ["Health", "Stream", "Trips", "percentile", "pings", "put_on_wire"]

ETHERNET = 14  # bytes of header, which interfaces count and the wire does not
FIRST_PORT = 5301
START_TIMEOUT = 30  # s until the first byte: at 5 % loss SYNs are repeated after 1, 3, 7 s
STOP_TIMEOUT = 5  # s
LATE_SHARE = 0.01  # of the frames may leave the wire more than 1 ms late
BYTES = re.compile(r"\bbytes_received:(\d+)")
INNER = re.compile(
    r"\b(cwnd|ssthresh|rtt|minrtt|bytes_retrans|busy|rwnd_limited|sndbuf_limited|delivery_rate)"
    r"[: ]([0-9.]+)"
)


@attrs.frozen
class Trips:
    """Answers to pings, in ms, sorted."""

    sent: int
    times: list[float]

    @property
    def lost(self) -> int:
        return self.sent - len(self.times)

    def figures(self) -> dict[str, float]:
        """For the result. Percentiles are of those that were answered."""
        found: dict[str, float] = {"sent": self.sent, "lost": self.lost}
        if self.times:
            found |= {f"p{each}": percentile(self.times, each) for each in (50, 95, 99)}
        return found


def percentile(ordered: list[float], percent: float) -> float:
    """The smallest value that at least so many per cent do not exceed."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def pings(host: Host, address: str, number: int, every: float) -> Trips:
    """Ping, and wait for late answers as long as twice the longest so far took."""
    # Without -w: that would send more instead of those that are lost, or late at the end.
    argv = ["ping", "-n", "-i", f"{every:g}", "-c", str(number), "-W", "5", address]
    done = host.run(argv, timeout=number * every + GRACE, check=False)
    sent = re.search(r"(\d+) packets transmitted", done.stdout)
    times = sorted(float(text) for text in TIME.findall(done.stdout))
    return Trips(int(sent[1]) if sent else number, times)


@attrs.frozen
class Health:
    """Whether the carrier kept up: a difference of two looks at the wire."""

    frames: int
    late: int
    missed: int

    @classmethod
    def of(cls, bed: Bed, role: str) -> Health:
        wire = bed.wire(role)
        seen = wire.statistics()
        return cls(seen.forward.offered + seen.back.offered, seen.late, wire.missed())

    def __sub__(self, other: Health) -> Health:
        return Health(
            self.frames - other.frames, self.late - other.late, self.missed - other.missed
        )

    @property
    def problem(self) -> str | None:
        """Why what was measured across the wire does not count."""
        if self.missed:
            return f"void: the wire did not see {self.missed} frames"
        if self.late > LATE_SHARE * self.frames:
            return f"void: {self.late} of {self.frames} frames left the wire over 1 ms late"
        return None


def put_on_wire(host: Host) -> int:
    """Bytes of IP that the host has given to its wire so far, lost ones included."""
    for line in Path(f"/proc/{host.pid}/net/dev").read_text().splitlines():
        name, _, columns = line.partition(":")
        if name.strip() == UNDERLAY:
            octets, packets = map(int, columns.split()[8:10])
            return octets - ETHERNET * packets
    raise VswitchError(f"{host.name} has no {UNDERLAY}")


@attrs.frozen
class Sample:
    """A stream at one moment."""

    at: float
    payload: int  # bytes that the receiver's kernel has in order
    wire: int  # bytes of IP on the sender's wire, of all that the host sends


@attrs.define(eq=False)
class Stream:
    """A context manager: iperf3 from `source` to `sink`, from its first byte on."""

    source: Host
    sink: Host
    address: str  # of the sink
    congestion: str
    port: int = FIRST_PORT
    options: tuple[str, ...] = ()
    _programs: list[subprocess.Popen[bytes]] = attrs.field(init=False, factory=list)

    def __enter__(self) -> Stream:
        port = str(self.port)
        try:
            self._run(self.sink, ["iperf3", "-s", "-1", "-p", port])
            wait_until(self._listens, f"iperf3 in {self.sink.name}")
            client = ["iperf3", "-c", self.address, "-p", port, "-t", "3600", *self.options]
            client += ["-C", self.congestion, "--connect-timeout", str(START_TIMEOUT * 1000)]
            self._run(self.source, client)
            wait_until(self._flows, "first byte of a stream", timeout=START_TIMEOUT)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def sample(self) -> Sample:
        """What has arrived and what has been sent by now."""
        if any(each.poll() is not None for each in self._programs):
            raise VswitchError("iperf3 ended before it was told to")
        at, said = self.sink.call(_sockets, "sport", self.port)
        return Sample(at, sum(map(int, BYTES.findall(said))), put_on_wire(self.source))

    def inner(self) -> dict[str, float]:
        """The sender's TCP as its kernel sees it: times in ms, sizes in bytes, cwnd in segments."""
        said = self.source.call(_sockets, "dport", self.port)[1]
        streams = [line for line in said.splitlines() if "bytes_sent:" in line]
        busiest = max(streams, key=lambda line: float(_field(line, "bytes_sent")), default="")
        return {name: float(value) for name, value in INNER.findall(busiest)}

    def _flows(self) -> bool:
        # The control connection has less, and the cookie comes first on both.
        said = self.sink.call(_sockets, "sport", self.port)[1]
        return any(int(each) > 1000 for each in BYTES.findall(said))

    def _listens(self) -> bool:
        return bool(self.sink.call(_sockets, "sport", self.port, "-l")[1])

    def _run(self, host: Host, argv: list[str]) -> None:
        null = subprocess.DEVNULL
        self._programs.append(host.popen(argv, stdout=null, stderr=null))

    def _end(self) -> None:
        for each in reversed(self._programs):
            each.terminate()
            try:
                each.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


def _sockets(way: str, port: int, *options: str) -> tuple[float, str]:
    """The TCP sockets of that port with their figures, and when that was. Runs in the host."""
    argv = ["ss", "-Htin", *options, way, "=", f":{port}"]
    before = time.monotonic()
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return (before + time.monotonic()) / 2, said


def _field(line: str, name: str) -> str:
    found = re.search(rf"\b{name}:(\d+)", line)
    return found[1] if found else "0"
