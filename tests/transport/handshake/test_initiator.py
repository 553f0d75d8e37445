"""The initiating side: one outcome for each attempt, rekeys, and a peer that has forgotten us."""

import pytest

from transport.constants import CONNECT_ADDRESSES, REJECT_AFTER, REKEY_AFTER, REKEY_JITTER
from transport.crypto.identity import PublicKey
from transport.handshake.admission import Grant
from transport.handshake.initiator import Connected, GaveUp, Refused
from transport.handshake.messages import Peer
from transport.session.events import PathChanged, Silent
from transport.testing.cores import KnownPeers, Wire, client_and_server
from transport.wire.control import CloseCode
from transport.wire.datagrams import (
    INIT,
    INIT_SLICE,
    RESPONSE,
    RESPONSE_SLICE,
    Credential,
    CredentialKind,
    Result,
)

TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")
PSK = b"\x33" * 32

HANDSHAKE = (INIT, INIT_SLICE, RESPONSE, RESPONSE_SLICE)


def inits(wire):
    return [datagram for datagram in wire.sent if datagram.data[0] == INIT]


def nothing_left(host):
    """No session, no handshake, no index, no timer."""
    initiator = host.demux._initiator
    return (
        host.demux.sessions == 0
        and not initiator._negotiations
        and not host.demux._indices.owners
        and host.demux.deadline() is None
    )


# --- The first handshake -----------------------------------------------------------------------


def test_connected():
    wire, client, server = client_and_server(connected=False)
    negotiation = client.connect(server)
    wire.settle()
    (event,) = client.events
    assert isinstance(event, Connected)
    assert event.negotiation is negotiation
    assert event.session.initiator
    assert event.session.peer == server.identity.public
    assert event.session.association == server.session.association


def test_gave_up():
    wire, client, server = client_and_server(connected=False)
    wire.cut()
    client.connect(server, patience=10.0)
    wire.advance(9.9)
    assert client.events == []
    wire.advance(0.2)
    (event,) = client.events
    assert isinstance(event, GaveUp)
    assert len(inits(wire)) >= 4
    assert nothing_left(client)


def test_an_answer_after_that_is_unexpected():
    wire, client, server = client_and_server(connected=False, delay=1.0)
    client.connect(server, patience=1.5)
    wire.advance(5.0)
    assert isinstance(client.events[0], GaveUp)
    assert set(client.demux.drops) == {"unexpected"}
    assert nothing_left(client)


def test_abandoned():
    wire, client, server = client_and_server(connected=False, delay=0.1)
    negotiation = client.connect(server)
    wire.advance(0.15)
    client.demux.abandon(negotiation)
    client.demux.abandon(negotiation)
    wire.advance(20.0)
    assert client.events == []
    assert nothing_left(client)
    assert (server.demux.sessions, server.demux.half_open) == (0, 0)


@pytest.mark.parametrize("delay", [0.4, 0.75, 1.2])
def test_a_round_trip_longer_than_the_first_retry(delay):
    wire, client, server = client_and_server(connected=False, delay=delay)
    client.connect(server, patience=15.0)
    wire.advance(15.0)
    assert isinstance(client.events[0], Connected)
    assert server.demux.sessions == 1
    assert client.session.ended is None


def test_loss_in_the_handshake():
    for seed in range(20):
        wire, client, server = client_and_server(connected=False, seed=seed, delay=0.05)
        wire.filter = lambda each: [each] if wire.random.random() > 0.2 else []  # noqa: B023
        client.connect(server, patience=60.0)
        wire.advance(60.0)
        wire.heal()
        assert isinstance(client.events[0], Connected)
        wire.advance(30.0)
        assert server.demux.half_open == 0


def test_a_key_that_nobody_can_own():
    _, client, server = client_and_server(connected=False)
    with pytest.raises(ValueError, match="nobody can own"):
        client.demux.connect(Peer(PublicKey(bytes(32))), server.address, 0.0, 10.0)
    assert nothing_left(client)


def test_an_init_to_an_endpoint_that_only_connects():
    wire, client, _ = client_and_server(connected=False)
    other = wire.host("192.0.2.50")
    client.connect(other)
    wire.advance(20.0)
    assert set(other.demux.drops) == {"unexpected"}
    assert isinstance(client.events[0], GaveUp)


def test_two_servers_one_client():
    wire, client, server = client_and_server()
    other = wire.host("198.51.100.2", authority=KnownPeers({client.identity.public: Grant()}))
    first = client.session
    client.connect(other)
    wire.settle()
    assert client.demux.sessions == 2
    first.bulk.send([b"to the first"], wire.now)
    client.demux.touch(first)
    client.send(b"to the second")
    wire.settle()
    assert server.read() == [b"to the first"]
    assert other.read() == [b"to the second"]


# --- Rekeys ------------------------------------------------------------------------------------


def test_a_rekey_keeps_the_session():
    wire, client, server = client_and_server(delay=0.01)
    session, old = client.session, client.session.keys.current
    wire.advance(REKEY_AFTER - 1)
    assert session.keys.current is old
    wire.advance(REKEY_JITTER + 2)
    assert session.keys.current is not old
    assert server.session.keys.current is not old
    assert session.keys.current.handshake_hash == server.session.keys.current.handshake_hash
    assert (client.demux.sessions, server.demux.sessions) == (1, 1)
    assert len(client.events) == len(server.events) == 1  # nobody above is told
    client.send(b"after")
    wire.advance(0.1)
    assert server.read() == [b"after"]


def test_a_session_has_one_rekey_under_way_at_most():
    wire, client, _ = client_and_server()
    wire.filter = lambda each: [] if each.data[0] in (RESPONSE, RESPONSE_SLICE) else [each]
    wire.advance(REKEY_AFTER)
    under_way = []
    for _ in range(100):
        wire.advance(1.0)
        under_way.append(len(client.demux._initiator._negotiations))
    assert set(under_way) == {0, 1}
    assert sum(under_way) > 70  # it asks again when one came to nothing
    wire.heal()
    wire.advance(30.0)
    assert client.session.ended is None
    assert client.session.statistics(wire.now).rekeys >= 1


def test_a_rekey_that_never_succeeds_ends_the_session_in_time():
    wire, client, server = client_and_server()
    wire.filter = lambda each: [] if each.data[0] in HANDSHAKE else [each]
    wire.advance(REJECT_AFTER - 1)
    assert client.session.ended is None
    wire.advance(2)
    for host in (client, server):
        assert host.session.ended.code == CloseCode.TIMEOUT
        assert not host.session.ended.by_peer
    wire.advance(30.0)
    assert nothing_left(client)
    assert server.demux.sessions == 0


def test_a_server_that_restarted_does_not_know_the_association():
    wire, client, server = client_and_server()
    authority = KnownPeers({client.identity.public: Grant()})
    again = wire.host(*server.address, identity=server.identity, authority=authority)
    client.send(b"lost with the old server")
    wire.settle()  # a stateless reset, and a handshake that names the association
    assert client.session.ended.code == CloseCode.TIMEOUT
    assert client.session.ended.by_peer
    wire.advance(10.0)
    assert nothing_left(client)
    assert (again.demux.sessions, again.demux.half_open) == (0, 0)


def test_a_session_may_end_while_nobody_answers_its_rekey():
    wire, client, _ = client_and_server()
    wire.advance(1.0)
    wire.cut()
    session = client.session
    session.renew()
    client.demux.touch(session)
    wire.settle()
    negotiation = client.demux._initiator.rekey(session, wire.now)  # the one that is under way
    while negotiation.deadline() < negotiation.give_up_at:
        wire.advance(0.1)  # its last init has left
    session.fail(CloseCode.TIMEOUT, "gone")
    client.demux.touch(session)
    wire.advance(2 * (negotiation.give_up_at - wire.now))
    assert nothing_left(client)


def test_a_peer_that_is_no_longer_wanted_hears_it_at_the_rekey():
    wire, client, server = client_and_server()
    authority = server.demux._responder._admission._authority
    authority.keys[client.identity.public] = Grant(result=Result.REVOKED)
    old = server.session
    wire.advance(REKEY_AFTER + REKEY_JITTER + 1)
    assert client.session.ended.reason == "refused: revoked"
    assert client.session.ended.by_peer
    assert old.ended is None  # to end it at once is the program's to do
    assert not [event for event in client.events if isinstance(event, Refused)]


def test_a_single_use_token_is_not_shown_again():
    wire = Wire()
    known = KnownPeers(credentials={TOKEN: Grant(PSK)})
    server = wire.host("198.51.100.1", authority=known)
    client = wire.host("192.0.2.1")
    client.connect(server, credential=TOKEN, psk=PSK)
    wire.settle()
    del known.credentials[TOKEN]  # used up; the key is known instead
    known.keys[client.identity.public] = Grant()
    client.demux.forget_credential(client.session)
    wire.advance(REKEY_AFTER + REKEY_JITTER + 1)
    assert client.session.ended is None
    assert client.session.statistics(wire.now).rekeys == 1
    assert inits(wire)[-1].data[8:16] == bytes(8)
    wire.advance(5.0)
    client.close()
    wire.advance(5.0)
    client.demux.forget_credential(client.session)  # harmless for one that is over


# --- A responder that is somewhere else ----------------------------------------------------------

ELSEWHERE = ("203.0.113.77", 7450)


def test_a_silent_responder_is_found_at_another_address_and_the_session_goes_on():
    wire, client, server = client_and_server()
    session, association = client.session, client.session.association
    wire.rebind(server, ELSEWHERE)
    client.send(b"across the move")
    wire.advance(2.9)
    assert not session.silent(wire.now)
    wire.advance(0.2)
    assert session.silent(wire.now)
    assert Silent() in session.events
    client.demux.seek(session, [("203.0.113.78", 7450), ELSEWHERE], wire.now)
    wire.advance(1.0)
    assert session.paths.current == ELSEWHERE
    assert PathChanged(ELSEWHERE) in session.events
    assert not session.silent(wire.now)
    assert server.read() == [b"across the move"]
    assert session.association == association
    assert not client.demux._initiator._negotiations


def test_a_responder_that_is_back_where_it_was_ends_the_search():
    wire, client, server = client_and_server()
    wire.cut()
    client.send(b"late")
    wire.advance(4.0)
    client.demux.seek(client.session, [ELSEWHERE], wire.now)
    wire.heal()
    wire.advance(2.0)
    assert client.session.paths.current == server.address
    assert server.read() == [b"late"]
    assert not client.demux._initiator._negotiations


def test_who_is_sought_is_asked_at_few_addresses_and_only_at_those_of_the_newest_look_up():
    wire, client, _ = client_and_server()
    wire.cut()
    client.send(b"x")
    wire.advance(4.0)
    many = [(f"198.51.100.{number}", 7450) for number in range(50)]
    client.demux.seek(client.session, many, wire.now)
    wire.advance(0.1)
    assert len(client.demux._initiator._negotiations) == CONNECT_ADDRESSES
    client.demux.seek(client.session, [ELSEWHERE], wire.now)
    asked = {each.address for each in client.demux._initiator._negotiations}
    assert asked == {ELSEWHERE, client.session.paths.current}
    wire.advance(100.0)
    assert nothing_left(client)
