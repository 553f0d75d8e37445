"""The responding side: nothing changes before a peer has proven its key, and little is kept."""

import pytest

from transport.constants import HYBRID_INIT_SIZE, HYBRID_RESPONSE_SIZE, INIT_SIZE
from transport.handshake import attempt as negotiation
from transport.handshake.admission import ANSWERS_PER_INIT, LOAD_THRESHOLD, Grant
from transport.handshake.cookie import MacStamper
from transport.handshake.initiator import Connected, Refused
from transport.handshake.responder import (
    HALF_OPEN_LIFETIME,
    HALF_OPEN_PER_PEER,
    HALF_OPEN_TOTAL,
    SESSION_BURST_PER_KEY,
    SESSIONS_PER_KEY,
)
from transport.testing.cores import KnownPeers, Wire, client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    COOKIE,
    INIT,
    RESPONSE,
    Credential,
    CredentialKind,
    Result,
    Suite,
)

TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")
PSK = b"\x33" * 32
ELSEWHERE = ("203.0.113.9", 999)


def drop(*kinds):
    """A filter for the wire: datagrams of these types are lost."""
    return lambda datagram: [] if datagram.data[0] in kinds else [datagram]


def inits(wire):
    return [datagram.data for datagram in wire.sent if datagram.data[0] == INIT]


def sent_by(wire, host):
    return [datagram for datagram in wire.sent if datagram.source == host.address]


def handshake_until_confirmation(wire):
    """Client's init, server's response; returns the client's first sealed datagram, not sent."""
    wire.collect()
    wire._deliver()
    wire.collect()
    wire._deliver()
    (datagram,) = wire.collect()
    wire._on_the_way.clear()
    return datagram


# --- Key confirmation --------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(Suite))
def test_a_session_begins_with_the_first_sealed_datagram(suite):
    wire, client, server = client_and_server(suite=suite, connected=False)
    client.connect(server)
    confirmation = handshake_until_confirmation(wire)
    assert (server.demux.sessions, server.demux.half_open) == (0, 1)
    assert server.events == []
    server.inject(confirmation.data, client.address)
    wire.settle()
    assert (server.demux.sessions, server.demux.half_open) == (1, 0)
    (accepted,) = server.events
    assert accepted.session.peer == client.identity.public
    assert accepted.session.keys.current.suite is suite


def test_the_first_datagram_is_not_lost_on_the_session():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    wire.filter = drop(5)  # the ping that would confirm
    wire.settle()
    client.send(b"this confirms as well")
    wire.settle()
    assert server.read() == [b"this confirms as well"]


def test_a_replayed_init_makes_no_session_and_disturbs_none():
    wire, client, server = client_and_server()
    (init,) = inits(wire)
    session, pair = server.session, server.session.keys.current
    wire.sent.clear()
    for number in range(50):
        wire.advance(0.5)
        server.inject(init, ELSEWHERE if number % 2 else client.address)
    wire.settle()
    assert server.demux.sessions == 1
    assert server.demux.half_open == 0  # its time is not newer than the confirmed one
    assert server.session is session
    assert session.keys.current is pair
    assert session.paths.current == client.address
    assert session.ended is None
    client.send(b"undisturbed")
    wire.settle()
    assert server.read() == [b"undisturbed"]
    to_attacker = [each for each in wire.sent if each.destination == ELSEWHERE]
    assert {each.data[0] for each in to_attacker} == {COOKIE}
    assert sum(len(each.data) for each in to_attacker) < 25 * INIT_SIZE


def test_an_init_that_was_never_confirmed_can_be_replayed_in_vain():
    wire, client, server = client_and_server(connected=False)
    wire.filter = drop(RESPONSE)
    client.connect(server, patience=0.5)
    wire.advance(60.0)
    (init,) = inits(wire)
    wire.heal()
    for _ in range(20):
        server.inject(init, ELSEWHERE)
        wire.advance(0.1)
    assert (server.demux.sessions, server.demux.half_open) == (0, 1)
    client.connect(server)  # must prove its address, since there is one half-open already
    wire.settle()
    assert server.demux.sessions == 1
    assert isinstance(client.events[-1], Connected)


def test_a_lost_response():
    wire, client, server = client_and_server(connected=False)
    lost = []
    wire.filter = lambda each: (
        [each] if lost or each.data[0] != RESPONSE else (lost.append(each) or [])
    )
    client.connect(server)
    wire.advance(2.0)
    assert len(lost) == 1
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)
    wire.advance(HALF_OPEN_LIFETIME)
    assert server.demux.half_open == 0


def test_a_lost_response_is_given_again_to_a_copy_of_its_init():
    """The same bytes: no second handshake waits, and no second key exchange was made."""
    wire, client, server = client_and_server(connected=False)
    known = server.demux._responder._admission._authority
    client.connect(server)
    (init,) = wire.collect()
    wire._on_the_way.clear()
    for _ in range(3):
        server.inject(init.data, client.address)
    responses = wire.collect()
    assert len(responses) == 3
    assert len({each.data for each in responses}) == 1
    assert (known.asked, server.demux.half_open) == (1, 1)
    assert server.demux.drops == {"repeated_init": 2}
    wire._on_the_way.popleft()  # the first answer and the second are lost
    wire._on_the_way.popleft()
    wire.settle()
    assert isinstance(client.events[0], Connected)
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)


def test_a_recorded_init_that_is_poured_in_costs_one_handshake_and_eight_answers():
    wire, client, server = client_and_server(connected=False)
    known = server.demux._responder._admission._authority
    client.connect(server, patience=0.3)
    (init,) = wire.collect()
    wire._on_the_way.clear()
    for _ in range(1000):
        server.inject(init.data, client.address)
    assert len(wire.collect()) == ANSWERS_PER_INIT
    assert known.asked == 1


def test_a_lost_confirmation():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    handshake_until_confirmation(wire)
    wire.settle()
    assert isinstance(client.events[-1], Connected)
    assert server.demux.sessions == 0
    wire.advance(3.0)  # the client finds the server suspect and asks
    assert server.demux.sessions == 1


def test_a_lost_confirmation_does_not_hold_large_units_up():
    """The slices of a unit confirm nothing, so the ping is sent again with them."""
    wire, client, server = client_and_server(connected=False, delay=0.01)
    wire.filter = drop(5)
    client.connect(server)
    wire.advance(0.05)
    client.send(bytes(200_000))
    wire.advance(0.05)
    assert server.demux.sessions == 0
    wire.heal()
    wire.advance(2.0)
    assert server.read() == [bytes(200_000)]


def test_new_keys_are_confirmed_at_once_though_the_ping_is_lost():
    wire, client, server = client_and_server(delay=0.01)
    wire.advance(1.0)
    client.session.keys.rekey_at = wire.now + 0.1
    client.demux.touch(client.session)
    lost = []

    def lose_one_ping(datagram):
        if datagram.data[0] == 5 and datagram.source == client.address and not lost:
            lost.append(datagram)
            return []
        return [datagram]

    wire.filter = lose_one_ping
    gap, last = 0.0, wire.now
    for _ in range(100):
        client.send(bytes(60_000))
        wire.advance(0.02)
        if server.read():
            gap, last = max(gap, wire.now - last), wire.now
    assert lost
    assert server.session.statistics(wire.now).rekeys == 1
    assert gap < 0.5


@pytest.mark.parametrize("slices", [1, 2, 44])
def test_units_have_as_many_slices_as_the_client_takes(slices, monkeypatch):
    wire, client, server = client_and_server(connected=False)
    monkeypatch.setattr(negotiation, "MAX_SLICES", slices)
    client.connect(server)
    wire.settle()
    wire.sent.clear()
    server.send(bytes(100_000))
    client.send(bytes(100_000))
    wire.advance(0.1)
    assert server.read() == client.read() == [bytes(100_000)]
    for host in (client, server):
        assert max(each.data[2] for each in sent_by(wire, host)) == slices


def test_a_confirmation_that_comes_too_late():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    confirmation = handshake_until_confirmation(wire)
    wire.now += HALF_OPEN_LIFETIME
    server.inject(confirmation.data, client.address)
    assert server.demux.drops == {"unexpected": 1}
    assert server.demux.sessions == 0
    server.demux.handle_timeout(wire.now)
    server.inject(confirmation.data, client.address)
    assert server.demux.drops == {"unexpected": 1, "unknown_index": 1}
    assert server.demux.half_open == 0


def test_a_forged_confirmation():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    confirmation = handshake_until_confirmation(wire)
    for bit in range(64, 8 * len(confirmation.data)):
        flipped = bytearray(confirmation.data)
        flipped[bit // 8] ^= 1 << bit % 8
        server.inject(bytes(flipped), ELSEWHERE)
    assert set(server.demux.drops) == {"bad_seal", "counter_limit"}
    assert server.demux.drops.total() == 8 * len(confirmation.data) - 64
    assert (server.demux.sessions, server.demux.half_open) == (0, 1)
    server.inject(confirmation.data, client.address)
    assert server.demux.sessions == 1


def test_a_copied_confirmation_from_elsewhere_moves_nothing():
    """Whoever copies the first sealed datagram and is faster has not read at its address."""
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    confirmation = handshake_until_confirmation(wire)
    server.inject(confirmation.data, ELSEWHERE)
    server.inject(confirmation.data, client.address)
    wire.advance(5.0)
    assert server.session.paths.current == client.address
    assert server.session.drops == {"replay": 1}
    assert not [each for each in wire.sent if each.destination == ELSEWHERE]


# --- Silence -----------------------------------------------------------------------------------


def test_a_stranger_hears_nothing():
    wire, _, server = client_and_server(connected=False)
    stranger = wire.host("192.0.2.66")
    stranger.connect(server)
    wire.advance(20.0)
    assert sent_by(wire, server) == []
    assert server.demux.drops["unknown_peer"] == len(inits(wire)) > 1
    assert (server.demux.sessions, server.demux.half_open) == (0, 0)


def test_a_wrong_secret_hears_nothing():
    wire = Wire()
    server = wire.host("198.51.100.1", authority=KnownPeers(credentials={TOKEN: Grant(PSK)}))
    guesser = wire.host("192.0.2.66")
    guesser.connect(server, credential=TOKEN, psk=b"\x34" * 32)
    wire.advance(20.0)
    assert sent_by(wire, server) == []
    assert server.demux.drops["bad_handshake"] == len(inits(wire)) > 1
    guesser.connect(server, credential=TOKEN, psk=PSK)
    wire.settle()
    assert server.events[-1].credential == TOKEN


def test_an_init_without_our_public_key_hears_nothing():
    wire, client, server = client_and_server(connected=False)
    other = wire.host("198.51.100.77", authority=KnownPeers())
    other.address = server.address  # believes to talk to another server there
    client.connect(other)
    wire.advance(20.0)
    assert sent_by(wire, server) == []
    assert set(server.demux.drops) == {"bad_mac1"}


@pytest.mark.parametrize("restamped", [False, True], ids=["as-it-is", "with-a-good-mac1"])
def test_every_bit_flip_of_an_init(restamped):
    """But in mac2, which counts under load only."""
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    (honest,) = (each.data for each in wire.collect())
    wire._on_the_way.clear()
    last = INIT_SIZE - (32 if restamped else 16)
    for bit in range(8 * last):
        flipped = bytearray(honest)
        flipped[bit // 8] ^= 1 << bit % 8
        data = bytes(flipped)
        if restamped:
            data = MacStamper(server.identity.public.raw).stamp(data[:200], wire.now)
        wire.now += 0.02
        server.inject(data, (f"10.0.{bit // 250}.{bit % 250}", 1))
    assert sum(server.demux.drops.values()) == 8 * last
    by_form = {"bad_version", "malformed", "unknown_type", "unexpected", "unknown_index"}
    by_key = {"bad_handshake"} if restamped else {"bad_mac1"}
    assert by_key <= set(server.demux.drops) <= by_form | by_key
    wire.collect()
    assert sent_by(wire, server) == []
    assert (server.demux.sessions, server.demux.half_open) == (0, 0)
    server.inject(honest, client.address)
    assert server.demux.half_open == 1


# --- Limits ------------------------------------------------------------------------------------


def test_half_open_handshakes_of_one_peer():
    wire, client, server = client_and_server(connected=False)
    wire.filter = drop(RESPONSE)  # and no attempt lasts until its first retry
    for number in range(HALF_OPEN_PER_PEER):
        client.connect(server, patience=0.3)
        wire.advance(0.5)
        assert server.demux.half_open == number + 1
    # From the second on it had to prove its address.
    assert server.demux.drops == {"half_open_full": HALF_OPEN_PER_PEER - 1}
    assert len([each for each in wire.sent if each.data[0] == COOKIE]) == HALF_OPEN_PER_PEER - 1
    wire.sent.clear()
    client.connect(server, patience=0.3)
    wire.advance(0.5)
    assert server.demux.half_open == HALF_OPEN_PER_PEER
    assert sent_by(wire, server) == []
    wire.advance(HALF_OPEN_LIFETIME)
    assert server.demux.half_open == 0


def test_half_open_handshakes_in_all(monkeypatch):
    most = 256  # reached before the gate asks everybody for a proof of address
    assert most < HALF_OPEN_TOTAL
    monkeypatch.setattr("transport.handshake.responder.HALF_OPEN_TOTAL", most)
    wire = Wire()
    known = KnownPeers()
    server = wire.host("198.51.100.1", authority=known)
    wire.filter = drop(RESPONSE)
    for number in range(most + 3):
        client = wire.host(f"10.0.{number // 250}.{number % 250}")
        known.keys[client.identity.public] = Grant()
        client.connect(server, patience=0.005)
        wire.advance(0.012)
    assert server.demux.half_open == most
    assert server.demux.drops == {"half_open_full": 3}
    wire.heal()
    wire.advance(HALF_OPEN_LIFETIME)
    assert server.demux.half_open == 0
    client.connect(server)
    wire.settle()
    assert server.demux.sessions == 1


def test_under_load_a_legitimate_client_still_gets_in():
    wire, client, server = client_and_server(connected=False)
    stranger = wire.host("192.0.2.66")
    stranger.connect(server)
    (flood,) = (each.data for each in wire.collect())
    wire._on_the_way.clear()

    def pour(count):
        for number in range(count):
            server.inject(flood, (f"10.0.{number // 250}.{number % 250}", 1))

    pour(2 * int(LOAD_THRESHOLD))
    client.connect(server)
    for _ in range(20):  # ten times the threshold, all the time
        wire.advance(0.05)
        pour(50)
    assert server.demux.drops["bad_mac2"] > 500
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)
    cookies = [each for each in wire.sent if each.data[0] == COOKIE]
    assert len(cookies) * 64 < server.demux.received * INIT_SIZE


def test_each_reply_is_smaller_than_what_caused_it():
    wire, _, server = client_and_server()
    replies = [each for each in sent_by(wire, server) if each.data[0] in (RESPONSE, COOKIE)]
    assert [len(each.data) for each in replies] == [HYBRID_RESPONSE_SIZE]
    assert HYBRID_RESPONSE_SIZE < HYBRID_INIT_SIZE == len(inits(wire)[0])


# --- Takeover ----------------------------------------------------------------------------------


def test_a_second_session_of_the_same_key_replaces_the_first_at_confirmation():
    wire, client, server = client_and_server()
    old = server.session
    moved = wire.host("192.0.2.77", identity=client.identity)
    moved.clock_offset_ns = 10**9
    moved.connect(server)
    confirmation = handshake_until_confirmation(wire)
    assert old.ended is None  # not yet
    server.inject(confirmation.data, moved.address)
    wire.settle()
    assert old.ended.code == CloseCode.REPLACED
    assert client.session.ended.code == CloseCode.REPLACED
    assert client.session.ended.by_peer
    assert server.session is not old
    assert server.demux.sessions == 1
    moved.send(b"here now")
    wire.settle()
    assert server.read() == [b"here now"]
    wire.advance(10.0)
    assert old.finished
    assert client.demux.sessions == 0


def test_a_restarted_client_takes_its_place_at_once():
    wire, client, server = client_and_server()
    again = wire.host(*client.address, identity=client.identity)
    again.clock_offset_ns = 1
    again.connect(server)
    wire.settle()
    assert server.demux.sessions == 1
    again.send(b"back")
    wire.settle()
    assert server.read() == [b"back"]
    assert again.demux.drops.keys() <= {"unknown_index"}  # the old session's CLOSE


def test_a_client_whose_clock_went_back_is_in_after_one_more_round_trip():
    wire, client, server = client_and_server(delay=0.05)
    again = wire.host("192.0.2.77", identity=client.identity)
    again.clock_offset_ns = -(10**18)
    again.connect(server)
    wire.advance(0.3)  # two round trips and the confirmation
    assert server.demux.drops == {"stale_timestamp": 1}
    assert server.session.paths.current == again.address


# --- Refusals and capacity ---------------------------------------------------------------------


@pytest.mark.parametrize("result", sorted(set(Result) - {Result.OK, Result.HYBRID}))
def test_a_refusal_reaches_the_peer_and_leaves_nothing(result):
    wire, client, server = client_and_server(connected=False)
    known = server.demux._responder._admission._authority
    known.keys[client.identity.public] = Grant(result=result)
    client.connect(server)
    wire.settle()
    (event,) = client.events
    assert isinstance(event, Refused)
    assert event.result is result
    assert (server.demux.sessions, server.demux.half_open) == (0, 0)
    assert client.demux.sessions == 0
    wire.advance(1.0)
    assert client.demux.deadline() is None


def many_clients(count, max_sessions):
    wire = Wire()
    known = KnownPeers()
    server = wire.host("198.51.100.1", authority=known, max_sessions=max_sessions)
    clients = [wire.host(f"192.0.2.{number + 1}") for number in range(count)]
    known.keys.update({client.identity.public: Grant() for client in clients})
    return wire, server, clients


def test_a_full_server_says_so():
    wire, server, clients = many_clients(3, max_sessions=2)
    for client in clients:
        client.connect(server)
        wire.settle()
    assert server.demux.sessions == 2
    assert clients[2].events[0].result is Result.FULL
    clients[0].close()
    wire.advance(5.0)
    clients[2].connect(server)
    wire.settle()
    assert isinstance(clients[2].events[-1], Connected)


def test_handshakes_side_by_side_do_not_overfill_it():
    wire, server, clients = many_clients(5, max_sessions=2)
    for client in clients:
        client.connect(server)
    wire.settle()
    assert server.demux.sessions == 2
    assert server.demux.drops["sessions_full"] == 3
    wire.advance(20.0)
    assert server.demux.sessions == 2
    ended = [client.session.ended for client in clients]
    assert sorted(each is None for each in ended) == [False, False, False, True, True]


def test_a_full_server_takes_its_own_peer_back():
    wire, server, (client, _) = many_clients(2, max_sessions=1)
    client.connect(server)
    wire.settle()
    for _ in range(2):  # once while the old session lives, once while it is a tombstone
        again = wire.host("192.0.2.1", identity=client.identity)
        wire.advance(0.5)
        again.connect(server)
        wire.settle()
        assert isinstance(again.events[-1], Connected)
        assert server.demux.sessions == 1
        server.close(CloseCode.SHUTDOWN)
        wire.cut()
        wire.settle()
        wire.heal()
        assert server.demux.sessions == 1


def test_new_sessions_of_one_key_are_limited_and_the_honest_wait_a_moment():
    wire, client, server = client_and_server(connected=False)
    for _ in range(8):
        client = wire.host(*client.address, identity=client.identity)  # it has lost everything
        client.connect(server)
        wire.advance(0.01)
    assert len(server.events) == SESSION_BURST_PER_KEY
    assert server.demux.drops["key_limited"] > 0
    wire.advance(2.0)
    client.send(b"still wanted")
    wire.advance(2.0)
    assert server.read() == [b"still wanted"]
    assert len(server.events) <= SESSION_BURST_PER_KEY + 4 * SESSIONS_PER_KEY


def test_a_key_does_not_use_up_the_sessions_of_another():
    wire, client, server = client_and_server(connected=False)
    other = wire.host("192.0.2.3")
    server.demux._responder._admission._authority.keys[other.identity.public] = Grant()
    for _ in range(20):
        client = wire.host(*client.address, identity=client.identity)
        client.connect(server)
        wire.settle()
    before = len(server.events)
    other.connect(server)
    wire.settle()
    assert len(server.events) == before + 1
