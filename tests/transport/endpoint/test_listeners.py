"""Several sockets as one: who comes to one of them is answered from there, and may change."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from transport import Peer, PrivateKey, listen_at, open_endpoint, open_udp
from transport.endpoint.listeners import Listeners
from transport.handshake.admission import Grant
from transport.testing.cores import KnownPeers

HOST = "127.0.0.1"


@pytest.fixture
def places():
    """Three sockets, which the test closes."""
    return [open_udp(HOST, listens=True) for _ in range(3)]


@pytest.fixture
def peer():
    sock = open_udp(HOST)
    yield sock
    sock._sock.close()


async def some(sock):
    await sock.wait_readable()
    return sock.receive_nowait(8)


async def test_an_answer_leaves_from_the_socket_that_was_asked(places, peer):
    several = listen_at(places)
    assert isinstance(several, Listeners)
    assert several.local_address == places[0].local_address
    for asked in places:
        peer.send_nowait([(b"question", asked.local_address, 8)])
        ((data, address, size),) = await some(several)
        several.send_nowait([(data, address, size)])
        ((answer, source, _),) = await some(peer)
        assert (answer, source) == (b"question", asked.local_address)
    assert several.drained
    several.close()
    several.close()


async def test_what_one_has_left_is_still_to_come(places, peer):
    several = listen_at(places)
    for asked in places:
        peer.send_nowait([(bytes(n), asked.local_address, n) for n in (1, 2, 3)])
    assert len(several.receive_nowait(2)) == 6
    assert not several.drained
    assert len(several.receive_nowait(2)) == 3
    assert several.drained
    several.close()


async def test_what_is_too_big_for_one_and_what_is_no_datagram_is_told_of_all(places, peer):
    several = listen_at(places)
    peer._sock.sendto(b"", places[1].local_address)
    peer.send_nowait([(b"x", places[2].local_address, 1)])
    ((_, address, _),) = await some(several)
    several.send_nowait([(bytes(65_530), address, 65_530)])
    assert list(several.refused) == [(address, 65_530, 1, "")]
    assert several.drops == {"malformed": 1}
    several.close()


async def test_one_socket_is_itself(places):
    assert listen_at(places[:1]) is places[0]
    for each in places:
        each.close()


async def test_a_closed_one_wakes_whoever_waits(places):
    several = listen_at(places)

    async def wait():
        with pytest.raises(trio.ClosedResourceError):
            await several.wait_readable()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        several.close()
    await wait()
    assert all(each.fileno() < 0 for each in places)


async def test_a_session_goes_on_at_another_place(places):
    identity, member = PrivateKey.generate(), PrivateKey.generate()
    known = KnownPeers({member.public: Grant()})
    echoed = []

    async def echo(channel):
        while True:
            echoed.append(await channel.receive())
            await channel.send(echoed[-1])

    async with (
        open_endpoint(listen_at(places), identity, authority=known) as server,
        open_endpoint(open_udp(HOST), member) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, echo)
        channel = await client.connect(Peer(identity.public), [places[2].local_address])
        await channel.send([b"one"])
        assert await channel.receive() == [b"one"]
        channel.seek([places[1].local_address])
        heard = places[2].receive_nowait
        places[2].receive_nowait = lambda limit: heard(limit) and []  # it is deaf from now on
        await channel.send([b"two"])
        assert await channel.receive() == [b"two"]
        assert echoed == [[b"one"], [b"two"]]
        assert channel.address == places[1].local_address
        nursery.cancel_scope.cancel()
