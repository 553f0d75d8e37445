"""The services of the switch: what any station of the LAN may send to them.

Invariants of the LAN host: nothing is raised, at most one frame is sent for one that came, from its
own MAC, and what it remembers is bounded; what it takes from a kernel is for a port that is open.
Of the name server: BadRecord and nothing else; an answer is one, to that question, and no larger
than may be; no name of others is told of.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Network

import dns.edns
import dns.flags
import dns.message
import dns.rrset

from tests.fuzz.frames import any_record, damaged
from tests.fuzz.reader import Reader
from vswitch.errors import BadRecord
from vswitch.frames import build
from vswitch.frames.headers import ICMPV6, IPV4, IPV6
from vswitch.frames.records import frame_of, frame_record
from vswitch.frames.virtio import UDP
from vswitch.services.host import HostBeside
from vswitch.services.names import Forwarded, NameServer, Unsure
from vswitch.services.stateless import Stateless
from vswitch.services.station import Station
from vswitch.services.upstream import answer_untrusted
from vswitch.services.zone import Zone
from vswitch.testing import FakeDevice

MAC, PC1 = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x11"
HOST, ONE = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
ROUTERS, ONE6 = IPv6Address("ff02::2"), IPv6Address("fe80::11")
INTERFACE = IPv4Interface("10.77.0.1/24")
MOST_FRAMES = 60


def _station(*, answers: bool) -> Station:
    station = Station(MAC, INTERFACE, place=lambda vlan, mac: str(vlan), answers=answers)
    station.udp |= {53, 67}
    station.icmpv6.add(133)
    station.groups.add(ROUTERS)
    return station


HOST6 = _station(answers=True).link_local


def _udp(source: build.IpAddress, target: build.IpAddress, port: int, kind: int) -> bytes:
    ends = source, target
    return build.ethernet(
        MAC, PC1, kind, build.ip(*ends, UDP, build.upper(UDP, 4000, port, b"question", ends))
    )


def _icmpv6(kind: int, body: bytes, target: IPv6Address = HOST6) -> bytes:
    message = build.icmpv6((ONE6, target), kind, 0, body)
    return build.ethernet(MAC, PC1, IPV6, build.ip(ONE6, target, ICMPV6, message, hops=255))


FRAMES = (
    build.arp_request(PC1, str(ONE), str(HOST)),
    build.arp_reply(PC1, str(ONE), MAC, str(HOST)),
    build.icmp_echo(PC1, str(ONE), MAC, str(HOST), data=b"abc"),
    _udp(ONE, HOST, 53, IPV4),
    _udp(ONE, IPv4Address("255.255.255.255"), 67, IPV4),
    _udp(ONE, HOST, 9, IPV4),
    _udp(ONE6, HOST6, 53, IPV6),
    _udp(ONE6, HOST6, 9, IPV6),
    _icmpv6(128, b"\0\1\0\1abc"),
    _icmpv6(133, bytes(4), ROUTERS),
    _icmpv6(135, bytes(4) + HOST6.packed + b"\1\1" + PC1),
    _icmpv6(136, b"\x60\0\0\0" + ONE6.packed + b"\2\1" + PC1),
)


def run_host(data: bytes) -> None:
    reader, now = Reader(data), 0.0
    alone, kernel = _station(answers=True), FakeDevice("vsw0", superframes=True)
    beside = HostBeside(kernel, _station(answers=False), clock=lambda: now)
    with beside.open_icmpv6(134), beside.open_udp(5353) as inbox:
        for _ in range(MOST_FRAMES):
            if not reader:
                break
            now += reader.below(4) / 2
            number = reader.below(len(FRAMES) + 4)
            if number < len(FRAMES):
                record = frame_record(damaged(reader, FRAMES[number]))
            else:
                record = any_record(reader)
            if number % 3 == 1:
                alone.send(ONE if number < 8 else ONE6, 9, 53, b"x", now)
                alone.outgoing.clear()
            alone.receive_untrusted(frame_of(record), now)
            assert len(alone.outgoing) <= 1 + 4  # and what has waited for a neighbour
            assert all(frame[6:12] == MAC for frame in alone.outgoing)
            alone.outgoing.clear()
            alone.tick(now)
            alone.outgoing.clear()
            before = len(kernel.written)
            assert beside.write_nowait([record]) == 1
            given = len(kernel.written) - before
            assert given == 1 or frame_of(record)[12:14] != b"\x08\x06"
        assert inbox.statistics().current_buffer_used <= 64


def host_seeds() -> Iterator[tuple[str, bytes]]:
    for number in range(len(FRAMES)):
        yield f"frame-{number:02}", bytes((0, number, 0))
        yield f"damaged-{number:02}", bytes((1, number, 255, 1, 30, 0, 0x41, 38, 0, 0x81, 0))
    yield "conversation", b"".join(bytes((1, number, 0)) for number in (0, 1, 2, 3, 7, 10, 11, 1))
    yield "any", bytes((0, len(FRAMES), 5)) + bytes(range(200))


class _Hosts:
    def addresses(self, label: str, asker: str) -> Sequence[build.IpAddress] | None:
        return {"pc1": (ONE, ONE6), "nobody": ()}.get(label)

    def label(self, address: build.IpAddress, asker: str) -> str | None:
        return "pc1" if address in (ONE, ONE6) else None

    def mac(self, label: str, asker: str) -> bytes | None:
        return PC1 if label == "nobody" else None

    def label_of_mac(self, mac: bytes, asker: str) -> str | None:
        return "nobody" if mac == PC1 else None


RECORDS = (
    *("www CNAME pc1", "a CNAME b", "b CNAME a", "*.x TXT y", "s SRV 1 2 3 x"),
    *(f"big TXT {'x' * 60}{number}" for number in range(6)),
)
PADDING = dns.edns.GenericOption(dns.edns.OptionType.PADDING, b"")
STATELESS = Stateless(IPv6Network("fd77::/64"), IPv6Address("fd77::1"))
ZONE = Zone("lan", INTERFACE, RECORDS, stateless=STATELESS)
ZONE.hosts.append(_Hosts())
NAMES = (
    "lan", "pc1.lan", "www.lan", "a.lan", "q.x.lan", "s.lan", "2.0.77.10.in-addr.arpa",
    "0.77.10.in-addr.arpa", "example.com", "nobody.lan", ".",
    "big.lan",
)  # fmt: skip
KINDS = ("A", "AAAA", "PTR", "SRV", "TXT", "ANY", "SOA", "NS", "AXFR", "TYPE65280")


def _question(reader: Reader) -> dns.message.Message:
    query = dns.message.make_query(
        reader.choice(NAMES),
        reader.choice(KINDS),
        use_edns=reader.choice((False, 0, 1)),
        payload=reader.edge(16),
    )
    query.id = reader.edge(16)
    if query.edns == 0 and reader.chance(0.2):
        query.use_edns(0, payload=query.payload, options=[PADDING])
    return query


def run_names(data: bytes) -> None:
    reader = Reader(data)
    server = NameServer(ZONE, reader.choice((576, 1500)), Counter(), forwards=reader.chance(0.5))
    query = _question(reader)
    wire = damaged(reader, query.to_wire()) if reader.chance(0.9) else reader.rest()
    said = server.answer_untrusted(wire, "pc1")
    if isinstance(said, Forwarded):
        assert not said.query.question[0].name.is_subdomain(ZONE.domain)
        reply = dns.message.make_response(query)
        reply.answer.append(dns.rrset.from_text("example.com.", 1, "IN", "A", "192.0.2.1"))
        told = damaged(reader, reply.to_wire())
        with suppress(BadRecord):
            server.passed_on(said.query, answer_untrusted(told, query))
        said = server.passed_on(said.query, None)
    if isinstance(said, Unsure):
        assert said.address == STATELESS.of(PC1)
    elif said is not None:
        assert said[:2] == wire[:2]
        assert said[2] & 0x80
        assert len(said) <= 1500 - 48
        dns.message.from_wire(said)


def names_seeds() -> Iterator[tuple[str, bytes]]:
    for name in range(len(NAMES)):
        for kind in (0, 2, 5):
            yield f"query-{name:02}-{kind}", bytes((1, 255, name, kind, 1, 0x20, 3, 0, 255, 0))
    yield "damaged", bytes((0, 0, 1, 0, 1, 0x20, 3, 0, 255, 255, 1, 5, 0, 0x41, 20, 0, 0x90, 0))
    yield "padded", bytes((1, 255, len(NAMES) - 1, 4, 1, 0x20, 3, 255, 255, 0))
    yield "raw", bytes((0, 0, 1, 0, 1, 0x20, 3, 0, 0)) + bytes(range(60))
    yield "answer", bytes((0, 255, 8, 0, 1, 0x20, 3, 0, 255, 0, 255, 0, 3, 0, 0x41))
