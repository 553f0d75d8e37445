"""Multicast to those who want it: `multicast_snooping` in `[switch]`, off unless asked for.

Off, since flooding always works: snooping depends on every host that listens speaking IGMP or MLD,
and pays where streams fill the lines of members that do not watch them.

Reports reach router ports only (RFC 4541 2.1.1): a host that hears the report of another keeps its
own back, and the switch would not know of it. So they are taken out of the batch here, given to the
router ports, and counted as `group_report` where there is none. What is no valid message passes as
any frame. The rules are in `features/snooping.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import attrs

from vswitch.addresses import mac_from_key
from vswitch.config.sources import option
from vswitch.config.words import to_bool
from vswitch.errors import BadRecord
from vswitch.features.base import Feature, Stages
from vswitch.features.snooping import Query, Snooping
from vswitch.features.vlans import (
    PortVlans,
    VlanSettings,
    VlanSwitchSettings,
    port_vlans,
    vlans_on,
)
from vswitch.frames.ethernet import vlan_of
from vswitch.frames.igmp import GroupMessage, Says, query_record, read_untrusted
from vswitch.frames.records import frame_of
from vswitch.frames.virtio import stands_for
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

_VLANS_EVERY = 10  # ticks between two looks at which VLANs have stations
_GROUP_BEGINS = (b"\x01\x00", b"\x33\x33")  # of the MAC addresses of IP groups


@attrs.frozen(kw_only=True, slots=False)
class MulticastSwitchSettings(VlanSwitchSettings):
    """Of the switch."""

    multicast_snooping: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("multicast only to ports that have asked for it"),
    )


class ReportDrop(Drop):
    """Counted at the port where the frame came in."""

    GROUP_REPORT = "group_report"  # an IGMP or MLD report where no router is to hear it


class Multicast(Feature[MulticastSwitchSettings, VlanSettings]):
    """Multicast of one switch: snooping is on while this `knows_groups`."""

    guards = False  # without it, all is flooded

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self._mac = mac_from_key(secrets.token_bytes(32))
        self._tagged = False  # every frame has a tag inside
        self.snooping = Snooping()
        self._new: set[int] = set()  # ports that came since the last tick
        self._known: dict[int, PortVlans | None] = {}  # by number of the port; None: all VLANs
        self._vlans: set[int] = set()
        self._ticks = 0

    def settings_changed(
        self, switch: MulticastSwitchSettings, ports: Mapping[str, VlanSettings]
    ) -> bool:
        """On or off; whether untagged frames exist inside."""
        self._tagged = vlans_on(switch, ports)
        if switch.multicast_snooping != self.knows_groups:
            self.knows_groups = switch.multicast_snooping
            self.snooping, self._ticks = Snooping(), 0
            self._new = set(self._known)
        return False

    def port_stages(self, port: Port, settings: VlanSettings) -> Stages:
        """Listen, if it is on."""
        number, vlans = port.number, port_vlans(settings) if self._tagged else None
        if number not in self._known or self._known[number] != vlans:
            # A port in other VLANs is a new one: nobody there has been asked.
            self.snooping.port_gone(number)
            self._known[number] = vlans
            self._new.add(number)
            if self.knows_groups:  # it gets everything from now on; it is asked with the next tick
                self.snooping.port_came(number, self.switch.now())
        return Stages(_Listening(self, port)) if self.knows_groups else Stages()

    def port_down(self, number: int) -> None:
        """The port is down."""
        self._known.pop(number, None)
        self._new.discard(number)
        self.snooping.port_gone(number)

    def group_ports(
        self, ingress: int, vlan: int, mac: bytes, now: float
    ) -> tuple[int, ...] | None:
        """The ports that have asked for it, and those with routers."""
        return self.snooping.wanted(vlan, mac)

    def tick(self, now: float) -> None:
        """Ask what is due, forget what is over."""
        if not self.knows_groups:
            return
        if self._new or self._ticks % _VLANS_EVERY == 0:
            seen = {entry.vlan for entry in self.switch.fdb_entries()}
            self._vlans = seen - {0} if self._tagged else seen | {0}
        self._ticks += 1
        self.snooping.expire(now)
        queries = self.snooping.queries_due(self._vlans, now)
        for number in self._new:
            queries += self.snooping.port_came(number, now)
        self._new.clear()
        for query in queries:
            self._ask(query)

    def listen(self, port: Port, frame: bytes, message: GroupMessage, now: float) -> bool:
        """A message has come in on a port. False if its source may not be there, and the forwarder
        is to say so.
        """
        vlan = vlan_of(frame)
        # Here, since a report never comes to the forwarder; who only listens is a station, too.
        if isinstance(self.switch.fdb.learn(vlan, frame[6:12], port.number, now), Drop):
            return False
        alone = self.switch.fdb.count(port.number, now) <= 1
        for query in self.snooping.heard(port.number, vlan, message, now, alone=alone):
            self._ask(query)
        return True

    def report_ports(self, port: Port, vlan: int) -> list[int]:
        """The router ports that are to hear a report from a port."""
        return [
            number
            for number in self.snooping.routers(vlan)
            if number != port.number and self.switch.reaches(port.number, number, vlan)
        ]

    def _ask(self, query: Query) -> None:
        numbers = sorted(self._known) if query.port is None else [query.port]
        record = query_record(
            self._mac, query.version, query.vlan, query.response_time, query.group
        )
        self.switch.originate(record, [n for n in numbers if self._carries(n, query.vlan)])

    def _carries(self, number: int, vlan: int) -> bool:
        vlans = self._known.get(number)
        return vlans is None or vlans.carries(vlan)


class _Listening:
    """The stage: takes reports out, and lets everything else pass."""

    def __init__(self, multicast: Multicast, port: Port) -> None:
        self._multicast = multicast
        self._port = port

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """HOT PATH of a switch that snoops: about 0.1 µs a frame that is no multicast."""
        # The second place is that of superframes; where it is not, the look at the frame tells.
        suspects = [
            record
            for record in records
            if record[4:6] in _GROUP_BEGINS or record[14:16] in _GROUP_BEGINS
        ]
        if not suspects:
            return records
        reports: set[int] = set()  # by id; a doubled record is one object twice
        for record in suspects:
            frame = frame_of(record)
            message = _message(frame)
            if (
                message is not None
                and self._multicast.listen(self._port, frame, message, now)
                and message.says is Says.REPORT
            ):
                reports.add(id(record))
        if not reports:
            return records
        for record in [each for each in suspects if id(each) in reports]:
            numbers = self._multicast.report_ports(self._port, vlan_of(frame_of(record)))
            if numbers:
                self._multicast.switch.originate(record, numbers, counters)
            else:
                counters.drop(ReportDrop.GROUP_REPORT, stands_for(record))
        return [record for record in records if id(record) not in reports]

    def explain(self, record: bytes, now: float) -> Explained:
        """Where a report would go, if it is one."""
        frame = frame_of(record)
        message = _message(frame)
        if message is None:
            return Explained(record, "")
        if message.says is not Says.REPORT:
            return Explained(record, f"a multicast {message.says.value}")
        numbers = self._multicast.report_ports(self._port, vlan_of(frame))
        where = ", ".join(map(str, numbers)) or "none"
        return Explained(
            None, f"a group report, for router ports: {where}", ReportDrop.GROUP_REPORT
        )


def _message(frame: bytes) -> GroupMessage | None:
    """The valid message in a frame; its source is checked by the forwarder only afterwards."""
    if frame[:2] not in _GROUP_BEGINS or (frame[6:7] and frame[6] & 1):
        return None
    try:
        return read_untrusted(frame)
    except BadRecord:
        return None
