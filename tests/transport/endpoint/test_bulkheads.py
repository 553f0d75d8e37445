"""Whatever call into a session or a handshake raises: it costs that one, and no other anything."""

from contextlib import suppress

import pytest
import trio

from tests.transport.endpoint.test_endpoint import CLIENT, HERE, PEER, open_client, open_server
from transport import ChannelBroken, Grant, HandshakeTimeout, PrivateKey
from transport.endpoint.channel import Channel
from transport.handshake.attempt import Negotiation
from transport.handshake.initiator import Initiator
from transport.handshake.responder import Responder
from transport.session.closing import Ending
from transport.session.session import Session
from transport.testing.cores import KnownPeers
from transport.testing.network import Link, open_network

OTHER = PrivateKey.from_raw(b"\x33" * 32)

CALLS = [
    "receive_trains",
    "datagrams_to_send",
    "wants_handshake",
    "deadline",
    "handle_timeout",
    "next_event",
    "close",
    "readable",
    "too_big",
]


class Fault(ArithmeticError):
    """Ours, in a core."""


@pytest.fixture
async def world(autojump_clock):
    """A server, a client whose session will fail, and one beside it."""
    known = KnownPeers({CLIENT.public: Grant(), OTHER.public: Grant()})
    async with open_network(link=Link(delay=0.01)) as network:
        async with open_server(network, known=known) as server:
            async with (
                open_client(network) as client,
                open_client(network, OTHER, "10.0.0.3") as beside,
            ):
                yield server, client, beside


async def still_works(channel):
    await channel.send([b"ping"])
    with trio.fail_after(30):
        assert await channel.receive() == [b"ping"]


def break_for(monkeypatch, owner, name, is_victim):
    """`owner.name` raises where it concerns the victim."""
    original = getattr(owner, name)
    broken = []

    def call(self, *args, **options):
        if is_victim(self):
            broken.append(name)
            raise Fault(name)
        if isinstance(original, property):
            return original.fget(self)
        return original(self, *args, **options)

    if isinstance(original, property):
        monkeypatch.setattr(owner, name, property(call))
    else:
        monkeypatch.setattr(owner, name, call)
    return broken


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_into_a_session_raises(world, autojump_clock, monkeypatch, caplog, name):
    server, client, beside = world
    channel = await client.connect(PEER, [HERE])
    neighbour = await beside.connect(PEER, [HERE])
    await still_works(channel)
    (session,) = [each for each in server._channels if each.peer == CLIENT.public]
    broken = break_for(monkeypatch, Session, name, lambda each: each is session)
    if name == "wants_handshake":
        session.initiator = True  # nobody else is asked
    elif name == "close":
        server._channels[session].close()
    elif name == "too_big":
        server._demux.touch(session)
        session.bulk.send([b"x"], server.now())
        ((_, address, size),) = server._demux.datagrams_to_send(server.now())
        server._demux.too_big([(address, size, 1, "")], [session], server.now())
        server.pump()
    with suppress(ChannelBroken):
        await channel.send([b"x"])
    with trio.fail_after(200), suppress(ChannelBroken):
        while True:
            await channel.receive()
    assert broken
    assert session.ended is not None
    assert session not in server._channels
    assert server.statistics().drops["core_failed"] == 1
    assert len([record for record in caplog.records if record.exc_info]) == 1
    assert server.statistics().sessions == 1
    await still_works(neighbour)
    monkeypatch.undo()
    await still_works(await client.connect(PEER, [HERE]))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Responder, "receive_init_untrusted"),
        (Responder, "confirm"),
        (Session, "confirmed_by"),
    ],
)
async def test_a_call_into_the_responder_raises(world, monkeypatch, owner, name):
    server, client, beside = world
    neighbour = await beside.connect(PEER, [HERE])
    await still_works(neighbour)
    responder = server._demux._responder
    with monkeypatch.context() as patch:

        def is_victim(each):
            return each is responder or (isinstance(each, Session) and not each.initiator)

        broken = break_for(patch, owner, name, is_victim)
        with suppress(HandshakeTimeout, ChannelBroken):
            channel = await client.connect(PEER, [HERE], patience=3.0)
            await trio.sleep(2.0)
            channel.close()
    assert broken
    assert server.statistics().drops["core_failed"] >= 1
    await still_works(neighbour)
    await still_works(await client.connect(PEER, [HERE]))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Negotiation, "datagrams_to_send"),
        (Negotiation, "receive_response_untrusted"),
        (Initiator, "receive_response_untrusted"),
    ],
)
async def test_a_call_into_a_negotiation_raises(world, monkeypatch, owner, name):
    _, client, beside = world
    neighbour = await client.connect(PEER, [HERE])
    with monkeypatch.context() as patch:
        broken = break_for(patch, owner, name, lambda each: True)
        with pytest.raises(HandshakeTimeout):
            await beside.connect(PEER, [HERE], patience=3.0)
    assert broken
    await still_works(neighbour)
    await still_works(await beside.connect(PEER, [HERE]))


async def test_a_channel_whose_wake_up_raises(world, monkeypatch):
    server, client, beside = world
    channel = await client.connect(PEER, [HERE])
    neighbour = await beside.connect(PEER, [HERE])
    await still_works(channel)
    (victim,) = [each for each in server._channels.values() if each.peer == CLIENT.public]
    broken = break_for(monkeypatch, Channel, "update", lambda each: each is victim and not broken)
    with suppress(ChannelBroken):
        await channel.send([b"x"])
        with trio.fail_after(30):
            await channel.receive()
            await channel.receive()
    assert broken
    assert channel.ended
    await still_works(neighbour)


async def test_an_end_that_raises_in_its_middle(world, monkeypatch):
    server, client, beside = world
    channel = await client.connect(PEER, [HERE])
    neighbour = await beside.connect(PEER, [HERE])
    (session,) = [each for each in server._channels if each.peer == CLIENT.public]
    is_victim = lambda each: each is session.ending  # noqa: E731
    broken = break_for(monkeypatch, Ending, "_end", is_victim)
    server._channels[session].close()
    with trio.fail_after(30), pytest.raises(ChannelBroken, match="internal error"):
        await channel.receive()
    assert broken
    assert server.statistics().sessions == 1
    await still_works(neighbour)
