"""The FDB: which port a station was last heard on, by (VLAN id, MAC address).

Entries age out 300 s after the station was last heard. The table is bounded, and a full table
evicts fairly, by the rule of Open vSwitch's `lib/mac-learning`: out goes the least recently used
entry of the port that has the most, so a port that invents addresses pushes out its own and cannot
drive out another port's.

Invariants: an entry is in `_entries` and in exactly one port's order, the order in which the
entries of a port were last heard (to one second). No operation of the data path costs more in a
larger table. `learned = len + expired + evicted + flushed`. Pure; nothing here raises.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import attrs

from vswitch.core.frame import format_mac

__all__ = ["AGEING_TIME", "CAPACITY", "Fdb", "FdbEntry", "FdbStatistics"]

AGEING_TIME = 300.0  # seconds: the default of IEEE 802.1D-2004 table 7-5
CAPACITY = 8192  # entries, Open vSwitch's default; about 2 MB here
# Seconds. A busy station is heard thousands of times a second; its place among the least recently
# used need not be more exact than this.
REFRESH_INTERVAL = 1.0

_Key = tuple[int, bytes]


@attrs.frozen
class FdbEntry:
    """One station, for status pages."""

    vlan: int  # 0: untagged
    mac: str
    port: int
    age: float  # seconds since it was last heard, to one second


@attrs.frozen
class FdbStatistics:
    """What happened to entries so far.

    A growing `evicted` means more stations than the table holds, or a port inventing addresses; a
    growing `moved`, a station that roams, or a loop.
    """

    entries: int
    capacity: int
    learned: int
    expired: int
    evicted: int
    flushed: int
    moved: int  # heard on another port than before


@attrs.define(eq=False)
class _Entry:
    port: int
    heard: float


class Fdb:
    """The MAC table. `now` is in seconds and never goes back."""

    def __init__(self, *, capacity: int = CAPACITY, ageing_time: float = AGEING_TIME) -> None:
        if capacity < 1 or ageing_time <= 0:
            raise ValueError("the FDB needs room for one entry and a positive ageing time")
        self.capacity = capacity
        self.ageing_time = ageing_time
        self.on_move: Callable[[bytes, int, int], None] | None = None  # MAC, old and new port
        self._entries: dict[_Key, _Entry] = {}
        self._order: dict[int, OrderedDict[_Key, _Entry]] = {}  # least recently heard first
        # Ports by how many entries they have, and the largest such number: the port to evict from
        # is found without a search, or an attacker could make every frame pay for one.
        self._ports_with: dict[int, dict[int, None]] = {}
        self._most = 0
        self._learned = self._expired = self._evicted = self._flushed = self._moved = 0

    def __len__(self) -> int:
        return len(self._entries)

    def learn(self, vlan: int, mac: bytes, port: int, now: float) -> bool:
        """A station was heard on `port`. True when that was news: new, or on another port."""
        # HOT PATH: the first three lines are what a frame of a known station costs.
        key = (vlan, mac)
        entry = self._entries.get(key)
        if entry is not None and now - entry.heard < self.ageing_time:
            if entry.port == port:
                if now - entry.heard >= REFRESH_INTERVAL:
                    entry.heard = now
                    self._order[port].move_to_end(key)
                return False
            if self.on_move is not None:
                self.on_move(mac, entry.port, port)
            self._unlink(key, entry.port)
            self._moved += 1
        else:
            if entry is not None:
                self._remove(key, entry.port)
                self._expired += 1
            elif len(self._entries) >= self.capacity:
                self._evict()
            self._learned += 1
        self._entries[key] = entry = _Entry(port, now)
        self._order.setdefault(port, OrderedDict())[key] = entry
        self._resize(port, +1)
        return True

    def lookup(self, vlan: int, mac: bytes, now: float) -> int | None:
        """The port that the station was last heard on, None when unknown or aged out."""
        # HOT PATH
        entry = self._entries.get((vlan, mac))
        if entry is None or now - entry.heard >= self.ageing_time:
            return None
        return entry.port

    def expire(self, now: float) -> int:
        """Remove what has aged out. How many; costs one step a port and one an entry removed."""
        before = self._expired
        for port in list(self._order):
            order = self._order[port]
            while order:
                key, entry = next(iter(order.items()))
                if now - entry.heard < self.ageing_time:
                    break
                self._remove(key, port)
                self._expired += 1
        return self._expired - before

    def flush(self, *, port: int | None = None, vlan: int | None = None) -> int:
        """Forget the entries of a port, of a VLAN, of both at once, or all. How many."""
        candidates = self._entries if port is None else self._order.get(port, {})
        keys = [key for key in candidates if vlan is None or key[0] == vlan]
        for key in keys:
            self._remove(key, self._entries[key].port)
        self._flushed += len(keys)
        return len(keys)

    def entries(self, now: float) -> list[FdbEntry]:
        """All that has not aged out, by port, the longest silent first."""
        return [
            FdbEntry(vlan=vlan, mac=format_mac(mac), port=port, age=now - entry.heard)
            for port, order in sorted(self._order.items())
            for (vlan, mac), entry in order.items()
            if now - entry.heard < self.ageing_time
        ]

    def statistics(self) -> FdbStatistics:
        """Counters now, frozen."""
        return FdbStatistics(
            entries=len(self._entries),
            capacity=self.capacity,
            learned=self._learned,
            expired=self._expired,
            evicted=self._evicted,
            flushed=self._flushed,
            moved=self._moved,
        )

    def _evict(self) -> None:
        port = next(iter(self._ports_with[self._most]))
        key = next(iter(self._order[port]))
        self._remove(key, port)
        self._evicted += 1

    def _remove(self, key: _Key, port: int) -> None:
        del self._entries[key]
        self._unlink(key, port)

    def _unlink(self, key: _Key, port: int) -> None:
        del self._order[port][key]
        self._resize(port, -1)

    def _resize(self, port: int, change: int) -> None:
        """Keep `_ports_with` and `_most` true after a port gained or lost one entry."""
        size = len(self._order[port])
        before = size - change
        if before:
            ports = self._ports_with[before]
            del ports[port]
            if not ports:
                del self._ports_with[before]
        if size:
            self._ports_with.setdefault(size, {})[port] = None
        else:
            del self._order[port]
        # Sizes change by one, so when the only port of the largest size shrinks, the size that it
        # shrank to is now the largest.
        if size > self._most or (before == self._most and before not in self._ports_with):
            self._most = size
