"""Guards of a port, and isolation: what a member may claim to be, and whom it reaches.

The rules themselves are in `core/guard.py`. Here is where they come from: the settings of the
port, the address that the switch has given the member, and the MAC address that it has announced
(`Port.bound`), or, on a port that has announced none, the first one that sends something.

A MAC address belongs to one port at a time, and so does an IP address: who comes second with it
does not get it, unless it is plugged in again when the first one is gone.

Ports that are `trusted` have no guards; a port with all guards off has no stage, and costs nothing.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from vswitch.core.counters import DropReason, PortCounters
from vswitch.core.frame import parse_mac
from vswitch.core.guard import Addresses, Rules, judge_untrusted
from vswitch.core.packet import frame_at
from vswitch.core.stages import Explained, Stage
from vswitch.core.virtio import stands_for
from vswitch.features.feature import Feature
from vswitch.settings import PortSettings, Settings, SwitchSettings
from vswitch.switch import Port, Switch

__all__ = ["GuardStage", "Guards"]


class GuardStage:
    """Drops what the rules forbid."""

    def __init__(self, rules: Rules, mac_owners: dict[bytes, int]) -> None:
        self.rules = rules
        self._mac_owners = mac_owners
        self.sticky = rules.source and not rules.macs

    def take(self, records: list[bytes], now: float, counters: PortCounters) -> list[bytes]:
        """The records that may pass. HOT PATH."""
        if self.sticky:
            self._bind(records)
        rules = self.rules
        reasons = [judge_untrusted(record, rules) for record in records]
        if not any(reasons):
            return records
        kept = []
        for record, reason in zip(records, reasons, strict=True):
            if reason is None:
                kept.append(record)
            else:
                counters.drop(reason, stands_for(record))
        return kept

    def explain(self, record: bytes, now: float) -> Explained:
        """What the guards say of this one."""
        reason = judge_untrusted(record, self.rules)
        if reason is None:
            return Explained(record, "")
        if self.sticky and reason == DropReason.SOURCE_GUARD:
            return Explained(record, "the first source address on this port becomes its own")
        return Explained(None, f"{reason}: not from this port", reason)

    def _bind(self, records: list[bytes]) -> None:
        """The first station that is heard on a port is the one that belongs there."""
        for record in records:
            at = frame_at(record)
            mac = record[at + 6 : at + 12]
            possible = len(mac) == 6 and any(mac) and not mac[0] & 1
            if possible and self._mac_owners.setdefault(mac, self.rules.port) == self.rules.port:
                self.rules.macs.add(mac)
                self.sticky = False
                return


class Guards(Feature):
    """Source guard, ARP check, DHCP guard, RA guard and isolation."""

    def __init__(self, switch: Switch) -> None:
        self._all = self._isolates = False
        self._isolated: set[int] = set()
        self._owners: dict[bytes, int] = {}  # packed IP address → port
        self._mac_owners: dict[bytes, int] = {}

    @property
    def keeps_apart(self) -> bool:
        """Nobody need ask while no setting isolates a port."""
        return self._isolates

    def changed(self, switch: SwitchSettings) -> None:
        """`guard` turns all of them on."""
        self._all = switch.guard

    def heard(self, settings: Settings) -> bool:
        """Whether anybody is to be isolated, attached or not."""
        self._isolates = any("isolated" in said for said in settings.ports.values())
        return False

    def ingress(self, port: Port, settings: PortSettings) -> Stage | None:
        """The guards that are on for this port."""
        number = port.number
        learned = [
            mac
            for stage in port.ingress_stages
            if isinstance(stage, GuardStage)
            for mac in stage.rules.macs
        ]
        self._forget(number)
        (self._isolated.add if settings.isolated else self._isolated.discard)(number)
        addresses = self._addresses(port, settings)
        for packed in addresses.hosts:
            self._owners.setdefault(packed, number)
        said = [*map(parse_mac, settings.macs)]
        if port.bound is not None and port.bound.mac is not None:
            said.append(port.bound.mac)
        macs = {mac for mac in said or learned if self._claim(mac, number)}
        rules = Rules(
            port=number,
            source=self._on(settings.source_guard, settings),
            arp=self._on(settings.arp_check, settings),
            dhcp=self._on(settings.dhcp_guard, settings),
            ra=self._on(settings.ra_guard, settings),
            macs=macs,
            addresses=addresses,
            owners=self._owners,
        )
        if not (rules.source or rules.arp or rules.dhcp or rules.ra):
            return None
        stage = GuardStage(rules, self._mac_owners)
        stage.sticky = stage.sticky and not said
        return stage

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Isolated ports reach those that are not."""
        return not (ingress in self._isolated and egress in self._isolated)

    def gone(self, number: int) -> None:
        """Its addresses are free."""
        self._forget(number)
        self._isolated.discard(number)

    def _on(self, said: bool | None, settings: PortSettings) -> bool:
        return (self._all if said is None else said) and not settings.trusted

    def _claim(self, mac: bytes, number: int) -> bool:
        return self._mac_owners.setdefault(mac, number) == number

    def _forget(self, number: int) -> None:
        for table in (self._owners, self._mac_owners):
            for key in [key for key, owner in table.items() if owner == number]:
                del table[key]

    def _addresses(self, port: Port, settings: PortSettings) -> Addresses:
        hosts: set[bytes] = set()
        prefixes: list[tuple[int, int, int]] = []
        if port.bound is not None and port.bound.address is not None:
            hosts.add(ip_address(port.bound.address).packed)
        for text in settings.addresses:
            network = ip_network(text)
            size, drop = network.max_prefixlen // 8, network.max_prefixlen - network.prefixlen
            if drop:
                prefixes.append((size, drop, int(network.network_address) >> drop))
            else:
                hosts.add(network.network_address.packed)
        any_ipv4 = not any(len(host) == 4 for host in hosts) and not any(
            size == 4 for size, _, _ in prefixes
        )
        return Addresses(frozenset(hosts), tuple(prefixes), any_ipv4)
