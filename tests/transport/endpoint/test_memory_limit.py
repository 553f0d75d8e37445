"""What all sessions hold together is bounded: nobody new, then the largest goes."""

from transport.handshake.admission import Grant
from transport.testing.cores import KnownPeers, Wire


def crowd(count, limit):
    """A server with that limit, and clients of it."""
    wire = Wire(delay=0.005)
    authority = KnownPeers({})
    server = wire.host("198.51.100.1", authority=authority, memory_limit=limit)
    clients = []
    for number in range(count):
        client = wire.host(f"192.0.2.{number + 1}", 41022)
        authority.keys[client.identity.public] = Grant()
        clients.append(client)
    return wire, server, clients


def fill(wire, client, size):
    """So many bytes that the server does not read."""
    sent = 0
    for _ in range(1000):
        while client.session.bulk.credit > 0 and sent < size:
            client.send(bytes(1000))
            sent += 1000
        wire.advance(0.01)
        if sent >= size or client.session.ended is not None:
            break
    wire.advance(0.5)


def test_who_holds_most_goes_first():
    wire, server, (modest, greedy, late) = crowd(3, 1_000_000)
    for client in (modest, greedy):
        client.connect(server)
        wire.advance(0.1)
    fill(wire, modest, 250_000)
    fill(wire, greedy, 600_000)
    assert server.demux.drops["memory"] == 0
    late.connect(server)  # above 80 %: nobody new
    wire.advance(0.1)
    assert not [event for event in late.events if hasattr(event, "session")]
    fill(wire, greedy, 150_000)
    wire.advance(1.0)
    assert server.demux.drops["memory"] == 1
    assert "memory" in greedy.session.ended.reason
    assert modest.session.ended is None
    late.connect(server)
    wire.advance(2.0)
    assert late.session.ended is None


def test_who_reads_holds_nothing():
    wire, server, (client,) = crowd(1, 1_000_000)
    client.connect(server)
    wire.advance(0.1)
    for _ in range(50):
        fill(wire, client, 100_000)
        server.read()
    assert server.demux.drops["memory"] == 0
    assert client.session.ended is None


def test_what_is_kept_above_counts():
    """It is read, so the session itself holds nothing; but it is not used up."""
    wire, server, (modest, greedy) = crowd(2, 1_000_000)
    for client in (modest, greedy):
        client.connect(server)
        wire.advance(0.1)
    fill(wire, modest, 250_000)
    sessions = {session.peer: session for session in server.demux.live_sessions()}
    greedy_here = sessions[greedy.identity.public]
    greedy_here.held_above = 600_000
    server.demux.touch(greedy_here)
    wire.advance(0.1)
    assert server.demux.drops["memory"] == 0
    greedy_here.held_above = 800_000
    server.demux.touch(greedy_here)
    wire.advance(1.0)
    assert server.demux.drops["memory"] == 1
    assert "memory" in greedy.session.ended.reason
    assert modest.session.ended is None


def test_what_is_kept_above_no_more_is_let_go():
    wire, server, (client, late) = crowd(2, 1_000_000)
    client.connect(server)
    wire.advance(0.1)
    (session,) = server.demux.live_sessions()
    session.held_above = 900_000
    server.demux.touch(session)
    late.connect(server)  # above 80 %: nobody new
    wire.advance(0.1)
    assert not [event for event in late.events if hasattr(event, "session")]
    session.held_above = 0
    server.demux.touch(session)
    late.connect(server)
    wire.advance(2.0)
    assert late.session.ended is None
