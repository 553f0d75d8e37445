"""R13 and its kin between real endpoints in simulated time: paths that take less, and say nothing.

The clients' interfaces and the server's carry 9,000 bytes unless told otherwise, so that it is the
path alone that drops.
"""

import itertools
from contextlib import asynccontextmanager

import pytest
import trio

from transport import Grant, Peer, PrivateKey, open_endpoint
from transport.constants import HYBRID_INIT_SIZE, HYBRID_RESPONSE_SIZE
from transport.path.mtu import BASE_SIZE, grain
from transport.testing.cores import KnownPeers
from transport.testing.network import IPV4_UDP as HEADERS
from transport.testing.network import Link, open_network

SERVER_KEY = PrivateKey.from_raw(b"\x22" * 32)
CLIENT_KEY = PrivateKey.from_raw(b"\x11" * 32)
SERVER = ("198.51.100.1", 7450)
DETECTED = 5.0  # seconds until data passes again


@asynccontextmanager
async def session(link, *, interface=9000, seed=1):
    """Network, the client's channel and the server's."""
    accept, accepted = trio.open_memory_channel(1)

    async def hold(channel):
        await accept.send(channel)
        await trio.sleep_forever()

    async with open_network(seed=seed, link=link) as network:
        here, there = network.socket(*SERVER), network.socket("192.0.2.1", 41_000)
        here.mtu = there.mtu = interface
        known = KnownPeers({CLIENT_KEY.public: Grant()})
        async with (
            open_endpoint(here, SERVER_KEY, authority=known) as server,
            open_endpoint(there, CLIENT_KEY) as client,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(server.serve, hold)
            channel = await client.connect(Peer(SERVER_KEY.public), [SERVER])
            yield network, channel, await accepted.receive()
            nursery.cancel_scope.cancel()


class Stream:
    """Numbers, 4 Mbit/s of them; and when each batch of them arrived."""

    PACE = 0.01  # seconds between messages
    COUNT = 1250  # numbers in one, of four bytes each

    def __init__(self):
        self.sent = self.arrived = 0
        self.times = []
        self.stop = False

    async def send(self, channel):
        while not self.stop:
            numbers = range(self.sent, self.sent + self.COUNT)
            await channel.send([b"".join(number.to_bytes(4, "big") for number in numbers)])
            self.sent += self.COUNT
            await trio.sleep(self.PACE)

    async def receive(self, channel):
        while True:
            for message in await channel.receive():
                for at in range(0, len(message), 4):
                    assert int.from_bytes(message[at : at + 4], "big") == self.arrived
                    self.arrived += 1
            self.times.append(trio.current_time())

    def longest_gap(self):
        pairs = itertools.pairwise(self.times)
        return max((later - earlier for earlier, later in pairs), default=0.0)


def path_size(channel):
    return channel.statistics().datagram_size


@pytest.mark.parametrize(
    ("direction", "mtu"),
    [("up", 1300), ("down", 1300), ("up", 1280), ("down", 1000), ("both", 1000)],
)
async def test_a_path_that_shrinks_under_a_transfer(autojump_clock, direction, mtu):
    link = Link(delay=0.02, jitter=0.002, mtu=1500)
    async with session(link, interface=1500) as (_, mine, theirs):
        up, down = Stream(), Stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(up.receive, theirs)
            nursery.start_soon(down.receive, mine)
            if direction != "down":
                nursery.start_soon(up.send, mine)
            if direction != "up":
                nursery.start_soon(down.send, theirs)
            await trio.sleep(1.0)
            assert path_size(mine) == path_size(theirs) == 1500 - HEADERS
            link.mtu = mtu
            await trio.sleep(DETECTED + 3.0)
            up.stop = down.stop = True
            await trio.sleep(DETECTED)
            for stream in (up, down):
                assert stream.arrived == stream.sent  # nothing lost, nothing twice, in order
                assert stream.longest_gap() < DETECTED
            used = mine if direction == "up" else theirs
            assert path_size(used) <= mtu - HEADERS
            nursery.cancel_scope.cancel()


async def test_a_path_that_shrinks_and_loses(autojump_clock):
    link = Link(delay=0.02, loss=0.05, mtu=1500)
    async with session(link, interface=1500) as (_, mine, theirs):
        stream = Stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive, theirs)
            nursery.start_soon(stream.send, mine)
            await trio.sleep(2.0)
            link.mtu = 1300
            await trio.sleep(15.0)
            stream.stop = True
            await trio.sleep(10.0)
            assert stream.arrived == stream.sent
            assert stream.longest_gap() < DETECTED
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mtu", [600, 1400, 1500, 4000, 9000])
async def test_a_large_path_is_used_and_a_small_one_too(autojump_clock, mtu):
    async with session(Link(delay=0.005, mtu=mtu)) as (network, mine, theirs):
        await trio.sleep(60)
        most = mtu - HEADERS
        for channel in (mine, theirs):
            assert most - grain(most) <= path_size(channel) <= most
        network.log.clear()
        await mine.send([bytes(500_000)])
        while sum(map(len, await theirs.receive())) == 0:
            pass
        longest = max(fate.size for fate in network.log if fate.verdict == "sent")
        assert longest > 0.96 * path_size(mine)


async def test_the_mtu_of_the_interface_is_learned_without_a_datagram(autojump_clock):
    async with session(Link(delay=0.005), interface=1400) as (network, mine, theirs):
        await trio.sleep(1)
        for channel in (mine, theirs):
            assert 1372 - grain(1372) <= path_size(channel) <= 1372
            assert "too_big" not in channel.statistics().drops
        assert max(fate.size for fate in network.log) <= 1372


async def test_roaming_to_a_smaller_path(autojump_clock):
    link = Link(delay=0.02, mtu=9000)
    async with session(link) as (network, mine, theirs):
        await trio.sleep(10)
        assert path_size(mine) == path_size(theirs) == 9000 - HEADERS
        stream = Stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive, mine)
            nursery.start_soon(stream.send, theirs)
            await trio.sleep(1)
            (sock,) = [sock for at, sock in network._sockets.items() if at != SERVER]
            network.rebind(sock)
            link.mtu = 1300
            await mine.send([b"from elsewhere"])
            await trio.sleep(1)
            assert path_size(mine) <= 1300 - HEADERS
            assert path_size(theirs) <= 1300 - HEADERS
            await trio.sleep(5)
            stream.stop = True
            await trio.sleep(5)
            assert stream.arrived == stream.sent
            assert stream.longest_gap() < DETECTED
            nursery.cancel_scope.cancel()


async def test_an_idle_session_is_silent_once_the_search_is_over(autojump_clock):
    async with session(Link(delay=0.02, mtu=1500)) as (network, mine, theirs):
        await trio.sleep(100)
        assert path_size(mine) == path_size(theirs) >= BASE_SIZE
        network.log.clear()
        await trio.sleep(300)
        keys = (HYBRID_INIT_SIZE, HYBRID_RESPONSE_SIZE)
        assert all(fate.size < 300 or fate.size in keys for fate in network.log)  # and keepalives
