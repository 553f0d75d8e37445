"""Loop guard and BPDU guard: ports that are shut for a while because a loop goes through them.

Probes cost, and not every program expects them, so they are sent only when there is a reason:
stations move, a port floods, or a port has just been let back in. A loop that carries nothing harms
nobody; as soon as it carries something there is a reason, at once or within a second. What is
looked for in frames is looked for only while a probe is under way, so that a calm switch pays
nothing.

Of the two ends of a loop the port is shut that was plugged in last. A port that is shut drops all
that comes in, hears nothing, and its stations are forgotten. It is let back after 10 s, and each
time that it happens again after twice as long, up to 10 minutes; plugging in anew does not help.
"""

from __future__ import annotations

import logging
import secrets

import trio

from vswitch.core.counters import DropReason, PortCounters
from vswitch.core.load import load_of
from vswitch.core.loops import (
    MIN_MOVES,
    PROBE_DESTINATION,
    TOKEN_SIZE,
    Moves,
    Penalties,
    Probes,
    token_untrusted,
)
from vswitch.core.packet import frame_at
from vswitch.core.records import frame_record
from vswitch.core.stages import Explained, Stage
from vswitch.features.feature import Feature
from vswitch.logs import event
from vswitch.settings import PortSettings, SwitchSettings
from vswitch.switch import Port, Switch

__all__ = ["Loops"]

log = logging.getLogger(__name__)

# Spanning tree, that of providers, and Cisco's for each VLAN.
_BPDUS = frozenset(map(bytes.fromhex, ("0180c2000000", "0180c2000008", "01000ccccccd")))
_FLOODED = 20  # frames a second, above which a port is worth a probe
_NEW = 4.0  # seconds for which a port that was let back in is probed
_HURRY = 0.2  # seconds between two probes for a station that moves
_WATCH = 10.0  # seconds that a probe may take
_PROBED_AT_ONCE = 64  # ports in one tick; the others have their turn later
_FIRST_BPDU_PENALTY = 30.0


class _Gate:
    """What stands at one port, in front of everything else."""

    def __init__(self, loops: Loops, port: Port, bpdu_guard: bool) -> None:
        self.loops, self.port, self.bpdu_guard = loops, port, bpdu_guard
        self.shut: DropReason | None = None  # and as what it is counted

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
                counters.drop(DropReason.LOOP_PROBE, 1)
                continue
            if self.bpdu_guard and destination in _BPDUS:
                self.loops.shut(self.port, DropReason.BPDU_GUARD, now)
            kept.append(record)
        return kept


class Loops(Feature):
    """Both guards of one switch."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._all = False
        self._gates: dict[int, _Gate] = {}
        self._looking: set[int] = set()  # ports with loop guard
        self._probes = Probes(secrets.token_bytes(TOKEN_SIZE))
        self._moves = Moves()
        self._penalties = {
            DropReason.LOOP_BLOCKED: Penalties(),
            DropReason.BPDU_GUARD: Penalties(_FIRST_BPDU_PENALTY),
        }
        self._flooded: dict[int, int] = {}  # copies of a port until the last tick
        self._new: dict[int, float] = {}  # until when a port is probed for being back
        self.watched_until = 0.0
        self._hurried = -_HURRY
        switch.watch_moves(self._moved)

    @property
    def keeps_apart(self) -> bool:
        """Only while a port is shut."""
        return any(gate.shut is not None for gate in self._gates.values())

    def changed(self, switch: SwitchSettings) -> None:
        """`guard` means BPDU guard, too."""
        self._all = switch.guard

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The gate, if any guard is on."""
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
                    self._switch.rewire()
        if gate is None:
            return None
        if gate.shut is None and not settings.loop_guard and not bpdu_guard:
            del self._gates[number]
            return None
        return gate

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

    def shut(self, port: Port, reason: DropReason, now: float, **facts: str) -> None:
        """Block a port, for as long as it is its turn."""
        gate = self._gates.get(port.number)
        if gate is None or gate.shut is not None:
            return
        seconds = self._penalties[reason].block(port.name, now)
        self._close(gate, reason)
        self._moves.forget(port.number)
        self._switch.flush_fdb(port=port)
        self._switch.rewire()
        self._switch.events.add("port-blocked", port.name, now=now, reason=str(reason), **facts)
        event(
            log,
            "port-blocked",
            logging.WARNING,
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

    def gone(self, number: int) -> None:
        """Its penalties stay with its name."""
        gate = self._gates.pop(number, None)
        self._looking.discard(number)
        self._new.pop(number, None)
        self._flooded.pop(number, None)
        self._moves.forget(number)
        self._probes.forget(number)
        if gate is not None and gate.shut is not None:
            self._switch.rewire()

    def _moved(self, mac: bytes, old: int, new: int) -> None:
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
        self.shut(last, DropReason.LOOP_BLOCKED, now, loop_with=first.name, how=how)

    def _close(self, gate: _Gate, reason: DropReason) -> None:
        gate.shut = reason
        gate.port.blocked = "loop" if reason is DropReason.LOOP_BLOCKED else "bpdu"

    def _let_back(self, gate: _Gate, now: float) -> None:
        event(log, "port-unblocked", port=gate.port.number, name=gate.port.name)
        self._switch.events.add("port-unblocked", gate.port.name, now=now)
        gate.shut = gate.port.blocked = None
        self._new[gate.port.number] = now + _NEW
        self._switch.rewire()

    def _flooding(self, ports: dict[int, Port]) -> set[int]:
        """The ports that flood more than hosts usually do."""
        found = set()
        enough = _FLOODED * max(1, len(ports) - 1)
        for number, port in ports.items():
            copies = port.counters.flood_copies
            storms = sum(port.counters.drops.get(reason, 0) for reason in _STORMS)
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


_STORMS = (
    DropReason.STORM_BROADCAST,
    DropReason.STORM_MULTICAST,
    DropReason.STORM_UNKNOWN,
    DropReason.FLOOD_LIMIT,
)
