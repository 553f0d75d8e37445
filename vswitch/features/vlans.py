"""VLANs by port: `vlan` makes an access port, `trunk` a trunk, with a `native` VLAN or none.

A switch has VLANs as soon as the settings of any port, attached or not, name one, or with `vlans`
in `[switch]`; never by what happens to be plugged in. Without, every port is transparent: all tags
pass, as through a cable. With VLANs a port that says nothing is an access port of VLAN 1, so that
nothing is reachable from everywhere because somebody forgot to say so.

On a port that says both, `trunk` comes before `vlan`. Stations of a port whose VLANs change are
forgotten.

Inside a switch with VLANs every frame carries the 802.1Q tag of its VLAN, so that the FDB, floods
and everything behind it keep VLANs apart without knowing of them. Two stages see to that:

 Tagging      on ingress puts the tag in front of a frame that has none, or a priority tag (VLAN id
              0, whose priority is kept), and refuses what the port does not carry
 Untagging    on egress takes it away again for the one VLAN that the port has untagged

Refused, and counted as `vlan_refused`: a tag of another VLAN; id 4095; an untagged frame where a
trunk has no native VLAN; an 802.1ad service tag in front; and a second tag behind that of the VLAN
which the port has untagged. The last one would be the tag of the frame as soon as the first is
taken off, and so reach another VLAN ("double tagging"); where it comes in by a trunk, it is refused
when it would have to be bared.

A superframe has its virtio-net header moved along with the headers that it points to. Frames of
full size pass: the MTU leaves room for two tags. Nothing is raised whatever a record says.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from vswitch.config.addressing import to_vlan, to_vlans
from vswitch.config.sources import option
from vswitch.config.words import to_bool
from vswitch.features.base import Feature, Stages
from vswitch.frames.ethernet import TAG_SIZE, VLAN_TAGS, parse_vlans
from vswitch.frames.headers import frame_at
from vswitch.frames.records import FRAME_FLAG, HEADER_SIZE, MAX_BODY, SUPERFRAME
from vswitch.frames.virtio import FRAME_AT, VIRTIO_HEADER, stands_for
from vswitch.switch.counters import Drop, DropReason, PortCounters
from vswitch.switch.port import Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

DEFAULT_VLAN = 1

_TPID = b"\x81\x00"
_FRAME_BEGIN = b"\xbc\xbc"
_SUPERFRAME_BEGIN = SUPERFRAME.to_bytes(2, "big")


@attrs.frozen(kw_only=True, slots=False)
class VlanSwitchSettings:
    """Of the switch."""

    vlans: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("VLANs also while no port has a VLAN setting"),
    )


@attrs.frozen(kw_only=True, slots=False)
class VlanSettings:
    """Of a port."""

    vlan: int | None = attrs.field(
        default=None,
        converter=to_vlan,
        metadata=option("the VLAN of an access port, 1 to 4094, or none", "VLAN"),
    )
    trunk: str | None = attrs.field(
        default=None,
        converter=to_vlans,
        metadata=option("the VLANs that pass tagged, as 10,20-30, or all, or none", "VLANS"),
    )
    native: int | None = attrs.field(
        default=None,
        converter=to_vlan,
        metadata=option("the VLAN of what a trunk has untagged, or none", "VLAN"),
    )


def vlans_on(switch: VlanSwitchSettings, ports: Mapping[str, VlanSettings]) -> bool:
    """Whether a switch with these settings has VLANs."""
    return switch.vlans or any(
        port.vlan is not None or port.trunk is not None for port in ports.values()
    )


class VlanDrop(Drop):
    """Counted where the frame came in, or would have left untagged."""

    # Of a VLAN that the port does not carry, or with a tag that could reach another one.
    VLAN_REFUSED = "vlan_refused"


@attrs.frozen
class PortVlans:
    """The VLANs of a port."""

    tagged: frozenset[int] = frozenset()
    untagged: int | None = None  # an access port's VLAN, a trunk's native one

    def carries(self, vlan: int) -> bool:
        """Whether frames of that VLAN come in and leave here."""
        return vlan == self.untagged or vlan in self.tagged


def port_vlans(settings: VlanSettings) -> PortVlans:
    """The VLANs of a port on a switch that has VLANs."""
    if settings.trunk is not None:
        return PortVlans(parse_vlans(settings.trunk), settings.native)
    return PortVlans(untagged=settings.vlan or DEFAULT_VLAN)


def _tci(record: bytes, at: int) -> int:
    return record[at] << 8 | record[at + 1]


class Tagging:
    """What comes in on a port gets the tag of its VLAN."""

    def __init__(self, vlans: PortVlans) -> None:
        self._vlans = vlans
        untagged = vlans.untagged
        self._tag = None if untagged is None else _TPID + untagged.to_bytes(2, "big")

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """HOT PATH of a switch with VLANs: about 0.5 µs a frame."""
        kept: list[bytes] = []
        append = kept.append
        tag = self._tag
        for record in records:
            if (
                record[1] == FRAME_FLAG
                and tag is not None
                and record[16:18] not in VLAN_TAGS
                and 18 <= len(record) <= MAX_BODY
            ):
                # Its length with the tag is that of the record without: 4 bytes each.
                size = len(record).to_bytes(2, "big")
                append(b"".join((_FRAME_BEGIN, size, record[4:16], tag, record[16:])))
                continue
            made = self._tagged(record)
            if isinstance(made, Drop):
                counters.drop(made, stands_for(record))
            else:
                append(made)
        return kept

    def explain(self, record: bytes, now: float) -> Explained:
        """Which VLAN a record is in, or why it is refused."""
        made = self._tagged(record)
        if isinstance(made, Drop):
            return Explained(None, "of a VLAN that the port does not carry", made)
        at = frame_at(made)
        if made is record and len(record) < at + 16:
            return Explained(made, "")
        return Explained(made, f"VLAN {_tci(made, at + 14) & 0xFFF}")

    def _tagged(self, record: bytes) -> bytes | Drop:
        at = frame_at(record)
        if len(record) < at + 14:
            return record  # the forwarder refuses it, and says why
        outer = record[at + 12 : at + 14]
        if outer not in VLAN_TAGS:
            return VlanDrop.VLAN_REFUSED if self._tag is None else _insert(record, at, self._tag)
        if len(record) < at + 18:
            return DropReason.RUNT
        if outer != _TPID:
            return VlanDrop.VLAN_REFUSED
        tci = _tci(record, at + 14)
        vlan, untagged = tci & 0x0FFF, self._vlans.untagged
        if vlan == 0 and untagged is not None:
            tci, vlan = tci | untagged, untagged
            changed = tci.to_bytes(2, "big")
            record = b"".join((record[: at + 14], changed, record[at + 16 :]))
        if not self._vlans.carries(vlan) or (
            vlan == untagged and record[at + 16 : at + 18] in VLAN_TAGS
        ):
            return VlanDrop.VLAN_REFUSED
        return record


class Untagging:
    """What leaves a port loses the tag of the VLAN that is untagged there."""

    def __init__(self, untagged: int) -> None:
        self._untagged = untagged
        self._high, self._low = divmod(untagged, 256)

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """HOT PATH of a switch with VLANs: about 0.5 µs a frame."""
        kept: list[bytes] = []
        append = kept.append
        high, low = self._high, self._low
        for record in records:
            if (
                record[1] == FRAME_FLAG
                and len(record) >= 22
                and record[19] == low
                and record[16:18] == _TPID
                and record[18] & 0x0F == high
                and record[20:22] not in VLAN_TAGS
            ):
                size = (len(record) - HEADER_SIZE - TAG_SIZE).to_bytes(2, "big")
                append(b"".join((_FRAME_BEGIN, size, record[4:16], record[20:])))
                continue
            made = self._bared(record)
            if isinstance(made, Drop):
                counters.drop(made, stands_for(record))
            else:
                append(made)
        return kept

    def explain(self, record: bytes, now: float) -> Explained:
        """Whether a record leaves without its tag."""
        made = self._bared(record)
        if isinstance(made, Drop):
            return Explained(None, "has a second tag behind that of its VLAN", made)
        return Explained(made, "" if made is record else "untagged")

    def _bared(self, record: bytes) -> bytes | Drop:
        at = frame_at(record)
        if record[at + 12 : at + 14] != _TPID or len(record) < at + 18:
            return record
        if _tci(record, at + 14) & 0x0FFF != self._untagged:
            return record
        if record[at + 16 : at + 18] in VLAN_TAGS:
            return VlanDrop.VLAN_REFUSED
        return _remove(record, at)


def _insert(record: bytes, at: int, tag: bytes) -> bytes | Drop:
    """The record with a tag behind the addresses of its frame."""
    if len(record) > MAX_BODY:
        return DropReason.OVERSIZE
    size = len(record).to_bytes(2, "big")  # 4 bytes of record header less, 4 of the tag more
    if at == HEADER_SIZE:
        return b"".join((_FRAME_BEGIN, size, record[4:16], tag, record[16:]))
    header = _moved(record, TAG_SIZE)
    if header is None:
        return DropReason.BAD_SUPERFRAME
    return b"".join((_SUPERFRAME_BEGIN, size, header, record[14:26], tag, record[26:]))


def _remove(record: bytes, at: int) -> bytes | Drop:
    """The record without the tag behind the addresses of its frame."""
    size = (len(record) - HEADER_SIZE - TAG_SIZE).to_bytes(2, "big")
    if at == HEADER_SIZE:
        return b"".join((_FRAME_BEGIN, size, record[4:16], record[20:]))
    header = _moved(record, -TAG_SIZE)
    if header is None:
        return DropReason.BAD_SUPERFRAME
    return b"".join((_SUPERFRAME_BEGIN, size, header, record[14:26], record[30:]))


def _moved(record: bytes, by: int) -> bytes | None:
    """The virtio-net header for a frame whose headers are `by` bytes longer; None if it cannot be.

    What stands for many frames goes on standing for as many: see `stands_for`.
    """
    flags, kind, size, gso_size, start, offset = VIRTIO_HEADER.unpack_from(record, HEADER_SIZE)
    if not flags and not kind:
        return record[HEADER_SIZE:FRAME_AT]  # points nowhere
    start += by
    if not 0 <= start <= 0xFFFF:
        return None
    if size:
        size = min(max(0, size + by), 0xFFFF)
    return VIRTIO_HEADER.pack(flags, kind, size, gso_size, start, offset)


class Vlans(Feature[VlanSwitchSettings, VlanSettings]):
    """The VLANs of one switch, which has some while this `keeps_apart`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._ports: dict[int, PortVlans | None] = {}  # None: transparent

    def settings_changed(
        self, switch: VlanSwitchSettings, ports: Mapping[str, VlanSettings]
    ) -> bool:
        """VLANs for one port are VLANs for all."""
        before, self.keeps_apart = self.keeps_apart, vlans_on(switch, ports)
        return self.keeps_apart != before

    def port_stages(self, port: Port, settings: VlanSettings) -> Stages:
        """The tag of its VLAN for what comes in, and no tag for what leaves untagged."""
        vlans = port_vlans(settings) if self.keeps_apart else None
        if self._ports.get(port.number) != vlans:
            self._switch.flush_fdb(port=port)
        self._ports[port.number] = vlans
        if vlans is None:
            return Stages()
        untagged = vlans.untagged
        return Stages(Tagging(vlans), None if untagged is None else Untagging(untagged))

    def port_down(self, number: int) -> None:
        """The port is down."""
        self._ports.pop(number, None)

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Frames of a VLAN leave by the ports that carry it."""
        vlans = self._ports.get(egress)
        return vlans is None or vlans.carries(vlan)
