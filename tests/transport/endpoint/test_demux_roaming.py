"""A client that moves, a NAT that forgets, and somebody who only pretends."""

import pytest

from transport.constants import AMPLIFICATION, REKEY_AFTER
from transport.path.keepalive import KEEPALIVE, KEEPALIVE_JITTER
from transport.session.events import PathChanged
from transport.testing.cores import client_and_server
from transport.wire.datagrams import CONTROL, DATA

SPOOFED = ("203.0.113.9", 999)


def path_events(host):
    events = iter(host.session.next_event, None)
    return [event for event in events if isinstance(event, PathChanged)]


def test_a_client_that_moves_takes_its_session_along():
    wire, client, server = client_and_server(delay=0.02)
    home = client.address
    client.send(b"from home")
    wire.advance(0.1)
    wire.rebind(client, ("198.18.0.7", 5555))
    client.send(b"from away")
    wire.advance(0.1)
    assert server.session.paths.current == client.address != home
    assert path_events(server) == [PathChanged(client.address)]
    assert server.session.statistics(wire.now).path_changes == 1
    server.send(b"found you")
    wire.advance(0.1)
    assert server.read() == [b"from home", b"from away"]
    assert client.read() == [b"found you"]


def test_an_idle_client_is_found_again_by_its_keepalive():
    wire, client, server = client_and_server(delay=0.02)
    wire.advance(1.0)
    wire.rebind(client, ("198.18.0.7", 5555))
    server.send(b"into the void at first")
    wire.advance(KEEPALIVE * (1 + KEEPALIVE_JITTER) + 3.0)
    assert client.read() == [b"into the void at first"]


def test_a_nat_that_forgets_every_five_seconds_costs_nothing():
    wire, client, server = client_and_server(delay=0.02)
    up, down = [], []
    for step in range(600):
        if step % 50 == 0:
            wire.rebind(client, (client.address[0], 10_000 + step))
        client.send(b"u%d" % step)
        server.send(b"d%d" % step)
        wire.advance(0.1)
        up += server.read()
        down += client.read()
    wire.advance(2.0)
    assert up + server.read() == [b"u%d" % step for step in range(600)]
    assert down + client.read() == [b"d%d" % step for step in range(600)]
    assert server.demux.sessions == 1
    assert server.session.statistics(wire.now).path_changes == 12


def test_a_move_while_data_flows_to_the_client():
    wire, client, server = client_and_server(delay=0.02)
    sent, got = [], []
    for step in range(200):
        if step == 100:
            wire.rebind(client, ("198.18.0.7", 5555))
        batch = [bytes([step]) * 1376] * 4
        server.send(*batch)
        sent += batch
        wire.advance(0.02)
        got += client.read()
    # Who only receives has nothing to say before its keepalive is due.
    wire.advance(KEEPALIVE * (1 + KEEPALIVE_JITTER) + 3.0)
    assert got + client.read() == sent


def test_a_copied_datagram_from_elsewhere_moves_nothing():
    """Copied on its way and faster than the original: the original is then the replay."""
    wire, client, server = client_and_server(delay=0.02)
    wire.advance(1.0)
    home = client.address
    copied_bytes = 0

    def copy(datagram):
        nonlocal copied_bytes
        if datagram.source == home:
            copied_bytes += len(datagram.data)
            return [type(datagram)(datagram.data, SPOOFED, datagram.destination), datagram]
        return [datagram]

    wire.filter = copy
    wire.sent.clear()
    got = []
    for step in range(200):
        client.send(b"u%d" % step)
        server.send(bytes(1000))
        wire.advance(0.05)
        got += server.read()
        assert server.session.paths.current == home
    victim = sum(len(each.data) for each in wire.sent if each.destination == SPOOFED)
    assert 0 < victim <= AMPLIFICATION * copied_bytes
    assert not [e for e in wire.sent if e.destination == SPOOFED and e.data[0] == DATA]
    assert got == [b"u%d" % step for step in range(200)]
    assert len(client.read()) == 200
    assert path_events(server) == []


def test_a_single_copy_brings_at_most_three_times_its_bytes():
    wire, client, server = client_and_server()
    for size in (0, 1, 30, 500, 1376):
        client.send(bytes(size))
        (datagram,) = [each for each in wire.collect() if each.source == client.address]
        wire._on_the_way.clear()
        server.inject(datagram.data, SPOOFED)
        wire.sent.clear()
        wire.settle()
        answer = sum(len(each.data) for each in wire.sent if each.destination == SPOOFED)
        assert 0 < answer <= AMPLIFICATION * len(datagram.data)
        assert server.session.paths.current == client.address
        wire.advance(2.0)


@pytest.mark.parametrize("answered_from", ["elsewhere", "old-path"])
def test_only_an_answer_from_the_new_address_counts(answered_from):
    wire, client, server = client_and_server()
    home = client.address
    client.send(b"x")
    (datagram,) = wire.collect()
    wire._on_the_way.clear()
    server.inject(datagram.data, SPOOFED)
    challenges = [each for each in wire.collect() if each.destination == SPOOFED]
    wire._on_the_way.clear()
    # The attacker passes the challenge on, and the client answers in good faith.
    client.inject(challenges[0].data, server.address)
    (answer,) = [each for each in wire.collect() if each.source == home]
    wire._on_the_way.clear()
    source = home if answered_from == "old-path" else ("203.0.113.10", 1)
    server.inject(answer.data, source)
    assert server.session.paths.current == home


def test_an_old_datagram_from_elsewhere_is_no_reason_to_look_there():
    """Only what is newer than everything before may be a move; the rest was reordered."""
    wire, client, server = client_and_server()
    wire.cut()
    client.send(b"first")
    (late,) = wire.collect()
    wire.heal()
    client.send(b"second")
    wire.settle()
    wire.sent.clear()
    server.inject(late.data, SPOOFED)
    wire.settle()
    assert not [each for each in wire.sent if each.destination == SPOOFED]


def test_an_old_datagram_from_elsewhere_does_not_disturb_a_move():
    wire, client, server = client_and_server()
    wire.cut()
    client.send(b"late")
    (late,) = wire.collect()
    wire.rebind(client, ("198.18.0.7", 5555))
    client.send(b"from away")
    (moved,) = [each for each in wire.collect() if each.source == client.address]
    server.inject(moved.data, client.address)
    (challenge,) = [each for each in wire.collect() if each.destination == client.address]
    server.inject(late.data, SPOOFED)
    client.inject(challenge.data, server.address)
    answers = [each for each in wire.collect() if each.source == client.address]
    for answer in answers:
        server.inject(answer.data, client.address)
    assert server.session.paths.current == client.address


def test_a_datagram_under_the_previous_keys_moves_nothing():
    wire, client, server = client_and_server()
    old = client.session.keys.current.sealer
    wire.advance(1.0)
    client.session.keys.rekey_at = wire.now
    client.demux.touch(client.session)
    wire.settle()
    assert server.session.statistics(wire.now).rekeys == 1
    wire.advance(2.0)
    wire.sent.clear()
    server.inject(old.seal(DATA, b""), SPOOFED)
    wire.settle()
    assert server.session.drops == {}  # it opens
    assert not [each for each in wire.sent if each.destination == SPOOFED]


def test_a_copied_confirmation_of_new_keys_from_elsewhere_moves_nothing():
    wire, client, server = client_and_server(delay=0.01)
    wire.advance(1.0)
    home = client.address
    client.session.keys.rekey_at = wire.now + 0.1
    client.demux.touch(client.session)
    wire.filter = lambda each: (
        [type(each)(each.data, SPOOFED, each.destination), each]
        if each.source == home and each.data[0] == CONTROL
        else [each]
    )
    wire.sent.clear()
    wire.advance(0.3)
    assert server.session.statistics(wire.now).rekeys == 1
    assert server.session.paths.current == home
    wire.advance(1.0)
    assert server.session.paths.current == home


def test_a_rekey_from_a_new_address_moves_the_path():
    wire, client, server = client_and_server(delay=0.01)
    wire.advance(1.0)
    client.session.keys.rekey_at = wire.now + 0.5
    client.demux.touch(client.session)
    wire.rebind(client, ("198.18.0.7", 5555))
    wire.advance(0.6)
    assert server.session.statistics(wire.now).rekeys == 1
    assert server.session.paths.current == client.address
    assert server.session.statistics(wire.now).path_changes == 0  # no challenge was needed


def test_a_move_right_after_the_answer_to_a_rekey_does_not_lead_back():
    wire, client, server = client_and_server(delay=0.01)
    wire.advance(REKEY_AFTER - 1)
    while server.demux.half_open == 0:
        wire.advance(0.005)
    home, away = client.address, ("198.18.0.7", 5555)
    wire.rebind(client, away)
    client.demux.receive_datagrams(  # what was under way to the old address still arrives
        [(each.data, each.source) for _, each in wire._on_the_way if each.destination == home],
        wire.now,
    )
    wire.advance(3.0)
    assert server.session.statistics(wire.now).rekeys == 1
    client.send(b"from away")
    wire.advance(1.0)
    assert server.session.paths.current == away
    assert server.read() == [b"from away"]


def test_a_server_does_not_move():
    """A client goes on sending where it connected to; only a peer that was connected to roams."""
    wire, client, server = client_and_server()
    server.send(b"x")
    (datagram,) = wire.collect()
    wire._on_the_way.clear()
    client.inject(datagram.data, SPOOFED)
    wire.settle()
    assert client.session.paths.current == server.address
    assert client.read() == [b"x"]
    assert not [each for each in wire.sent if each.destination == SPOOFED]
