"""A responder whose key is replaced while it runs: old sessions, old peers, the end of the old."""

import pytest

from transport.crypto.identity import PrivateKey, PublicKey
from transport.handshake.admission import Grant
from transport.handshake.initiator import GaveUp
from transport.handshake.messages import Peer
from transport.testing.cores import KnownPeers, client_and_server
from transport.wire.datagrams import INIT, RESPONSE

NEW = PrivateKey.from_raw(b"\x55" * 32)


def exchange(wire, client, server):
    client.send(b"question")
    wire.settle()
    assert server.read() == [b"question"]
    server.send(b"answer")
    wire.settle()
    assert client.read() == [b"answer"]


@pytest.fixture
def renewed():
    wire, client, server = client_and_server()
    server.demux.set_identities([NEW, server.identity])
    return wire, client, server


def rekey(wire, client):
    client.session.renew()
    client.demux.touch(client.session)
    wire.settle()


def test_a_session_goes_on_with_the_identity_that_it_was_made_with(renewed):
    wire, client, server = renewed
    exchange(wire, client, server)
    rekey(wire, client)
    assert (server.session.keys.rekeys, server.demux.sessions) == (1, 1)
    assert server.session.identity == server.identity.public
    exchange(wire, client, server)


def test_a_session_moves_to_the_new_identity_and_outlives_the_old_one(renewed):
    wire, client, server = renewed
    client.demux.expect(client.session, NEW.public)
    rekey(wire, client)
    assert client.session.peer == server.session.identity == NEW.public
    server.demux.set_identities([NEW])
    rekey(wire, client)
    assert server.session.keys.rekeys == 2
    assert len(server.events) == len(client.events) == 1  # the same session
    exchange(wire, client, server)


def test_a_handshake_that_is_under_way_meanwhile_is_answered_by_the_old_identity(renewed):
    wire, client, server = renewed
    client.session.renew()
    client.demux.touch(client.session)
    wire.collect()  # the init is on its way
    client.demux.expect(client.session, NEW.public)
    wire.settle()
    assert server.session.identity == server.identity.public
    rekey(wire, client)
    assert server.session.identity == NEW.public


@pytest.mark.parametrize("new", [False, True])
def test_a_peer_connects_with_the_key_that_it_has(new):
    wire, client, server = client_and_server(connected=False)
    server.demux.set_identities([NEW, server.identity])
    key = NEW.public if new else server.identity.public
    client.demux.connect(Peer(key), server.address, wire.now, wire.now + 5)
    wire.settle()
    assert server.session.identity == key
    exchange(wire, client, server)


def test_when_the_old_identity_is_gone_its_peers_are_met_with_silence(renewed):
    wire, client, server = renewed
    server.demux.set_identities([NEW])
    exchange(wire, client, server)  # a session is as good as its keys
    client.connect(server, patience=2.0)
    wire.advance(3.0)
    assert isinstance(client.events[-1], GaveUp)
    assert server.demux.drops["bad_mac1"] > 0


def test_a_handshake_that_is_half_open_ends_with_its_identity():
    wire, client, server = client_and_server(connected=False)
    client.connect(server)
    wire.filter = lambda datagram: [datagram] if datagram.data[0] in (INIT, RESPONSE) else []
    wire.settle()
    assert server.demux.half_open == 1
    server.demux.set_identities([NEW])
    assert server.demux.half_open == 0
    wire.heal()
    wire.advance(1.0)
    assert server.demux.sessions == 0


def test_what_cannot_be_is_refused(renewed):
    _, client, server = renewed
    with pytest.raises(ValueError, match="needs an identity"):
        server.demux.set_identities([])
    with pytest.raises(ValueError, match="nobody can own"):
        client.demux.expect(client.session, PublicKey(bytes(32)))
    assert client.session.peer == server.identity.public


def test_what_cannot_be_is_refused_after_the_end_as_well():
    """Else whoever tells a key, and ends the session at once, has it written down."""
    wire, client, server = client_and_server()
    server.session.close(0, "", wire.now)
    server.demux.touch(server.session)
    wire.advance(1.0)
    assert client.session.ended is not None
    with pytest.raises(ValueError, match="nobody can own"):
        client.demux.expect(client.session, PublicKey(bytes(32)))
    client.demux.expect(client.session, NEW.public)


@pytest.mark.parametrize("moved", [False, True])
def test_in_a_restart_with_two_identities_sessions_of_either_are_told_that_they_are_lost(
    renewed, moved
):
    wire, client, server = renewed
    if moved:
        client.demux.expect(client.session, NEW.public)
        rekey(wire, client)
    authority = KnownPeers({client.identity.public: Grant()})
    again = wire.host(*server.address, identity=NEW, authority=authority)
    again.demux.set_identities([NEW, server.identity])
    client.send(b"is anybody there?")
    wire.settle()
    assert client.session.ended.reason == "the peer has lost the session"


@pytest.mark.parametrize("new", [False, True])
def test_slices_of_an_init_for_either_identity_are_put_together(new):
    wire, client, server = client_and_server(connected=False)
    wire.largest = 1000  # of a datagram: a hybrid init takes two
    server.demux.set_identities([NEW, server.identity])
    key = NEW.public if new else server.identity.public
    client.demux.connect(Peer(key), server.address, wire.now, wire.now + 10)
    wire.advance(8.0)
    assert server.session.identity == key
    assert server.session.keys.current.hybrid
    exchange(wire, client, server)
