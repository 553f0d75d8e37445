"""Guards of a port, and isolation: what a member may claim to be, and whom it reaches.

 source   the Ethernet source is one of the port's; the source address of IP, and the sender of ARP,
          is one of the port's, link-local, or that of a host that has none yet
 arp      the sender inside ARP is the Ethernet source, and no address of another port
 dhcp     nothing that only a DHCP server or relay sends: UDP from port 67, over IPv6 from 547
 ra       nothing that only an IPv6 router sends: advertisements and redirects (RFC 6105), however
          they are wrapped (RFC 7113)

IPv4 of a port that has no IPv4 address is any but those of others, and so IPv6 never is: addresses
of IPv6 that are not link-local are of the port if it was given them or their prefix. What is in a
network behind a member, as the operator has approved it, may be a source of IP there, and nothing
else: no sender of ARP, and no address of the LAN or of anybody on it.

What a guard cannot follow and a host might, it drops: `guard_undetermined`, or the guard's own name
behind IPv6 headers. A later fragment passes, since its first one decides: a fragment cannot change
the first 8 bytes behind IP, and of IPv6 must not overlap at all (RFC 5722).

Which addresses are the port's follows from its settings, from the address that the switch has given
the member, and from the MAC address that it has announced (`Port.bound`), or, on a port that has
announced none, the first one that sends something. A MAC address belongs to one port at a time, and
so does an IP address: who comes second with it does not get it, unless it is plugged in again when
the first one is gone. A MAC address that derives from a member's key is kept for that member, while
it is away, too: only a port for which a key or the operator vouches has it. So is the address that
the switch has given a member, and each that the settings of a port name, for whoever is away.

Where the switch itself is the DHCP server, or advertises a prefix, the guard against others is on
by itself, but where a port says otherwise, and hosts may have addresses of that prefix. At the
ports where the switch speaks it is off.

Ports that are `trusted` have no guards; a port with all guards off has no stage, and costs nothing.
Nothing here raises for any bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Set
from ipaddress import ip_address, ip_network

import attrs

from vswitch.config.addressing import to_addresses
from vswitch.config.sources import option
from vswitch.config.words import to_bool, to_optional_bool
from vswitch.features.base import Feature, Stages
from vswitch.features.macs import MacSettings
from vswitch.features.trust import GuardSwitchSettings, Served
from vswitch.frames.ethernet import ETHERNET_HEADER_SIZE, parse_mac
from vswitch.frames.headers import (
    ARP,
    ARP_ETHERNET_IPV4,
    ARP_SIZE,
    DHCP_PORTS,
    DHCPV6_PORTS,
    ICMPV6,
    IPV4,
    IPV6,
    LATER,
    OBSCURE,
    frame_at,
    network_untrusted,
    upper_ipv4_untrusted,
    upper_ipv6_untrusted,
)
from vswitch.frames.virtio import UDP, stands_for
from vswitch.switch.counters import Drop, PortCounters
from vswitch.switch.port import Bound, Port
from vswitch.switch.stages import Explained
from vswitch.switch.switch import Switch

_NO_IPV4 = bytes(4)
_NO_IPV6 = bytes(16)
_IGMP = 2
_DHCP_SERVER, _DHCP_CLIENT = DHCP_PORTS
_DHCP_TO_SERVER = _DHCP_CLIENT + _DHCP_SERVER
_DHCPV6_SERVER = DHCPV6_PORTS[0]
_FROM_ROUTERS = (134, 137)  # ICMPv6: router advertisement, redirect


@attrs.frozen(kw_only=True, slots=False)
class GuardSettings(MacSettings):
    """Of a port. Guards that say nothing follow `guard` of the switch."""

    isolated: bool = attrs.field(
        default=False,
        converter=to_bool,
        metadata=option("reaches only ports that are not isolated"),
    )
    source_guard: bool | None = attrs.field(
        default=None,
        converter=to_optional_bool,
        metadata=option("frames only from the MAC and IP addresses of the port"),
    )
    arp_check: bool | None = attrs.field(
        default=None,
        converter=to_optional_bool,
        metadata=option("ARP only of who sends it, and not for another port's address"),
    )
    dhcp_guard: bool | None = attrs.field(
        default=None,
        converter=to_optional_bool,
        metadata=option("nothing that only a DHCP server sends"),
    )
    ra_guard: bool | None = attrs.field(
        default=None,
        converter=to_optional_bool,
        metadata=option("nothing that only an IPv6 router sends"),
    )
    addresses: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_addresses,
        metadata=option("IP addresses and prefixes of the port, besides that from the switch"),
    )


class GuardDrop(Drop):
    """Counted at the port where the frame came in."""

    SOURCE_GUARD = "source_guard"  # from a MAC or IP address that is not the port's
    ARP_CHECK = "arp_check"  # ARP whose sender is not who sends it, or has another port's address
    DHCP_GUARD = "dhcp_guard"  # what a DHCP server sends, from a port that is not trusted
    RA_GUARD = "ra_guard"  # what an IPv6 router sends, from a port that is not trusted
    GUARD_UNDETERMINED = "guard_undetermined"  # a guard cannot see what a host would make of it


_WHY = {  # for `trace` and captures
    GuardDrop.SOURCE_GUARD: "its IP address is none of this port",
    GuardDrop.ARP_CHECK: "the sender in it is not who sends it, is another port's, or is not there",
    GuardDrop.DHCP_GUARD: "only a DHCP server sends that",
    GuardDrop.RA_GUARD: "only an IPv6 router sends that, or its headers hide what it is",
    GuardDrop.GUARD_UNDETERMINED: "its headers cannot be followed: they are broken, or too many",
}


@attrs.frozen
class Addresses:
    """IP addresses and prefixes that belong to a port."""

    hosts: frozenset[bytes] = frozenset()  # packed, 4 or 16 bytes
    prefixes: tuple[tuple[int, int, int], ...] = ()  # bytes of an address, bits to drop, the rest
    any_ipv4: bool = False
    routed: tuple[tuple[int, int, int], ...] = ()  # networks behind it, in the same form
    lan: tuple[tuple[int, int, int], ...] = ()  # what is not behind it whatever `routed` says

    def has(self, packed: bytes) -> bool:
        """Whether an address is among them."""
        if packed in self.hosts:
            return True
        return _among(packed, self.prefixes)

    def forwards(self, packed: bytes) -> bool:
        """Whether an address is of a network behind the host of the port."""
        return _among(packed, self.routed) and not _among(packed, self.lan)


def _among(packed: bytes, prefixes: tuple[tuple[int, int, int], ...]) -> bool:
    value = int.from_bytes(packed, "big")
    return any(len(packed) == size and value >> drop == rest for size, drop, rest in prefixes)


@attrs.define(eq=False)
class Rules:
    """What the guards of one port go by."""

    port: int
    source: bool
    arp: bool
    dhcp: bool
    ra: bool
    macs: set[bytes]
    addresses: Addresses
    owners: Mapping[bytes, int]  # packed address → port, of all ports of the switch


def judge_untrusted(record: bytes, rules: Rules) -> GuardDrop | None:
    """Why a frame or superframe record must not pass; None if it may. HOT PATH."""
    at = frame_at(record)
    if len(record) < at + ETHERNET_HEADER_SIZE:
        return None  # forwarding drops it, under its right name
    if rules.source and record[at + 6 : at + 12] not in rules.macs:
        return GuardDrop.SOURCE_GUARD
    kind, header = network_untrusted(record, at)
    if kind == IPV4:
        return _ipv4_untrusted(record, header, rules)
    if kind == IPV6:
        return _ipv6_untrusted(record, header, rules)
    if kind == ARP:
        return _arp_untrusted(record, at, header, rules)
    return GuardDrop.GUARD_UNDETERMINED if kind == OBSCURE else None


def _arp_untrusted(record: bytes, at: int, header: int, rules: Rules) -> GuardDrop | None:
    if not (rules.source or rules.arp):
        return None
    reason = GuardDrop.ARP_CHECK if rules.arp else GuardDrop.SOURCE_GUARD
    if len(record) < header + ARP_SIZE or record[header : header + 6] != ARP_ETHERNET_IPV4:
        return reason
    sender = record[header + 14 : header + 18]
    taken = rules.owners.get(sender, rules.port) != rules.port
    if rules.arp and (taken or record[header + 8 : header + 14] != record[at + 6 : at + 12]):
        return GuardDrop.ARP_CHECK
    if rules.source and sender != _NO_IPV4 and not _ipv4_is_of(sender, rules):
        return GuardDrop.SOURCE_GUARD
    return None


def _ipv4_is_of(packed: bytes, rules: Rules) -> bool:
    addresses = rules.addresses
    if packed in addresses.hosts or packed[:2] == b"\xa9\xfe":  # 169.254/16, RFC 3927
        return True
    if rules.owners.get(packed, rules.port) != rules.port:
        return False
    return addresses.any_ipv4 or addresses.has(packed)


def _is_behind(packed: bytes, rules: Rules) -> bool:
    """A gateway sends from wherever its approved networks are, but for what is somebody's here."""
    return packed not in rules.owners and rules.addresses.forwards(packed)


def _ipv4_untrusted(record: bytes, header: int, rules: Rules) -> GuardDrop | None:
    if not (rules.source or rules.dhcp):
        return None
    protocol, upper = upper_ipv4_untrusted(record, header)
    if protocol == OBSCURE:
        return GuardDrop.GUARD_UNDETERMINED
    if rules.source:
        source = record[header + 12 : header + 16]
        if source == _NO_IPV4:
            # A host without an address asks for one, or says which groups it hears (RFC 3376).
            asks = protocol == UDP and record[upper : upper + 4] == _DHCP_TO_SERVER
            if not asks and protocol != _IGMP:
                return GuardDrop.SOURCE_GUARD
        elif not (_ipv4_is_of(source, rules) or _is_behind(source, rules)):
            return GuardDrop.SOURCE_GUARD
    if rules.dhcp and protocol == UDP:
        port = record[upper : upper + 2]
        if len(port) < 2 or port == _DHCP_SERVER:
            return GuardDrop.DHCP_GUARD
    return None


def _ipv6_untrusted(record: bytes, header: int, rules: Rules) -> GuardDrop | None:
    if rules.source:
        source = record[header + 8 : header + 24]
        if len(source) < 16:
            return GuardDrop.GUARD_UNDETERMINED
        link_local = source[0] == 0xFE and source[1] & 0xC0 == 0x80
        if not link_local and source != _NO_IPV6:
            taken = rules.owners.get(source, rules.port) != rules.port
            own = rules.addresses.has(source) and not taken
            if not (own or _is_behind(source, rules)):
                return GuardDrop.SOURCE_GUARD
    if not (rules.ra or rules.dhcp):
        return None
    protocol, upper = upper_ipv6_untrusted(record, header)
    if protocol == LATER:
        return None
    undetermined = GuardDrop.RA_GUARD if rules.ra else GuardDrop.DHCP_GUARD
    if protocol == OBSCURE:
        return undetermined
    if protocol == ICMPV6 and rules.ra and (upper >= len(record) or record[upper] in _FROM_ROUTERS):
        return GuardDrop.RA_GUARD
    if protocol == UDP and rules.dhcp:
        port = record[upper : upper + 2]
        if len(port) < 2 or port == _DHCPV6_SERVER:
            return GuardDrop.DHCP_GUARD
    return None


NOBODY = 0  # no port: the owner of addresses whose port is not there

# How good a claim on a MAC is: the better one takes it, and of two alike the first.
LEARNED = 0  # by the first frame of a port
ANNOUNCED = 1  # by a member, which may say what it likes
VOUCHED = 2  # derived from the key of the member, or said by the operator


@attrs.define(eq=False)
class MacOwners:
    """Which port each MAC belongs to. Claims that are not met stand until their port goes, and are
    met when the owner has gone before; but those of what was learned, which are made again.
    """

    changed: Callable[[bytes, int | None, int | None], None]  # MAC, port that had it, that has it
    _reserved: Set[bytes] = attrs.field(init=False, factory=frozenset)  # had by who is vouched for
    _claims: dict[bytes, dict[int, int]] = attrs.field(init=False, factory=dict)
    _owners: dict[bytes, int] = attrs.field(init=False, factory=dict)

    def claim(self, mac: bytes, port: int, strength: int) -> bool:
        """Whether the port has the MAC now."""
        if strength == LEARNED and not self.may_learn(mac, port):
            self._withdraw(mac, port)  # the operator may have vouched for it, and does no more
            return False
        self._claims.setdefault(mac, {})[port] = strength
        self._settle(mac)
        return self._owners.get(mac) == port

    def may_learn(self, mac: bytes, port: int) -> bool:
        """Whether it is nobody else's."""
        return mac not in self._reserved and self._owners.get(mac, port) == port

    def reserve(self, macs: Set[bytes]) -> None:
        """These, and no others, are for ports that are vouched for alone."""
        different, self._reserved = self._reserved ^ macs, macs
        for mac in different & self._claims.keys():
            self._settle(mac)

    def forget(self, port: int, keep: Collection[bytes] = ()) -> None:
        """A port has no claim any more, but on some."""
        for mac in self._claims.keys() - set(keep):
            self._withdraw(mac, port)

    def _withdraw(self, mac: bytes, port: int) -> None:
        if port in self._claims.get(mac, ()):
            del self._claims[mac][port]
            self._settle(mac)

    def _settle(self, mac: bytes) -> None:
        claims, before = self._claims[mac], self._owners.get(mac)
        least = VOUCHED if mac in self._reserved else LEARNED
        best = max((each for each in claims.values() if each >= least), default=None)
        now = next((port for port, each in claims.items() if each == best), None)
        if before is not None and best is not None and claims.get(before) == best:
            return
        if now is None:
            self._owners.pop(mac, None)
        else:
            self._owners[mac] = now
        self.changed(mac, before, now)
        if before is not None and claims.get(before) == LEARNED:
            del claims[before]
        if not claims:
            del self._claims[mac]


class GuardStage:
    """Drops what the rules forbid."""

    def __init__(self, rules: Rules, owners: MacOwners) -> None:
        self.rules = rules
        self._owners = owners
        self.sticky = rules.source and not rules.macs
        self.may_learn = True  # nobody has said what is behind the port

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
        at = frame_at(record)
        free = self._owners.may_learn(record[at + 6 : at + 12], self.rules.port)
        if self.sticky and free and reason == GuardDrop.SOURCE_GUARD:
            return Explained(record, "the first source address on this port becomes its own")
        why = _WHY[reason]
        if reason == GuardDrop.SOURCE_GUARD and record[at + 6 : at + 12] not in self.rules.macs:
            why = f"{record[at + 6 : at + 12].hex(':')} is no MAC address of this port"
        return Explained(None, f"{reason}: {why}", reason)

    def _bind(self, records: list[bytes]) -> None:
        """The first station that is heard on a port is the one that belongs there."""
        for record in records:
            at = frame_at(record)
            mac = record[at + 6 : at + 12]
            possible = len(mac) == 6 and any(mac) and not mac[0] & 1
            if possible and self._owners.claim(mac, self.rules.port, LEARNED):
                self.rules.macs.add(mac)
                self.sticky = False
                return


class Guards(Feature[GuardSwitchSettings, GuardSettings]):
    """Source guard, ARP check, DHCP guard, RA guard and isolation."""

    def __init__(self, switch: Switch) -> None:
        self._all = False
        self._served = Served()
        self._isolated: set[int] = set()
        self._owners: dict[bytes, int] = {}  # packed IP address → port, or `NOBODY`
        self._given: frozenset[bytes] = frozenset()  # addresses of members, connected or not
        self._said: frozenset[bytes] = frozenset()  # those that settings of ports name
        self._mac_owners = MacOwners(self._mac_moved)
        self._stages: dict[int, GuardStage] = {}  # by port

    def settings_changed(
        self, switch: GuardSwitchSettings, ports: Mapping[str, GuardSettings]
    ) -> bool:
        """`guard` turns all of them on; whether anybody is to be isolated, attached or not; which
        addresses are somebody's.
        """
        self._all = switch.guard
        self._said = frozenset(
            ip_network(text).network_address.packed
            for settings in ports.values()
            for text in settings.addresses
            if ip_network(text).num_addresses == 1
        )
        self._keep()
        self.keeps_apart = any(port.isolated for port in ports.values())
        return False

    def reserved(self, macs: Mapping[bytes, str], addresses: Mapping[bytes, str]) -> None:
        """Nobody else has them."""
        self._mac_owners.reserve(frozenset(macs))
        self._given = frozenset(addresses)
        self._keep()

    def served(self, served: Served) -> None:
        """Where the switch hands out addresses or prefixes, nobody else does unless trusted."""
        self._served = served

    def _keep(self) -> None:
        """Have exactly the addresses kept that are somebody's, and of no port that is there."""
        wanted = self._given | self._said
        for packed in [key for key, owner in self._owners.items() if owner == NOBODY]:
            if packed not in wanted:
                del self._owners[packed]
        for packed in wanted:
            self._owners.setdefault(packed, NOBODY)

    def port_stages(self, port: Port, settings: GuardSettings) -> Stages:
        """The guards that are on for this port."""
        number = port.number
        before = self._stages.pop(number, None)
        learned = () if before is None else tuple(before.rules.macs)
        self._forget(number)
        (self._isolated.add if settings.isolated else self._isolated.discard)(number)
        addresses = self._addresses(port, settings)
        for packed in addresses.hosts:
            if self._owners.get(packed, NOBODY) == NOBODY:
                self._owners[packed] = number
        said = dict.fromkeys(map(parse_mac, settings.macs), VOUCHED)
        if port.bound is not None and port.bound.mac is not None:
            strength = VOUCHED if port.bound.vouched else ANNOUNCED
            said.setdefault(port.bound.mac, strength)
        claims = said or dict.fromkeys(learned, LEARNED)
        self._mac_owners.forget(number, keep=claims)
        macs = {mac for mac, how in claims.items() if self._mac_owners.claim(mac, number, how)}
        rules = Rules(
            port=number,
            source=self._on(settings.source_guard, settings),
            arp=self._on(settings.arp_check, settings),
            dhcp=self._on(settings.dhcp_guard, settings, "dhcp_guard", port.name),
            ra=self._on(settings.ra_guard, settings, "ra_guard", port.name),
            macs=macs,
            addresses=addresses,
            owners=self._owners,
        )
        if not (rules.source or rules.arp or rules.dhcp or rules.ra):
            return Stages()
        stage = self._stages[number] = GuardStage(rules, self._mac_owners)
        stage.may_learn = not said
        stage.sticky = stage.sticky and not said
        return Stages(stage)

    def _mac_moved(self, mac: bytes, before: int | None, now: int | None) -> None:
        """A MAC has another owner: who had it has it no more."""
        loser = None if before is None else self._stages.get(before)
        if loser is not None:
            loser.rules.macs.discard(mac)
            loser.sticky = loser.may_learn and loser.rules.source and not loser.rules.macs
        winner = None if now is None else self._stages.get(now)
        if winner is not None:
            winner.rules.macs.add(mac)

    def port_down(self, number: int) -> None:
        """Its addresses are free."""
        self._forget(number)
        self._isolated.discard(number)
        self._stages.pop(number, None)
        self._mac_owners.forget(number)

    def reaches(self, ingress: int, egress: int, vlan: int) -> bool:
        """Isolated ports reach those that are not."""
        return not (ingress in self._isolated and egress in self._isolated)

    def _on(
        self, said: bool | None, settings: GuardSettings, guard: str = "", port: str = ""
    ) -> bool:
        ours = guard in self._served.guards
        if settings.trusted or (ours and port in self._served.ports):
            return False
        return (self._all or ours) if said is None else said

    def _forget(self, number: int) -> None:
        for key in [key for key, owner in self._owners.items() if owner == number]:
            others = (
                other
                for other, stage in self._stages.items()
                if other != number and key in stage.rules.addresses.hosts
            )
            heir = next(others, NOBODY)
            if heir == NOBODY and key not in self._given and key not in self._said:
                del self._owners[key]
            else:
                self._owners[key] = heir

    def _addresses(self, port: Port, settings: GuardSettings) -> Addresses:
        hosts: set[bytes] = set()
        prefixes: list[tuple[int, int, int]] = []
        bound = Bound() if port.bound is None else port.bound
        for address in (bound.address, bound.address6):
            if address is not None:
                hosts.add(ip_address(address).packed)
        if self._served.prefix is not None:
            prefixes.append(_prefix(str(self._served.prefix)))
        for text in settings.addresses:
            network = ip_network(text)
            if network.num_addresses == 1:
                hosts.add(network.network_address.packed)
            else:
                prefixes.append(_prefix(text))
        any_ipv4 = not any(len(host) == 4 for host in hosts) and not any(
            size == 4 for size, _, _ in prefixes
        )
        return Addresses(
            frozenset(hosts),
            tuple(prefixes),
            any_ipv4,
            tuple(map(_prefix, bound.networks)),
            tuple(map(_prefix, bound.lan)),
        )


def _prefix(text: str) -> tuple[int, int, int]:
    """As `Addresses` has it."""
    network = ip_network(text)
    drop = network.max_prefixlen - network.prefixlen
    return network.max_prefixlen // 8, drop, int(network.network_address) >> drop
