"""A session's datagram lane, between two demuxes in memory."""

import pytest

from transport.constants import DATA_HEADER_SIZE
from transport.lanes.datagram import CLEAN_BYTES, REPORT_INTERVAL
from transport.path.keepalive import SUSPECT_AFTER
from transport.testing.cores import client_and_server
from transport.wire.control import Arrivals, encode_control
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM


def opened(**options):
    wire, client, server = client_and_server(**options)
    for host in (client, server):
        host.session.open_datagrams(wire.now)
    wire.advance(0.2)
    return wire, client, server


def send(wire, host, *messages):
    host.session.datagrams.send(messages, wire.now)
    host.demux.touch(host.session)


def read(host):
    return host.session.datagrams.take_messages()


def lane_datagrams(wire):
    return [each for each in wire.sent if each.data[0] == DATAGRAM]


@pytest.mark.parametrize("size", [0, 1, 1384, 1400, 1401, 5000, 62_288])
def test_a_message_is_a_unit_and_comes_as_it_was(size):
    wire, client, server = opened()
    message = bytes(range(256)) * (size // 256 + 1)
    send(wire, client, message[:size], b"next")
    wire.settle()
    assert read(server) == [message[:size], b"next"]
    send(wire, server, message[:size])
    wire.settle()
    assert read(client) == [message[:size]]
    assert client.session.drops == server.session.drops == {}


def test_nothing_else_leaves_for_it_but_reports():
    wire, client, server = opened()
    wire.sent.clear()
    for _ in range(100):
        send(wire, client, bytes(1000))
        wire.advance(0.01)
    kinds = [each.data[0] for each in wire.sent]
    assert kinds.count(DATAGRAM) == 100
    assert DATA not in kinds
    assert kinds.count(CONTROL) <= 1 + 1.0 / REPORT_INTERVAL
    wire.advance(1.0)
    wire.sent.clear()
    wire.advance(9.0)
    assert wire.sent == []
    assert len(read(server)) == 100


def test_before_both_have_agreed_it_is_dropped_and_counted():
    wire, client, server = client_and_server()
    assert client.session.datagrams is None
    client.session.open_datagrams(wire.now)
    send(wire, client, b"x", b"y")
    wire.settle()
    assert server.session.drops == {"loose_unasked": 2}
    assert server.session.datagrams is None
    assert not server.session.readable


def test_a_unit_of_which_a_slice_is_missing_is_lost_alone():
    wire, client, server = opened()
    lost = []

    def filtered(datagram):
        if datagram.data[0] == DATAGRAM and datagram.data[1] == 2 and not lost:
            lost.append(datagram)
            return []
        return [datagram]

    wire.filter = filtered
    send(wire, client, bytes(6000), b"a" * 6000)
    wire.advance(10.0)
    assert lost
    assert read(server) == [b"a" * 6000]
    assert len(lane_datagrams(wire)) == 10  # nothing was repeated


def test_losses_are_learned_from_reports_and_make_units_small():
    wire, client, server = opened(delay=0.02)
    lane = client.session.lanes.datagrams
    for _ in range(CLEAN_BYTES // 1000 + 100):
        send(wire, client, bytes(1000))
        wire.advance(0.01)
    assert lane.message_size == lane.max_message
    wire.filter = lambda d: [d] if d.data[0] != DATAGRAM or wire.random.random() > 0.1 else []
    for _ in range(100):
        send(wire, client, bytes(1000))
        wire.advance(0.01)
    assert lane.message_size < 1500
    assert client.session.lanes.lost_at > wire.now - 1.0
    lost = client.session.statistics(wire.now).datagram_lost
    read(server)
    assert 1 <= lost <= 30


def test_probes_of_a_path_are_no_losses():
    wire, client, server = opened(delay=0.02)
    wire.largest = 9000
    wire.filter = lambda d: [d] if len(d.data) <= 1300 else []
    for _ in range(1000):
        send(wire, client, bytes(500))
        wire.advance(0.02)
    assert client.session.statistics(wire.now).datagram_lost == 0
    assert len(read(server)) == 1000


def test_a_path_that_shrinks_is_noticed_without_kcp():
    wire, client, server = opened(delay=0.02)
    wire.advance(30.0)
    wire.filter = lambda d: [d] if len(d.data) <= 1000 else []
    for _ in range(500):
        send(wire, client, bytes(1300))
        wire.advance(0.02)
    read(server)
    for _ in range(10):
        send(wire, client, bytes(1300))
        wire.advance(0.02)
    assert len(read(server)) == 10
    assert client.session.statistics(wire.now).datagram_size <= 1000


def test_a_silent_peer_gets_next_to_nothing():
    wire, client, _ = opened()
    send(wire, client, b"x")
    wire.cut()
    wire.advance(SUSPECT_AFTER + 0.1)
    wire.sent.clear()
    for _ in range(100):
        send(wire, client, bytes(1000))
        wire.advance(0.01)
    assert lane_datagrams(wire) == []
    assert client.session.drops["loose_silent"] >= 100
    wire.heal()
    wire.advance(2.0)
    send(wire, client, b"back")
    wire.settle()
    assert len(lane_datagrams(wire)) == 1


def test_new_keys_lose_nothing():
    wire, client, server = opened(delay=0.02)
    sent = []
    for number in range(300):
        if number in (100, 200):
            client.session.keys.rekey_at = wire.now
            client.demux.touch(client.session)
        for host in (client, server):
            send(wire, host, number.to_bytes(2, "big"))
        sent.append(number.to_bytes(2, "big"))
        wire.advance(0.01)
    wire.advance(1.0)
    assert client.session.statistics(wire.now).rekeys == 2
    assert read(server) == read(client) == sent
    wire.advance(60.0)
    sealed = server.session.keys.totals()[0]
    refused = server.session._probing.unanswered  # by the interface, as too large
    assert client.session.keys.totals()[1:] == (sealed - refused, sealed)
    assert client.session.statistics(wire.now).datagram_lost == 0


def test_a_unit_may_be_what_confirms_new_keys():
    wire, client, server = opened(delay=0.02)
    wire.filter = lambda d: [] if d.data[0] == CONTROL else [d]
    client.session.keys.rekey_at = wire.now
    client.demux.touch(client.session)
    wire.advance(0.1)
    send(wire, client, b"first under them")
    wire.advance(0.1)
    assert server.session.statistics(wire.now).rekeys == 1
    assert read(server) == [b"first under them"]


def test_reports_that_lie_only_change_how_their_writer_is_sent_to():
    wire, client, server = opened()
    seal = server.session.keys.current.sealer.seal
    for received, expected in ((0, 2**64 - 1), (0, 1), (2**64 - 1, 2**64 - 1)):
        item = encode_control(Arrivals(received, expected))
        client.inject(seal(CONTROL, item), server.address)
    send(wire, client, bytes(3000))
    send(wire, server, bytes(3000))
    wire.settle()
    assert read(server) == read(client) == [bytes(3000)]
    assert client.session.ended is None


def test_a_report_without_the_lane_is_ignored():
    wire, client, server = client_and_server()
    seal = server.session.keys.current.sealer.seal
    client.inject(seal(CONTROL, encode_control(Arrivals(1, 1))), server.address)
    wire.settle()
    assert client.session.lanes.datagrams is None
    assert client.session.drops == {}


def test_slices_of_another_type_make_no_unit():
    _, client, server = opened()
    train, size = client.session.keys.current.sealer.seal_unit(DATAGRAM, bytes(3000), 1400)
    pieces = [bytearray(train[at : at + size]) for at in range(0, len(train), size)]
    pieces[0][0] = DATA
    for piece in pieces:
        server.inject(bytes(piece), client.address)
    assert server.session.drops["bad_seal"] == len(pieces)
    assert read(server) == []


def test_the_end_leaves_what_had_come():
    wire, client, server = opened()
    send(wire, client, b"last words")
    wire.settle()
    client.close(7, "enough")
    wire.settle()
    assert server.session.readable
    assert read(server) == [b"last words"]
    assert not server.session.readable
    send(wire, client, b"after it")
    wire.settle()
    assert read(server) == []


def test_what_is_held_counts():
    wire, client, server = opened()
    before = server.session.lanes.held
    send(wire, client, bytes(50_000))
    wire.settle()
    assert server.session.lanes.held >= before + 50_000
    read(server)
    assert server.session.lanes.held == before


def test_units_follow_the_size_of_the_path():
    wire, client, _ = opened(delay=0.02)
    wire.largest = 9000
    wire.advance(700.0)
    assert client.session.lanes.datagrams.max_message > 8000
    size = client.session.statistics(wire.now).datagram_size
    assert size > 8000
    wire.sent.clear()
    send(wire, client, bytes(8000))
    wire.settle()
    (datagram,) = lane_datagrams(wire)
    assert len(datagram.data) == 8000 + DATA_HEADER_SIZE + 16
