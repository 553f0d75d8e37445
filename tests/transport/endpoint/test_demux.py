"""Sorting datagrams: who gets what, and one named counter for everything that nobody gets."""

import re
import struct
from pathlib import Path

import pytest

import transport
from transport.constants import (
    ACK_DELAY,
    MAX_SLICES,
    PARTIAL_BYTES,
    SEALED_OVERHEAD,
    TOMBSTONE,
)
from transport.crypto.cipher import conversation_number
from transport.handshake.initiator import Connected
from transport.lanes.arrivals import SEGMENT_COST
from transport.stats import DROP_REASONS
from transport.testing.cores import client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    COOKIE,
    DATA,
    HEADER,
    INIT,
    INIT_SLICE,
    RESET,
    RESPONSE,
    RESPONSE_SLICE,
    Suite,
)

STRANGER = ("203.0.113.9", 999)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "unknown_type"),
        (b"\x00" * 100, "unknown_type"),
        (b"\x06" * 24, "unexpected"),
        (b"\x06" * 23, "malformed"),
        (b"\x06" * 8 + bytes(16), "malformed"),
        (b"\x07" * 100, "unknown_index"),
        (b"\x07" * 31, "malformed"),
        (b"\x0a" * 100, "unknown_type"),
        (b"\x08" * 100, "bad_version"),
        (bytes([INIT_SLICE, 1, 0, 3]) + bytes(544), "bad_mac1"),
        (bytes([INIT_SLICE, 1, 0, 1]) + bytes(60), "malformed"),
        (bytes([RESPONSE_SLICE, 1, 2, 3]) + bytes(288), "unexpected"),
        (bytes([RESPONSE_SLICE, 1, 3, 3]) + bytes(60), "malformed"),
        (b"\xff", "unknown_type"),
        (bytes([DATA]), "malformed"),
        (HEADER.pack(DATA, 0, 1, 0, 1, 0) + bytes(15), "malformed"),
        (HEADER.pack(DATA, 0, 1, 0, 1, 0) + bytes(16), "unknown_index"),
        (HEADER.pack(5, 0, 1, 0, 0, 0) + bytes(16), "unknown_index"),
        (bytes([INIT]), "malformed"),
        (bytes([RESPONSE, 1]) + bytes(138), "unexpected"),
        (bytes([RESPONSE]), "malformed"),
        (bytes([COOKIE, 1]) + bytes(62), "unexpected"),
        (bytes([COOKIE]), "malformed"),
    ],
)
def test_what_nobody_gets_is_counted_and_not_answered(datagram, reason):
    wire, _, server = client_and_server()
    sessions, received = server.demux.sessions, server.demux.received
    server.inject(datagram, STRANGER)
    assert server.demux.drops == {reason: 1}
    assert wire.collect() == []
    assert server.demux.sessions == sessions
    assert server.demux.received == received + 1


def test_every_reason_is_documented_and_used():
    """A counter that nothing increments would tell an operator that all is well."""
    directory = Path(transport.__file__).parent
    sources = {path.name: path.read_text() for path in directory.rglob("*.py")}
    del sources["stats.py"]
    code = "\n".join(sources.values())
    raised = set(re.findall(r'BadPacket\(\s*"(\w+)"', code))
    raised |= set(re.findall(r'drops\["(\w+)"\]', code))
    raised |= set(re.findall(r'cookie_for\(.*?"(\w+)"', code))
    assert raised == set(DROP_REASONS)


def test_receiver_index_not_address_selects_the_session():
    wire, client, server = client_and_server()
    client.send(b"from somewhere else")
    (datagram,) = wire.collect()
    wire._on_the_way.clear()
    server.inject(datagram.data, STRANGER)
    assert server.read() == [b"from somewhere else"]
    assert server.session.paths.current == client.address


def test_replayed_datagrams_change_nothing_but_their_counter():
    wire, client, server = client_and_server(delay=0.01)
    for number in range(5):
        client.send(f"message {number}".encode())
        wire.advance(0.05)
    server.read()
    recorded = [each for each in wire.sent if each.source == client.address]
    sealed = [each for each in recorded if each.data[0] in (4, 5)]
    before = server.session.statistics(wire.now)
    wire.now += 0.001
    for each in sealed:
        server.inject(each.data, STRANGER)
        server.inject(each.data, client.address)
    after = server.session.statistics(wire.now)
    assert after.drops == {"replay": 2 * len(sealed)}
    assert after.received_datagrams == before.received_datagrams
    assert after.idle == pytest.approx(before.idle + 0.001)  # a replay is no sign of life
    assert wire.collect() == []
    assert not server.session.readable
    assert server.session.paths.current == client.address


def test_segments_forged_without_keys_never_reach_kcp():
    """One segment with a wild acknowledgement would empty the send buffer."""
    wire, client, server = client_and_server()
    client.send(*[bytes(1000)] * 20)
    wire.cut()
    wire.collect()
    in_flight = client.session.in_flight
    index = client.session.keys.current.local_index
    wild = (0x7FFFFFFF).to_bytes(4, "little")
    segment = bytes(4) + b"\x54\x00\x80\x00" + bytes(8) + wild + bytes(4)
    for counter in range(100):
        forged = HEADER.pack(DATA, 0, 1, 0, index, 10**6 + counter) + segment + bytes(16)
        client.inject(forged, server.address)
    assert client.session.in_flight == in_flight > 20_000
    assert client.session.drops == {"bad_seal": 100}
    wire.heal()
    wire.advance(1.0)
    assert server.read() == [bytes(1000)] * 20


def test_a_batch_from_several_sessions_and_addresses_keeps_its_order():
    wire, client, server = client_and_server()
    other = wire.host("192.0.2.2")
    server.demux._responder._admission._authority.keys[other.identity.public] = (
        server.demux._responder._admission._authority.keys[client.identity.public]
    )
    first = server.session
    other.connect(server)
    wire.settle()
    second = server.session
    batch = []
    for number in range(6):
        sender = (client, other)[number % 2]
        sender.send(bytes([number]))
        batch += [(each.data, each.source) for each in wire.collect()]
        wire._on_the_way.clear()
    server.demux.receive_datagrams(batch, wire.now)
    assert first.bulk.take_messages() == [b"\x00", b"\x02", b"\x04"]
    assert second.bulk.take_messages() == [b"\x01", b"\x03", b"\x05"]


def test_many_datagrams_at_once_are_acknowledged_at_once():
    wire, client, server = client_and_server()
    client.send(*[bytes(600)] * 36)  # what may leave at once before the path is known
    wire.collect()
    wire._deliver()
    answers = wire.collect()
    wire.advance(ACK_DELAY)
    assert len(answers) <= 1  # 36 acknowledgements of 24 bytes
    assert len(server.read()) == 36


# --- Trains --------------------------------------------------------------------------------------


def sealed(host, *contents):
    """Data datagrams under the host's keys, not sent."""
    seal = host.session.keys.current.sealer.seal
    return [seal(DATA, content) for content in contents]


def test_a_train_is_its_datagrams():
    wire, client, server = client_and_server()
    before = server.demux.received
    received = server.session.statistics(wire.now).received_datagrams
    train = sealed(client, *[b""] * 10)
    server.demux.receive_trains([(b"".join(train), client.address, 32)], wire.now)
    assert server.demux.received == before + 10
    assert server.session.drops == server.demux.drops == {}
    assert server.session.statistics(wire.now).received_datagrams == received + 10
    server.demux.receive_trains([(b"".join(train), client.address, 32)], wire.now)
    assert server.session.drops == {"replay": 10}


def test_a_train_for_nobody_is_counted_by_the_datagram():
    wire, _, server = client_and_server()
    train = b"".join(HEADER.pack(DATA, 0, 1, 0, 1, n) + bytes(20) for n in range(10))
    server.demux.receive_trains([(train[:-1], STRANGER, 36)], wire.now)
    assert server.demux.drops == {"unknown_index": 10}


def test_a_train_of_several_types_and_owners():
    """The kernel joins what one sender sends in one size, whatever it is."""
    wire, client, server = client_and_server()
    received = server.session.statistics(wire.now).received_datagrams
    first, last = sealed(client, b"", b"")
    other = HEADER.pack(DATA, 0, 1, 0, 1, 0) + bytes(16)
    train = first + other + b"\x09" * 32 + last
    server.demux.receive_trains([(train, client.address, 32)], wire.now)
    assert sum((server.demux.drops + server.session.drops).values()) == 2
    assert server.session.statistics(wire.now).received_datagrams == received + 2


def test_a_forged_end_does_not_spoil_a_train():
    wire, client, server = client_and_server()
    good = sealed(client, *[b""] * 5)
    for size in (1, 8, 15, 31):
        server.demux.receive_trains(
            [(b"".join(good) + good[0][:size], client.address, 32)], wire.now
        )
    assert server.demux.drops == {"malformed": 4}
    assert server.session.drops == {"replay": 15}


def test_a_long_train_for_a_handshake_that_waits():
    """Whoever saw the response knows the index; a flood there must not cost us the stack."""
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    wire.collect()
    wire._deliver()
    wire.collect()
    (entry,) = server.demux._responder.half_open._entries.values()
    junk = [HEADER.pack(DATA, 0, 1, 0, entry.pair.local_index, n) + bytes(16) for n in range(4000)]
    server.demux.receive_trains([(b"".join(junk), STRANGER, 32)], wire.now)
    assert server.demux.drops == {"bad_seal": 4000}
    assert server.demux.received == 4001
    wire.settle()
    assert server.demux.sessions == 1


def test_a_train_that_confirms_and_goes_on():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    wire.collect()
    wire._deliver()
    wire.collect()
    wire._deliver()
    wire.collect()
    wire._on_the_way.clear()
    train = sealed(client, *[b""] * 6)
    server.demux.receive_trains([(b"".join(train), client.address, 32)], wire.now)
    wire.collect()
    assert server.session.statistics(wire.now).received_datagrams == 6
    assert server.demux.drops == server.session.drops == {}


def test_slices_of_strangers_are_bounded():
    """Who can read a path can write slices of units that never become whole."""
    wire, client, server = client_and_server()
    index = server.session.keys.current.local_index
    for place in range(MAX_SLICES - 1):
        for unit in range(300):
            size = 16 if place == 0 else 60_000  # small ones first, to get many units going
            slice_ = HEADER.pack(DATA, place, MAX_SLICES, 0, index, 1000 + unit) + bytes(size)
            server.inject(slice_, STRANGER)
        assert server.session.reassembly.waiting <= 300
        assert server.session.reassembly.held <= PARTIAL_BYTES
    assert server.session.drops["incomplete"] > 0
    client.send(bytes(200_000))
    wire.advance(1.0)
    assert server.read() == [bytes(200_000)]


# --- The end of sessions -------------------------------------------------------------------------


def test_a_session_that_is_over_answers_late_datagrams_for_a_while():
    wire, client, server = client_and_server()
    wire.cut()
    server.close(CloseCode.SHUTDOWN, "going")
    wire.advance(TOMBSTONE - 0.1)
    wire.heal()
    client.send(b"late")
    wire.settle()
    assert client.session.ended.code == CloseCode.SHUTDOWN
    assert client.session.ended.reason == "going"
    wire.advance(TOMBSTONE)
    assert server.demux.sessions == 0


def test_after_its_tombstone_a_session_is_unknown():
    wire, client, server = client_and_server()
    wire.cut()
    server.close(CloseCode.SHUTDOWN)
    wire.advance(TOMBSTONE + 0.1)
    assert server.demux.sessions == 0
    assert not server.demux._indices.owners
    wire.heal()
    client.send(b"too late")
    wire.sent.clear()
    wire.settle()
    answers = [each.data[0] for each in wire.sent if each.source == server.address]
    assert answers == [RESET, RESPONSE]
    assert set(server.demux.drops) == {"unknown_index"}
    assert client.session.ended.reason == "the peer has lost the session"


def test_an_idle_endpoint_has_no_deadline():
    _, client, server = client_and_server(connected=False)
    assert client.demux.deadline() is None
    assert server.demux.deadline() is None


def test_a_deadline_is_never_left_in_the_past():
    wire, client, server = client_and_server(delay=0.02)
    client.send(bytes(5000))
    for _ in range(2000):
        due = wire.deadline()
        assert due is not None
        assert due > wire.now
        wire.advance(due - wire.now)
    assert server.read() == [bytes(5000)]
    assert wire.now > 5_000 + 1_000


def test_live_sessions_of_both_sides():
    _, client, server = client_and_server()
    assert client.demux.live_sessions() == [client.session]
    assert server.demux.live_sessions() == [server.session]


def test_abandoned_indices_are_free_again():
    wire, client, server = client_and_server()
    assert len(server.demux._indices.owners) == 1
    for _ in range(10):
        wire.advance(131.0)  # rekeys
        assert len(server.demux._indices.owners) <= 2
        assert len(client.demux._indices.owners) <= 3
    client.close()
    wire.advance(10.0)
    assert not client.demux._indices.owners
    assert not server.demux._indices.owners


@pytest.mark.parametrize("suite", list(Suite))
def test_a_server_takes_both_suites(suite):
    wire, client, server = client_and_server(suite=suite)
    client.send(b"x" * 5000)
    wire.advance(0.01)
    assert server.read() == [b"x" * 5000]
    assert server.session.statistics(wire.now).suite == suite.name


def test_two_connections_at_once_leave_one_session():
    """The shell asks all addresses of a server side by side; here both lead to the same."""
    wire, client, server = client_and_server(connected=False)
    winner, loser = client.connect(server), client.connect(server)
    wire.settle()
    connected = [event for event in client.events if isinstance(event, Connected)]
    for event in connected[1:]:
        event.session.fail(CloseCode.NORMAL, "not wanted")
        client.demux.touch(event.session)
    assert {event.negotiation for event in connected} <= {winner, loser}
    wire.advance(10.0)
    assert server.demux.sessions == 1
    assert server.demux.half_open == 0


def test_the_smallest_datagram_is_a_keepalive():
    wire, client, server = client_and_server()
    wire.now += 1.0
    empty = client.session.keys.current.sealer.seal(DATA, b"")
    assert len(empty) == SEALED_OVERHEAD
    server.inject(empty, client.address)
    assert server.session.statistics(wire.now).idle == 0.0
    assert server.session.drops == {}


def test_what_an_interface_refuses_for_nobody_is_counted():
    wire, _client, server = client_and_server()
    size = server.session.statistics(wire.now).datagram_size
    server.demux.too_big([(STRANGER, 500, 3, "")], [server.session], wire.now)
    assert server.demux.drops == {"too_big": 3}
    assert server.session.statistics(wire.now).datagram_size == size
    assert server.session.drops == {}


def test_what_an_interface_refuses_did_not_leave_and_is_smaller_from_now_on():
    wire, _client, server = client_and_server()
    before = server.session.statistics(wire.now)
    server.send(*[bytes(1200)] * 3)
    ((train, address, size),) = server.demux.datagrams_to_send(wire.now)
    assert len(train) == 3 * size
    server.demux.too_big([(address, size, 2, "")], [server.session], wire.now)
    assert server.session.drops == {"too_big": 2}
    after = server.session.statistics(wire.now)
    assert after.datagram_size < size
    assert after.sent_datagrams == before.sent_datagrams + -(-len(train) // size) - 2
    assert after.sent_bytes == before.sent_bytes + len(train) - 2 * size
    assert server.session in server.demux.touched


def test_what_one_session_sends_is_refused_to_no_other_at_its_address():
    """A member that comes again, from where it was, has two sessions there for a while."""
    wire, client, server = client_and_server()
    first = server.session
    other = wire.host("192.0.2.2", identity=client.identity)
    other.connect(server)
    wire.advance(0.0)
    second = server.session
    assert first is not second
    second.paths.moved(first.paths.current, wire.now)
    second.bulk.send([bytes(1200)] * 3, wire.now)
    for session in (first, second):
        server.demux.touch(session)
    before, sent = first.statistics(wire.now), second.statistics(wire.now).sent_bytes
    trains = server.demux.datagrams_to_send(wire.now)
    refused = [(address, size, -(-len(data) // size), "") for data, address, size in trains]
    server.demux.too_big(refused, [first, second], wire.now)
    after = first.statistics(wire.now)
    assert (after.sent_bytes, after.drops) == (before.sent_bytes, before.drops)
    assert second.drops["too_big"] > 0
    assert second.statistics(wire.now).sent_bytes == sent


def test_a_train_of_junk_is_counted_without_being_cut(monkeypatch):
    _, client, server = client_and_server()
    demux, before = server.demux, server.demux.received
    monkeypatch.setattr(demux, "receive_datagrams", None)  # what cuts a train ends here
    demux.receive_trains([(b"\xff" * 1000, client.address, 1)], 0.0)
    demux.receive_trains([(bytes([INIT]) * 1000, client.address, 23)], 0.0)
    demux.receive_trains([(bytes(8001), client.address, 1000)], 0.0)
    assert demux.drops == {"unknown_type": 1009, "malformed": 44}
    assert demux.received == before + 1053


def test_junk_in_front_of_a_train_does_not_hide_what_follows():
    _, client, server = client_and_server()
    known = server.session.keys.current.local_index.to_bytes(4, "little")
    forged = bytes([DATA, 0, 1, 0]) + known + bytes(40)
    server.demux.receive_trains([(b"\xff" * 48 + forged, client.address, 48)], 0.0)
    assert server.demux.drops == {"unknown_type": 1}
    assert server.session.drops.total() == 1


def test_slices_and_empty_segments_count_as_memory_of_their_session():
    wire, client, server = client_and_server()
    pair = client.session.keys.current
    train, size = pair.sealer.seal_unit(DATA, bytes(5000), 1000)
    server.demux.receive_trains([(bytes(train[:size]), client.address, size)], wire.now)
    server.demux.datagrams_to_send(wire.now)
    server.demux.settle(wire.now)
    assert server.demux._budget.total == size
    number = conversation_number(pair.handshake_hash)
    behind = [struct.pack("<IBBHIIII", number, 81, 0, 128, 0, sn, 0, 0) for sn in range(1, 101)]
    server.inject(pair.sealer.seal(DATA, b"".join(behind)), client.address)
    server.demux.datagrams_to_send(wire.now)
    server.demux.settle(wire.now)
    assert server.demux._budget.total == size + 100 * SEGMENT_COST
