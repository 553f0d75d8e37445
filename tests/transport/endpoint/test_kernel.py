"""What any kernel must do for a UDP socket: Linux's part and its twin, by the same tests."""

import socket

import pytest
import trio
import trio.testing

from transport import Peer, PrivateKey, open_endpoint, open_udp
from transport.endpoint.kernel import Linux, Portable
from transport.endpoint.listeners import EpollReady, Listeners, PollReady
from transport.handshake.admission import Grant
from transport.testing.cores import KnownPeers
from transport.wire.trains import lay

HOST = "127.0.0.1"
linux = pytest.mark.linux
BOTH = pytest.mark.parametrize("kernel", [pytest.param(Linux(), marks=linux), Portable()])
READY = pytest.mark.parametrize("ready", [pytest.param(EpollReady, marks=linux), PollReady])


@BOTH
@pytest.mark.parametrize("listens", [False, True])
async def test_trains_arrive_whole_and_in_order(kernel, listens):
    sender, receiver = (open_udp(HOST, listens=listens, kernel=kernel) for _ in range(2))
    datagrams = [bytes([number]) * 1200 for number in range(20)] + [b"last"]
    sender.send_nowait(lay(datagrams, receiver.local_address))
    got = []
    with trio.fail_after(60):
        while len(got) < len(datagrams):
            await receiver.wait_readable()
            for data, source, size in receiver.receive_nowait(64):
                assert source[:2] == sender.local_address[:2]
                got += [bytes(data[at : at + size]) for at in range(0, len(data), size)]
    assert got == datagrams
    assert not sender.drops
    sender.close()
    receiver.close()


@BOTH
async def test_an_answer_to_where_it_came_from_arrives(kernel):
    server, client = open_udp("", listens=True, kernel=kernel), open_udp(HOST, kernel=kernel)
    client.send_nowait([(b"question", (HOST, server.local_address[1]), 8)])
    await server.wait_readable()
    ((_, address, _),) = server.receive_nowait(8)
    server.send_nowait([(b"answer", address, 6)])
    await client.wait_readable()
    ((data, source, _),) = client.receive_nowait(8)
    assert (data, source) == (b"answer", (HOST, server.local_address[1]))
    server.close()
    client.close()


@BOTH
async def test_a_peer_that_is_not_there_is_told_without_icmp_or_with(kernel):
    gone = open_udp(HOST, kernel=kernel)
    address = gone.local_address
    gone.close()
    sock = open_udp(HOST, kernel=kernel)
    for _ in range(3):
        sock.send_nowait([(b"anybody?", address, 8)])
        assert sock.receive_nowait(8) == []
    sock.close()
    with pytest.raises(trio.ClosedResourceError):
        await sock.wait_readable()


@BOTH
async def test_a_session_carries_messages_both_ways(kernel):
    identity, member = PrivateKey.generate(), PrivateKey.generate()
    sock = open_udp(HOST, listens=True, kernel=kernel)
    messages = [bytes([number]) * 1376 for number in range(50)]

    async def echo(channel):
        count = 0
        while count < len(messages):
            batch = await channel.receive()
            count += len(batch)
            await channel.send(batch)
        await trio.sleep_forever()

    async with (
        open_endpoint(sock, identity, authority=KnownPeers({member.public: Grant()})) as server,
        open_endpoint(open_udp(HOST, kernel=kernel), member) as client,
        trio.open_nursery() as nursery,
    ):
        await nursery.start(server.serve, echo)
        channel = await client.connect(Peer(identity.public), [sock.local_address])
        await channel.send(messages)
        got = []
        while len(got) < len(messages):
            got += await channel.receive()
        assert got == messages
        nursery.cancel_scope.cancel()


async def test_the_twin_says_what_it_cannot_do():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        twin = Portable()
        with pytest.raises(OSError, match=r"needs Linux"):
            twin.bind_interface(sock, "lo")
        with pytest.raises(OSError, match=r"needs Linux"):
            twin.limit_inits(sock, (0.5, 1.0))
        twin.limit_inits(sock, (1.0, 1.0))
    sock = open_udp(HOST, kernel=Portable())
    sock.limit_inits((0.5, 1.0))
    assert sock.drops == {"no_filter": 1}
    sock.close()


@READY
async def test_whichever_of_several_sockets_has_something_is_read(ready):
    places = [open_udp(HOST, listens=True) for _ in range(3)]
    several, peer = Listeners(places, ready), open_udp(HOST)
    for number, place in enumerate(places):
        assert several.receive_nowait(8) == []
        peer.send_nowait([(b"x", place.local_address, 1)])
        with trio.fail_after(60):
            await several.wait_readable()
        ((data, address, _),) = several.receive_nowait(8)
        assert (data, address[-1]) == (b"x", number)
    peer.close()
    several.close()
    several.close()


@READY
async def test_closing_wakes_who_waits_for_several(ready):
    several = Listeners([open_udp(HOST) for _ in range(2)], ready)
    woken = trio.Event()

    async def wait():
        with pytest.raises(trio.ClosedResourceError):
            await several.wait_readable()
        woken.set()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            several.close()
            await woken.wait()
    with pytest.raises(trio.ClosedResourceError):
        await several.wait_readable()
