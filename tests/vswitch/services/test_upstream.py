"""Questions to resolvers: real sockets on the loopback, and a resolver that lies."""

from collections import Counter
from functools import partial
from ipaddress import IPv4Address

import dns.flags
import dns.message
import dns.rrset
import pytest
import trio

from vswitch.addresses import HostPort
from vswitch.errors import BadRecord
from vswitch.services.names import NamesDrop
from vswitch.services.upstream import PATIENCE, Upstream, answer_untrusted, servers_of


def answer(query, *, name=None, address="192.0.2.1"):
    said = dns.message.make_response(query)
    said.answer.append(dns.rrset.from_text(name or query.question[0].name, 9, "IN", "A", address))
    return said


async def resolver(replies, *, task_status):
    """Sends for each question what `replies` makes of it."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        task_status.started(HostPort("127.0.0.1", sock.getsockname()[1]))
        while True:
            wire, peer = await sock.recvfrom(4096)
            for reply in replies(dns.message.from_wire(wire)):
                await sock.sendto(reply, peer)


def make(server, drops=None):
    return Upstream(lambda: [server], Counter() if drops is None else drops)


QUERY = dns.message.make_query("a.example.com", "A")


async def test_ids_and_ports_are_drawn_anew():
    seen = []

    def replies(query):
        seen.append(query.id)
        return [answer(query).to_wire()]

    async with trio.open_nursery() as nursery:
        server = await nursery.start(resolver, replies)
        upstream = make(server)
        for _ in range(3):
            said = await upstream.ask(QUERY)
            assert said.answer[0][0].address == "192.0.2.1"
        assert len({QUERY.id, *seen}) > 2
        nursery.cancel_scope.cancel()


async def test_answers_to_something_else_are_counted_and_waited_past():
    def replies(query):
        wrong = answer(query)
        wrong.id ^= 1
        other = answer(dns.message.make_query("b.example.com", "A", id=query.id))
        right = answer(query, address="192.0.2.7")
        return [b"junk", *(each.to_wire() for each in (wrong, other, right))]

    drops = Counter()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(resolver, replies)
        said = await make(server, drops).ask(QUERY)
        assert said.answer[0][0].address == "192.0.2.7"
        assert drops == {NamesDrop.NAMES_SPOOFED: 3}
        nursery.cancel_scope.cancel()


async def test_what_is_cut_is_asked_for_over_tcp():
    def cut(query):
        said = dns.message.make_response(query)
        said.flags |= dns.flags.TC
        return [said.to_wire()]

    async def whole(stream):
        size = int.from_bytes(await stream.receive_some(2))
        query = dns.message.from_wire(await stream.receive_some(size))
        await stream.send_all(answer(query).to_wire(prepend_length=True))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(resolver, cut)
        await nursery.start(partial(trio.serve_tcp, whole, server.port, host="127.0.0.1"))
        said = await make(server).ask(QUERY)
        assert said.answer[0][0].address == "192.0.2.1"
        nursery.cancel_scope.cancel()


async def test_nobody_answers(autojump_clock):
    assert await Upstream(list, Counter()).ask(QUERY) is None
    async with trio.open_nursery() as nursery:
        server = await nursery.start(resolver, lambda query: [])
        begun = trio.current_time()
        assert await make(server).ask(QUERY) is None
        assert trio.current_time() - begun == pytest.approx(2 * PATIENCE)
        nursery.cancel_scope.cancel()


def test_the_resolvers_of_the_system_but_not_this_server(tmp_path, monkeypatch):
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr("vswitch.services.upstream.RESOLV_CONF", path)
    servers = servers_of(("system",), IPv4Address("10.77.0.1"))
    assert servers() == []
    path.write_text(
        "# comment\nsearch lan\nnameserver 10.77.0.1\nnameserver 127.0.0.53\nnameserver x\n"
        "nameserver\nnameserver fe80::1%eth0\nnameserver \nnameserver\t192.0.2.53\n"
        "nameservers 192.0.2.9\n"
    )
    assert servers() == [
        HostPort("127.0.0.53", 53),
        HostPort("fe80::1%eth0", 53),
        HostPort("192.0.2.53", 53),
    ]
    fixed = servers_of(("9.9.9.9:53", "[::1]:5353"), IPv4Address("10.77.0.1"))
    assert fixed() == [HostPort("9.9.9.9", 53), HostPort("::1", 5353)]


def test_an_answer_has_the_question():
    with pytest.raises(BadRecord):
        answer_untrusted(b"\0" * 5, QUERY)
    with pytest.raises(BadRecord):
        answer_untrusted(QUERY.to_wire(), QUERY)
    assert answer_untrusted(answer(QUERY).to_wire(), QUERY).answer
