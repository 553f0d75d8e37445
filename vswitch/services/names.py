"""The switch's name server: DNS at the first address of the subnet, over UDP.

    datagram ─▶ NameServer.answer_untrusted ─▶ reply      what the zone has (`zone.py`)
                                           ├▶ refused    names of others, where nothing is forwarded
                                           ├▶ Forwarded ─▶ `upstream.py` ─▶ reply
                                           └▶ Unsure    ─▶ neighbour discovery ─▶ asked once more

A port with a policy (`names_allowed`) gets NXDOMAIN for all other names, and the event
`name-refused` says so. Nothing is cached: who is asked has a cache, and what is not kept cannot be
poisoned. What forwards is bounded for each port, so that a resolver that is slow for one is not
slow for all. There is no DNS over TCP: answers are as large as the LAN lets them be.

Error contract: nothing that is asked raises; `query_untrusted` raises `BadRecord`.
Rules: RFC 1034, 1035, 2308, 6891 (EDNS), 8020, 8482 (ANY), 8906 (what not to leave unanswered).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address

import dns.exception
import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import trio
from attrs import frozen
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from vswitch.errors import BadRecord
from vswitch.features.name_policy import allows
from vswitch.services.host import ServiceHost
from vswitch.services.name_settings import DNS_PORT
from vswitch.services.stateless import PATIENCE
from vswitch.services.station import Datagram, ServiceDrop
from vswitch.services.zone import Found, Zone

PLAIN_SIZE = 512  # bytes of an answer to who says nothing else (RFC 1035 4.2.1)
HEADERS = 48  # bytes of IPv6 and UDP, the larger
HEADER_SIZE = 12
MAX_FORWARDED, MAX_FORWARDED_OF_PORT = 256, 32  # questions that wait for a resolver, or a host

Ask = Callable[[dns.message.Message], Awaitable[dns.message.Message | None]]


class NamesDrop(ServiceDrop):
    """What the name server did not answer as somebody wanted."""

    NAMES_MALFORMED = "names_malformed"  # no DNS, no question, or several
    NAMES_REFUSED = (
        "names_refused"  # a name of others, where nothing is forwarded, or no such query
    )
    NAMES_NOT_ALLOWED = "names_not_allowed"  # the policy of the port forbids the name
    NAMES_BUSY = "names_busy"  # too many of that port wait for a resolver, or of all
    NAMES_UNANSWERED = "names_unanswered"  # no resolver has answered
    NAMES_SPOOFED = "names_spoofed"  # what came for a resolver's answer and is none


@frozen
class Forwarded:
    """A question for a resolver."""

    query: dns.message.Message


@frozen
class Unsure:
    """Whether a host has this address decides what is answered."""

    address: IPv6Address


class NameServer:
    """What is answered, by itself. Pure."""

    def __init__(
        self,
        zone: Zone,
        mtu: int,
        drops: Counter[str],
        *,
        forwards: bool = False,
        allowed: Callable[[str], Sequence[str] | None] = lambda port: None,
        note: Callable[[str, str], None] = lambda port, name: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`allowed` is the policy of a port, `note` is told of a port and a name against it;
        `clock` is that of what the zone knows of hosts.
        """
        self.zone = zone
        self.drops = drops
        self._largest = mtu - HEADERS
        self._forwards = forwards
        self._allowed = allowed
        self._note = note
        self._clock = clock

    def answer_untrusted(self, wire: bytes, port: str) -> bytes | Forwarded | Unsure | None:
        """The answer to what a port has asked; None for what deserves none."""
        if len(wire) < HEADER_SIZE or wire[2] & 0x80:  # an answer, which would be answered for ever
            self.drops[NamesDrop.NAMES_MALFORMED] += 1
            return None
        if wire[2] >> 3 & 15 != Opcode.QUERY:
            self.drops[NamesDrop.NAMES_REFUSED] += 1
            return _bare(wire, Rcode.NOTIMP)
        try:
            query = query_untrusted(wire)
        except BadRecord:
            self.drops[NamesDrop.NAMES_MALFORMED] += 1
            return _bare(wire, Rcode.FORMERR)
        if query.edns > 0:
            return self._say(query, Found(Rcode.BADVERS))
        question = query.question[0]
        kind, name = question.rdtype, question.name
        if question.rdclass != dns.rdataclass.IN or RdataType.IXFR <= kind < RdataType.ANY:
            self.drops[NamesDrop.NAMES_REFUSED] += 1
            return self._say(query, Found(Rcode.REFUSED))
        now = self._clock()
        found = self.zone.find(name, kind, port, now)
        if found is not None:
            address = self.zone.unsure(name, kind, found, port, now)
            if address is not None:
                return Unsure(address)
            return self._say(query, found, own=True)
        if not allows(self._allowed(port), [each.decode("latin-1").lower() for each in name[:-1]]):
            self.drops[NamesDrop.NAMES_NOT_ALLOWED] += 1
            self._note(port, name.to_text(omit_final_dot=True).lower())
            return self._say(query, Found(Rcode.NXDOMAIN))
        if not self._forwards or not query.flags & dns.flags.RD:
            self.drops[NamesDrop.NAMES_REFUSED] += 1
            return self._say(query, Found(Rcode.REFUSED))
        return Forwarded(query)

    def learned(self, address: IPv6Address, there: bool) -> None:
        """Whether a host has the address of an `Unsure`."""
        if self.zone.stateless is not None:
            self.zone.stateless.learned(address, there, self._clock())

    def passed_on(self, query: dns.message.Message, said: dns.message.Message | None) -> bytes:
        """The answer with what a resolver has said, which is nothing for None."""
        if said is None:
            self.drops[NamesDrop.NAMES_UNANSWERED] += 1
            return self._say(query, Found(Rcode.SERVFAIL))
        # Of the rest a stub resolver needs the SOA alone; so more answers fit.
        authority = [each for each in said.authority if each.rdtype == RdataType.SOA]
        return self._say(query, Found(said.rcode(), list(said.answer), authority))

    def busy(self, wire: bytes) -> bytes:
        """That too many wait already, to a query that was read before."""
        self.drops[NamesDrop.NAMES_BUSY] += 1
        return self._say(query_untrusted(wire), Found(Rcode.SERVFAIL))

    def _say(self, query: dns.message.Message, found: Found, *, own: bool = False) -> bytes:
        # Padded where somebody asks for it, an answer would be larger than it may be (RFC 7830 6).
        reply = dns.message.make_response(
            query, recursion_available=self._forwards, our_payload=self._largest, pad=0
        )
        if own and found.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
            reply.flags |= dns.flags.AA
        reply.answer, reply.authority = found.answer, found.authority
        reply.additional = found.additional
        reply.set_rcode(found.rcode)
        size = max(PLAIN_SIZE, query.payload) if query.edns >= 0 else PLAIN_SIZE
        return reply.to_wire(max_size=min(size, self._largest), prefer_truncation=True)


def query_untrusted(wire: bytes) -> dns.message.Message:
    """A query with one question; `BadRecord` for anything else."""
    try:
        query = dns.message.from_wire(wire)
    except Exception as error:
        # Whatever a library raises for bytes from outside is the fault of these bytes.
        raise BadRecord(f"no DNS message: {error}") from error
    if len(query.question) != 1:
        raise BadRecord(f"{len(query.question)} questions")
    return query


def _bare(wire: bytes, rcode: Rcode) -> bytes:
    """An answer to what cannot be read further than its header."""
    return wire[:2] + bytes((0x80 | wire[2] & 0x79, rcode)) + bytes(8)


async def serve_names(
    host: ServiceHost,
    server: NameServer,
    ask: Ask,
    *,
    task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled. `ask` asks resolvers; None for no answer."""
    waiting: Counter[str] = Counter()  # questions with a resolver, by port

    async def forward(datagram: Datagram, query: dns.message.Message) -> None:
        with _leaving(waiting, datagram.port):
            said = await ask(query)
        host.reply(datagram, server.passed_on(query, said))

    async def look(datagram: Datagram, address: IPv6Address) -> None:
        with _leaving(waiting, datagram.port):
            there = await host.probe(address, PATIENCE) is not None
        server.learned(address, there)
        answer = server.answer_untrusted(datagram.payload, datagram.port)
        if isinstance(answer, bytes):
            host.reply(datagram, answer)

    with host.open_udp(DNS_PORT) as inbox:
        async with trio.open_nursery() as nursery:
            task_status.started(True)
            async for datagram in inbox:
                answer, port = (
                    server.answer_untrusted(datagram.payload, datagram.port),
                    datagram.port,
                )
                if isinstance(answer, Forwarded | Unsure):
                    if waiting[port] < MAX_FORWARDED_OF_PORT and waiting.total() < MAX_FORWARDED:
                        waiting[port] += 1
                        if isinstance(answer, Forwarded):
                            nursery.start_soon(forward, datagram, answer.query)
                        else:
                            nursery.start_soon(look, datagram, answer.address)
                        continue
                    answer = server.busy(datagram.payload)
                if answer is not None:
                    host.reply(datagram, answer)


@contextmanager
def _leaving(waiting: Counter[str], port: str) -> Iterator[None]:
    """A question of that port waits until the end of the context."""
    try:
        yield
    finally:
        waiting[port] -= 1
        if not waiting[port]:
            del waiting[port]
