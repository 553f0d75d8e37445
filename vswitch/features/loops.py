"""Loop guard and BPDU guard: ports that are shut for a while because a loop goes through them.

A loop is made outside the switch: somebody bridges two members, or a member with a wire that is
also plugged in elsewhere. What is flooded then comes back, for ever. It is noticed by

 probe   a frame of the switch's own to a group address that every bridge floods, with the id of the
         switch and a token for the port and the round. A token that comes in says which port it
         left on; nobody else can know it, so nobody can have another's port blocked.
 moves   four stations or more that have each gone between the same two ports three times within
         five seconds. One station that somebody imitates is not enough.

Probes cost, and not every program expects them, so they are sent only when there is a reason:
stations move, a port floods, or a port has just been let back in. A loop that carries nothing harms
nobody; as soon as it carries something there is a reason, at once or within a second. What is
looked for in frames is looked for only while a probe is under way, so that a calm switch pays
nothing.

Of the two ends of a loop the port is shut that was plugged in last. A port that is shut drops all
that comes in, hears nothing, and its stations are forgotten. It is let back after 10 s, and each
time that it happens again after twice as long, up to 10 minutes; plugging in anew does not help.

| bytes | of a probe, 60 in all |
|---|---|
| 0–11 | 03-76-73-77-00-01, and 02-76-73-77-00-01 as the source |
| 12–13 | 0x88B5, an EtherType for local use (IEEE 802) |
| 14–21 | "vswloop", 1 |
| 22–37 | id of the switch |
| 38–53 | token |

Nothing here raises for any bytes.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping

import attrs
import trio

from vswitch.config.sources import option
from vswitch.config.words import to_bool, to_optional_bool
from vswitch.features.base import Feature, Stages
from vswitch.features.guards import GuardSettings
from vswitch.features.storms import StormDrop
from vswitch.features.trust import GuardSwitchSettings
from vswitch.frames.headers import frame_at
from vswitch.frames.load import load_of
from vswitch.frames.records import frame_record
from vswitch.logs import event
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

log = logging.getLogger(__name__)

PROBE_DESTINATION = bytes.fromhex("037673770001")
TOKEN_SIZE = 16  # bytes, of the id of a switch too
_HEAD = PROBE_DESTINATION + bytes.fromhex("027673770001") + b"\x88\xb5vswloop\x01"
_SIZE = 60  # bytes: the smallest frame of Ethernet
_TOKENS = 4096  # that may still come back
_TOKEN_LIFE = 10.0  # seconds

MOVES_WINDOW = 5.0  # seconds
MIN_STATIONS = 4
MIN_MOVES = 3  # of each
_PAIRS = 256  # of ports that are watched at a time
_STATIONS = 64  # of a pair

FIRST_PENALTY = 10.0  # seconds
LAST_PENALTY = 600.0
FORGIVEN = 600.0  # seconds after a port was let back in which it was not blocked again
_NAMES = 4096

# Spanning tree, that of providers, and Cisco's for each VLAN.
_BPDUS = frozenset(map(bytes.fromhex, ("0180c2000000", "0180c2000008", "01000ccccccd")))
_FLOODED = 20  # frames a second, above which a port is worth a probe
_NEW = 4.0  # seconds for which a port that was let back in is probed
_HURRY = 0.2  # seconds between two probes for a station that moves
_WATCH = 10.0  # seconds that a probe may take
_PROBED_AT_ONCE = 64  # ports in one tick; the others have their turn later
_FIRST_BPDU_PENALTY = 30.0


@attrs.frozen(kw_only=True, slots=False)
class LoopSettings(GuardSettings):
    """Of a port. BPDU guard is a guard like others: for ports that are not trusted."""

    bpdu_guard: bool | None = attrs.field(
        default=None,
        converter=to_optional_bool,
        metadata=option("spanning tree on the port shuts it for a while"),
    )
    loop_guard: bool = attrs.field(
        default=True,
        converter=to_bool,
        metadata=option("a loop through the port shuts it for a while"),
    )


class LoopDrop(Drop):
    """Counted at the port where the frame came in."""

    LOOP_BLOCKED = "loop_blocked"  # the port is shut, because a loop goes through it
    LOOP_PROBE = "loop_probe"  # a probe of this switch that came back: for nobody else
    BPDU_GUARD = "bpdu_guard"  # the port is shut, because a bridge has spoken on it


def token_untrusted(record: bytes, switch: bytes) -> bytes | None:
    """The token of a record that is a probe of this switch."""
    at = frame_at(record)
    if record[at : at + 38] != _HEAD + switch:
        return None
    return record[at + 38 : at + 38 + TOKEN_SIZE]


@attrs.define(eq=False)
class Probes:
    """What was sent, and on which port."""

    switch: bytes  # random
    _sent: OrderedDict[bytes, tuple[int, float]] = attrs.field(factory=OrderedDict, init=False)

    def make(self, port: int, token: bytes, now: float) -> bytes:
        """The probe for a port: a frame."""
        while self._sent:
            oldest = next(iter(self._sent))
            if len(self._sent) < _TOKENS and now - self._sent[oldest][1] < _TOKEN_LIFE:
                break
            del self._sent[oldest]
        self._sent[token] = port, now
        return (_HEAD + self.switch + token).ljust(_SIZE, b"\0")

    def sender(self, token: bytes, now: float) -> int | None:
        """The port that a token left on, lately."""
        port, at = self._sent.get(token, (None, 0.0))
        return port if now - at < _TOKEN_LIFE else None

    def forget(self, port: int) -> None:
        """Another port may get this number."""
        for token in [token for token, (sender, _) in self._sent.items() if sender == port]:
            del self._sent[token]


@attrs.define(eq=False)
class Moves:
    """Which stations have moved between which ports within the last seconds."""

    _since: float = attrs.field(default=0.0, init=False)
    _pairs: dict[tuple[int, int], dict[bytes, int]] = attrs.field(factory=dict, init=False)

    def note(self, mac: bytes, old: int, new: int) -> int:
        """A station was heard on another port than before: how often now. HOT PATH of a loop."""
        pair = (old, new) if old < new else (new, old)
        stations = self._pairs.get(pair)
        if stations is None:
            if len(self._pairs) >= _PAIRS:
                return 0
            stations = self._pairs[pair] = {}
        if mac not in stations and len(stations) >= _STATIONS:
            return 0
        stations[mac] = count = stations.get(mac, 0) + 1
        return count

    def looped(self) -> list[tuple[int, int]]:
        """The pairs of ports that look like the ends of a loop."""
        return [
            pair
            for pair, stations in self._pairs.items()
            if sum(count >= MIN_MOVES for count in stations.values()) >= MIN_STATIONS
        ]

    def ports(self) -> set[int]:
        """The ports between which anything has moved more than once."""
        return {
            port
            for pair, stations in self._pairs.items()
            if max(stations.values()) > 1
            for port in pair
        }

    def tick(self, now: float) -> None:
        """Begin anew when the window is over."""
        if now - self._since >= MOVES_WINDOW:
            self._since = now
            self._pairs.clear()

    def forget(self, port: int) -> None:
        """What concerns this port is over."""
        for pair in [pair for pair in self._pairs if port in pair]:
            del self._pairs[pair]


@attrs.define(eq=False)
class Penalties:
    """How long a port is blocked, by its name: plugging it in again does not help."""

    first: float = FIRST_PENALTY
    _last: OrderedDict[str, tuple[float, float]] = attrs.field(factory=OrderedDict, init=False)

    def block(self, name: str, now: float) -> float:
        """The port has done it (again): blocked for so many seconds from now."""
        length, until = self._last.pop(name, (0.0, 0.0))
        length = min(length * 2, LAST_PENALTY) if length and now - until < FORGIVEN else self.first
        self._last[name] = length, now + length
        if len(self._last) > _NAMES:
            self._last.popitem(last=False)
        return length

    def left(self, name: str, now: float) -> float:
        """Seconds for which the port of that name is still to be blocked."""
        return max(0.0, self._last.get(name, (0.0, 0.0))[1] - now)


class _Gate:
    """What stands at one port, in front of everything else."""

    def __init__(self, loops: Loops, port: Port, bpdu_guard: bool) -> None:
        self.loops, self.port, self.bpdu_guard = loops, port, bpdu_guard
        self.shut: LoopDrop | None = None  # and as what it is counted

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """All, nothing, or all but what was for the switch itself. HOT PATH."""
        if self.shut is None and (self.bpdu_guard or now < self.loops.watched_until):
            records = self._look(records, now, counters)
        if self.shut is not None:
            counters.drop(self.shut, load_of(records).frames)
            return []
        return records

    def explain(self, record: bytes, now: float) -> Explained:
        """Whether the port is shut."""
        if self.shut is not None:
            return Explained(None, f"the port is blocked: {self.port.blocked}", self.shut)
        return Explained(record, "")

    def _look(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        kept = []
        for record in records:
            at = frame_at(record)
            destination = record[at : at + 6]
            if destination == PROBE_DESTINATION and self.loops.came_back(record, self.port, now):
                counters.drop(LoopDrop.LOOP_PROBE, 1)
                continue
            if self.bpdu_guard and destination in _BPDUS:
                self.loops.shut(self.port, LoopDrop.BPDU_GUARD, now)
            kept.append(record)
        return kept


class Loops(Feature[GuardSwitchSettings, LoopSettings]):
    """Both guards of one switch."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._all = False
        self._gates: dict[int, _Gate] = {}
        self._looking: set[int] = set()  # ports with loop guard
        self._probes = Probes(secrets.token_bytes(TOKEN_SIZE))
        self._moves = Moves()
        self._penalties = {
            LoopDrop.LOOP_BLOCKED: Penalties(),
            LoopDrop.BPDU_GUARD: Penalties(_FIRST_BPDU_PENALTY),
        }
        self._flooded: dict[int, int] = {}  # copies of a port until the last tick
        self._new: dict[int, float] = {}  # until when a port is probed for being back
        self.watched_until = 0.0
        self._hurried = -_HURRY
        self.moved = self._station_moved

    def settings_changed(
        self, switch: GuardSwitchSettings, ports: Mapping[str, LoopSettings]
    ) -> bool:
        """`guard` means BPDU guard, too."""
        self._all = switch.guard
        return False

    def port_stages(self, port: Port, settings: LoopSettings) -> Stages:
        """The gate, if any guard is on, or while the port is shut."""
        number, said = port.number, settings.bpdu_guard
        bpdu_guard = (self._all and not settings.trusted) if said is None else said
        (self._looking.add if settings.loop_guard else self._looking.discard)(number)
        gate = self._gates.get(number)
        if gate is not None:
            gate.bpdu_guard = bpdu_guard
        elif settings.loop_guard or bpdu_guard:
            gate = self._gates[number] = _Gate(self, port, bpdu_guard)
            now = self._switch.now()
            for reason, penalties in self._penalties.items():
                if penalties.left(port.name, now):
                    self._close(gate, reason)
                    self._rewire()
        if gate is None:
            return Stages()
        if gate.shut is None and not settings.loop_guard and not bpdu_guard:
            del self._gates[number]
            return Stages()
        return Stages(gate)

    def port_down(self, number: int) -> None:
        """Its penalties stay with its name."""
        gate = self._gates.pop(number, None)
        self._looking.discard(number)
        self._new.pop(number, None)
        self._flooded.pop(number, None)
        self._moves.forget(number)
        self._probes.forget(number)
        if gate is not None and gate.shut is not None:
            self._rewire()

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """A port that is shut hears nothing."""
        gate = self._gates.get(egress)
        return gate is None or gate.shut is None

    def came_back(self, record: bytes, port: Port, now: float) -> bool:
        """Whether a record is a probe of this switch; the loop that it shows is opened."""
        token = token_untrusted(record, self._probes.switch)
        if token is None:
            return False
        sender = self._gates.get(self._probes.sender(token, now) or 0)
        if sender is not None and sender.shut is None and port.number in self._looking:
            self._open(sender.port, port, now, "a probe came back")
        return True

    def shut(self, port: Port, reason: LoopDrop, now: float, **facts: str) -> None:
        """Block a port, for as long as it is its turn."""
        gate = self._gates.get(port.number)
        if gate is None or gate.shut is not None:
            return
        seconds = self._penalties[reason].block(port.name, now)
        self._close(gate, reason)
        self._moves.forget(port.number)
        self._switch.flush_fdb(port=port)
        self._rewire()
        self._switch.events.add("port-blocked", port.name, now=now, reason=str(reason), **facts)
        event(
            log,
            "port-blocked",
            logging.WARNING,
            None,
            port=port.number,
            name=port.name,
            reason=reason,
            seconds=seconds,
            **facts,
        )

    def tick(self, now: float) -> None:
        """Let back in whose time is over, look at moves, and probe where there is a reason."""
        for gate in list(self._gates.values()):
            if gate.shut is not None and not self._penalties[gate.shut].left(gate.port.name, now):
                self._let_back(gate, now)
        ports = {port.number: port for port in self._switch.ports}
        for one, other in self._moves.looped():
            if {one, other} <= ports.keys() and {one, other} <= self._looking:
                self._open(ports[one], ports[other], now, "stations move to and fro")
        suspects = self._moves.ports() | self._flooding(ports) | self._new.keys()
        self._moves.tick(now)
        for number in [number for number, until in self._new.items() if until <= now]:
            del self._new[number]
        self._probe([ports[number] for number in sorted(suspects) if number in ports], now)

    def _station_moved(self, mac: bytes, old: int, new: int) -> None:
        """A station moves, in the middle of a batch: what is to be done about it comes after it."""
        if self._moves.note(mac, old, new) != MIN_MOVES:
            return
        now = self._switch.now()
        if now - self._hurried >= _HURRY:
            self._hurried = now
            trio.lowlevel.current_trio_token().run_sync_soon(self._probe_moving)

    def _probe_moving(self) -> None:
        moving = self._moves.ports()
        self._probe([port for port in self._switch.ports if port.number in moving], self._hurried)

    def _open(self, one: Port, other: Port, now: float, how: str) -> None:
        """Open a loop between two ports, or behind one, at the one that came last."""
        if one.number not in self._looking:
            one = other
        last = one if (one.attached_at, one.number) > (other.attached_at, other.number) else other
        first = other if last is one else one
        # Others' stations were heard on both ends, and may be held there for having moved.
        self._switch.flush_fdb(port=first)
        self._switch.thaw_stations()
        self.shut(last, LoopDrop.LOOP_BLOCKED, now, loop_with=first.name, how=how)

    def _close(self, gate: _Gate, reason: LoopDrop) -> None:
        gate.shut = reason
        gate.port.blocked = "loop" if reason is LoopDrop.LOOP_BLOCKED else "bpdu"

    def _rewire(self) -> None:
        """A port was shut or let back in, or is gone."""
        self.keeps_apart = any(gate.shut is not None for gate in self._gates.values())
        self._switch.rewire()

    def _let_back(self, gate: _Gate, now: float) -> None:
        event(log, "port-unblocked", port=gate.port.number, name=gate.port.name)
        self._switch.events.add("port-unblocked", gate.port.name, now=now)
        gate.shut = gate.port.blocked = None
        self._new[gate.port.number] = now + _NEW
        self._rewire()

    def _flooding(self, ports: dict[int, Port]) -> set[int]:
        """The ports that flood more than hosts usually do."""
        found = set()
        enough = _FLOODED * max(1, len(ports) - 1)
        for number, port in ports.items():
            copies = port.counters.flood_copies
            storms = sum(port.counters.drops.get(reason, 0) for reason in StormDrop)
            if copies + storms - self._flooded.get(number, 0) > enough:
                found.add(number)
            self._flooded[number] = copies + storms
        return found

    def _probe(self, suspects: list[Port], now: float) -> None:
        due = [port for port in suspects if port.number in self._looking and port.blocked is None]
        if not due:
            return
        self.watched_until = now + _WATCH
        first = int(now) * _PROBED_AT_ONCE % len(due) if len(due) > _PROBED_AT_ONCE else 0
        for port in (due[first:] + due[:first])[:_PROBED_AT_ONCE]:
            probe = self._probes.make(port.number, secrets.token_bytes(TOKEN_SIZE), now)
            self._switch.originate(frame_record(probe), (port.number,))
