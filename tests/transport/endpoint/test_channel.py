"""The Trio handle of a session: what waits, what wakes, and what is raised at the end."""

from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from transport import Channel, ChannelBroken, CloseCode, Grant, Peer, PrivateKey, open_endpoint
from transport.constants import (
    INBOX_BYTES,
    KCP_HEADER_SIZE,
    KCP_MTU,
    MAX_FRAGMENTS,
    MEMORY_LIMIT,
    RECEIVE_BYTES,
    REJECT_AFTER_UNITS,
    SEALED_OVERHEAD,
)
from transport.endpoint.channel import GRACE
from transport.testing.cores import KnownPeers
from transport.testing.network import Link, open_network
from transport.wire.datagrams import Suite

SERVER = PrivateKey.from_raw(b"\x22" * 32)
CLIENT = PrivateKey.from_raw(b"\x11" * 32)


@asynccontextmanager
async def open_pair(link=None):
    """The network and the two ends of one session: the client's and the server's channel."""
    accepted = []
    ready, done = trio.Event(), trio.Event()

    async def handler(channel):
        accepted.append(channel)
        ready.set()
        await done.wait()

    async with open_network(link=link or Link(delay=0.01)) as network:
        known = KnownPeers({CLIENT.public: Grant()})
        server_sock, client_sock = network.socket("10.0.0.2", 7450), network.socket("10.0.0.1")
        suite = Suite.CHACHAPOLY
        async with (
            open_endpoint(server_sock, SERVER, authority=known) as server,
            open_endpoint(client_sock, CLIENT, suite=suite) as client,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(server.serve, handler)
            channel = await client.connect(Peer(SERVER.public), [server.local_address])
            await ready.wait()
            yield network, channel, accepted[0]
            done.set()
            nursery.cancel_scope.cancel()


async def receive_all(channel, count):
    got = []
    while len(got) < count:
        got += await channel.receive()
    return got


async def fill(channel):
    """Use up all credit; returns how many messages that took."""
    sent = 0
    while channel.bulk.credit > 0:
        channel.bulk.send_nowait([bytes(1000)])
        sent += 1
    return sent


# --- Messages ----------------------------------------------------------------------------------


async def test_messages_both_ways(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        assert isinstance(mine, Channel)
        await mine.send([b"one", b"two"])
        mine.bulk.send_nowait([b"three"])
        assert await receive_all(theirs, 3) == [b"one", b"two", b"three"]
        await theirs.send([b"", b"answer"])
        assert await receive_all(mine, 2) == [b"", b"answer"]


async def test_who_is_there(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        assert mine.peer == SERVER.public
        assert theirs.peer == CLIENT.public
        assert mine.remote == "10.0.0.2:7450"
        assert theirs.remote.startswith("10.0.0.1:")
        assert (
            mine.bulk.message_size
            == theirs.bulk.message_size
            == 1200 - SEALED_OVERHEAD - KCP_HEADER_SIZE
        )
        assert mine.statistics().suite == "CHACHAPOLY"
        await trio.sleep(0.1)
        assert mine.statistics().rtt == pytest.approx(0.02, abs=0.001)


async def test_nothing_there_would_block(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        with pytest.raises(trio.WouldBlock):
            mine.bulk.receive_nowait()
        await theirs.send([b"x"])
        await mine.wait_readable()
        assert mine.bulk.receive_nowait() == [b"x"]
        with pytest.raises(trio.WouldBlock):
            mine.bulk.receive_nowait()


async def test_credit_runs_out_and_comes_back(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        sent = await fill(mine)
        with pytest.raises(trio.WouldBlock):
            mine.bulk.send_nowait([b"x"])
        start = trio.current_time()
        await mine.wait_writable()
        assert mine.bulk.credit > 0
        assert trio.current_time() - start == pytest.approx(0.02, abs=0.015)  # a round trip
        assert len(await receive_all(theirs, sent)) == sent


async def test_a_batch_may_exceed_the_credit_once(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        mine.bulk.send_nowait([bytes(1000)] * 1000)
        assert mine.bulk.credit < 0
        assert len(await receive_all(theirs, 1000)) == 1000


async def test_a_reader_that_does_not_read_holds_the_writer_back(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        sent = 0
        with trio.move_on_after(20):
            while True:
                await mine.send([sent.to_bytes(4, "big") * 300] * 4)
                sent += 4
        message = MAX_FRAGMENTS * KCP_MTU
        most = INBOX_BYTES + RECEIVE_BYTES + message + mine.statistics().window
        assert INBOX_BYTES < sent * 1200 < most
        assert mine.bulk.credit <= 0
        got = await receive_all(theirs, sent)
        assert [message[:4] for message in got[::4]] == [
            number.to_bytes(4, "big") for number in range(0, sent, 4)
        ]
        await mine.send([b"goes on"])
        assert await theirs.receive() == [b"goes on"]


async def test_every_waiting_verb_is_a_checkpoint(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        await theirs.send([b"x"])
        await mine.wait_readable()
        with assert_checkpoints():
            await mine.wait_readable()
        with assert_checkpoints():
            await mine.wait_writable()
        with assert_checkpoints():
            await mine.receive()
        with assert_checkpoints():
            await mine.send([b"y"])
        with trio.CancelScope() as scope:
            scope.cancel()
            await mine.send([b"never sent"])
        assert scope.cancelled_caught
        with assert_checkpoints():
            await mine.aclose()
        assert await receive_all(theirs, 1) == [b"y"]
        with assert_checkpoints():
            await mine.aclose()


async def test_a_cancelled_wait_leaves_the_channel_usable(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        for _ in range(3):
            with trio.move_on_after(0.1) as scope:
                await mine.receive()
            assert scope.cancelled_caught
        await theirs.send([b"x"])
        assert await mine.receive() == [b"x"]


async def test_one_task_in_each_direction(autojump_clock):
    async with open_pair() as (network, mine, _), trio.open_nursery() as nursery:
        network.link.up = False
        await fill(mine)
        nursery.start_soon(mine.wait_readable)
        nursery.start_soon(mine.wait_writable)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await mine.wait_readable()
        with pytest.raises(trio.BusyResourceError):
            await mine.wait_writable()
        nursery.cancel_scope.cancel()


# --- The end -----------------------------------------------------------------------------------


async def raises_closed(channel):
    for verb in (channel.receive, channel.wait_readable, channel.wait_writable):
        with pytest.raises(trio.ClosedResourceError):
            await verb()
    with pytest.raises(trio.ClosedResourceError):
        await channel.send([b"x"])
    with pytest.raises(trio.ClosedResourceError):
        channel.bulk.send_nowait([b"x"])
    with pytest.raises(trio.ClosedResourceError):
        channel.bulk.receive_nowait()


async def test_a_closed_channel_is_closed(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        await theirs.send([b"unread"])
        await mine.wait_readable()
        mine.close()
        mine.close(7, "again")
        await raises_closed(mine)
        await mine.aclose()
        await raises_closed(mine)
        with pytest.raises(ChannelBroken) as caught:
            await theirs.receive()
        assert (caught.value.code, caught.value.by_peer) == (CloseCode.NORMAL, True)


async def test_the_peer_learns_why(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        theirs.close(42, "no more room")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await mine.receive()
        assert isinstance(caught.value, ChannelBroken)
        assert caught.value.code == 42
        assert caught.value.reason == str(caught.value) == "no more room"
        assert caught.value.by_peer
        for verb in (mine.wait_readable, mine.wait_writable, mine.receive):
            with pytest.raises(ChannelBroken):
                await verb()
        with pytest.raises(ChannelBroken):
            mine.bulk.send_nowait([b"x"])
        with pytest.raises(ChannelBroken):
            mine.bulk.receive_nowait()
        await mine.aclose()
        await raises_closed(mine)


async def test_an_end_without_a_reason_has_words_too(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        theirs.close()
        with pytest.raises(ChannelBroken, match="the peer has closed the session"):
            await mine.receive()


async def test_what_has_arrived_is_read_before_the_end_is_seen(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        await theirs.send([b"one", b"two"])
        await mine.wait_readable()
        theirs.close()
        await trio.sleep(1)
        await mine.wait_readable()
        assert mine.bulk.receive_nowait() == [b"one", b"two"]
        with pytest.raises(ChannelBroken):
            await mine.wait_readable()


@pytest.mark.parametrize("peer_was_first", [False, True])
async def test_nothing_is_kept_after_our_own_close(autojump_clock, peer_was_first):
    async with open_pair() as (_, client, server):
        lanes = server._session.lanes
        client.bulk.send_nowait([b"x" * 1000] * 10)
        client.sparse.send_nowait([b"x" * 1000])
        await trio.sleep(1)
        server.bulk.send_nowait([b"y" * 1000] * 10)  # not acknowledged yet
        assert lanes.held > 21_000
        if peer_was_first:
            client.close()
            await trio.sleep(1)
            assert 11_000 <= lanes.held < 21_000
        server.close()
        assert lanes.held == 0
        with pytest.raises(trio.ClosedResourceError):
            server.bulk.receive_nowait()


@pytest.mark.parametrize("by", ["us", "peer"])
async def test_the_end_wakes_everybody_who_waits(autojump_clock, by):
    error = trio.ClosedResourceError if by == "us" else ChannelBroken
    async with open_pair() as (network, mine, theirs):
        async with trio.open_nursery() as nursery:

            async def expect(verb):
                with pytest.raises(error):
                    await verb()

            # The window closes, since the answers do not come back.
            mine_address = mine._shell.local_address
            carry = network.carry
            network.carry = lambda data, source, to: (
                None if to == mine_address and data[0] == 4 else carry(data, source, to)
            )
            await fill(mine)
            nursery.start_soon(expect, mine.wait_readable)
            nursery.start_soon(expect, mine.wait_writable)
            await wait_all_tasks_blocked()
            (mine if by == "us" else theirs).close()


async def test_keys_that_are_used_up_wake_who_waits(autojump_clock):
    async with open_pair() as (_, mine, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait():
            with pytest.raises(ChannelBroken, match="used up"):
                await mine.receive()

        await wait_all_tasks_blocked()
        mine._session.keys.current.sealer.counter = REJECT_AFTER_UNITS
        mine.bulk.send_nowait([b"x"])


async def test_aclose_waits_until_all_has_arrived(autojump_clock):
    async with open_pair(Link(delay=0.05, loss=0.2)) as (_, mine, theirs):
        sent = [bytes([number]) * 1000 for number in range(50)]
        await mine.send(sent)
        await mine.aclose(3, "done")
        got = []
        with suppress(ChannelBroken):
            while True:
                got += await theirs.receive()
        assert got == sent


async def test_aclose_waits_for_an_empty_message_as_well(autojump_clock):
    async with open_pair(Link(delay=0.05)) as (_, mine, theirs):
        await mine.send([b""])
        await mine.aclose()
        assert await theirs.receive() == [b""]


async def test_aclose_waits_only_so_long(autojump_clock):
    async with open_pair() as (network, mine, _):
        network.link.up = False
        await mine.send([b"x"])
        start = trio.current_time()
        await mine.aclose()
        assert trio.current_time() - start == pytest.approx(GRACE)
        await raises_closed(mine)


async def test_aclose_does_not_wait_for_nothing(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        start = trio.current_time()
        await mine.aclose()
        await theirs.aclose()
        assert trio.current_time() == start


async def test_aclose_that_is_cancelled_closes_at_once(autojump_clock):
    async with open_pair() as (network, mine, _):
        network.link.up = False
        await mine.send([b"x"])
        with trio.move_on_after(0.1) as scope:
            await mine.aclose()
        assert scope.cancelled_caught
        await raises_closed(mine)


async def test_two_tasks_may_close(autojump_clock):
    async with open_pair(Link(delay=0.1)) as (_, mine, theirs):
        sent = [bytes([number]) * 1000 for number in range(20)]
        await mine.send(sent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.aclose)
            nursery.start_soon(mine.aclose)
        assert await receive_all(theirs, 20) == sent


async def test_a_peer_that_is_gone(autojump_clock):
    async with open_pair() as (network, mine, theirs):
        await mine.send([b"x"])
        assert await theirs.receive() == [b"x"]
        network.link.up = False
        start = trio.current_time()
        with pytest.raises(ChannelBroken) as caught:
            await mine.receive()
        assert caught.value.code == CloseCode.TIMEOUT
        assert not caught.value.by_peer
        assert 59 < trio.current_time() - start < 80


async def test_forget_credential_is_passed_on(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        mine.forget_credential()
        theirs.forget_credential()  # has shown none: nothing to forget
        await mine.send([b"x"])
        assert await theirs.receive() == [b"x"]


# --- Memory --------------------------------------------------------------------------------------


async def test_what_is_kept_above_a_channel_is_memory_of_its_session(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        for held in (MEMORY_LIMIT // 2, 0, MEMORY_LIMIT // 2):
            theirs.hold(held)
            await mine.send([b"x"])
            assert await theirs.receive() == [b"x"]
        theirs.hold(MEMORY_LIMIT)
        with pytest.raises(ChannelBroken, match="held too much memory"):
            await theirs.receive()
        with pytest.raises(ChannelBroken, match="held too much memory"):
            await mine.receive()
        theirs.hold(0)  # of no interest any more


async def test_nobody_keeps_less_than_nothing(autojump_clock):
    async with open_pair() as (_, _, theirs):
        with pytest.raises(ValueError):
            theirs.hold(-1)
