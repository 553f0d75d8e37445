"""Captures of a running switch: which frames are kept, and how they are written.

    captures = Captures(switch)
    kept = Capture(parse_filter_untrusted("arp"), snap_length=262144)
    captures.add(RunningCapture(kept, frozenset({"pc1"}), DIRECTIONS["both"]))
    ... for item in kept.take(): ...

While nobody captures, the switch has no observer and pays nothing. A capture is asked what it wants
before anything is copied, and no more is than it wants of a frame. It never waits and never grows:
frames that find it full are not kept, and counted as missed. Nor does it take more than its share
of the switch's time, about a quarter: looking at a frame costs more than forwarding it does, so it
looks at `RATE` frames a second, and misses the others unseen. Of each port `seen` counts the frames
that the filter took, and all that were missed. A reader that is too slow misses frames, and nobody
else does.

`Capture` and the writers are pure; `at` is in nanoseconds since the epoch.

Error contract: while frames pass nothing raises: a fault in here ends all captures, is logged, and
the frames go on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import attrs
import trio

from vswitch.frames import pcapng
from vswitch.frames.ethernet import HEAD_SIZE
from vswitch.frames.filter import Filter, every_frame
from vswitch.frames.headers import frame_at, summary
from vswitch.frames.records import is_superframe
from vswitch.frames.virtio import FRAME_AT, stands_for
from vswitch.switch.port import Port
from vswitch.switch.stages import Decision
from vswitch.switch.switch import Switch

SNAP_LENGTH = 262_144  # bytes: tcpdump's default, longer than any frame
DIRECTIONS = {"in": (pcapng.IN,), "out": (pcapng.OUT,), "both": (pcapng.IN, pcapng.OUT)}
MAX_ITEMS = 16384  # a tenth of a second of a busy switch
MAX_BYTES = 8 << 20  # of frames that wait to be taken
RATE = 20_000  # frames a second that are looked at, in and out each for themselves; 12 µs each
BURST = 5_000  # frames at once, after a pause
_SHOWN_PORTS = 8  # of a flood, in a comment

_WORDS = {pcapng.IN: "in ", pcapng.OUT: "out"}

_log = logging.getLogger(__name__)


class Item(NamedTuple):
    """A frame that was kept."""

    port: str
    direction: int
    at: int
    data: bytes  # as much of the frame as was asked for
    length: int  # of all of it
    comment: str


@attrs.define
class Tally:
    """Frames of one port."""

    seen: int = 0
    missed: int = 0


class Capture:
    """One capture."""

    def __init__(
        self,
        matches: Filter,
        *,
        snap_length: int,
        count: int | None = None,
        drops_only: bool = False,
        max_items: int = MAX_ITEMS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.tallies: dict[str, Tally] = {}  # by port name
        self._matches = None if matches is every_frame else matches
        self._snap_length = snap_length
        self._left = count
        self._drops_only = drops_only
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._looks = float(BURST)  # frames that may be looked at now
        self._looked_at = 0

    @property
    def over(self) -> bool:
        """Whether as many were kept as were asked for."""
        return self._left == 0

    @property
    def waiting(self) -> bool:
        """Whether `take` gives something."""
        return bool(self._items)

    @property
    def due(self) -> bool:
        """Whether `take` should come soon, or something is missed."""
        return 2 * len(self._items) >= self._max_items or 2 * self._bytes >= self._max_bytes

    def add(
        self,
        port: str,
        direction: int,
        records: list[bytes],
        at: int,
        decide: Callable[[bytes], tuple[bool, str]],
    ) -> None:
        """Look at a batch; `decide` says whether a record is dropped, and the comment."""
        # HOT PATH of a capture
        self._refill(at)
        items, matches, tally = self._items, self._matches, None
        for record in records:
            if self._left == 0:
                return
            if self._looks < 1:
                tally = tally or self._tally(port)
                tally.seen += 1
                tally.missed += 1
                continue
            self._looks -= 1
            start = frame_at(record)
            if matches is not None and not matches(record[start:]):
                continue
            # The decision is what costs most, and nobody will see it if there is no room.
            full = len(items) >= self._max_items or self._bytes >= self._max_bytes
            if self._drops_only or not full:
                dropped, comment = decide(record)
                if self._drops_only and not dropped:
                    continue
            tally = tally or self._tally(port)
            tally.seen += 1
            if full:
                tally.missed += 1
                continue
            if is_superframe(record):
                comment = f"superframe of {stands_for(record)} frames, as it travels; {comment}"
            data = record[start : start + self._snap_length]
            items.append(Item(port, direction, at, data, len(record) - start, comment))
            self._bytes += len(data)
            if self._left is not None:
                self._left -= 1

    def _tally(self, port: str) -> Tally:
        tally = self.tallies.get(port)
        if tally is None:
            tally = self.tallies[port] = Tally()
        return tally

    def _refill(self, at: int) -> None:
        passed = max(at - self._looked_at, 0) * RATE / 1e9
        self._looks = min(self._looks + passed, float(BURST))
        self._looked_at = at

    def take(self) -> list[Item]:
        """All that was kept since the last time."""
        items = list(self._items)
        self._items.clear()
        self._bytes = 0
        return items


def describe(decision: Decision, names: Callable[[int], str]) -> str:
    """A decision in one line: where to, or why not."""
    steps = "; ".join(decision.steps)
    if not decision.egress:
        return f"dropped: {decision.reason or 'by each port out'} ({steps})"
    shown = [names(number) for number in decision.egress[:_SHOWN_PORTS]]
    more = len(decision.egress) - len(shown)
    return f"to {', '.join(shown)}{f' and {more} more' if more else ''} ({steps})"


class PcapngWriter:
    """Turns items into a file; an interface for each port, when it first shows up."""

    def __init__(self, application: str, ports: Sequence[str], snap_length: int) -> None:
        self._numbers: dict[str, int] = {}
        self._snap_length = snap_length
        self._head = [pcapng.section_header(application)]
        for port in ports:
            self._number(port, self._head)

    def head(self) -> bytes:
        """What comes before the first item."""
        return b"".join(self._head)

    def write(self, items: Iterable[Item]) -> bytes:
        """The next part."""
        parts: list[bytes] = []
        for port, direction, at, data, length, comment in items:
            number = self._number(port, parts)
            parts.append(pcapng.packet(number, at, data, length, direction, comment))
        return b"".join(parts)

    def tail(self, tallies: dict[str, Tally], at: int) -> bytes:
        """The end: what the capture has seen, and missed."""
        parts: list[bytes] = []
        # Where there is no port at all the counts still have a place, and say that this is the end.
        for port in self._numbers | tallies or ("-",):
            tally = tallies.get(port, Tally())
            said = f"{tally.missed} frames missed: there were too many" * (tally.missed > 0)
            number = self._number(port, parts)
            parts.append(pcapng.interface_statistics(number, at, tally.seen, tally.missed, said))
        return b"".join(parts)

    def _number(self, port: str, parts: list[bytes]) -> int:
        number = self._numbers.get(port)
        if number is None:
            number = self._numbers[port] = len(self._numbers)
            parts.append(pcapng.interface(port, "port of vswitch", self._snap_length))
        return number


class TextWriter:
    """A line for each item, and a last one that begins with `#`."""

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, items: Iterable[Item]) -> bytes:
        """The next lines."""
        lines = []
        for port, direction, at, data, length, comment in items:
            clock = datetime.fromtimestamp(at // 1_000_000_000, UTC).strftime("%H:%M:%S")
            cut = f" of {length}" * (len(data) < length)
            lines.append(
                f"{clock}.{at // 1000 % 1_000_000:06d} {_WORDS[direction]} {port} "
                f"{summary(data)}{cut}, {comment}\n"
            )
        return "".join(lines).encode()

    def tail(self, tallies: dict[str, Tally], at: int) -> bytes:
        """The counts."""
        seen = sum(tally.seen for tally in tallies.values())
        missed = sum(tally.missed for tally in tallies.values())
        return f"#{seen} {missed}\n".encode()


class JsonWriter:
    """A line of JSON for each item: when, where, what it is, and what becomes of it. `verdict` is
    forwarded, dropped, or sent, which is of frames on their way out; `reason` is why. A last line
    has the counts.
    """

    def head(self) -> bytes:
        """Nothing."""
        return b""

    def write(self, items: Iterable[Item]) -> bytes:
        """The next lines."""
        lines = []
        for port, direction, at, data, length, comment in items:
            _, dropped, why = comment.rpartition("dropped: ")
            verdict = "dropped" if dropped else "forwarded" if direction == pcapng.IN else "sent"
            said = {
                "time": at / 1e9,
                "port": port,
                "direction": _WORDS[direction].strip(),
                "summary": summary(data),
                "size": length,
                "verdict": verdict,
                "reason": why if dropped else comment,
            }
            lines.append(json.dumps(said) + "\n")
        return "".join(lines).encode()

    def tail(self, tallies: dict[str, Tally], at: int) -> bytes:
        """The counts."""
        seen = sum(tally.seen for tally in tallies.values())
        missed = sum(tally.missed for tally in tallies.values())
        return json.dumps({"seen": seen, "missed": missed}).encode() + b"\n"


class RunningCapture:
    """A capture, and which ports it is for: None is all. `changed` is set when there is something
    to take, or no more to wait for; `due` when that should be soon.
    """

    def __init__(
        self, kept: Capture, names: frozenset[str] | None, directions: tuple[int, ...]
    ) -> None:
        self.kept = kept
        self.names = names
        self.directions = directions
        self.changed = trio.Event()
        self.due = trio.Event()

    def wants(self, port: Port, direction: int) -> bool:
        """Whether frames of this port and direction are looked at."""
        return direction in self.directions and (self.names is None or port.name in self.names)


class Captures:
    """All captures of a switch. Implements `vswitch.switch.stages.Observer`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self.running: tuple[RunningCapture, ...] = ()
        self._ports: dict[int, Port] = {}
        self._decisions: dict[bytes, tuple[bool, str]] = {}  # of this batch, by head
        self._source: Port | None = None  # where the batch came in that goes out now, and when
        self._source_at = -math.inf
        self._epoch = 0  # of the switch's clock, in ns of the wall clock

    def add(self, running: RunningCapture) -> None:
        """From now on it is shown what passes."""
        if not self.running:
            # Anew each time: the wall clock may have been set since.
            self._epoch = time.time_ns() - int(trio.current_time() * 1e9)
            self._switch.add_observer(self)
        self.running = (*self.running, running)

    def remove(self, running: RunningCapture) -> None:
        """It is shown nothing more."""
        self.running = tuple(each for each in self.running if each is not running)
        if not self.running:
            self._switch.remove_observer(self)

    def wall(self, now: float) -> int:
        """Nanoseconds of the epoch, before which pcapng has none, at a moment of the switch."""
        return max(0, self._epoch + int(now * 1e9))

    # --- vswitch.switch.stages.Observer -----------------------------------------------------

    def saw_ingress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch came in."""
        self._source = source = self._port(port)
        self._source_at = now
        self._decisions.clear()
        if source is not None:
            self._saw(source, pcapng.IN, records, now, partial(self._decided, source))

    def saw_egress(self, port: int, records: list[bytes], now: float) -> None:
        """A batch goes out."""
        egress, source = self._port(port), self._source
        if egress is not None:
            # One batch has one moment on its whole way; what has another is the switch's own.
            forwarded = source is not None and now == self._source_at
            comment = f"from {source.name}" if source and forwarded else "from the switch"
            self._saw(egress, pcapng.OUT, records, now, lambda record: (False, comment))

    def _saw(
        self,
        port: Port,
        direction: int,
        records: list[bytes],
        now: float,
        decide: Callable[[bytes], tuple[bool, str]],
    ) -> None:
        try:
            for running in self.running:
                if running.wants(port, direction):
                    kept = running.kept
                    kept.add(port.name, direction, records, self.wall(now), decide)
                    if kept.waiting or kept.over:
                        running.changed.set()
                    if kept.due or kept.over:
                        running.due.set()
        except Exception:
            _log.exception("capture-failed port=%d", port.number)
            for running in self.running:
                self.remove(running)
                running.changed.set()
                running.due.set()

    def _decided(self, port: Port, record: bytes) -> tuple[bool, str]:
        # With the record's header, which has the length: too long is a matter of it.
        head = record[: FRAME_AT + HEAD_SIZE]
        known = self._decisions.get(head)
        if known is not None:
            return known
        decision: Decision = self._switch.explain(port, record)
        decided = not decision.egress, describe(decision, self._name)
        # Stages look at more than the head.
        if not port.ingress_stages and not any(map(self._has_stages, decision.egress)):
            self._decisions[head] = decided
        return decided

    def _has_stages(self, number: int) -> bool:
        port = self._port(number)
        return port is None or bool(port.egress_stages)

    def _name(self, number: int) -> str:
        port = self._port(number)
        return str(number) if port is None else port.name

    def _port(self, number: int) -> Port | None:
        port = self._ports.get(number)
        if port is None or not port.attached:
            self._ports = {each.number: each for each in self._switch.ports}
            port = self._ports.get(number)
        return port
