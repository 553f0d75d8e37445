"""The name server on a LAN in memory, and its answers without one."""

from collections import Counter
from functools import partial
from ipaddress import IPv4Interface, ip_address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio

from vswitch.services.host import open_host, station_of
from vswitch.services.names import (
    MAX_FORWARDED_OF_PORT,
    Forwarded,
    NamesDrop,
    NameServer,
    serve_names,
)
from vswitch.services.zone import Zone
from vswitch.switch.switch import open_switch

from .test_host import MAC, udp
from .test_zone import INTERFACE, Hosts

POLICY = {"sandbox": ("example.com",), "lonely": ()}


def make(*records, mtu=1500, forwards=False):
    zone = Zone("lan", INTERFACE, records)
    zone.hosts.append(Hosts({"pc1": ["10.77.0.2"]}))
    noted = []
    server = NameServer(
        zone,
        mtu,
        Counter(),
        forwards=forwards,
        allowed=POLICY.get,
        note=lambda port, name: noted.append((port, name)),
    )
    return server, noted


def ask(server, name, kind="A", port="pc1", **more):
    query = dns.message.make_query(name, kind, **more)
    said = server.answer_untrusted(query.to_wire(), port)
    return said if isinstance(said, Forwarded) else dns.message.from_wire(said)


def test_a_name_of_the_lan_is_answered_with_authority():
    server, _ = make()
    said = ask(server, "pc1.lan")
    assert said.rcode() == dns.rcode.NOERROR
    assert said.answer[0].to_text() == "pc1.lan. 30 IN A 10.77.0.2"
    assert said.flags & (dns.flags.AA | dns.flags.QR | dns.flags.RD | dns.flags.RA) == (
        dns.flags.AA | dns.flags.QR | dns.flags.RD
    )
    assert ask(server, "nobody.lan").rcode() == dns.rcode.NXDOMAIN
    assert not server.drops


def test_names_of_others_are_refused_where_nobody_is_asked():
    server, _ = make()
    said = ask(server, "example.com")
    assert (said.rcode(), said.flags & dns.flags.RA) == (dns.rcode.REFUSED, 0)
    assert server.drops == {NamesDrop.NAMES_REFUSED: 1}
    server, _ = make(forwards=True)
    assert isinstance(ask(server, "example.com"), Forwarded)
    not_wished = ask(server, "example.com", flags=0)  # RD is not set
    assert not_wished.rcode() == dns.rcode.REFUSED


def test_the_policy_of_a_port():
    server, noted = make(forwards=True)
    assert isinstance(ask(server, "www.example.com", port="sandbox"), Forwarded)
    assert ask(server, "pc1.lan", port="lonely").answer
    for port, name in (("sandbox", "evil.org"), ("sandbox", "notexample.com"), ("lonely", "a.b")):
        assert ask(server, name, port=port).rcode() == dns.rcode.NXDOMAIN
    assert noted == [("sandbox", "evil.org"), ("sandbox", "notexample.com"), ("lonely", "a.b")]
    assert server.drops == {NamesDrop.NAMES_NOT_ALLOWED: 3}


def test_a_dot_inside_a_label_is_no_way_around_a_policy():
    """Labels may hold dots (RFC 2181 11): this one is below com, and not below example.com."""
    server, noted = make(forwards=True)
    asked = dns.message.make_query(dns.name.Name((b"evil.example", b"com", b"")), "A")
    said = dns.message.from_wire(server.answer_untrusted(asked.to_wire(), "sandbox"))
    assert said.rcode() == dns.rcode.NXDOMAIN
    assert noted == [("sandbox", r"evil\.example.com")]
    assert isinstance(ask(server, "WWW.eXample.COM", port="sandbox"), Forwarded)


def test_edns_and_truncation():
    server, _ = make(*[f"big TXT {'x' * 60}{number:02}" for number in range(60)])
    plain = ask(server, "big.lan", "TXT", use_edns=False)
    assert plain.flags & dns.flags.TC
    assert plain.edns == -1
    more = ask(server, "big.lan", "TXT", use_edns=0, payload=4096)
    assert more.edns == 0
    assert more.payload == 1452
    assert more.flags & dns.flags.TC
    assert len(more.to_wire()) <= 1452
    assert ask(server, "pc1.lan", use_edns=0, payload=100).answer  # less than 512 means 512
    odd = dns.message.make_query("pc1.lan", "A", use_edns=1)
    said = dns.message.from_wire(server.answer_untrusted(odd.to_wire(), "pc1"))
    assert said.rcode() == dns.rcode.BADVERS


def test_who_wants_padding_gets_none():
    """It is for encrypted paths (RFC 7830 6), and would make answers larger than may be."""
    padding = dns.edns.GenericOption(dns.edns.OptionType.PADDING, b"")
    server, _ = make(*[f"big TXT {'x' * 60}{number:02}" for number in range(6)])
    said = ask(server, "big.lan", "TXT", use_edns=0, payload=512, options=[padding])
    assert len(said.answer[0]) == 6
    assert said.options == ()


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_transfers_are_refused(kind):
    server, _ = make()
    assert ask(server, "lan", kind).rcode() == dns.rcode.REFUSED
    assert ask(server, "pc1.lan", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_what_is_no_question():
    server, _ = make()
    query = dns.message.make_query("pc1.lan", "A").to_wire()
    answer = query[:2] + bytes((query[2] | 0x80,)) + query[3:]
    assert server.answer_untrusted(answer, "pc1") is None  # or two servers would talk for ever
    assert server.answer_untrusted(query[:11], "pc1") is None
    for wire in (query[:-3], query[:4] + b"\0\2" + query[6:], query[:4] + bytes(8)):
        said = server.answer_untrusted(wire, "pc1")
        assert said[:2] == query[:2]
        assert said[3] & 15 == dns.rcode.FORMERR
        assert len(said) == 12
    assert server.drops == {NamesDrop.NAMES_MALFORMED: 5}
    update = query[:2] + b"\x28" + query[3:]
    assert server.answer_untrusted(update, "pc1")[3] & 15 == dns.rcode.NOTIMP


def test_an_answer_that_is_passed_on_keeps_what_a_stub_needs():
    server, _ = make(forwards=True)
    query = dns.message.make_query("WWW.example.com", "A", use_edns=False)
    said = dns.message.make_response(dns.message.make_query("www.example.com", "A"))
    said.answer.append(dns.rrset.from_text("www.example.com.", 9, "IN", "A", "192.0.2.1"))
    said.authority.append(dns.rrset.from_text("example.com.", 9, "IN", "NS", "a.example.com."))
    reply = dns.message.from_wire(server.passed_on(query, said))
    assert reply.id == query.id
    assert reply.question == query.question
    assert reply.answer == said.answer
    assert reply.authority == []
    assert reply.edns == -1
    assert reply.flags & dns.flags.RA
    assert not reply.flags & dns.flags.AA
    nothing = dns.message.from_wire(server.passed_on(query, None))
    assert nothing.rcode() == dns.rcode.SERVFAIL


class Asker:
    """A station that asks names."""

    def __init__(self, port, number=0x11):
        self.port = port
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self.ip = ip_address(f"10.77.0.{number}")

    async def send(self, query):
        await self.port.send(udp(query.to_wire(), source=self.ip, mac=self.mac))

    async def receive(self):
        with trio.fail_after(5):
            while True:
                frame = await self.port.receive_frame()
                if frame[:6] == self.mac:
                    return dns.message.from_wire(frame[42:])


async def test_over_the_lan():
    server, noted = make(forwards=True)
    asked = []

    async def resolver(query):
        asked.append(query)
        await trio.sleep_forever()

    async with (
        open_switch() as switch,
        open_host(switch, station_of(switch, MAC, INTERFACE)) as host,
        switch.open_port("pc1") as one,
        switch.open_port("sandbox") as two,
        trio.open_nursery() as nursery,
    ):
        server.drops = host.station.drops
        await nursery.start(serve_names, host, server, resolver)
        pc1, sandbox = Asker(one), Asker(two, 0x12)
        await pc1.send(dns.message.make_query("pc1.lan", "A"))
        assert (await pc1.receive()).answer[0].to_text() == "pc1.lan. 30 IN A 10.77.0.2"
        # The policy goes by the port, whoever the frame says that it is.
        await sandbox.send(dns.message.make_query("evil.org", "A"))
        assert (await sandbox.receive()).rcode() == dns.rcode.NXDOMAIN
        assert noted == [("sandbox", "evil.org")]
        # A resolver that is silent for one is free for another.
        for number in range(MAX_FORWARDED_OF_PORT + 1):
            await pc1.send(dns.message.make_query(f"n{number}.org", "A"))
        assert (await pc1.receive()).rcode() == dns.rcode.SERVFAIL
        assert host.describe().dropped[NamesDrop.NAMES_BUSY] == 1
        await sandbox.send(dns.message.make_query("a.example.com", "A"))
        with trio.fail_after(5):
            while len(asked) <= MAX_FORWARDED_OF_PORT:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_a_resolver_that_answers_is_passed_on():
    server, _ = make(forwards=True)

    async def resolver(query):
        said = dns.message.make_response(query)
        said.answer.append(dns.rrset.from_text("a.org.", 9, "IN", "A", "192.0.2.1"))
        return said

    async with (
        open_switch() as switch,
        open_host(switch, station_of(switch, MAC, IPv4Interface("10.77.0.1/24"))) as host,
        switch.open_port("pc1") as one,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(partial(serve_names, host, server, resolver))
        pc1 = Asker(one)
        await pc1.send(dns.message.make_query("a.org", "A"))
        assert (await pc1.receive()).answer[0][0].address == "192.0.2.1"
        nursery.cancel_scope.cancel()
