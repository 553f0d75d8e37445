"""Where a frame goes: from a batch that came in on one port to one batch for each port out.

 1. length      a frame longer than the MTU allows is dropped, as is a superframe that is not to be
                cut; others are judged by all that their header says when they are flooded, and else
                by whoever has to cut them or to give them to a kernel
 2. policy      what the header itself forbids is dropped (`refuse_head`)
 3. learning    the source is now on the ingress port; one that may not be there is dropped
 4. look-up     known unicast to its port; unknown, multicast and broadcast to all but the ingress;
                less those that `reach` (`stages.py`) keeps apart, if there is one
 5. grouping    one list of records for each egress port, in the order of arrival

Frames are opaque behind their first 16 bytes; the outer VLAN id is part of the FDB key and tags
pass unchanged. The outcome is exactly that of forwarding the frames one by one: steps 2 to 4 run
once for each distinct head in a batch, and again when something was learned in between.

Invariants: no frame leaves where it came in; every frame is in the result, or counted as dropped;
further copies are counted in `flood_copies`. Nothing here raises for any content of a record.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from vswitch.errors import BadRecord
from vswitch.frames.ethernet import (
    ETHERNET_HEADER_SIZE,
    HEAD_SIZE,
    VLAN_TAGS,
    format_mac,
    max_frame,
    vlan_of,
)
from vswitch.frames.load import Load, load_of
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE, VIRTIO_HEADER_SIZE
from vswitch.frames.superframes import check_superframe_untrusted
from vswitch.frames.virtio import FRAME_AT, GSO_NONE, stands_for
from vswitch.switch.counters import Drop, DropReason, PortCounters
from vswitch.switch.fdb import Fdb
from vswitch.switch.stages import Decision, Reach

# Where the 16 bytes that decide lie, in a record with a frame and in one with a superframe.
_FRAME_HEAD = slice(HEADER_SIZE, HEADER_SIZE + HEAD_SIZE)
_SUPERFRAME_HEAD = slice(FRAME_AT, FRAME_AT + HEAD_SIZE)

_Decision = tuple[int, ...] | Drop

_ZERO_MAC = bytes(6)
# 01-80-C2-00-00-00 to 0F: spanning tree, MAC control (so PAUSE, EtherType 0x8808, too), LACP,
# 802.1X, LLDP. They speak to the next bridge and never pass one.
_RESERVED_PREFIX = b"\x01\x80\xc2\x00\x00"


def refuse_head(head: bytes) -> Drop | None:
    """Why a frame that begins with these 16 bytes (fewer if it is shorter) goes nowhere; None if it
    may. Asked before learning, so that such a frame leaves no trace in the FDB.

    Sources: IEEE 802.1D-2004 7.12.6 and 802.1Q-2018 8.6.3 (reserved addresses), 802.3 3.2
    (addresses).
    """
    if len(head) < ETHERNET_HEADER_SIZE or (len(head) < HEAD_SIZE and head[12:14] in VLAN_TAGS):
        return DropReason.RUNT
    if head[6] & 1:
        return DropReason.SOURCE_MULTICAST
    if head[6:12] == _ZERO_MAC:
        return DropReason.SOURCE_ZERO
    if head[:5] == _RESERVED_PREFIX and head[5] < 0x10:
        return DropReason.RESERVED_DESTINATION
    return None


@attrs.define(eq=False)
class _Attached:
    counters: PortCounters
    others: dict[int, tuple[int, ...]] = attrs.Factory(dict)  # where a flood goes, by VLAN


class Forwarder:
    """The forwarding decision and what it needs: the FDB and the set of ports."""

    def __init__(self, *, mtu: int = 1500, fdb: Fdb | None = None) -> None:
        self.mtu = mtu
        self.reach: Reach | None = None  # set by `set_reach`
        self.fdb = Fdb() if fdb is None else fdb
        self._max_record = HEADER_SIZE + max_frame(mtu)
        self._ports: dict[int, _Attached] = {}

    def add_port(self, port: int, counters: PortCounters) -> None:
        """Flood to this port too. `ValueError` when there is one of that number."""
        if port in self._ports:
            raise ValueError(f"port {port} is there already")
        self._ports[port] = _Attached(counters)
        self._rewire()

    def remove_port(self, port: int) -> None:
        """Forget a port and every station on it."""
        del self._ports[port]
        self.fdb.forget(port)
        self._rewire()

    def set_reach(self, reach: Reach | None) -> None:
        """Ask it who hears whom; None for all of all. Again when what it says has changed."""
        self.reach = reach
        self._rewire()

    def _rewire(self) -> None:
        # Worked out anew by the next flood of each: a thousand ports that come at once would
        # otherwise each have it done for a thousand.
        for attached in self._ports.values():
            attached.others.clear()

    def _others(self, port: int, vlan: int) -> tuple[int, ...]:
        """Where a flooded frame of that VLAN goes."""
        reach = self.reach
        if reach is None:
            vlan = 0
        known = self._ports[port].others
        others = known.get(vlan)
        if others is None:
            others = known[vlan] = tuple(
                sorted(
                    other
                    for other in self._ports
                    if other != port and (reach is None or reach.reaches(port, other, vlan))
                )
            )
        return others

    def ingress(
        self, port: int, records: list[bytes], now: float, load: Load | None = None
    ) -> dict[int, list[bytes]]:
        """Batches by egress port, for frame and superframe records that came in on `port`.

        The lists may be one and the same object, or `records` itself: read them, never change them.
        Control records are for the device to keep; `now` is in seconds; `load` is that of
        `records`, from those who know it. What came in is counted by the caller. `KeyError` for no
        port.
        """
        # HOT PATH: all but the last lines are loops in C, about 0.2 µs a record together.
        attached = self._ports[port]
        if not records:
            return {}
        frames, _, superframes = load_of(records) if load is None else load
        counters = attached.counters
        if max(map(len, records)) > self._max_record:
            kept = self._without_oversize(records, counters)
            if kept is not records:
                if not kept:
                    return {}
                records = kept
                frames, _, superframes = load_of(records)
        if not superframes:
            heads = [record[_FRAME_HEAD] for record in records]
        elif superframes == len(records):
            heads = [record[_SUPERFRAME_HEAD] for record in records]
        else:
            heads = [
                record[_FRAME_HEAD] if record[1] == FRAME_FLAG else record[_SUPERFRAME_HEAD]
                for record in records
            ]
        if heads and heads.count(heads[0]) == len(heads):
            decision, _ = self._decide(heads[0], port, now)
            if not isinstance(decision, tuple):
                counters.drop(decision, frames)
                return {}
            if superframes and len(decision) > 1:
                records = self._honest(records, counters)
                frames = load_of(records).frames
                if not records:
                    return {}
            counters.flood_copies += (len(decision) - 1) * frames
            return dict.fromkeys(decision, records)
        return self._group(records, heads, port, counters, now)

    def _group(
        self,
        records: list[bytes],
        heads: list[bytes],
        port: int,
        counters: PortCounters,
        now: float,
    ) -> dict[int, list[bytes]]:
        # HOT PATH of a batch that mixes conversations.
        out: dict[int, list[bytes]] = {}
        decided: dict[bytes, _Decision] = {}
        unicast: dict[bytes, Callable[[bytes], None]] = {}  # heads that go to one port
        for record, head in zip(records, heads, strict=True):
            append = unicast.get(head)
            if append is not None:
                append(record)
                continue
            decision = decided.get(head)
            if decision is None:
                decision, learned = self._decide(head, port, now)
                if learned:
                    decided.clear()
                    unicast.clear()
                decided[head] = decision
            if not isinstance(decision, tuple):  # quicker to tell than an enumeration
                counters.drop(decision, stands_for(record))
                continue
            if len(decision) == 1:
                append = unicast[head] = out.setdefault(decision[0], []).append
                append(record)
                continue
            if record[1] != FRAME_FLAG and not self._honest([record], counters):
                continue
            counters.flood_copies += (len(decision) - 1) * stands_for(record)
            for egress in decision:
                out.setdefault(egress, []).append(record)
        return out

    def _decide(self, head: bytes, port: int, now: float) -> tuple[_Decision, bool]:
        """What to do with frames that begin so, and whether the FDB learned something new."""
        reason = refuse_head(head)
        if reason is not None:
            return reason, False
        vlan = vlan_of(head)
        learned = self.fdb.learn(vlan, head[6:12], port, now)
        if not isinstance(learned, bool):
            return learned, False
        return self._destination(head, vlan, port, now), learned

    def _destination(self, head: bytes, vlan: int, port: int, now: float) -> _Decision:
        reach = self.reach
        if not head[0] & 1:
            egress = self.fdb.lookup(vlan, head[0:6], now)
            if egress is not None:
                if egress == port:
                    return DropReason.SAME_PORT
                if reach is None or reach.reaches(port, egress, vlan):
                    return (egress,)
                return DropReason.NOT_REACHED
        others = self._others(port, vlan)
        if reach is not None and head[0] & 1:
            wanted = reach.group_ports(port, vlan, head[0:6], now)
            if wanted is not None:
                others = tuple(other for other in others if other in wanted)
        return others or DropReason.NO_DESTINATION

    def explain(self, port: int, record: bytes, now: float) -> Decision:
        """What `ingress` would do with one record that came in on `port`; nothing is learned."""
        if self._oversize(record):
            return Decision((), DropReason.OVERSIZE, (f"longer than an MTU of {self.mtu} allows",))
        head = record[_FRAME_HEAD if record[1] == FRAME_FLAG else _SUPERFRAME_HEAD]
        reason = refuse_head(head)
        if reason is not None:
            return Decision((), reason, ("refused for what its header says",))
        vlan = vlan_of(head)
        reason = self.fdb.judge(vlan, head[6:12], port, now)
        if reason is not None:
            return Decision((), reason, (f"{format_mac(head[6:12])} may not be on this port",))
        where = f"{format_mac(head[0:6])} in VLAN {vlan}" if vlan else format_mac(head[0:6])
        decision = self._destination(head, vlan, port, now)
        known = not head[0] & 1 and self.fdb.lookup(vlan, head[0:6], now) is not None
        if known:
            step = f"{where}: known"
        elif head[0] & 1:
            step = f"{where}: a group address"
        else:
            step = f"{where}: not known, flooded"
        if isinstance(decision, Drop):
            return Decision((), decision, (step,))
        if len(decision) > 1 and not self._honest([record], PortCounters()):
            return Decision((), DropReason.BAD_SUPERFRAME, (step, "its header does not fit it"))
        return Decision(decision, "", (step,))

    def _without_oversize(self, records: list[bytes], counters: PortCounters) -> list[bytes]:
        most = self._max_record
        kept = [record for record in records if len(record) <= most or not self._oversize(record)]
        counters.drop(DropReason.OVERSIZE, len(records) - len(kept))
        return kept if len(kept) < len(records) else records

    def _oversize(self, record: bytes) -> bool:
        """Whether a record is one frame, and longer than the MTU allows."""
        if record[1] == FRAME_FLAG:
            return len(record) > self._max_record
        return len(record) > self._max_record + VIRTIO_HEADER_SIZE and record[5] == GSO_NONE

    def _honest(self, records: list[bytes], counters: PortCounters) -> list[bytes]:
        """The records whose header says the truth: a lie is not multiplied."""
        kept = []
        for record in records:
            try:
                if record[1] != FRAME_FLAG:
                    check_superframe_untrusted(record, self.mtu)
            except BadRecord:
                counters.drop(DropReason.BAD_SUPERFRAME, stands_for(record))
            else:
                kept.append(record)
        return kept if len(kept) < len(records) else records
