"""The FDB: which port a station was last heard on, by (VLAN id, MAC address).

Entries age out 300 s after the station was last heard. The table is bounded, and a full table
evicts fairly, by the rule of Open vSwitch's `lib/mac-learning`: out goes the least recently used
entry of the port that has the most, so a port that invents addresses pushes out its own and cannot
drive out another port's.

The stations of a port can be kept though they are silent, with `refresh`, by whoever knows that
they are there.

Entries can be static: they neither age nor move nor make room for others, and `forget` alone takes
them away. A `LearningPolicy` has a say where an address is new on a port: what it refuses is not
learned, and its frames go no further. Stations that are known are not asked about, so it costs the
data path nothing.

Invariants: an entry is in `_entries` and either static or in exactly one port's order, the
order in which the entries of a port were last heard (to one second). No operation of the data path
costs more in a larger table. `learned = len - static + expired + evicted + flushed`. Pure; nothing
here raises.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import attrs

from vswitch.frames.ethernet import format_mac
from vswitch.switch.counters import Drop, DropReason

AGEING_TIME = 300.0  # seconds: the default of IEEE 802.1D-2004 table 7-5
CAPACITY = 8192  # entries, Open vSwitch's default; about 2 MB here
# Seconds. A busy station is heard thousands of times a second; its place among the least recently
# used need not be more exact than this.
REFRESH_INTERVAL = 1.0

MoveListener = Callable[[bytes, int, int], None]  # MAC, the port before, the port now
_Key = tuple[int, bytes]  # VLAN, MAC


@attrs.frozen
class FdbEntry:
    """One station, for status pages."""

    vlan: int  # 0: untagged
    mac: str
    port: int
    age: float  # seconds since it was last heard, to one second; 0 for a static one
    static: bool = False


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
    static: int = 0  # of the entries


class LearningPolicy(Protocol):
    """Who may be learned where."""

    def admits(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        """Why an address that is new on a port may not be there; None if it may, and will be.
        `known` is the port where it was heard until now.
        """

    def thaw(self) -> None:
        """Stations have moved for a reason that is over."""

    def judges(
        self, vlan: int, mac: bytes, port: int, known: int | None, now: float
    ) -> Drop | None:
        """What `admits` would say; nothing is noted."""


@attrs.define(eq=False)
class _Entry:
    port: int
    heard: float  # infinity: static


_STATIC = math.inf


class Fdb:
    """The MAC table. `now` is in seconds and never goes back."""

    def __init__(self, *, capacity: int = CAPACITY, ageing_time: float = AGEING_TIME) -> None:
        if capacity < 1 or ageing_time <= 0:
            raise ValueError("the FDB needs room for one entry and a positive ageing time")
        self.capacity = capacity
        self.ageing_time = ageing_time
        self._policy: LearningPolicy | None = None
        self._on_move: MoveListener | None = None
        self._entries: dict[_Key, _Entry] = {}
        self._static: dict[int, set[_Key]] = {}  # by port
        self._order: dict[int, OrderedDict[_Key, _Entry]] = {}  # least recently heard first
        # Ports by how many entries they have, and the largest such number: the port to evict from
        # is found without a search, or an attacker could make every frame pay for one.
        self._ports_with: dict[int, dict[int, None]] = {}
        self._most = 0
        self._learned = self._expired = self._evicted = self._flushed = self._moved = 0

    def __len__(self) -> int:
        return len(self._entries)

    def set_policy(self, policy: LearningPolicy | None, on_move: MoveListener | None) -> None:
        """Ask `policy` about addresses that are new on a port; tell `on_move` of stations that are
        heard on another port, before `policy` is asked.
        """
        self._policy, self._on_move = policy, on_move

    def thaw(self) -> None:
        """Stations have moved for a reason that is over: hold none where it was before."""
        if self._policy is not None:
            self._policy.thaw()

    def learn(self, vlan: int, mac: bytes, port: int, now: float) -> bool | Drop:
        """A station was heard on `port`. True when that was news: new, or on another port; a reason
        to drop its frames when it may not be there.
        """
        # HOT PATH: the first three lines are what a frame of a known station costs.
        key = (vlan, mac)
        entry = self._entries.get(key)
        if entry is not None and now - entry.heard < self.ageing_time:
            if entry.port == port:
                if now - entry.heard >= REFRESH_INTERVAL:
                    entry.heard = now
                    self._order[port].move_to_end(key)
                return False
            if entry.heard == _STATIC:
                return DropReason.MAC_REFUSED
            if self._on_move is not None:
                self._on_move(mac, entry.port, port)
            if self._policy is not None:
                reason = self._policy.admits(vlan, mac, port, entry.port, now)
                if reason is not None:
                    return reason
            self._unlink(key, entry.port)
            self._moved += 1
        else:
            if entry is not None:
                self._remove(key, entry.port)
                self._expired += 1
            if self._policy is not None:
                reason = self._policy.admits(vlan, mac, port, None, now)
                if reason is not None:
                    return reason
            if len(self._entries) >= self.capacity and not self._evict():
                return False
            self._learned += 1
        self._entries[key] = entry = _Entry(port, now)
        self._order.setdefault(port, OrderedDict())[key] = entry
        self._resize(port, +1)
        return True

    def judge(self, vlan: int, mac: bytes, port: int, now: float) -> Drop | None:
        """Why `learn` would refuse a station; nothing changes."""
        known = self.lookup(vlan, mac, now)
        if known == port:
            return None
        if known is not None and self._entries[vlan, mac].heard == _STATIC:
            return DropReason.MAC_REFUSED
        if self._policy is None:
            return None
        return self._policy.judges(vlan, mac, port, known, now)

    def count(self, port: int, now: float) -> int:
        """How many stations were learned on a port and have not aged out."""
        self._expire_port(port, now)
        return len(self._order.get(port, ()))

    def keys_of(self, port: int) -> list[_Key]:
        """(VLAN, address) of what was learned on a port."""
        return list(self._order.get(port, ()))

    def pin(self, vlan: int, mac: bytes, port: int) -> bool:
        """Make an entry static. False if there is no room."""
        key = (vlan, mac)
        entry = self._entries.get(key)
        if entry is not None and entry.heard == _STATIC:
            self._unpin(key, entry.port)
        elif entry is not None:
            self._remove(key, entry.port)
            self._flushed += 1
        if len(self._entries) >= self.capacity and not self._evict():
            return False
        self._entries[key] = _Entry(port, _STATIC)
        self._static.setdefault(port, set()).add(key)
        return True

    def unpin(self, vlan: int, mac: bytes) -> None:
        """Forget a static entry."""
        entry = self._entries.get((vlan, mac))
        if entry is not None and entry.heard == _STATIC:
            self._unpin((vlan, mac), entry.port)

    def pinned(self) -> dict[_Key, int]:
        """The static entries, and their ports."""
        return {key: port for port, keys in self._static.items() for key in keys}

    def refresh(self, port: int, now: float) -> None:
        """The stations of a port are there, though silent: they count as heard just now."""
        self._expire_port(port, now)
        for entry in self._order.get(port, {}).values():
            entry.heard = now

    def unlearn(self, vlan: int, mac: bytes) -> None:
        """Forget a station, unless it is static."""
        entry = self._entries.get((vlan, mac))
        if entry is not None and entry.heard != _STATIC:
            self._remove((vlan, mac), entry.port)
            self._flushed += 1

    def forget(self, port: int) -> None:
        """The port is gone: forget all of its entries, static ones too."""
        self.flush(port=port)
        for key in list(self._static.get(port, ())):
            self._unpin(key, port)

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
            self._expire_port(port, now)
        return self._expired - before

    def flush(self, *, port: int | None = None, vlan: int | None = None) -> int:
        """Forget what was learned on a port, in a VLAN, on both at once, or all. How many."""
        ports = list(self._order) if port is None else [port]
        keys = [
            (key, each)
            for each in ports
            for key in self._order.get(each, ())
            if vlan is None or key[0] == vlan
        ]
        for key, each in keys:
            self._remove(key, each)
        self._flushed += len(keys)
        return len(keys)

    def entries(self, now: float) -> list[FdbEntry]:
        """All that has not aged out, by port, the longest silent first; then the static ones."""
        learned = [
            FdbEntry(vlan=vlan, mac=format_mac(mac), port=port, age=now - entry.heard)
            for port, order in sorted(self._order.items())
            for (vlan, mac), entry in order.items()
            if now - entry.heard < self.ageing_time
        ]
        return learned + [
            FdbEntry(vlan=vlan, mac=format_mac(mac), port=port, age=0.0, static=True)
            for port, keys in sorted(self._static.items())
            for vlan, mac in sorted(keys)
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
            static=sum(map(len, self._static.values())),
        )

    def _expire_port(self, port: int, now: float) -> None:
        order = self._order.get(port)
        while order:
            key, entry = next(iter(order.items()))
            if now - entry.heard < self.ageing_time:
                break
            self._remove(key, port)
            self._expired += 1

    def _evict(self) -> bool:
        """Make room for one; False if all are static."""
        if not self._most:
            return False
        port = next(iter(self._ports_with[self._most]))
        key = next(iter(self._order[port]))
        self._remove(key, port)
        self._evicted += 1
        return True

    def _unpin(self, key: _Key, port: int) -> None:
        del self._entries[key]
        keys = self._static[port]
        keys.discard(key)
        if not keys:
            del self._static[port]

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
