"""What has happened on the switch, for whoever looks: the last events, numbered.

A ring of bounded size in memory. An event has a kind (`mac-moved`), the name of the port that it is
about ("" for none), the moment, and facts, which are text, numbers or booleans. Numbers begin with
1 and have no gaps, so who asks for all `since` a number sees how many were lost in between.

What a neighbour can cause as often as it likes must not push out the rest: of one kind at one port
a burst of `BURST` events in `INTERVAL` seconds is kept; further ones are counted, and the next one
that is kept says in `suppressed` how many there were.

Pure; `now` in seconds. Nothing here raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

import attrs

CAPACITY = 1024  # events; about 0.5 MB
BURST = 8  # events of one kind at one port
INTERVAL = 10.0  # seconds
_MAX_GATES = 4096  # (kind, port) that are remembered; ports come and go

Fact = str | int | float | bool


@attrs.frozen
class Event:
    """Something that has happened."""

    number: int
    at: float  # seconds, on the clock of the switch
    kind: str
    port: str  # its name, "" if it is not about one
    facts: Mapping[str, Fact]  # read-only


@attrs.define(eq=False)
class _Gate:
    since: float
    kept: int = 0
    suppressed: int = 0


class EventLog:
    """The ring."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._gates: dict[tuple[str, str], _Gate] = {}
        self._last = 0

    @property
    def last(self) -> int:
        """The number of the latest event, 0 if there was none."""
        return self._last

    def add(self, kind: str, port: str = "", *, now: float, **facts: Fact) -> Event | None:
        """Note an event; None if it came too often and is only counted."""
        gate = self._gate(kind, port, now)
        if gate.kept >= BURST:
            gate.suppressed += 1
            return None
        gate.kept += 1
        if gate.suppressed:
            facts["suppressed"] = gate.suppressed
            gate.suppressed = 0
        self._last += 1
        event = Event(self._last, now, kind, port, MappingProxyType(facts))
        self._events.append(event)
        return event

    def since(self, number: int = 0) -> list[Event]:
        """The events behind that number, as far as they are still here, oldest first."""
        missing = min(len(self._events), max(0, self._last - number))
        return list(self._events)[len(self._events) - missing :]

    def _gate(self, kind: str, port: str, now: float) -> _Gate:
        gate = self._gates.get((kind, port))
        if gate is None:
            if len(self._gates) >= _MAX_GATES:
                del self._gates[next(iter(self._gates))]
            gate = self._gates[kind, port] = _Gate(now)
        elif now - gate.since >= INTERVAL:
            gate.since, gate.kept = now, 0
        return gate
