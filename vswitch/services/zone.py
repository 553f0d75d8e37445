"""What the switch's name server knows by itself: the LAN's domain, and the addresses of its subnet.

 pc1.lan        A, AAAA    of the members, and of whoever else has a name (`HostNames`)
 services.lan   A, AAAA    of the switch's services, which is its name server (NS) as well
 records of one's own, any type: in place of those of the same name and type; a `*` stands for names
 that are not there (RFC 4592)
 10.77.0.2      PTR        the reverse of all these; of the rest of the subnet there is nothing

Where a prefix is advertised, a host's AAAA is the address that follows from its MAC, if it was
found to have that (`stateless.py`); the prefix has a reverse zone as the subnet has.

A CNAME is followed inside the domain, `MAX_CHASE` times. What is not there is answered with the SOA
record, whose last field bounds how long others may believe so (RFC 2308).

Pure. Error contract: `ConfigError` for records of one's own, with the line.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol, TypeAlias

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
import dns.zonefile
from attrs import Factory, define
from dns.rcode import Rcode
from dns.rdataclass import IN
from dns.rdatatype import RdataType

from vswitch.addresses import NEVER_BARE
from vswitch.errors import ConfigError
from vswitch.frames.build import IpAddress
from vswitch.registry.rules import SERVICES_PORT
from vswitch.services.stateless import Stateless

TTL = 30  # seconds: an address may change as soon as its host is away
NOTHING_TTL = 5  # seconds that others may believe that there is nothing: it may be joining just now
OWN_TTL = 300  # seconds, of records that say none
MAX_CHASE = 8
_MAX_ADDRESSES = 16  # of one host
_ADDRESSES = {4: RdataType.A, 6: RdataType.AAAA}
_DIGITS = b"0123456789abcdefABCDEF"
_Network: TypeAlias = IPv4Network | IPv6Network
_TARGETS = (RdataType.SRV, RdataType.MX, RdataType.NS)
# Names would be lost behind them, or they are the zone's.
_NOT_OWN = (RdataType.SOA, RdataType.NS, RdataType.DNAME)


class HostNames(Protocol):
    """Who has a name on the LAN, such as its members."""

    def addresses(self, label: str, asker: str) -> Sequence[IpAddress] | None:
        """Of the host of that name; None if there is none, or the port `asker` may not know."""

    def label(self, address: IpAddress, asker: str) -> str | None:
        """The name of the host that has this address; None as above."""

    def mac(self, label: str, asker: str) -> bytes | None:
        """Of the host of that name, if it is there; None as above."""

    def label_of_mac(self, mac: bytes, asker: str) -> str | None:
        """The name of the host that has it; None as above."""


@define
class Found:
    """What a zone has for a question."""

    rcode: Rcode = Rcode.NOERROR
    answer: list[dns.rrset.RRset] = Factory(list)
    authority: list[dns.rrset.RRset] = Factory(list)
    additional: list[dns.rrset.RRset] = Factory(list)


class Zone:
    """A domain, the subnet's reverse, and who is in them."""

    def __init__(
        self,
        domain: str,
        interface: IPv4Interface,
        records: Sequence[str] = (),
        *,
        stateless: Stateless | None = None,
    ) -> None:
        """`stateless`: the addresses in the prefix that is advertised, if one is."""
        self.domain = dns.name.from_text(domain)
        self.hosts: list[HostNames] = []  # the first that knows a name is believed
        self.stateless = stateless
        self._interface = interface
        networks: list[_Network] = [interface.network]
        networks += [] if stateless is None else [stateless.prefix]
        self._reverses = {_reverse_zone(network): network for network in networks}
        self._now = 0.0  # of the question that is being answered
        self._self = _below(SERVICES_PORT, self.domain)
        self._own: dict[dns.name.Name, dict[RdataType, dns.rrset.RRset]] = {}
        self._own_reverse: dict[IpAddress, dns.name.Name] = {}
        for number, line in enumerate(records, 1):
            for rrset in self._read(line, f"names.records[{number}] = {line!r}"):
                self._add(rrset, f"names.records[{number}] = {line!r}")
        # Names that have nothing themselves, and others below them (RFC 8020).
        self._between = {
            ancestor
            for name in self._own
            for ancestor in _ancestors(name, self.domain)
            if ancestor not in self._own
        }

    def _read(self, line: str, place: str) -> list[dns.rrset.RRset]:
        try:
            rrsets = dns.zonefile.read_rrsets(
                line, origin=self.domain, default_ttl=OWN_TTL, relativize=False
            )
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(
                f"{place}: {error}: write NAME [TTL] TYPE DATA, such as 'www CNAME pc1'"
            ) from None
        if not rrsets:  # the reader leaves out what is not of the zone
            raise ConfigError(f"{place}: its name is not below {self.domain}")
        return rrsets

    def _add(self, rrset: dns.rrset.RRset, place: str) -> None:
        name, kind = rrset.name, rrset.rdtype
        here = self._own.setdefault(name, {})
        if kind in _NOT_OWN or (kind == RdataType.CNAME and name == self.domain):
            raise ConfigError(f"{place}: {kind.name} is the zone's own business")
        if (kind == RdataType.CNAME and here.keys() - {kind}) or (
            kind != RdataType.CNAME and RdataType.CNAME in here
        ):
            raise ConfigError(f"{place}: a name that has a CNAME has nothing else")
        if kind == RdataType.CNAME and not rrset[0].target.is_subdomain(self.domain):
            raise ConfigError(f"{place}: a CNAME points to a name below {self.domain}")
        if kind in here:
            for each in rrset:
                here[kind].add(each)
        else:
            here[kind] = rrset
        if kind in _ADDRESSES.values() and not name.is_wild():
            for each in rrset:
                self._own_reverse.setdefault(ipaddress.ip_address(each.address), name)

    def find(
        self, name: dns.name.Name, kind: RdataType, asker: str = "", now: float = 0.0
    ) -> Found | None:
        """What there is; None for a name that is not the zone's."""
        self._now = now
        if name.is_subdomain(self.domain):
            return self._find(name, kind, asker)
        return self._find_reverse(name, kind, asker)

    def unsure(
        self, name: dns.name.Name, kind: RdataType, found: Found, asker: str, now: float
    ) -> IPv6Address | None:
        """The address of which `found` says nothing, since it is not known whether a host has it:
        whoever learns that first has a better answer.
        """
        if kind != RdataType.AAAA or found.rcode != Rcode.NOERROR or self.stateless is None:
            return None
        last = found.answer[-1] if found.answer else None
        if last is not None:
            if last.rdtype != RdataType.CNAME:
                return None
            name = last[0].target
        address = self._stateless_of(name, asker)
        if address is None or self.stateless.has(address, now) is not None:
            return None
        return address

    def _stateless_of(self, name: dns.name.Name, asker: str) -> IPv6Address | None:
        """The address in the prefix that the host of a name may have."""
        if self.stateless is None or len(name) != len(self.domain) + 1:
            return None
        label = _label_of(name)
        told = (hosts.mac(label, asker) for hosts in self.hosts)
        mac = next((each for each in told if each is not None), None)
        return None if mac is None else self.stateless.of(mac)

    def _find(self, name: dns.name.Name, kind: RdataType, asker: str) -> Found:
        found = Found()
        for _ in range(MAX_CHASE + 1):
            sets = self._sets(name, asker)
            if sets is None:
                found.rcode = Rcode.NXDOMAIN
                found.authority.append(self._soa(self.domain))
                return found
            alias = sets.get(RdataType.CNAME)
            if alias is not None and kind not in (RdataType.CNAME, RdataType.ANY):
                found.answer.append(alias)
                name = alias[0].target
                continue
            if kind == RdataType.ANY:  # one will do (RFC 8482)
                rrset = next(iter(sets.values()), None)
            else:
                rrset = sets.get(kind)
            if rrset is None:
                found.authority.append(self._soa(self.domain))
                return found
            found.answer.append(rrset)
            found.additional += self._targets(rrset, asker)
            return found
        return Found(Rcode.SERVFAIL)  # a circle

    def _sets(self, name: dns.name.Name, asker: str) -> dict[RdataType, dns.rrset.RRset] | None:
        """The records of a name; None if there is no such name."""
        own = self._own.get(name)
        if own is not None and RdataType.CNAME in own:
            return own
        sets = self._of_host(name, asker)
        if own is not None:
            return {**(sets or {}), **own}
        if sets is None and name in self._between:
            return {}
        return self._wild(name, asker) if sets is None else sets

    def _wild(self, name: dns.name.Name, asker: str) -> dict[RdataType, dns.rrset.RRset] | None:
        """What a `*` says of a name that is not there (RFC 4592)."""
        for ancestor in _ancestors(name, self.domain):
            wild = self._own.get(_below("*", ancestor)) if len(ancestor[0]) < 63 else None
            if wild is not None:
                return {kind: _renamed(rrset, name) for kind, rrset in wild.items()}
            if ancestor in self._own or ancestor in self._between:
                return None
        return None

    def _of_host(self, name: dns.name.Name, asker: str) -> dict[RdataType, dns.rrset.RRset] | None:
        if name == self.domain:
            return {
                RdataType.SOA: self._soa(name),
                RdataType.NS: _rrset(name, RdataType.NS, [self._self.to_text()]),
            }
        if len(name) != len(self.domain) + 1:
            return None
        label, stateless = _label_of(name), self.stateless
        addresses: Sequence[IpAddress] | None = None
        if label == SERVICES_PORT:
            six = None if stateless is None else stateless.own
            addresses = (self._interface.ip, *([] if six is None else [six]))
        elif label not in NEVER_BARE:  # which a resolver that searches the domain would ask for
            told = (hosts.addresses(label, asker) for hosts in self.hosts)
            addresses = next((each for each in told if each is not None), None)
        if addresses is None:
            return None
        if stateless is not None and label != SERVICES_PORT:
            six = self._stateless_of(name, asker)
            if six is not None and stateless.has(six, self._now):
                addresses = (*addresses, six)
        sets: dict[RdataType, dns.rrset.RRset] = {}
        for version, kind in _ADDRESSES.items():
            texts = [str(each) for each in addresses if each.version == version]
            if texts:
                sets[kind] = _rrset(name, kind, texts[:_MAX_ADDRESSES])
        return sets

    def _targets(self, rrset: dns.rrset.RRset, asker: str) -> Iterator[dns.rrset.RRset]:
        """The addresses of those that a record names, which are asked for next (RFC 2782)."""
        if rrset.rdtype not in _TARGETS:
            return
        for each in rrset:
            target = each.exchange if rrset.rdtype == RdataType.MX else each.target
            if target.is_subdomain(self.domain):
                sets = self._sets(target, asker) or {}
                yield from (sets[kind] for kind in _ADDRESSES.values() if kind in sets)

    def _find_reverse(self, name: dns.name.Name, kind: RdataType, asker: str) -> Found | None:
        address = _address_of(name)
        zone = next((each for each in self._reverses if name.is_subdomain(each)), None)
        target = None if address is None else self._name_of(address, asker)
        if target is not None:
            if kind in (RdataType.PTR, RdataType.ANY):
                return Found(answer=[_rrset(name, RdataType.PTR, [target.to_text()])])
            return Found(authority=[] if zone is None else [self._soa(zone)])
        if zone is None or (address is not None and address not in self._reverses[zone]):
            return None
        soa = self._soa(zone)
        if name == zone:
            if kind == RdataType.SOA:
                return Found(answer=[soa])
            if kind == RdataType.NS:
                return Found(answer=[_rrset(name, kind, [self._self.to_text()])])
            return Found(authority=[soa])
        known = address is not None or not _is_on_the_way(name, zone)
        return Found(Rcode.NXDOMAIN if known else Rcode.NOERROR, authority=[soa])

    def _name_of(self, address: IpAddress, asker: str) -> dns.name.Name | None:
        stateless = self.stateless
        if address == self._interface.ip or (stateless is not None and address == stateless.own):
            return self._self
        if address in self._own_reverse:
            return self._own_reverse[address]
        told = (hosts.label(address, asker) for hosts in self.hosts)
        label = next((each for each in told if each is not None), None)
        if label is None and stateless is not None and isinstance(address, IPv6Address):
            mac = stateless.mac(address)
            told = (hosts.label_of_mac(mac, asker) for hosts in self.hosts if mac is not None)
            label = next((each for each in told if each is not None), None)
        return None if label is None else _below(label, self.domain)

    def _soa(self, zone: dns.name.Name) -> dns.rrset.RRset:
        text = f"{self._self} {_below('hostmaster', self.domain)} 1 3600 600 86400 {NOTHING_TTL}"
        return _rrset(zone, RdataType.SOA, [text], NOTHING_TTL)


def _rrset(
    name: dns.name.Name, kind: RdataType, texts: Iterable[str], ttl: int = TTL
) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, IN, kind, *texts)


def _renamed(rrset: dns.rrset.RRset, name: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, rrset.ttl, list(rrset))


def _below(label: str, domain: dns.name.Name) -> dns.name.Name:
    return dns.name.from_text(label, domain)


def _ancestors(name: dns.name.Name, domain: dns.name.Name) -> Iterator[dns.name.Name]:
    """From the parent of a name up to the domain."""
    while len(name) > len(domain):
        name = name.parent()
        yield name


def _address_of(name: dns.name.Name) -> IpAddress | None:
    """The address whose name is asked for."""
    try:
        return ipaddress.ip_address(dns.reversename.to_address(name))
    except (dns.exception.DNSException, ValueError):
        return None


def _label_of(name: dns.name.Name) -> str:
    label: bytes = name[0]
    return label.decode("ascii", "replace").lower()


def _reverse_zone(network: _Network) -> dns.name.Name:
    """That of the octets, or digits of IPv6, which all addresses of a network have in common."""
    bits = 8 if network.version == 4 else 4
    labels = dns.reversename.from_address(str(network.network_address)).labels
    return dns.name.Name(labels[(network.max_prefixlen - network.prefixlen + bits - 1) // bits :])


def _is_on_the_way(name: dns.name.Name, zone: dns.name.Name) -> bool:
    """Whether a name of a reverse zone is part of the way to an address."""
    labels = name.relativize(zone).labels
    if zone.labels[-3] == b"ip6":
        return len(name) < 35 and all(len(each) == 1 and each in _DIGITS for each in labels)
    return len(name) < 7 and all(each.isdigit() and int(each) < 256 for each in labels)
