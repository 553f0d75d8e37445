"""A session: messages, credit, back-pressure, liveness and the end, between two real ones."""

import random

import pytest

from transport.congestion.controller import INITIAL_WINDOW
from transport.constants import (
    ACK_BYTES,
    ACK_DELAY,
    CLOSE_REPEATS,
    DATA_HEADER_SIZE,
    INBOX_BYTES,
    KCP_HEADER_SIZE,
    KCP_MTU,
    MESSAGE_COST,
    RECEIVE_BYTES,
    SLICE_SIZE,
    STALL_PROBE,
    STREAM_ACK_DELAY,
    SUSPECT_SEND_INTERVAL,
    TAG_SIZE,
    TOMBSTONE,
)
from transport.lanes.units import unit_bytes
from transport.path.keepalive import DEAD_AFTER, KEEPALIVE, KEEPALIVE_JITTER, SUSPECT_AFTER
from transport.testing.cores import client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import CONTROL, DATA, Suite

MOST = (KCP_MTU + TAG_SIZE) // SLICE_SIZE  # slices of a unit


def numbered(count, size=500):
    return [number.to_bytes(4, "big") * (size // 4) for number in range(count)]


def of_kind(wire, kind):
    return [each for each in wire.sent if each.data[0] == kind]


def grow_units(wire, client, server):
    """Use a good path until sealed units are as large as they become."""
    while client.session.bulk.message_size < KCP_MTU - KCP_HEADER_SIZE:
        while client.session.bulk.credit > 0:
            client.send(bytes(client.session.bulk.message_size))
        wire.advance(0.01)
        server.read()
        assert wire.now < 5_000 + 60
    wire.advance(1.0)
    server.read()
    assert client.session.drained


def one_way(wire, blocked):
    """Nothing arrives at `blocked`."""
    wire.filter = lambda each: [] if each.destination == blocked.address else [each]


# --- Messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(Suite))
def test_messages_both_ways(suite):
    wire, client, server = client_and_server(suite=suite)
    up, down = numbered(50), numbered(30, 3000)
    client.send(*up)
    server.send(*down)
    wire.advance(1.0)
    assert server.read() == up
    assert client.read() == down
    assert client.session.drained
    assert server.session.drained


def test_messages_leave_without_waiting_for_a_timer():
    wire, client, server = client_and_server()
    client.send(b"now")
    wire.settle()
    assert wire.now == 5_000.0
    assert server.read() == [b"now"]
    wire.advance(ACK_DELAY)
    assert client.session.in_flight == 0


def test_much_is_acknowledged_at_once():
    wire, client, server = client_and_server()
    client.send(bytes(ACK_BYTES))
    while not server.read():
        assert client.session.in_flight >= ACK_BYTES
        wire.advance(STREAM_ACK_DELAY / 10)
    assert client.session.in_flight == 0


def test_an_answer_brings_the_acknowledgement_with_it():
    wire, client, server = client_and_server()
    client.send(b"question")
    wire.settle()
    wire.sent.clear()
    server.send(b"answer")
    wire.settle()
    assert client.session.in_flight == 0
    assert len(wire.sent) == 1


def lone_message(wire, client, server, *, answer=False):
    """One after a while; whether it was acknowledged without waiting."""
    wire.advance(0.05)
    client.send(b"lone")
    wire.settle()
    assert server.read() == [b"lone"]
    at_once = client.session.in_flight == 0
    if answer:
        server.send(b"answer")
        wire.settle()
        assert client.read() == [b"answer"]
    return at_once


def test_where_nothing_answers_an_acknowledgement_does_not_wait():
    wire, client, server = client_and_server()
    assert [lone_message(wire, client, server) for _ in range(6)] == [False] * 3 + [True] * 3
    # The next one has gone already when an answer comes, and those after it wait again.
    assert lone_message(wire, client, server, answer=True)
    assert not lone_message(wire, client, server, answer=True)
    assert not lone_message(wire, client, server)


def test_messages_that_follow_each_other_are_acknowledged_together():
    wire, client, server = client_and_server()
    for _ in range(4):
        lone_message(wire, client, server)
    wire.advance(0.05)
    wire.sent.clear()
    for _ in range(4):
        client.send(b"quick")
        wire.settle()
        wire.advance(ACK_DELAY / 10)
    wire.advance(ACK_DELAY)
    assert len(wire.sent) == 4 + 2  # the first by itself, the others together


def test_a_batch_of_messages_that_fill_a_unit_is_as_many_datagrams():
    wire, client, server = client_and_server(delay=0.01)
    slice_size = client.session.bulk.slice_size
    assert client.session.bulk.message_size == unit_bytes(1, slice_size) - KCP_HEADER_SIZE
    client.send(*[bytes(client.session.bulk.message_size)] * 5)
    full = slice_size + DATA_HEADER_SIZE
    assert [len(each.data) for each in wire.collect() if each.data[0] == DATA] == [full] * 5
    grow_units(wire, client, server)
    wire.sent.clear()
    client.send(*[bytes(client.session.bulk.message_size)] * 5)
    wire.advance(0.1)
    sizes = [len(each.data) for each in wire.sent if each.source == client.address]
    assert len(sizes) == 5 * client.session.bulk._units.most
    assert max(sizes) <= client.session.bulk.slice_size + DATA_HEADER_SIZE


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_loss_duplication_reordering_and_damage(loss):
    wire, client, server = client_and_server(delay=0.02)
    rng = random.Random(3)
    sent = [rng.randbytes(rng.randrange(3000)) for _ in range(200)]
    held = []

    def trouble(datagram):
        out = [] if rng.random() < loss else [datagram]
        if out and rng.random() < 0.1:
            damaged = bytearray(datagram.data)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            out.append(type(datagram)(bytes(damaged), datagram.source, datagram.destination))
        if rng.random() < 0.1:
            held.append(datagram)
        if held and rng.random() < 0.1:
            out.append(held.pop(0))
        return out

    wire.filter = trouble
    got = []
    waiting = list(sent)
    while len(got) < len(sent):
        while waiting and client.session.bulk.credit > 0:
            client.send(waiting.pop(0))
        wire.advance(0.05)
        got += server.read()
        assert wire.now < 5_000 + 60
    assert got == sent
    assert server.session.drops.keys() <= {
        "replay",
        "bad_seal",
        "malformed",
        "incomplete",
        "repeated",
    }


def test_a_message_that_is_too_long():
    wire, client, server = client_and_server()
    with pytest.raises(ValueError, match="at most"):
        client.session.bulk.send([bytes(client.session.bulk.max_message + 1)], wire.now)
    client.send(bytes(client.session.bulk.max_message))
    wire.advance(10.0)  # in pieces, as nothing is known of the path
    assert server.read() == [bytes(client.session.bulk.max_message)]


# --- Credit and back-pressure ------------------------------------------------------------------


def test_bytes_in_flight_are_bounded():
    wire, client, _ = client_and_server(delay=0.05)
    session = client.session
    assert session.bulk.credit == session.statistics(wire.now).window > 0
    wire.cut()
    while session.bulk.credit > 0:
        client.send(bytes(1000))
        wire.collect()
    assert session.in_flight <= session.statistics(wire.now).window + 1000
    wire.heal()
    wire.advance(1.0)
    assert session.in_flight == 0
    assert session.bulk.credit > 0


def test_in_flight_returns_to_zero_whatever_is_lost():
    wire, client, server = client_and_server(delay=0.01)
    wire.filter = lambda each: [each] if wire.random.random() > 0.2 else []
    for _ in range(50):
        client.send(*numbered(5))
        wire.advance(0.05)
        server.read()
    wire.advance(3.0)
    assert client.session.in_flight == 0


def test_a_reader_that_does_not_read_holds_the_sender_back_and_loses_nothing():
    wire, client, server = client_and_server(delay=0.001)
    sent = []
    for _ in range(1500):
        if client.session.bulk.credit > 0:
            batch = numbered(16, 1376)
            client.send(*batch)
            sent += batch
        wire.advance(0.01)
    assert client.session.bulk.credit <= 0
    held = len(sent) * 1376 - client.session.in_flight
    assert INBOX_BYTES * 0.9 < held < INBOX_BYTES + RECEIVE_BYTES + client.session.bulk.max_message
    assert client.session.ended is None
    assert server.session.ended is None
    got = []
    for _ in range(300):
        got += server.read()
        wire.advance(0.01)
    assert got == sent
    assert client.session.drained


def test_empty_messages_fill_an_inbox_too():
    wire, client, server = client_and_server()
    for _ in range(100):
        client.send(*[b""] * 1000)
        wire.advance(ACK_DELAY)
    held = len(server.session.bulk.inbox)
    assert held <= INBOX_BYTES // MESSAGE_COST + 1
    got = 0
    while messages := server.read():
        assert set(messages) == {b""}
        got += len(messages)
        wire.advance(ACK_DELAY)
    assert got == 100_000


def test_what_was_held_back_can_be_read_after_the_end():
    """It is acknowledged, so the other side believes that it has arrived."""
    wire, client, server = client_and_server(delay=0.001)
    sent = 0
    while sent < 4000:
        if client.session.bulk.credit > 0:
            client.send(*[bytes(1376)] * 8)
            sent += 8
        wire.advance(0.01)
    wire.advance(1.0)
    assert client.session.drained
    client.close()
    wire.advance(0.1)
    assert server.session.ended.by_peer
    assert sum(map(len, iter(lambda: server.read() or None, None))) == 4000


# --- Liveness ----------------------------------------------------------------------------------


def test_an_idle_session_costs_its_keepalives_and_rekeys():
    wire, client, server = client_and_server(delay=0.02)
    wire.advance(1.0)
    wire.sent.clear()
    wire.advance(3600.0)
    shortest = KEEPALIVE * (1 - KEEPALIVE_JITTER)
    pings_and_answers = 2 * 3600 / shortest
    rekeys = 3600 / 120
    assert len(wire.sent) < pings_and_answers * 1.5 + rekeys * 6
    assert client.session.ended is None
    assert server.session.ended is None
    assert not of_kind(wire, DATA)


def test_keepalives_come_in_time():
    wire, _, _ = client_and_server()
    wire.advance(1.0)
    gaps = []
    for _ in range(20):
        wire.sent.clear()
        start = wire.now
        while not of_kind(wire, CONTROL):
            wire.advance(0.1)
        gaps.append(wire.now - start)
    assert max(gaps) <= KEEPALIVE * (1 + KEEPALIVE_JITTER) + 0.1
    assert len(set(gaps)) > 5


def test_both_sides_know_the_round_trip():
    wire, client, server = client_and_server(delay=0.025)
    wire.advance(1.0)
    assert client.session.statistics(wire.now).rtt == pytest.approx(0.05)
    wire.advance(2 * KEEPALIVE)  # the server asks when it is asked
    assert server.session.statistics(wire.now).rtt == pytest.approx(0.05)
    client.send(b"x")
    wire.advance(1.0)
    late = ACK_DELAY  # a lone message is acknowledged that much later
    assert client.session.round_trip == pytest.approx(0.05 + late)
    assert client.session.statistics(wire.now).rtt == pytest.approx(0.05)  # of pings alone


def test_a_round_trip_is_measured_when_somebody_asks():
    wire, _, server = client_and_server(delay=0.025)
    wire.advance(1.0)
    assert server.session.statistics(wire.now).rtt is None
    server.session.measure(wire.now)
    assert server.session.statistics(wire.now).measuring
    server.send(b"x")  # what is asked leaves with it
    wire.advance(0.1)
    assert not server.session.statistics(wire.now).measuring
    assert server.session.statistics(wire.now).rtt == pytest.approx(0.05)
    server.session.measure(wire.now)  # just asked
    assert not server.session.statistics(wire.now).measuring


def test_towards_a_silent_peer_little_is_sent():
    wire, client, server = client_and_server()
    sent = numbered(1200, 20)
    client.send(*sent[:200])
    wire.cut()
    wire.advance(SUSPECT_AFTER)
    wire.sent.clear()
    for number in range(200, 1200):
        client.send(sent[number])
        wire.advance(0.01)
    data = of_kind(wire, DATA)
    most = 10 / SUSPECT_SEND_INTERVAL + 1
    assert most / 2 < len(data) <= most  # often enough to notice soon that the path heals
    assert sum(len(each.data) for each in data) <= most * 1432
    assert len(of_kind(wire, CONTROL)) == pytest.approx(10 + 10 / STALL_PROBE, abs=3)
    wire.heal()
    wire.advance(2.0)
    assert server.read() == sent
    assert client.session.drained
    assert client.session.drops == {}


def test_towards_a_silent_peer_large_units_are_rare():
    wire, client, server = client_and_server(delay=0.01)
    grow_units(wire, client, server)
    client.send(*[bytes(client.session.bulk.message_size)] * 3)
    wire.cut()
    wire.advance(SUSPECT_AFTER)
    wire.sent.clear()
    wire.advance(50.0)
    data = of_kind(wire, DATA)
    assert 2 * MOST <= len(data) <= 50 / SUSPECT_SEND_INTERVAL + 2 * MOST
    wire.heal()
    wire.advance(4.0)
    assert client.session.drained


def test_what_was_held_back_leaves_when_the_peer_is_heard():
    """And not when the gate would have opened: for a large unit that is seconds later."""
    wire, client, server = client_and_server(delay=0.01)
    grow_units(wire, client, server)
    client.send(*[bytes(client.session.bulk.message_size)] * 3)
    wire.cut()
    wire.advance(SUSPECT_AFTER + 20.0)
    while client.session.bulk.probe_allowed_at <= wire.now + 2.5:
        wire.advance(0.1)  # to just after a probe
    wire.heal()
    server.send(b"here")
    wire.advance(2.0)
    assert client.session.drained
    assert len(server.read()) == 3


def test_a_large_unit_of_a_path_that_has_become_narrow_gets_through():
    """No more than six datagrams in a row, and one each 4 ms."""
    wire, client, server = client_and_server(delay=0.01)
    grow_units(wire, client, server)
    tokens, last = 6.0, wire.now

    def narrow(datagram):
        nonlocal tokens, last
        if datagram.source != client.address:
            return [datagram]
        tokens, last = min(6.0, tokens + (wire.now - last) / 0.004), wire.now
        if tokens < 1:
            return []
        tokens -= 1
        return [datagram]

    wire.filter = narrow
    client.send(*[bytes(client.session.bulk.message_size)] * 4)
    wire.advance(12.0)
    assert len(server.read()) == 4
    assert client.session.drained


def test_the_end_with_much_that_has_not_left():
    wire, client, server = client_and_server(delay=0.02)
    grow_units(wire, client, server)
    wire.cut()
    while client.session.bulk.credit > 0:
        client.send(bytes(client.session.bulk.message_size))
    wire.advance(2.0)
    assert client.session.in_flight > 0
    client.close()
    wire.heal()
    wire.advance(TOMBSTONE + 1.0)
    assert client.demux.sessions == server.demux.sessions == 0
    assert client.demux.deadline() is None


def test_new_keys_in_the_middle_of_a_transfer():
    wire, client, server = client_and_server(delay=0.02)
    got, sent = [], 0
    for step in range(200):
        for _ in range(20):
            if client.session.bulk.credit <= 0:
                break
            client.send(sent.to_bytes(4, "big") * 1000)  # longer than a datagram
            sent += 1
        if step % 20 == 0:
            client.session.keys.rekey_at = wire.now
            client.demux.touch(client.session)
        wire.advance(0.01)
        got += server.read()
    wire.advance(1.0)
    got += server.read()
    assert client.session.statistics(wire.now).rekeys >= 9
    assert [int.from_bytes(message[:4], "big") for message in got] == list(range(sent))
    assert client.session.drained


def test_towards_a_silent_peer_repetitions_are_one_unit_at_a_time():
    wire, client, _ = client_and_server()
    wire.cut()
    client.send(*[bytes(1376)] * 90)  # in one unit each, once something was repeated
    wire.advance(SUSPECT_AFTER + 1.0)
    most = 0
    for _ in range(50):
        wire.sent.clear()
        wire.advance(SUSPECT_SEND_INTERVAL)
        most = max(most, len({each.data[8:16] for each in of_kind(wire, DATA)}))
    assert most == 1


@pytest.mark.parametrize("outage", [1.0, 5.0, 30.0, 55.0])
@pytest.mark.parametrize("direction", ["both", "to-client", "to-server"])
def test_a_partition_heals_and_loses_nothing(outage, direction):
    wire, client, server = client_and_server(delay=0.02)
    up, down = numbered(40), numbered(40, 1376)
    client.send(*up[:20])
    server.send(*down[:20])
    wire.advance(0.01)
    if direction == "both":
        wire.cut()
    else:
        one_way(wire, client if direction == "to-client" else server)
    client.send(*up[20:])
    server.send(*down[20:])
    wire.advance(outage)
    wire.heal()
    wire.advance(3.0)
    assert server.read() == up
    assert client.read() == down
    wire.advance(60.0)
    assert client.session.ended is None
    assert server.session.ended is None
    assert len(client.events) == len(server.events) == 1


@pytest.mark.parametrize("deaf", ["client", "server"])
def test_a_path_that_is_dead_in_one_direction_is_as_silent_as_one_that_is_dead(deaf):
    """One end hears what the other says by itself, and never an answer."""
    wire, client, server = client_and_server(delay=0.02)
    for host in (client, server):
        host.send(b"x")
    wire.advance(1.0)
    one_way(wire, client if deaf == "client" else server)
    for _ in range(round(10 * SUSPECT_AFTER)):
        assert not client.session.silent(wire.now)
        for host in (client, server):
            host.send(b"x")
        wire.advance(0.1)
    wire.advance(0.1)
    assert client.session.silent(wire.now)
    assert server.session.silent(wire.now)
    wire.heal()
    wire.advance(2.0)
    assert client.session.drained
    assert server.session.drained
    assert not client.session.silent(wire.now)
    assert not server.session.silent(wire.now)


@pytest.mark.parametrize("reads", [True, False])
def test_a_peer_that_answers_is_never_silent(reads):
    """However much is sent, and where its window is shut, too: it is asked, and says so."""
    wire, client, server = client_and_server(delay=0.2)
    for _ in range(200):
        while client.session.bulk.credit > 0:
            client.send(bytes(client.session.bulk.message_size))
        wire.advance(0.05)
        if reads:
            server.read()
        assert not client.session.silent(wire.now)


def test_a_peer_that_is_gone_ends_the_session():
    wire, client, server = client_and_server()
    client.send(b"x")
    wire.cut()
    wire.advance(DEAD_AFTER - 0.5)
    assert client.session.ended is None
    assert server.session.ended is None
    wire.advance(1.0)
    for host in (client, server):
        assert host.session.ended.code == CloseCode.TIMEOUT
        assert not host.session.ended.by_peer
        assert host.demux.sessions == 0


# --- The end -----------------------------------------------------------------------------------


def test_close_reaches_the_peer():
    wire, client, server = client_and_server()
    server.close(42, "because")
    assert server.session.ended.by_peer is False
    wire.settle()
    ended = client.session.ended
    assert (ended.code, ended.reason, ended.by_peer) == (42, "because", True)
    wire.advance(TOMBSTONE)
    assert client.demux.sessions == server.demux.sessions == 0


def test_close_is_repeated():
    wire, client, server = client_and_server()
    wire.sent.clear()
    wire.cut()
    client.close(1, "x")
    start = wire.now
    times = []
    while wire.now < start + TOMBSTONE:
        times += [wire.now - start] * len(of_kind(wire, CONTROL))
        wire.sent.clear()
        wire.advance(0.01)
    assert times == pytest.approx(list(CLOSE_REPEATS), abs=0.011)
    assert client.demux.sessions == 0
    assert server.session.ended is None


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_close_is_made_up_for(lost):
    wire, client, server = client_and_server()
    closes = []
    wire.filter = lambda each: closes.append(each) or ([each] if len(closes) > lost else [])
    client.close(7)
    wire.advance(0.3)
    assert server.session.ended.code == 7


def test_after_the_end_nothing_is_sent_and_nothing_taken():
    wire, client, server = client_and_server()
    client.close()
    client.close(9, "again")
    wire.advance(10.0)
    assert client.session.ended.code == 0
    client.send(b"nobody hears this")
    wire.sent.clear()
    wire.advance(10.0)
    assert wire.sent == []
    assert server.read() == []
    assert client.session.in_flight == 0


def test_both_sides_may_close_at_once():
    wire, client, server = client_and_server(delay=0.05)
    client.close(5)
    server.close(6)
    wire.advance(1.0)
    assert client.session.ended.code == 5
    assert server.session.ended.code == 6
    assert client.demux.sessions == server.demux.sessions == 0


def test_statistics():
    wire, client, server = client_and_server(delay=0.01)
    client.send(bytes(1000))
    wire.advance(10.0)
    mine, theirs = (host.session.statistics(wire.now) for host in (client, server))
    assert mine.sent_datagrams == theirs.received_datagrams > 0
    assert mine.sent_bytes == theirs.received_bytes > 1000
    assert theirs.sent_datagrams == mine.received_datagrams
    assert mine.age == pytest.approx(10.03, abs=0.01)
    assert mine.in_flight == 0
    assert mine.window == INITIAL_WINDOW
    assert mine.drops == theirs.drops == {}
