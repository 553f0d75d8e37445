"""The DHCP server of the LAN, as far as it decides: what each message of a client leads to.

    message ─▶ `Dhcp.receive_untrusted` ─▶ steps: answer, probe an address, keep or free a lease
    time    ─▶ `Dhcp.tick`              ─▶ the same

Off unless `enabled`: a LAN whose members bridge homes may have the DHCP server of one of them, and
two on one LAN hand out two kinds of addresses. Once on it is the authority (RFC 2131 4.3.2): a
client that names an address that it cannot have is told so (NAK), and one whose lease is not known
any more, as after a restored backup, has it again if nobody else has it. For the same reason it
says nothing at all for `QUIET` seconds once another server was heard, which the guards let through
from trusted ports alone, and looks for one, at most every `LOOK` seconds, when a client looks.

Before an address is offered to who has no lease on it, ARP asks for it; whoever answers has it. A
lease is written down before it is acknowledged.

What is not believed, each with its counter: messages whose client is not who sent the frame, those
that relays passed on (this LAN is one subnet), more than `RATE` a second from one port or
`MAC_RATE` from one machine, and a
release or decline from another port than that of the lease.

Pure; `now` and times of leases are seconds of one clock. `receive_untrusted` raises nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import TypeAlias, TypeVar

import attrs

from vswitch.addresses import check_name
from vswitch.errors import BadRecord
from vswitch.frames.bootp import (
    NO_ADDRESS,
    REPLY,
    DhcpMessage,
    Kind,
    Option,
    build_dhcp,
    number,
    read_dhcp_untrusted,
)
from vswitch.frames.ethernet import BROADCAST
from vswitch.registry.rules import Lease
from vswitch.services.leases import Client, Pool
from vswitch.services.station import ServiceDrop
from vswitch.services.terms import LEAST_LEASE, Terms
from vswitch.switch.bucket import Bucket

PROBE = 0.75  # seconds for somebody who has an address to say so: a long way there and back
LOOK = 60.0  # seconds between two looks for another server
QUIET = 600.0  # seconds without a word after another server was heard
RATE, BURST = 10.0, 64.0  # messages of one port a second, at once: a LAN after a power cut
MAC_RATE, MAC_BURST = 1.0, 8.0  # of one machine, so that it leaves the others of its port theirs
EXPIRY = 5.0  # seconds between two looks for leases that are over
_MAX_BUCKETS = 2048  # ports that are remembered, and machines; they come and go
_SMALLEST = 576 - 28  # bytes of a message that every client takes (RFC 2131 2)
_EVERYBODY = IPv4Address("255.255.255.255")
_INFINITE = b"\xff\xff\xff\xff"  # the lease of a member's own address ends with its membership


class DhcpDrop(ServiceDrop):
    """Why a message got no answer."""

    BAD = "dhcp_bad"  # no message of DHCP, or one that only servers send and that says nothing
    RELAYED = "dhcp_relayed"  # passed on by a relay agent, or from another network
    SPOOFED = "dhcp_spoofed"  # the client in it is not who sent it, or its lease is another port's
    RATE = "dhcp_rate"  # more a second than one port, or one machine behind it, may send
    PORT_LIMIT = "dhcp_port_limit"  # the port has as many leases as it may have
    NO_ADDRESS = "dhcp_no_address"  # nothing is free
    BUSY = "dhcp_busy"  # too many offers are open, or too much waits
    QUIET = "dhcp_quiet"  # another server was heard
    OTHER_SERVER = "dhcp_other_server"  # the client has chosen another one
    NOT_KEPT = "dhcp_not_kept"  # the lease could not be written down


@attrs.frozen
class Asker:
    """Who sent a message: the source of its frame and packet."""

    client: Client
    source: IPv4Address


@attrs.frozen
class Answer:
    """A message to a client."""

    kind: Kind
    mac: bytes  # where the frame goes
    address: IPv4Address  # where the packet goes
    payload: bytes
    tags: bytes  # the VLAN tags of the frame


@attrs.frozen
class Probe:
    """Ask by ARP who has the address; what comes goes to `Dhcp.heard_arp`."""

    address: IPv4Address


@attrs.frozen
class Keep:
    """Write the lease down, then answer. Where somebody else has the address by now, call
    `Dhcp.lost` and refuse instead; where it cannot be written down, answer only who had it already.
    """

    lease: Lease
    renewed: bool  # the client had it already
    answer: Answer
    refusal: Answer


@attrs.frozen
class Free:
    """Write down that the lease is over."""

    lease: Lease


@attrs.frozen
class Look:
    """Broadcast this to servers, as a client."""

    payload: bytes


_K = TypeVar("_K")
Step: TypeAlias = Answer | Probe | Keep | Free | Look


@attrs.define(eq=False)
class _Asked:
    """A client that waits for its offer."""

    message: DhcpMessage
    client: Client
    until: float  # its address is probed


class Dhcp:
    """The server of one LAN. Whoever runs it does the steps in order."""

    def __init__(self, pool: Pool, terms: Terms, mac: bytes) -> None:
        self.pool = pool
        self.terms = terms
        self.drops: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()  # messages of clients, by kind
        self.said: Counter[str] = Counter()  # answers that were sent, the same
        self.quiet_until = 0.0
        self.other: IPv4Address | None = None  # the server that was heard
        self._mac = mac  # the server's own
        self._options = terms.options()
        self._looked = -LOOK
        self._asked: dict[bytes, _Asked] = {}
        self._buckets: dict[str, Bucket] = {}
        self._of_macs: dict[tuple[str, bytes], Bucket] = {}
        self._expiry = 0.0

    def deadline(self) -> float:
        """When `tick` has to be called at the latest."""
        return min([self._expiry, *(asked.until for asked in self._asked.values())])

    def tick(self, now: float) -> list[Step]:
        """What is due: offers whose addresses nobody has, leases that are over."""
        steps: list[Step] = []
        for mac, asked in list(self._asked.items()):
            if asked.until <= now:
                del self._asked[mac]
                offer = self.pool.offers.get(mac)
                if offer is not None and now >= self.quiet_until:
                    answer = self._answer(Kind.OFFER, asked.message, asked.client, offer.address)
                    steps.append(answer)
        if self._expiry <= now:
            self._expiry = now + EXPIRY
            steps += self._free(self.pool.expired(now))
        return steps

    def free(self, macs: list[bytes]) -> list[Step]:
        """End these leases, as somebody wishes."""
        return self._free(macs)

    def _free(self, macs: list[bytes]) -> list[Step]:
        ended = [self.pool.free(mac) for mac in macs]
        return [Free(lease) for lease in ended if lease is not None]

    def port_down(self, name: str, *, free: bool) -> list[Step]:
        """A port is gone: its offers with it, and its leases where that is wished."""
        macs = self.pool.of_port(name)
        self._buckets.pop(name, None)
        return self._free(macs) if free else []

    def look(self, now: float) -> list[Step]:
        """Look for another server, unless that was done a moment ago."""
        if now - self._looked < LOOK:
            return []
        self._looked = now
        message = DhcpMessage(
            kind=Kind.DISCOVER,
            transaction=int.from_bytes(self._mac[2:], "big"),
            mac=self._mac,
            broadcast=True,
        )
        return [Look(build_dhcp(message))]

    def heard_arp(self, address: IPv4Address, mac: bytes, port: str, now: float) -> list[Step]:
        """Somebody has that address, as ARP says: whoever waits for it gets another."""
        steps: list[Step] = []
        for asked in list(self._asked.values()):
            client, offer = asked.client, self.pool.offers.get(asked.client.mac)
            if offer is None or offer.address != address or mac in (client.mac, self._mac):
                continue
            if self.pool.mark_unusable(address, port, now):
                self.pool.withdraw(client.mac)
                steps += self._probe(asked.message, client, None, now)
        return steps

    def lost(self, lease: Lease) -> None:
        """The lease could not be kept."""
        self.pool.free(lease.mac)
        self.drops[DhcpDrop.NOT_KEPT] += 1

    def sent(self, answer: Answer) -> None:
        """Count it."""
        self.said[answer.kind.name.lower()] += 1

    def receive_untrusted(self, payload: bytes, asker: Asker, now: float) -> list[Step]:
        """What a datagram to the port of servers, or from one of them, leads to."""
        if not self._admits(asker.client, now):
            return self._drop(DhcpDrop.RATE)
        try:
            message = read_dhcp_untrusted(payload)
        except BadRecord:
            return self._drop(DhcpDrop.BAD)
        if message.op == REPLY:
            return self._other_server(message, now)
        self.heard[message.kind.name.lower()] += 1
        if message.relay != NO_ADDRESS:
            return self._drop(DhcpDrop.RELAYED)
        if message.mac != asker.client.mac:
            return self._drop(DhcpDrop.SPOOFED)
        if now < self.quiet_until:
            return [*self._drop(DhcpDrop.QUIET), *self.look(now)]
        client = asker.client
        match message.kind:
            case Kind.DISCOVER:
                return self._discover(message, client, now)
            case Kind.REQUEST:
                return self._request(message, client, now)
            case Kind.INFORM:
                return self._inform(message, asker)
            case Kind.DECLINE:
                return self._decline(message, client, now)
            case Kind.RELEASE:
                return self._release(message, client)
        return self._drop(DhcpDrop.BAD)

    # The messages of clients.

    def _discover(self, message: DhcpMessage, client: Client, now: float) -> list[Step]:
        steps = self.look(now)
        if client.own is not None:
            return [*steps, self._answer(Kind.OFFER, message, client, client.own)]
        asked = self._asked.get(client.mac)
        if asked is not None and asked.client.port == client.port:
            asked.message = message  # it asks again while its address is probed
            return steps
        offer = self.pool.offers.get(client.mac)
        if offer is not None and offer.client.port == client.port and asked is None:
            return [*steps, self._answer(Kind.OFFER, message, client, offer.address)]
        return [*steps, *self._probe(message, client, message.address(Option.ADDRESS), now)]

    def _probe(
        self, message: DhcpMessage, client: Client, wish: IPv4Address | None, now: float
    ) -> list[Step]:
        """Find an address, and ask whether anybody has it; one's own lease needs no asking."""
        self._asked.pop(client.mac, None)
        if not self.pool.has_room(client):
            return self._drop(DhcpDrop.PORT_LIMIT)
        address = self.pool.choose(client, wish, now)
        if address is None:
            return self._drop(DhcpDrop.NO_ADDRESS)
        lease = self.pool.leases.get(client.mac)
        if self.pool.offer(client, address, now) is None:
            return self._drop(DhcpDrop.BUSY)
        if lease is not None and lease.address == str(address):
            return [self._answer(Kind.OFFER, message, client, address)]
        self._asked[client.mac] = _Asked(message, client, now + PROBE)
        return [Probe(address)]

    def _request(self, message: DhcpMessage, client: Client, now: float) -> list[Step]:
        """RFC 2131 4.3.2: which state the client is in shows in what it fills in."""
        self._asked.pop(client.mac, None)
        server, renews = message.address(Option.SERVER), message.client != NO_ADDRESS
        if server is not None and server != self.terms.server:
            self.pool.withdraw(client.mac)
            return self._drop(DhcpDrop.OTHER_SERVER)
        address = message.client if renews else message.address(Option.ADDRESS)
        if address is None:
            return self._drop(DhcpDrop.BAD)
        if client.own is not None:
            if address != client.own:
                return [self._refuse(message, client)]
            return [self._answer(Kind.ACK, message, client, address)]
        if not self.pool.usable(address, client, now) or not self.pool.has_room(client):
            self.pool.withdraw(client.mac)
            return [self._refuse(message, client)]
        before = self.pool.leases.get(client.mac)
        until = now + self._lease_time(message)
        name = _name_of(message.options.get(Option.HOST_NAME, b""))
        if not name and before is not None:
            name = before.hostname
        lease = Lease(client.mac, str(address), client.port, name, now, until)
        self.pool.keep(lease)
        renewed = before is not None and before.address == lease.address
        answer = self._answer(Kind.ACK, message, client, address)
        return [Keep(lease, renewed, answer, self._refuse(message, client))]

    def _inform(self, message: DhcpMessage, asker: Asker) -> list[Step]:
        """A host that has an address, and wants the rest."""
        if message.client not in self.terms.network or asker.source not in (
            message.client,
            NO_ADDRESS,
        ):
            return self._drop(DhcpDrop.RELAYED)
        return [self._answer(Kind.ACK, message, asker.client, None)]

    def _decline(self, message: DhcpMessage, client: Client, now: float) -> list[Step]:
        """The client has found its address with somebody else."""
        address, mac = message.address(Option.ADDRESS), client.mac
        lease, offer = self.pool.leases.get(mac), self.pool.offers.get(mac)
        said = {str(offer.address)} if offer is not None else set()
        if lease is not None and lease.port == client.port:
            said.add(lease.address)
        if address is None or str(address) not in said:
            return self._drop(DhcpDrop.SPOOFED)
        self.pool.withdraw(mac)
        self.pool.mark_unusable(address, client.port, now)
        return self._free([mac]) if lease is not None and lease.port == client.port else []

    def _release(self, message: DhcpMessage, client: Client) -> list[Step]:
        lease = self.pool.leases.get(client.mac)
        if lease is None or lease.port != client.port or lease.address != str(message.client):
            return self._drop(DhcpDrop.SPOOFED)
        return self._free([client.mac])

    def _other_server(self, message: DhcpMessage, now: float) -> list[Step]:
        server = message.address(Option.SERVER)
        offers = message.kind in (Kind.OFFER, Kind.ACK)
        if not offers or server is None or server == self.terms.server:
            return self._drop(DhcpDrop.BAD)
        self.other, self.quiet_until = server, now + QUIET
        return []

    # The answers.

    def _refuse(self, message: DhcpMessage, client: Client) -> Answer:
        """To everybody, since the client may have an address of another network."""
        options = {
            Option.SERVER: self.terms.server.packed,
            Option.MESSAGE: b"this address is not for you, or not here",
            **_identified(message),
        }
        answer = attrs.evolve(
            message, kind=Kind.NAK, op=REPLY, client=NO_ADDRESS, broadcast=True, options=options
        )
        return Answer(Kind.NAK, BROADCAST, _EVERYBODY, build_dhcp(answer), client.tags)

    def _answer(
        self, kind: Kind, message: DhcpMessage, client: Client, address: IPv4Address | None
    ) -> Answer:
        options: dict[int, bytes] = {Option.SERVER: self.terms.server.packed}
        if address is not None:
            seconds = self._lease_time(message)
            options[Option.LEASE_TIME] = number(int(seconds))
            options[Option.RENEWAL] = number(int(seconds / 2))
            options[Option.REBINDING] = number(int(seconds * 7 / 8))
        options |= _identified(message)
        wanted = message.options.get(Option.WANTED)
        always = (Option.MASK, Option.BROADCAST, Option.MTU)
        for code, body in self._options.items():
            # Who asks for nothing gets what everybody understands.
            if code in always or (code != Option.OLD_ROUTES if wanted is None else code in wanted):
                options[code] = body
        answer = attrs.evolve(message, kind=kind, op=REPLY, given=address or NO_ADDRESS)
        answer = attrs.evolve(answer, seconds=0, options=options)
        most = int.from_bytes(message.options.get(Option.MOST_BYTES, b"")[:2], "big") - 28
        payload = build_dhcp(answer, max(_SMALLEST, min(most, self.terms.mtu - 28)))
        if message.client != NO_ADDRESS:
            return Answer(kind, message.mac, message.client, payload, client.tags)
        if message.broadcast or address is None:
            return Answer(kind, BROADCAST, _EVERYBODY, payload, client.tags)
        return Answer(kind, message.mac, address, payload, client.tags)

    def _lease_time(self, message: DhcpMessage) -> float:
        """Seconds: what the client wishes for, if that is less than usual."""
        wish = message.options.get(Option.LEASE_TIME, _INFINITE)[:4]
        return min(max(float(int.from_bytes(wish, "big")), LEAST_LEASE), self.terms.lease_time)

    def _drop(self, reason: DhcpDrop) -> list[Step]:
        self.drops[reason] += 1
        return []

    def _admits(self, client: Client, now: float) -> bool:
        """Whether it is within its rate, by the source of its frame, and its port within its own.
        What one machine sends too much costs its port nothing; one that invents machines costs
        those behind its port that are new, and no other port.
        """
        own = _bucket(self._of_macs, (client.port, client.mac), MAC_RATE, MAC_BURST)
        if not own.allow(now, 1):
            return False
        lease = self.pool.leases.get(client.mac)
        if lease is not None and lease.port == client.port:
            return True  # it renews, and there are no more of these than the port may have
        return _bucket(self._buckets, client.port, RATE, BURST).allow(now, 1)


def _bucket(known: dict[_K, Bucket], key: _K, rate: float, burst: float) -> Bucket:
    """That of the key; where too many are known, the oldest is forgotten."""
    bucket = known.get(key)
    if bucket is None:
        if len(known) >= _MAX_BUCKETS:
            del known[next(iter(known))]
        bucket = known[key] = Bucket(rate, burst)
    return bucket


def _name_of(said: bytes) -> str:
    """The name that a client says it has, as far as it is one here; else ""."""
    label = said.rstrip(b"\0").decode("ascii", "replace").lower().partition(".")[0]
    try:
        return check_name(label)
    except ValueError:
        return ""


def _identified(message: DhcpMessage) -> Mapping[int, bytes]:
    """What tells clients with one MAC apart goes back to them (RFC 6842)."""
    said = message.options.get(Option.CLIENT)
    return {} if said is None else {Option.CLIENT: said}
