"""Which address of the LAN a machine gets by DHCP: leases, open offers, and what nobody may have.

A lease belongs to a MAC address, whatever client identifier is said: one machine has one address
from its boot loader to its operating system, and the switch guards MAC addresses where anybody may
say any identifier (RFC 2131 4.2 would let it choose).

Invariants, at any moment: an address has one holder, by lease or by offer; no address is given that
a member holds or is promised, that is reserved for somebody else, that was found in use, or that
lies outside the range, but by a reservation. One port has at most `port_limit` leases and offers,
so that who invents MAC addresses takes no more than its share.

Which free address a MAC gets follows from the MAC, so it is the same again after a lease has ended.
Pure; `now` and times of leases are seconds of any one clock. Nothing here raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2s
from ipaddress import IPv4Address, IPv4Network

import attrs

from vswitch.addresses import reserved_reason
from vswitch.frames.ethernet import format_mac
from vswitch.registry.rules import Lease

OFFER_TIME = 60.0  # seconds that an offer stands
MAX_OFFERS = 256  # at once
UNUSABLE_TIME = 600.0  # seconds that an address stays out of use that somebody has without a lease
MAX_UNUSABLE = 32  # addresses that what one port says keeps out of use
MAX_LEASES = 4096


@attrs.frozen
class Client:
    """Who asks for an address."""

    mac: bytes
    port: str  # by name, where the switch has heard it
    own: IPv4Address | None = None  # that the switch gave the member that has this MAC itself
    tags: bytes = b""  # the VLAN tags of its frames


@attrs.frozen
class Offer:
    """An address that a client may ask for."""

    client: Client
    address: IPv4Address
    until: float  # seconds


class Pool:
    """The addresses of one LAN."""

    def __init__(
        self,
        network: IPv4Network,
        first: IPv4Address,
        last: IPv4Address,
        reservations: Mapping[str, IPv4Address],
        port_limit: int,
    ) -> None:
        """`reservations` are by MAC address as text, or by the name of a port."""
        self.leases: dict[bytes, Lease] = {}
        self.offers: dict[bytes, Offer] = {}
        self.held: Mapping[IPv4Address, str] = {}  # by members and ports, with their names
        self._network = network
        self._first, self._size = int(first), int(last) - int(first) + 1
        self._reservations = reservations
        self._reserved = {address: whom for whom, address in reservations.items()}
        self._port_limit = port_limit
        self._holders: dict[IPv4Address, bytes] = {}  # MACs of leases and offers
        self._names: dict[str, bytes] = {}  # MACs by the names that they say, the first of each
        self._unusable: dict[IPv4Address, tuple[float, str]] = {}  # until, whose port said so

    def choose(self, client: Client, wish: IPv4Address | None, now: float) -> IPv4Address | None:
        """The address for a client: its lease, else what is reserved for it, what it was offered,
        what it wishes for, or a free one. None if there is none.
        """
        lease, offer = self.leases.get(client.mac), self.offers.get(client.mac)
        for address in (
            *self._reserved_for(client),
            None if lease is None else IPv4Address(lease.address),
            None if offer is None else offer.address,
            wish,
        ):
            if address is not None and self.usable(address, client, now):
                return address
        start = int.from_bytes(blake2s(client.mac, person=b"vsw dhcp").digest()[:8], "big")
        # All that can be in the way: no more are looked at, however large the range is.
        taken = len(self.held) + len(self._holders) + len(self._unusable) + len(self._reserved)
        for step in range(min(self._size, taken + 4)):
            address = IPv4Address(self._first + (start + step) % self._size)
            if self.usable(address, client, now):
                return address
        return None

    def usable(self, address: IPv4Address, client: Client, now: float) -> bool:
        """Whether the client may have that address."""
        if reserved_reason(address, self._network) is not None or address in self.held:
            return False
        if self._holders.get(address, client.mac) != client.mac:
            return False
        if self._unusable.get(address, (now, ""))[0] > now:
            return False
        if address in self._reserved:
            return address in self._reserved_for(client)
        return 0 <= int(address) - self._first < self._size

    def has_room(self, client: Client) -> bool:
        """Whether the client's port may have one more."""
        own = [self.leases.get(client.mac), self.offers.get(client.mac)]
        if any(each is not None and _port(each) == client.port for each in own):
            return True
        ports = Counter({mac: _port(each) for mac, each in self.offers.items()}.values())
        ports.update(each.port for mac, each in self.leases.items() if mac not in self.offers)
        full = len(self.leases) >= MAX_LEASES and own[0] is None
        return ports[client.port] < self._port_limit and not full

    def offer(self, client: Client, address: IPv4Address, now: float) -> Offer | None:
        """Keep the address for the client for a while; None if too many are kept."""
        self.withdraw(client.mac)
        if len(self.offers) >= MAX_OFFERS:
            return None
        offer = self.offers[client.mac] = Offer(client, address, now + OFFER_TIME)
        self._holders[address] = client.mac
        return offer

    def withdraw(self, mac: bytes) -> None:
        """The client has chosen another server, or has not answered."""
        offer, lease = self.offers.pop(mac, None), self.leases.get(mac)
        if offer is not None and (lease is None or lease.address != str(offer.address)):
            self._holders.pop(offer.address, None)

    def keep(self, lease: Lease) -> None:
        """The client has the lease, in place of any other."""
        self.withdraw(lease.mac)
        self.free(lease.mac)
        self.leases[lease.mac] = lease
        self._holders[IPv4Address(lease.address)] = lease.mac
        if lease.hostname:
            self._names.setdefault(lease.hostname, lease.mac)

    def named(self, name: str) -> Lease | None:
        """The lease of the machine that says it has this name, and was the first to."""
        mac = self._names.get(name)
        return None if mac is None else self.leases.get(mac)

    def at(self, address: IPv4Address) -> Lease | None:
        """The lease on that address."""
        lease = self.leases.get(self._holders.get(address, b""))
        return lease if lease is not None and lease.address == str(address) else None

    def free(self, mac: bytes) -> Lease | None:
        """The lease is over; it, if there was one."""
        lease, offer = self.leases.pop(mac, None), self.offers.get(mac)
        if lease is not None and (offer is None or str(offer.address) != lease.address):
            self._holders.pop(IPv4Address(lease.address), None)
        if lease is not None and self._names.get(lease.hostname) == mac:
            del self._names[lease.hostname]
        return lease

    def mark_unusable(self, address: IPv4Address, port: str, now: float) -> bool:
        """Somebody has the address who has no lease on it, as that port says. False if the port has
        said so of too many.
        """
        self._unusable = {each: kept for each, kept in self._unusable.items() if kept[0] > now}
        said = sum(whose == port for _, whose in self._unusable.values())
        if said >= MAX_UNUSABLE and address not in self._unusable:
            return False
        self._unusable[address] = (now + UNUSABLE_TIME, port)
        return True

    def expired(self, now: float) -> list[bytes]:
        """The MACs whose leases are over. Offers that are, are withdrawn."""
        for mac in [mac for mac, offer in self.offers.items() if offer.until <= now]:
            self.withdraw(mac)
        return [mac for mac, lease in self.leases.items() if lease.expires <= now]

    def of_port(self, name: str) -> list[bytes]:
        """The MACs that have leases behind a port; its offers are withdrawn."""
        for mac in [mac for mac, offer in self.offers.items() if offer.client.port == name]:
            self.withdraw(mac)
        return [mac for mac, lease in self.leases.items() if lease.port == name]

    def _reserved_for(self, client: Client) -> tuple[IPv4Address, ...]:
        known = self._reservations
        said = (known.get(format_mac(client.mac)), known.get(client.port))
        return tuple(address for address in said if address is not None)


def _port(holder: Lease | Offer) -> str:
    return holder.port if isinstance(holder, Lease) else holder.client.port
