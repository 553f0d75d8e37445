"""One socket and all its sessions: connecting, serving, failing, and leaving nothing behind."""

from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from transport import (
    ChannelBroken,
    CloseCode,
    Credential,
    CredentialKind,
    Grant,
    HandshakeRefused,
    HandshakeTimeout,
    Peer,
    PrivateKey,
    PublicKey,
    Result,
    Suite,
    open_endpoint,
)
from transport.constants import CLOSE_REPEATS, CONNECT_STAGGER, TOMBSTONE
from transport.endpoint.demux import Demux
from transport.testing.cores import KnownPeers
from transport.testing.network import Link, open_network
from transport.wire.trains import cut

SERVER = PrivateKey.from_raw(b"\x22" * 32)
CLIENT = PrivateKey.from_raw(b"\x11" * 32)
PEER = Peer(SERVER.public)
HERE = ("10.0.0.2", 7450)
NOWHERE = ("10.9.9.9", 7450)
TOKEN = Credential(CredentialKind.TOKEN, b"tokentok")


async def echo(channel):
    with suppress(ChannelBroken):
        while True:
            await channel.send(await channel.receive())


@asynccontextmanager
async def open_server(network, handler=echo, *, address=HERE, known=None, **options):
    """A serving endpoint that knows the client."""
    known = known or KnownPeers({CLIENT.public: Grant()})
    sock = network.socket(*address)
    async with open_endpoint(sock, SERVER, authority=known, **options) as server:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, handler)
            yield server
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_client(network, identity=CLIENT, host="10.0.0.1"):
    async with open_endpoint(network.socket(host), identity) as client:
        yield client


@asynccontextmanager
async def open_both(handler=echo, *, link=None, **options):
    async with open_network(link=link or Link(delay=0.01)) as network:
        async with open_server(network, handler, **options) as server:
            async with open_client(network) as client:
                yield network, server, client


def nothing_left(endpoint):
    demux = endpoint._demux
    return (
        demux.sessions == 0
        and not demux._initiator._negotiations
        and not demux._indices.owners
        and not endpoint._attempts.running
        and not endpoint._channels
        and demux.deadline() is None
    )


# --- Connecting --------------------------------------------------------------------------------


async def test_connect_and_serve(autojump_clock):
    async with open_both() as (_, server, client):
        channel = await client.connect(PEER, [HERE])
        await channel.send([b"hello"])
        assert await channel.receive() == [b"hello"]
        assert server.statistics().sessions == client.statistics().sessions == 1
        assert server.local_address == HERE


async def test_a_connection_takes_one_round_trip(autojump_clock):
    async with open_both(link=Link(delay=0.1)) as (_, _, client):
        start = trio.current_time()
        await client.connect(PEER, [HERE])
        assert trio.current_time() - start == pytest.approx(0.2)


async def test_many_clients(autojump_clock):
    keys = [PrivateKey.generate() for _ in range(20)]
    known = KnownPeers({key.public: Grant() for key in keys})
    async with open_network(link=Link(delay=0.01)) as network:
        async with open_server(network, known=known) as server, trio.open_nursery() as nursery:

            async def one(number):
                async with open_client(network, keys[number], f"10.0.1.{number}") as client:
                    channel = await client.connect(PEER, [HERE])
                    for turn in range(5):
                        await channel.send([b"%d %d" % (number, turn)])
                        assert await channel.receive() == [b"%d %d" % (number, turn)]
                        await trio.sleep(1)
                    assert server.statistics().sessions == 20
                    await trio.sleep(1)

            for number in range(20):
                nursery.start_soon(one, number)


async def test_a_dead_address_costs_little_time(autojump_clock):
    async with open_both(link=Link(delay=0.1)) as (_, server, client):
        start = trio.current_time()
        channel = await client.connect(PEER, [NOWHERE, HERE])
        assert trio.current_time() - start == pytest.approx(0.2 + CONNECT_STAGGER)
        assert channel.remote == "10.0.0.2:7450"
        assert not client._demux._initiator._negotiations
        await trio.sleep(10)
        assert server.statistics().sessions == 1


async def test_two_addresses_of_one_server_give_one_session(autojump_clock):
    """Both answer, since a server has an address in each family; only one may be used."""
    other = ("10.0.0.3", 7450)
    async with open_both() as (network, server, client):
        network._sockets[other] = server._sock
        accepted = []
        take = server._take
        server._take = lambda event: (accepted.append(event), take(event))
        channel = await client.connect(PEER, [HERE, other])
        for number in range(20):
            await channel.send([b"%d" % number])
            assert await channel.receive() == [b"%d" % number]
            await trio.sleep(1)
        assert server.statistics().sessions == client.statistics().sessions == 1
        assert server.statistics().half_open == 0
        assert len(accepted) == 1
        assert len(client._channels) == 1


async def test_two_answers_at_once_give_one_session(autojump_clock):
    """Two switches with one key, both as near: the one that is not wanted hears nothing more."""
    accepted = []

    async def handler(channel):
        accepted.append(channel)
        await echo(channel)

    other = ("10.0.0.3", 7450)
    async with open_network() as network:
        async with (
            open_server(network, handler) as one,
            open_server(network, handler, address=other) as two,
            open_client(network) as client,
        ):
            for number in range(20):  # which task runs first is Trio's to choose
                channel = await client.connect(PEER, [HERE, other])
                await channel.send([b"x"])
                assert await channel.receive() == [b"x"]
                assert len(accepted) == number + 1
                assert len(client._channels) == client.statistics().sessions == 1
                await channel.aclose()
                await trio.sleep(10)
                assert nothing_left(client)
                assert nothing_left(one)
                assert nothing_left(two)


async def test_nobody_answers(autojump_clock):
    async with open_network() as network, open_client(network) as client:
        start = trio.current_time()
        with pytest.raises(HandshakeTimeout, match="3 s"):
            await client.connect(PEER, [NOWHERE, HERE], patience=3)
        assert trio.current_time() - start == pytest.approx(3)
        assert nothing_left(client)


async def test_a_stranger_gets_no_answer(autojump_clock):
    async with open_both(known=KnownPeers()) as (_, server, client):
        with pytest.raises(HandshakeTimeout):
            await client.connect(PEER, [HERE])
        assert server.statistics().sent_datagrams == 0
        assert server.statistics().drops["unknown_peer"] > 1


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Result.REVOKED, "refused: revoked"),
        (Result.FULL, "refused: full"),
        (Result.CREDENTIAL_USED, "refused: credential used"),
    ],
)
async def test_refused(autojump_clock, result, text):
    known = KnownPeers({CLIENT.public: Grant(result=result)})
    async with open_both(known=known) as (_, server, client):
        with pytest.raises(HandshakeRefused, match=text) as caught:
            await client.connect(PEER, [NOWHERE, HERE])
        assert caught.value.result == result
        await trio.sleep(10)
        assert nothing_left(client)
        assert nothing_left(server)


async def test_no_address_to_connect_to(autojump_clock):
    async with open_network() as network, open_client(network) as client:
        with pytest.raises(ValueError, match="no address"):
            await client.connect(PEER, [])
        assert nothing_left(client)


async def test_a_key_that_nobody_can_own(autojump_clock):
    """Refused where it is given, not in the tasks of the endpoint."""
    async with open_both() as (_, _, client):
        with pytest.raises(ValueError, match="nobody can own"):
            await client.connect(Peer(PublicKey(bytes(32))), [HERE, NOWHERE])
        assert nothing_left(client)
        channel = await client.connect(PEER, [HERE])
        await channel.send([b"still working"])
        assert await channel.receive() == [b"still working"]


async def test_a_credential_reaches_the_handler(autojump_clock):
    seen = []

    async def handler(channel):
        seen.append((channel.peer, channel.credential))

    known = KnownPeers(credentials={TOKEN: Grant(b"\x33" * 32)})
    async with open_both(handler, known=known) as (_, _, client):
        await client.connect(Peer(SERVER.public, TOKEN, b"\x33" * 32), [HERE])
        await trio.sleep(1)
    assert seen == [(CLIENT.public, TOKEN)]


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15, 0.2, 0.25])
async def test_a_connect_that_is_cancelled_leaves_nothing(autojump_clock, after):
    """Before the init arrives, before the answer does, in the moment that it does."""
    async with open_both(link=Link(delay=0.1)) as (_, server, client):
        channels = []
        with trio.move_on_after(after):
            channels.append(await client.connect(PEER, [HERE, NOWHERE]))
        assert len(channels) == 0 or after >= 0.2
        assert len(channels) == 1 or after <= 0.2
        await trio.sleep(10)
        assert len(client._demux.live_sessions()) == len(channels)
        assert server.statistics().half_open == 0
        for channel in channels:
            await channel.aclose()
        await trio.sleep(10)
        assert nothing_left(client)
        assert nothing_left(server)


async def test_a_refusal_after_the_cancellation_is_nobodys(autojump_clock):
    known = KnownPeers({CLIENT.public: Grant(result=Result.REVOKED)})
    async with open_both(link=Link(delay=0.1), known=known) as (_, _, client):
        with trio.move_on_after(0.15):
            await client.connect(PEER, [HERE])
        await trio.sleep(1)
        assert client.statistics().drops == {"unexpected": 1}


async def test_both_suites(autojump_clock):
    for suite in Suite:
        async with open_network() as network, open_server(network):
            sock = network.socket("10.0.0.1")
            async with open_endpoint(sock, CLIENT, suite=suite) as client:
                channel = await client.connect(PEER, [HERE])
                await channel.send([bytes(100_000)])
                assert await channel.receive() == [bytes(100_000)]
                assert channel.statistics().suite == suite.name


# --- Serving -----------------------------------------------------------------------------------


async def test_a_handler_that_returns_closes_its_channel(autojump_clock):
    async def handler(channel):
        await channel.receive()

    async with open_both(handler) as (_, server, client):
        channel = await client.connect(PEER, [HERE])
        await channel.send([b"that is all"])
        with pytest.raises(ChannelBroken) as caught:
            await channel.receive()
        assert caught.value.code == CloseCode.NORMAL
        await trio.sleep(10)
        assert nothing_left(server)


async def test_a_handler_that_closes_with_a_reason(autojump_clock):
    async def handler(channel):
        channel.close(9, "go away")

    async with open_both(handler) as (_, _, client):
        channel = await client.connect(PEER, [HERE])
        with pytest.raises(ChannelBroken, match="go away") as caught:
            await channel.receive()
        assert caught.value.code == 9


async def test_a_handler_that_crashes_ends_its_channel_alone(autojump_clock, caplog):
    neighbours = []

    async def handler(channel):
        if not neighbours:
            neighbours.append(channel)
            await echo(channel)
        raise ArithmeticError("the handler's own")

    other = PrivateKey.from_raw(b"\x33" * 32)
    known = KnownPeers({CLIENT.public: Grant(), other.public: Grant()})
    async with open_both(handler, known=known) as (network, server, client):
        neighbour = await client.connect(PEER, [HERE])
        async with open_client(network, other, "10.0.0.3") as second:
            channel = await second.connect(PEER, [HERE])
            with pytest.raises(ChannelBroken, match="internal error, reference") as caught:
                await channel.receive()
        await neighbour.send([b"still here"])
        assert await neighbour.receive() == [b"still here"]
        assert server.statistics().drops["core_failed"] == 1
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.exc_info[0] is ArithmeticError
    assert caught.value.reason.split()[-1] in record.getMessage()


async def test_serve_that_is_cancelled_tells_its_peers(autojump_clock):
    async with open_network(link=Link(delay=0.01)) as network:
        sock = network.socket(*HERE)
        known = KnownPeers({CLIENT.public: Grant()})
        async with (
            open_endpoint(sock, SERVER, authority=known) as server,
            open_client(network) as client,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(server.serve, echo)
            channel = await client.connect(PEER, [HERE])
            await channel.send([b"x"])
            await channel.receive()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True), pytest.raises(ChannelBroken) as caught:
                await channel.receive()
            assert caught.value.code == CloseCode.SHUTDOWN


async def test_an_endpoint_that_does_not_serve_says_so(autojump_clock):
    async with open_network(link=Link(delay=0.01)) as network:
        sock = network.socket(*HERE)
        known = KnownPeers({CLIENT.public: Grant()})
        async with (
            open_endpoint(sock, SERVER, authority=known) as server,
            open_client(network) as client,
        ):
            channel = await client.connect(PEER, [HERE])
            with pytest.raises(ChannelBroken, match="not accepting") as caught:
                await channel.receive()
            assert caught.value.code == CloseCode.SHUTDOWN
            await trio.sleep(10)
            assert nothing_left(server)
            assert nothing_left(client)


async def test_an_endpoint_without_authority_only_connects(autojump_clock):
    async with open_network() as network:
        async with open_client(network) as client, open_client(network, SERVER, HERE[0]) as other:
            with pytest.raises(HandshakeTimeout):
                await client.connect(PEER, [other.local_address])
            assert set(other.statistics().drops) == {"unexpected"}
            assert other.statistics().sent_datagrams == 0


async def test_the_same_key_again_replaces_the_older_channel(autojump_clock):
    async with open_both() as (network, server, client):
        old = await client.connect(PEER, [HERE])
        async with open_client(network, host="10.0.0.5") as elsewhere:
            new = await elsewhere.connect(PEER, [HERE])
            with pytest.raises(ChannelBroken) as caught:
                await old.receive()
            assert caught.value.code == CloseCode.REPLACED
            await new.send([b"x"])
            assert await new.receive() == [b"x"]
            assert server.statistics().sessions == 1


async def test_a_channel_that_was_over_before_connect_returned(autojump_clock):
    """The server's answer to the first sealed datagram may be faster than our own task."""

    class Loopback:
        """A socket with the server's core right behind it."""

        def __init__(self, real):
            self._real = real
            known = KnownPeers({CLIENT.public: Grant()})
            self.core = Demux(
                SERVER,
                authority=known,
                now=trio.current_time(),
                random_bytes=bytes_from(7),
                timestamp_ns=lambda: 0,
                suite=Suite.CHACHAPOLY,
            )

        def __getattr__(self, name):
            return getattr(self._real, name)

        def send_nowait(self, trains):
            now = trio.current_time()
            source = self._real.local_address
            self.core.receive_trains([(data, source, size) for data, _, size in trains], now)
            while (event := self.core.next_event()) is not None:
                event.session.close(7, "at once", now)
                self.core.touch(event.session)
            for train in self.core.datagrams_to_send(now):
                for answer in cut(train):
                    self._real.deliver(answer, trains[0][1])

    async with open_network() as network:
        for _ in range(20):  # which task runs first is Trio's to choose
            sock = Loopback(network.socket("10.0.0.1"))
            async with open_endpoint(sock, CLIENT) as client:
                channel = await client.connect(PEER, [HERE])
                with pytest.raises(ChannelBroken, match="at once"):
                    await channel.receive()
                await trio.sleep(1)
                assert nothing_left(client)


def bytes_from(start):
    numbers = iter(range(start, 10**9))
    return lambda size: next(numbers).to_bytes(size, "big")


# --- Leaving -----------------------------------------------------------------------------------


async def test_leaving_tells_every_peer_more_than_once(autojump_clock):
    async with open_network(link=Link(delay=0.01)) as network, open_client(network) as client:
        async with open_server(network) as server:
            channel = await client.connect(PEER, [HERE])
            await channel.send([b"x"])
            await channel.receive()
            server._sock.sent = []
            network.link.up = False  # so that no answer stops it
            start = trio.current_time()
        assert CLOSE_REPEATS[-1] <= trio.current_time() - start < 0.5
        assert len(server._sock.sent) == len(CLOSE_REPEATS)
        with pytest.raises(trio.ClosedResourceError):
            server._sock.receive_nowait(1)


@pytest.mark.parametrize("missed", [1, 2])
async def test_a_peer_that_missed_some_of_it_hears_the_rest(autojump_clock, missed):
    async with open_network(link=Link(delay=0.01)) as network, open_client(network) as client:
        async with trio.open_nursery() as nursery:
            async with open_server(network):
                channel = await client.connect(PEER, [HERE])
                await channel.send([b"x"])
                await channel.receive()
                network.link.up = False

                @nursery.start_soon
                async def restore():
                    await trio.sleep(CLOSE_REPEATS[missed] - 0.02)
                    network.link.up = True

        with pytest.raises(ChannelBroken) as caught:
            await channel.receive()
        assert caught.value.code == CloseCode.SHUTDOWN


async def test_the_bodys_error_comes_out_as_it_is(autojump_clock):
    async with open_network() as network:
        with pytest.raises(ArithmeticError, match="mine"):
            async with open_endpoint(network.socket("10.0.0.1"), CLIENT):
                raise ArithmeticError("mine")
        group = ExceptionGroup("mine", [ArithmeticError("mine"), LookupError("too")])
        with pytest.raises(ExceptionGroup) as caught:
            async with open_endpoint(network.socket("10.0.0.1"), CLIENT):
                raise group
        assert caught.value is group


async def test_a_body_that_is_cancelled(autojump_clock):
    async with open_network() as network:
        with trio.move_on_after(1) as scope:
            async with open_endpoint(network.socket("10.0.0.1"), CLIENT):
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_an_error_of_its_own_is_not_hidden(autojump_clock):
    async with open_network() as network:
        sock = network.socket("10.0.0.1")

        def broken(limit):
            raise ArithmeticError("in the endpoint")

        sock.receive_nowait = broken
        sock.deliver(b"x", HERE)
        with pytest.raises(ExceptionGroup) as caught:
            async with open_endpoint(sock, CLIENT):
                await trio.sleep_forever()
        assert caught.group_contains(ArithmeticError, match="in the endpoint")


# --- A life ------------------------------------------------------------------------------------


async def test_a_server_that_restarts(autojump_clock):
    async with open_network(link=Link(delay=0.01)) as network, open_client(network) as client:
        async with trio.open_nursery() as nursery:
            first = network.socket(*HERE)
            known = KnownPeers({CLIENT.public: Grant()})

            async def run(sock):
                async with open_endpoint(sock, SERVER, authority=known) as server:
                    await server.serve(echo)

            nursery.start_soon(run, first)
            channel = await client.connect(PEER, [HERE])
            network.forget(first)  # as if killed: not a word
            nursery.start_soon(run, network.socket(*HERE))
            await wait_all_tasks_blocked()
            await channel.send([b"x"])
            start = trio.current_time()
            with pytest.raises(ChannelBroken) as caught:
                await channel.receive()
            assert caught.value.code == CloseCode.TIMEOUT
            assert trio.current_time() - start < 0.1  # told by a stateless reset
            again = await client.connect(PEER, [HERE])
            await again.send([b"x"])
            assert await again.receive() == [b"x"]
            nursery.cancel_scope.cancel()


async def test_connecting_and_leaving_many_times_leaves_nothing(autojump_clock):
    async with open_both(link=Link(delay=0.005, loss=0.05)) as (_, server, client):
        for number in range(100):
            channel = await client.connect(PEER, [HERE])
            await channel.send([b"%d" % number])
            assert await channel.receive() == [b"%d" % number]
            if number % 2:
                channel.close()
            else:
                await channel.aclose()
        await trio.sleep(70)  # one whose CLOSE was lost three times falls silent
        assert nothing_left(client)
        assert nothing_left(server)
        assert len(client._demux._timers._heap) == 0


async def test_a_session_survives_an_hour_of_rebinding_and_loss(autojump_clock):
    async with open_both(link=Link(delay=0.02, loss=0.1)) as (network, server, client):
        channel = await client.connect(PEER, [HERE])
        for number in range(120):
            network.rebind(client._sock)
            await channel.send([b"%d" % number])
            assert await channel.receive() == [b"%d" % number]
            await trio.sleep(30)
        assert channel.statistics().rekeys > 20
        assert server.statistics().sessions == 1


async def test_statistics_add_up(autojump_clock):
    async with open_both() as (_, server, client):
        channel = await client.connect(PEER, [HERE])
        await channel.send([b"x"] * 10)
        await channel.receive()
        server._sock.deliver(b"\x0a nonsense", NOWHERE)
        await trio.sleep(TOMBSTONE)
        mine, theirs = client.statistics(), server.statistics()
        assert mine.sent_datagrams == theirs.received_datagrams - 1
        assert theirs.sent_datagrams == mine.received_datagrams
        assert theirs.drops == {"unknown_type": 1}
        assert (theirs.sessions, theirs.half_open) == (1, 0)


async def test_in_calm_weather_the_kernel_is_asked_for_no_filter(autojump_clock, monkeypatch):
    asked = []
    async with open_both() as (_, server, client):
        monkeypatch.setattr(
            type(server._sock), "limit_inits", lambda _, shares: asked.append(shares)
        )
        for _ in range(3):
            await (await client.connect(PEER, [HERE])).aclose()
            await trio.sleep(0.3)  # a slot of the gate
    assert asked == []
