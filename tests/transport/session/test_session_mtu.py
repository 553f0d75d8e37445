"""A session on paths of all sizes: probes, slices, refusals, black holes and roaming."""

import pytest

from transport.path.address import PATH_CHANGE_INTERVAL
from transport.path.keepalive import DEAD_AFTER, SUSPECT_AFTER
from transport.path.mtu import BASE_SIZE, RAISE_AFTER, USUAL_SIZE, grain
from transport.testing.cores import client_and_server
from transport.wire.datagrams import CONTROL, DATA

HEADERS = 28
JUMBO = 9000 - HEADERS


def path(wire, largest):
    """What is longer vanishes."""
    wire.filter = lambda each: [each] if len(each.data) <= largest else []


def pair(largest, *, delay=0.02, interface=JUMBO):
    """A session on such a path, and time for its search."""
    wire, client, server = client_and_server(delay=delay, connected=False)
    wire.largest = interface
    path(wire, largest)
    client.connect(server)
    wire.advance(60.0)
    return wire, client, server


def size_of(wire, host):
    return host.session.statistics(wire.now).datagram_size


def transfer(wire, source, target, content, patience):
    """Send messages that fill units until all have arrived; seconds that it took."""
    began, got, at = wire.now, [], 0
    while sum(map(len, got)) < len(content):
        while at < len(content) and source.session.bulk.credit > 0:
            step = source.session.bulk.message_size
            source.send(content[at : at + step])
            at += step
        wire.advance(0.01)
        got += target.read()
        assert wire.now < began + patience
    assert b"".join(got) == content
    return wire.now - began


@pytest.mark.parametrize("mtu", [600, 1000, 1280, 1300, 1420, 1500, 4096, 9000])
def test_both_sides_find_what_the_path_takes(mtu):
    most = mtu - HEADERS
    wire, client, server = pair(most)
    for host in (client, server):
        assert most - grain(most) <= size_of(wire, host) <= most
    wire.sent.clear()
    transfer(wire, client, server, bytes(500_000), 30.0)
    longest = max(len(each.data) for each in wire.sent if each.data[0] == DATA)
    assert size_of(wire, client) * 0.96 < longest <= size_of(wire, client)


def test_on_a_usual_path_it_is_over_after_a_round_trip():
    wire, client, server = client_and_server(delay=0.02)
    wire.advance(0.1)
    assert size_of(wire, client) == size_of(wire, server) == USUAL_SIZE
    wire.sent.clear()
    wire.advance(10.0)
    assert wire.sent == []


def test_probes_are_on_nobodys_bill():
    wire, client, server = client_and_server()
    assert client.session.drops == server.session.drops == {}
    mine, theirs = (host.session.statistics(wire.now) for host in (client, server))
    assert mine.sent_datagrams == theirs.received_datagrams
    assert mine.sent_bytes == theirs.received_bytes


@pytest.mark.parametrize("mtu", [1300, 1280, 1000])
@pytest.mark.parametrize("rtt", [0.002, 0.05, 0.3])
def test_a_path_that_shrinks_in_the_middle_of_a_transfer(mtu, rtt):
    """R13: noticed within 5 s, nothing lost."""
    wire, client, server = pair(1500 - HEADERS, delay=rtt / 2)
    transfer(wire, client, server, bytes(range(256)) * 2000, 30.0)
    for _ in range(20):
        client.send(bytes(client.session.bulk.message_size))
    wire.collect()
    wire._on_the_way.clear()  # a window is on its way into the hole
    path(wire, mtu - HEADERS)
    began, got = wire.now, 0
    while not got:
        wire.advance(0.05)
        got += len(server.read())
        assert wire.now < began + 5.0
    wire.advance(20.0)
    assert size_of(wire, client) <= mtu - HEADERS
    assert got + len(server.read()) == 20
    assert client.session.drained
    transfer(wire, client, server, bytes(range(256)) * 2000, 30.0)
    assert client.session.ended is server.session.ended is None


def test_a_path_that_shrinks_while_nothing_is_sent():
    wire, client, server = pair(1500 - HEADERS)
    path(wire, 1000 - HEADERS)
    wire.advance(100.0)
    transfer(wire, server, client, bytes(200_000), 5.0)


def test_a_path_that_grows_is_used_after_a_while():
    wire, client, server = pair(1300 - HEADERS)
    path(wire, JUMBO)
    wire.advance(RAISE_AFTER + 60)
    assert size_of(wire, client) == size_of(wire, server) == JUMBO


@pytest.mark.parametrize("before", [JUMBO, 1500 - HEADERS])
def test_roaming_to_a_smaller_path(before):
    wire, client, server = pair(before)
    assert size_of(wire, client) == size_of(wire, server) == before
    path(wire, 1300 - HEADERS)
    wire.rebind(client, ("203.0.113.9", 999))
    client.send(b"from elsewhere")
    wire.advance(1.0)
    assert server.session.paths.current == client.address
    assert size_of(wire, server) <= 1300 - HEADERS  # both know that the path is another one
    assert size_of(wire, client) <= 1300 - HEADERS
    assert server.read() == [b"from elsewhere"]
    transfer(wire, server, client, bytes(300_000), 10.0)


def test_probes_go_to_the_proven_path_alone():
    wire, client, server = pair(JUMBO)
    victim = ("203.0.113.9", 999)
    wire.advance(PATH_CHANGE_INTERVAL)
    wire.sent.clear()
    client.send(b"copied")
    (datagram,) = wire.collect()
    wire._on_the_way.clear()
    server.inject(datagram.data, victim)
    wire.settle()
    to_victim = [each for each in wire.sent if each.destination == victim]
    assert sum(len(each.data) for each in to_victim) <= 3 * len(datagram.data)


def test_rebinding_again_and_again_loses_nothing():
    wire, client, server = pair(JUMBO)
    for number in range(30):
        wire.rebind(client, ("203.0.113.9", 1000 + number))
        client.send(bytes([number]) * 5000)
        wire.advance(5.0)
        assert server.read() == [bytes([number]) * 5000]
    assert size_of(wire, server) == JUMBO


def test_an_interface_that_shrinks_under_a_transfer():
    """The kernel says so at once, so it takes a repetition and no search in the dark."""
    wire, client, server = pair(JUMBO)
    wire.largest = 1300 - HEADERS
    took = transfer(wire, client, server, bytes(300_000), 5.0)
    assert took < 2.0
    assert client.session.drops["too_big"] > 0
    assert 1300 - HEADERS - grain(1272) <= size_of(wire, client) <= 1300 - HEADERS


def test_a_silent_peer_gets_no_probes():
    wire, client, _ = pair(1500 - HEADERS)
    client.send(b"x")
    wire.cut()
    wire.advance(SUSPECT_AFTER + 0.5)
    wire.sent.clear()
    wire.advance(DEAD_AFTER - SUSPECT_AFTER - 5.0)
    sizes = [len(each.data) for each in wire.sent if each.data[0] == CONTROL]
    assert sizes
    assert max(sizes) < 100


def test_an_outage_says_nothing_about_sizes():
    wire, client, server = pair(1500 - HEADERS)
    client.send(*[bytes(50_000)] * 5)
    wire.cut()
    wire.advance(20.0)
    path(wire, 1500 - HEADERS)
    wire.advance(10.0)
    assert [len(message) for message in server.read()] == [50_000] * 5
    assert size_of(wire, client) == size_of(wire, server) == 1472


def test_a_peer_that_takes_fewer_slices_gets_no_more(monkeypatch):
    """As one that was made before datagrams had other sizes: 44 slices of 1,416 bytes."""
    monkeypatch.setattr("transport.handshake.attempt.MAX_SLICES", 44)
    wire, client, server = pair(1472, interface=1472)
    assert size_of(wire, server) == 1472
    path(wire, 1000)
    server.send(bytes(60_000))
    wire.advance(10.0)
    assert size_of(wire, server) == USUAL_SIZE > BASE_SIZE
    sent = [each for each in wire.sent if each.source == server.address and each.data[0] == DATA]
    assert max(each.data[2] for each in sent) <= 44
    assert client.read() == []
