"""Who has sent what, who has got what, and what of it is not as it must be. Pure.

A *life* is one session of a station. Each frame says which life sent it, for whom, when, and as
which of that flow, so nothing has to be remembered but counts: a run may last as long as it likes.

Invariants of the subject, by the names of docs/testing.md: I1 exactly once, in order, unmodified;
I2 exact accounts; I3 a bounded loss with a life that ends; I4 nobody gets what is not for him.
A breach is a line in `Ledger.breaches`; nothing raises.
"""

from __future__ import annotations

import random
import struct
from collections import Counter

import attrs

from vswitch.frames.ethernet import BROADCAST
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.testing import ethernet

__all__ = ["ALL", "MARK", "NOBODY", "RESERVED", "Ledger", "Life", "mac_of"]

ETHERTYPE = 0x88B5  # local experimental (IEEE 802)
HEAD = struct.Struct(">16sIHIQ")  # mark, life, target, serial in its flow, microseconds
MARK = bytes.fromhex("c0ffee11decafbad5eed1e55f005ba11")  # which no datagram may show
ALL, NOBODY, RESERVED = 0, 0xFFFE, 0xFFFF  # targets that are no station
MOST_BREACHES = 50  # lines kept
_MACS = {ALL: BROADCAST, NOBODY: b"\x02\xff\xff\xff\xff\xff", RESERVED: b"\x01\x80\xc2\0\0\x0e"}


def mac_of(target: int) -> bytes:
    """The address of a station, or of what is none."""
    return _MACS.get(target) or b"\x02\0\0\0" + target.to_bytes(2, "big")


@attrs.define(eq=False)
class Heard:
    """What a life has got of one flow of another."""

    due: int  # serial of the first that it must get
    last: int = -1
    missing: int = 0


@attrs.define(eq=False)
class Life:
    """One session of a station, on both sides of the switch."""

    number: int
    station: int
    counters: PortCounters | None = None  # of its port, once there is one
    known: float | None = None  # since when the switch has heard it
    ended: str | None = None  # "left": all that it sent had arrived; "died"
    at_risk: int = 0  # bytes that its session may have lost as it died
    offered: int = 0  # frames given to the session
    offered_bytes: int = 0
    got: int = 0
    sent: Counter[int] = attrs.Factory(Counter)  # by target
    heard: dict[tuple[int, int], Heard] = attrs.Factory(dict)  # by life and target

    @property
    def refused(self) -> int:
        assert self.counters is not None
        drops = self.counters.drops
        return drops.get(DropReason.QUEUE_FULL, 0) + drops.get(DropReason.QUEUE_DELAY, 0)


class Ledger:
    """All lives since the last look, and the breaches."""

    def __init__(self, seed: int) -> None:
        self.lives: dict[int, Life] = {}
        self.present: dict[int, Life] = {}  # by station
        self.breaches: list[str] = []
        self.counts: Counter[str] = Counter()
        self._noise = random.Random(seed).randbytes(1 << 16)
        self._begun = 0

    # --- Lives --------------------------------------------------------------------------------

    def begin(self, station: int) -> Life:
        """A session is being made. Nothing is owed to it before `up`."""
        self._begun += 1
        life = self.lives[self._begun] = Life(self._begun, station)
        return life

    def up(self, life: Life, counters: PortCounters) -> None:
        """The switch has a port for it: from now on it is owed what is sent."""
        life.counters = counters
        self.present[life.station] = life
        for other in self.lives.values():
            if other.station != life.station:
                for target in (ALL, NOBODY, life.station):
                    life.heard[other.number, target] = Heard(other.sent[target])
        self.counts["lives"] += 1

    def end(self, life: Life, how: str, at_risk: int = 0) -> None:
        """It is over."""
        life.ended, life.at_risk = how, at_risk
        self.counts[how] += 1
        if self.present.get(life.station) is life:
            del self.present[life.station]

    # --- Frames -------------------------------------------------------------------------------

    def make(self, life: Life, target: int, size: int, now: float) -> bytes:
        """The next frame of that flow; it counts once `given` is called."""
        head = HEAD.pack(MARK, life.number, target, life.sent[target], round(now * 1e6))
        body = self._body(life.number, life.sent[target], size)
        return ethernet(mac_of(target), mac_of(life.station), ETHERTYPE, head + body)

    def given(self, life: Life, target: int, frame: bytes) -> None:
        """A session has taken it."""
        life.sent[target] += 1
        life.offered += 1
        life.offered_bytes += len(frame)
        self.counts["frames sent"] += 1

    def arrived(self, life: Life, frame: bytes) -> None:
        """A session has brought it."""
        life.got += 1
        self.counts["frames received"] += 1
        mark, number, target, serial, sent = HEAD.unpack_from(frame, 14)
        source = self.lives.get(number)
        where = f"at station {life.station}, life {life.number}: {target}/{serial} of life {number}"
        if mark != MARK or source is None:
            self._breach("I1", f"{where}: nobody has sent that")
            return
        body = self._body(number, serial, len(frame) - 14 - HEAD.size)
        head = mac_of(target) + mac_of(source.station) + ETHERTYPE.to_bytes(2, "big")
        if frame[:14] != head or frame[14 + HEAD.size :] != body:
            self._breach("I1", f"{where}: modified")
        if source.station == life.station:
            self._breach("I4", f"{where}: back to its sender")
        elif target == RESERVED:
            self._breach("I4", f"{where}: against the policy")
        elif target not in (ALL, NOBODY, life.station):
            self._check_stray(target, sent / 1e6, where)
        else:
            heard = life.heard.setdefault((number, target), Heard(0))
            if serial <= heard.last:
                self._breach("I1", f"{where}: after {heard.last}")
                return
            # What had been sent before this life was up may arrive, and is not owed.
            expected = heard.last + 1 if heard.last >= 0 else min(heard.due, serial)
            heard.missing += serial - expected
            heard.last = serial

    def _check_stray(self, target: int, sent: float, where: str) -> None:
        """A frame for somebody else is right only while the switch does not know where he is."""
        other = self.present.get(target)
        if other is not None and other.known is not None and other.known < sent:
            self._breach("I4", f"{where}: for a station that the switch knows")
        self.counts["flooded to others"] += 1

    def _body(self, life: int, serial: int, size: int) -> bytes:
        at = (life * 7919 + serial * 31) % (len(self._noise) - size)
        return self._noise[at : at + size]

    # --- Looks --------------------------------------------------------------------------------

    def check(self) -> None:
        """When nothing is under way: everything owed has arrived, and all is accounted for."""
        for life in self.lives.values():
            if life.counters is not None:
                self._owe(life)
                self._check_life(life)
        self._forget()
        self.counts["checks"] += 1

    def _owe(self, life: Life) -> None:
        """Flows that began when it was there, of which perhaps nothing has come."""
        for other in self.lives.values():
            if other.station != life.station:
                for target in (ALL, NOBODY, life.station):
                    life.heard.setdefault((other.number, target), Heard(0))

    def _check_life(self, life: Life) -> None:
        assert life.counters is not None
        missing = sum(heard.missing for heard in life.heard.values())
        who = f"station {life.station}, life {life.number}"
        if life.ended is None:
            missing += sum(self._tail(life, *key) for key in list(life.heard))
            if missing > life.refused:  # what was refused may have been owed to nobody
                self._breach("I1", f"{who}: {missing} missing, {life.refused} refused")
            self._same("I2", who, "frames out", life.got, life.counters.tx_frames)
        elif missing > life.refused:
            self._breach("I1", f"{who}: {missing} missing, {life.refused} refused")
        if life.ended in (None, "left"):
            self._same("I2", who, "frames in", life.offered, life.counters.rx_frames)
            refused = life.counters.drops.get(DropReason.RESERVED_DESTINATION, 0)
            self._same("I2", who, "against the policy", life.sent[RESERVED], refused)
        elif not 0 <= life.offered_bytes - life.counters.rx_bytes <= life.at_risk:
            lost = life.offered_bytes - life.counters.rx_bytes
            self._breach("I3", f"{who}: {lost} bytes lost, {life.at_risk} at risk")

    def _tail(self, life: Life, number: int, target: int) -> int:
        """What is owed of a flow beyond the last that came."""
        source = self.lives.get(number)
        heard = life.heard[number, target]
        if source is None or source.ended == "died":
            return 0
        return max(0, source.sent[target] - max(heard.due, heard.last + 1))

    def _forget(self) -> None:
        """Lives that are over, whose every frame has arrived or never will."""
        over = [number for number, life in self.lives.items() if life.ended]
        for life in self.lives.values():
            for key in life.heard:
                if key[0] in over:  # its last ones may have been refused
                    life.heard[key].missing += self._tail(life, *key)
        for number in over:
            del self.lives[number]
        for life in self.lives.values():
            # What was missing has been found to be right.
            kept = {key: heard for key, heard in life.heard.items() if key[0] in self.lives}
            gone = [(key, heard) for key, heard in life.heard.items() if key not in kept]
            if missing := sum(heard.missing for _, heard in gone):
                kept[0, 0] = Heard(0, 0, missing)
            life.heard = kept

    def _same(self, name: str, who: str, what: str, found: int, counted: int) -> None:
        if found != counted:
            self._breach(name, f"{who}: {what}: {found}, {counted}")

    def _breach(self, name: str, text: str) -> None:
        self.counts["breaches"] += 1
        if len(self.breaches) < MOST_BREACHES:
            self.breaches.append(f"{name}: {text}")

    def breach(self, name: str, text: str) -> None:
        """Something that others have found."""
        self._breach(name, text)
