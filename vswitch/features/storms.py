"""Storm limits: frames a second of each kind at a port, copies a second of all floods together.

 broadcast, multicast   by the destination
 unknown                unicast to a station that the FDB does not know, so that it goes everywhere
 flood limit            copies that all floods together make, shared between the ports

A flooded frame costs the switch as many sends as it has ports, a known one costs one. So what a
port may flood is limited where it comes in, by bytes where these cost more (`weight_of`), and the
sum by `Shares`: in each interval the limit is divided as max-min fairness has it. A port that
floods little gets all that it wants; those that want more get the same. A storm on one port
therefore never takes the others' broadcasts.

Nothing here raises for any content of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from vswitch.config.quantities import to_frame_limit
from vswitch.config.sources import option
from vswitch.features.base import Feature, Stages
from vswitch.frames.ethernet import BROADCAST, ETHERNET_HEADER_SIZE, HEAD_SIZE, max_frame, vlan_of
from vswitch.frames.headers import frame_at
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE
from vswitch.frames.virtio import stands_for
from vswitch.switch.bucket import Bucket
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

FULL_FRAME = max_frame(1500)  # bytes that count as one frame, as long as a frame of most LANs
INTERVAL = 0.1  # seconds in which the flood limit holds: shorter than people notice
MIN_BURST = 128  # frames: one superframe, and a host that starts

Known = Callable[[int, bytes, float], int | None]  # Fdb.lookup


@attrs.frozen(kw_only=True, slots=False)
class StormSwitchSettings:
    """Of the switch."""

    flood_limit: int | None = attrs.field(
        default=20_000,
        converter=to_frame_limit,
        metadata=option("copies a second that all floods together make, or off"),
    )


@attrs.frozen(kw_only=True, slots=False)
class StormSettings:
    """Of a port."""

    storm_broadcast: int | None = attrs.field(
        default=1_000, converter=to_frame_limit, metadata=option("broadcasts a second, or off")
    )
    storm_multicast: int | None = attrs.field(
        default=5_000,
        converter=to_frame_limit,
        metadata=option("frames to groups a second, or off"),
    )
    storm_unknown: int | None = attrs.field(
        default=2_000,
        converter=to_frame_limit,
        metadata=option("frames a second to stations that nobody has heard, or off"),
    )


class StormDrop(Drop):
    """Counted at the port where the frame came in."""

    STORM_BROADCAST = "storm_broadcast"  # more a second than the port may send to all
    STORM_MULTICAST = "storm_multicast"  # the same, to groups
    STORM_UNKNOWN = "storm_unknown"  # the same, to stations that nobody has heard
    # More copies a second than the port's share of what floods may make.
    FLOOD_LIMIT = "flood_limit"


def level(wanted: list[float], room: float) -> float:
    """The most that each may have so that all together have at most `room`: water-filling."""
    left = room
    for number, want in enumerate(sorted(wanted)):
        share = left / (len(wanted) - number)
        if want >= share:
            return share
        left -= want
    return room  # enough for all, and for one who wants it all


@attrs.define(eq=False)
class Shares:
    """The copies of one switch. `limit` a second, None for no limit."""

    limit: float | None
    _since: float = attrs.field(init=False, default=-1.0)
    _wanted: dict[int, float] = attrs.field(init=False, factory=dict)
    _spent: dict[int, float] = attrs.field(init=False, factory=dict)
    _level: float = attrs.field(init=False, default=0.0)
    _left: float = attrs.field(init=False, default=0.0)

    def room(self, port: int, now: float) -> float:
        """How many more copies the port may make in this interval."""
        if self.limit is None:
            return float("inf")
        if now - self._since >= INTERVAL or now < self._since:
            self._begin(now, self.limit * INTERVAL)
        spent = self._spent.get(port, 0.0)
        mine = max(0.0, self._level - spent)
        if mine <= self._left:
            return mine
        # Ports that were silent until now have spent it all at once: an equal share is everybody's.
        equal = self.limit * INTERVAL / max(1, len(self._wanted))
        return max(0.0, self._left, min(mine, equal - spent))

    def spend(self, port: int, copies: float, refused: float) -> None:
        """The port has made so many, and would have made some more."""
        self._spent[port] = self._spent.get(port, 0.0) + copies
        self._wanted[port] = self._wanted.get(port, 0.0) + copies + refused
        self._left -= copies

    def forget(self, port: int) -> None:
        """The port is gone."""
        self._spent.pop(port, None)
        self._wanted.pop(port, None)

    def _begin(self, now: float, room: float) -> None:
        # One frame passes where any room is left, however many copies it makes; such debts are paid
        # in the intervals that follow.
        silent = not 0 <= now - self._since < 2 * INTERVAL
        debts = {port: spent - self._level for port, spent in self._spent.items()}
        self._spent = {port: debt for port, debt in debts.items() if debt > 0 and not silent}
        self._level = room if silent else level(list(self._wanted.values()), room)
        self._left = room - sum(self._spent.values())
        self._wanted = {}
        self._since = now


def weight_of(record: bytes) -> int:
    """As how many frames a record counts for the limits: those it stands for, or its bytes in
    frames of full size, whichever is more; what a header says makes nothing cheaper.
    """
    return max(stands_for(record), -(-(len(record) - frame_at(record)) // FULL_FRAME))


@attrs.define(eq=False)
class StormStage:
    """The limits of one port; None for none."""

    port: int
    broadcast: Bucket | None
    multicast: Bucket | None
    unknown: Bucket | None
    shares: Shares
    known: Known
    ports: Callable[[], int]  # how many there are
    _copies: int = attrs.field(init=False, default=0)  # `flood_copies` when last seen
    _passed: int = attrs.field(init=False, default=0)  # flooded frames since then
    _weight: int = attrs.field(init=False, default=0)  # what these cost
    _fan: float = attrs.field(init=False, default=0.0)  # copies of one of them; 0: not known

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """The records that go on. HOT PATH: a batch that is not flooded costs a slice a record."""
        if not records:
            return records
        # The flag of a superframe is the larger one: see `load_of`.
        only_frames = max(records)[1] == FRAME_FLAG
        if only_frames:
            heads = [record[4:20] for record in records]
        else:
            heads = [
                record[4:20] if record[1] == FRAME_FLAG else record[14:30] for record in records
            ]
        if heads.count(heads[0]) == len(heads):
            reason = self._kind(heads[0], now)
            if reason is None:
                return records
            if only_frames and max(map(len, records)) <= HEADER_SIZE + FULL_FRAME:
                self._settle(counters)
                granted = self._grant(reason, len(records), now, counters)
                return records if granted == len(records) else records[:granted]
        floods = {
            head: reason for head in set(heads) if (reason := self._kind(head, now)) is not None
        }
        if not floods:
            return records
        self._settle(counters)
        kept = []
        for record, head in zip(records, heads, strict=True):
            reason = floods.get(head)
            if reason is None or self._grant_record(reason, record, now, counters):
                kept.append(record)
        return kept

    def explain(self, record: bytes, now: float) -> Explained:
        """Whether a record would be flooded, and how that is limited."""
        at = frame_at(record)
        reason = self._kind(record[at : at + HEAD_SIZE], now)
        if reason is None:
            return Explained(record, "")
        bucket, weight = self._bucket(reason), weight_of(record)
        if bucket is not None and not bucket.could(now, weight):
            return Explained(None, f"more than {bucket.rate:g} frames a second", reason)
        return Explained(record, "")

    def _kind(self, head: bytes, now: float) -> StormDrop | None:
        """The name of the limit that frames with this head are subject to; None if of none."""
        if len(head) < ETHERNET_HEADER_SIZE:
            return None
        if head[0] & 1:
            if head[:6] == BROADCAST:
                return StormDrop.STORM_BROADCAST
            return StormDrop.STORM_MULTICAST
        if self.known(vlan_of(head), head[:6], now) is None:
            return StormDrop.STORM_UNKNOWN
        return None

    def _bucket(self, reason: StormDrop) -> Bucket | None:
        if reason is StormDrop.STORM_BROADCAST:
            return self.broadcast
        return self.multicast if reason is StormDrop.STORM_MULTICAST else self.unknown

    def _settle(self, counters: PortCounters) -> None:
        """Pay for what was flooded since the last time: only now it is known how many copies."""
        if self._passed:
            copies = counters.flood_copies - self._copies + self._passed
            self._fan = max(1.0, copies / self._passed)
            beyond = self._weight - self._passed
            self.shares.spend(self.port, copies + beyond * self._fan, 0.0)
        self._copies, self._passed, self._weight = counters.flood_copies, 0, 0

    def _grant(self, reason: StormDrop, wanted: int, now: float, counters: PortCounters) -> int:
        bucket = self._bucket(reason)
        granted = wanted if bucket is None else bucket.grant(now, wanted)
        counters.drop(reason, wanted - granted)
        if not granted:
            return 0
        passed = min(granted, self._room(now))
        self._refuse(granted - passed, granted - passed, counters)
        self._passed += passed
        self._weight += passed
        return passed

    def _grant_record(
        self, reason: StormDrop, record: bytes, now: float, counters: PortCounters
    ) -> bool:
        bucket, frames, weight = self._bucket(reason), stands_for(record), weight_of(record)
        if bucket is not None and not bucket.allow(now, weight):
            counters.drop(reason, frames)
            return False
        if self._room(now) < weight:
            self._refuse(frames, weight, counters)
            return False
        self._passed += frames
        self._weight += weight
        return True

    def _room(self, now: float) -> int:
        """Frames that the flood limit lets through, with what was passed since `_settle`."""
        fan = self._fan or max(1, self.ports() - 1)
        room = self.shares.room(self.port, now) - self._weight * fan
        return 1 << 30 if room == float("inf") else max(1, int(room / fan)) if room > 0 else 0

    def _refuse(self, frames: int, weight: int, counters: PortCounters) -> None:
        if frames:
            fan = self._fan or max(1, self.ports() - 1)
            self.shares.spend(self.port, 0.0, weight * fan)
            counters.drop(StormDrop.FLOOD_LIMIT, frames)


class Storms(Feature[StormSwitchSettings, StormSettings]):
    """Limits for broadcast, multicast and unknown unicast, and for all copies together."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._shares = Shares(None)

    def settings_changed(
        self, switch: StormSwitchSettings, ports: Mapping[str, StormSettings]
    ) -> bool:
        """The flood limit."""
        self._shares.limit = switch.flood_limit
        return False

    def port_stages(self, port: Port, settings: StormSettings) -> Stages:
        """The limits of this port."""
        limits = (settings.storm_broadcast, settings.storm_multicast, settings.storm_unknown)
        if self._shares.limit is None and limits == (None, None, None):
            return Stages()
        broadcast, multicast, unknown = map(_bucket, limits)
        look_up, count = self._switch.look_up, self._switch.count_ports
        stage = StormStage(port.number, broadcast, multicast, unknown, self._shares, look_up, count)
        return Stages(stage)

    def port_down(self, number: int) -> None:
        """Its share is free."""
        self._shares.forget(number)


def _bucket(rate: int | None) -> Bucket | None:
    """A second's worth at once: hosts that start say much."""
    return None if rate is None else Bucket(rate, max(rate, MIN_BURST))
