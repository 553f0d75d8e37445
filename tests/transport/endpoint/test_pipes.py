"""Pipes beside the socket: handshakes in them, moves to them and back, back-pressure, the end."""

import random
from contextlib import suppress
from math import inf

import pytest
import trio

from tests.transport.endpoint.test_endpoint import PEER, SERVER, open_client, open_server
from transport import ChannelBroken, HandshakeTimeout, PeerUnreachable, PrivateKey
from transport.constants import (
    MACS_SIZE,
    PIPE_BACKLOG,
    PIPE_MOST,
    PIPE_TIME,
    PIPE_UNUSED,
    SLICE_SIZE,
)
from transport.endpoint.pipes import Pipes
from transport.handshake.admission import ANSWERS_PER_INIT, COOKIE_REPLIES_PER_ADDRESS
from transport.handshake.cookie import MacStamper
from transport.testing.network import Link, open_network
from transport.testing.pipes import open_pipe
from transport.wire.datagrams import COOKIE, DATA, INIT
from transport.wire.trains import PipeAddress

HERE = ("10.0.0.2", 7450)
STRANGER = PrivateKey.from_raw(b"\x33" * 32)
MESSAGE = bytes(60_000)


def each_seed(count, *, long):
    """Seeds from 0, of which those from `long` on are for who has the time."""
    late = (pytest.param(seed, marks=pytest.mark.long) for seed in range(long, count))
    return pytest.mark.parametrize("seed", [*range(long), *late])


async def receive(channel, count):
    """So many messages of the bulk lane."""
    got = []
    while len(got) < count:
        got += await channel.receive()
    return got


async def test_a_session_begins_in_a_pipe_and_carries_messages_both_ways(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        async with open_client(network) as client, open_pipe(client, server) as pair:
            channel = await client.connect(PEER, [pair.first.address])
            assert channel.path_kind == channel.remote == "memory:second"
            await channel.send([b"a", MESSAGE, b"b"])
            assert await receive(channel, 3) == [b"a", MESSAGE, b"b"]
            await channel.aclose()


async def sink(channel):
    """Read, and keep nothing."""
    with suppress(ChannelBroken):
        while True:
            await channel.receive()


class Traffic:
    """Numbered messages of both reliable lanes from both sides, of all sizes."""

    def __init__(self, seed, client, server):
        self.random = random.Random(seed)
        self.sides = (client, server)
        self.sent = {(side, lane): [] for side in (0, 1) for lane in ("bulk", "sparse")}
        self.got = {key: [] for key in self.sent}

    async def run(self):
        async with trio.open_nursery() as nursery:
            for side in (0, 1):
                nursery.start_soon(self._send, side)
                nursery.start_soon(self._receive, side)

    async def _send(self, side):
        channel, number = self.sides[side], 0
        while True:
            await trio.sleep(self.random.uniform(0.0, 0.02))
            for lane, messages in (("bulk", self.random.randrange(20)), ("sparse", 1)):
                each = getattr(channel, lane)
                while each.credit > 0 and messages:
                    messages -= 1
                    number += 1
                    message = b"%d " % number
                    if lane == "bulk":  # a unit at most, as whoever is wise sends
                        message += bytes(self.random.randrange(each.message_size - len(message)))
                    each.send_nowait([message])
                    self.sent[side, lane].append(message)

    async def _receive(self, side):
        channel = self.sides[side]
        while True:
            await channel.wait_readable()
            for lane in ("bulk", "sparse"):
                each = getattr(channel, lane)
                if each.readable:
                    self.got[1 - side, lane] += each.receive_nowait()

    def arrived(self):
        return all(len(self.got[key]) == len(self.sent[key]) for key in self.sent)

    def check(self):
        """Everything has arrived, once and in order."""
        for key, sent in self.sent.items():
            assert sent
            assert self.got[key] == sent, key


class World:
    """Two endpoints on a lossy network, their channels, and traffic that goes on."""

    def __init__(self, network, client, server, mine, theirs, seed):
        self.network, self.client, self.server = network, client, server
        self.mine, self.theirs = mine, theirs
        self.traffic = Traffic(seed, mine, theirs)

    async def move(self, address, within=3.0):
        """To that address, with both ends of the session."""
        self.mine.seek([address], elsewhere=True)
        with trio.fail_after(within):
            while self.mine.address != address:  # noqa: ASYNC110 - a test looks from outside
                await trio.sleep(0.01)

    async def settle(self, nursery):
        """No new traffic, and all that is old has arrived."""
        with trio.fail_after(60):
            while not self.traffic.arrived():  # noqa: ASYNC110 - as above
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


async def run_world(seed, steps, *, link=None):
    link = link or Link(delay=0.02, jitter=0.005, loss=0.03)
    taken, is_taken = [], trio.Event()

    async def take(channel):
        taken.append(channel)
        is_taken.set()
        await trio.sleep_forever()

    async with (
        open_network(seed, link) as network,
        open_server(network, take) as server,
        open_client(network) as client,
    ):
        mine = await client.connect(PEER, [HERE])
        await is_taken.wait()
        world = World(network, client, server, mine, taken[0], seed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.traffic.run)
            await steps(world)
            world.traffic._send = None
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            for side in (0, 1):
                nursery.start_soon(world.traffic._receive, side)
            await world.settle(nursery)
        world.traffic.check()
        assert (mine.ended, taken[0].ended) == (False, False)


@each_seed(4, long=1)
async def test_ten_moves_in_a_row_lose_nothing_and_keep_the_order(autojump_clock, seed):
    async def steps(world):
        for _ in range(5):
            async with open_pipe(world.client, world.server, rate=2e6, delay=0.03) as pair:
                await trio.sleep(0.5)
                await world.move(pair.first.address)
                await trio.sleep(1.0)
                assert world.theirs.path_kind == "memory:first"
                await world.move(HERE)
                await trio.sleep(1.0)
                assert (world.mine.path_kind, world.theirs.path_kind) == ("udp", "udp")

    await run_world(seed, steps)


@each_seed(3, long=1)
async def test_a_pipe_that_breaks_with_much_in_it_costs_nothing(autojump_clock, seed):
    async def steps(world):
        for _ in range(3):
            async with open_pipe(world.client, world.server, rate=5e5, delay=0.05) as pair:
                await world.move(pair.first.address)
                await trio.sleep(2.0)
                pair.cut()
                with trio.fail_after(1.1):  # or at once, where somebody waits already
                    await world.mine.wait_silent()
                await world.move(HERE)

    await run_world(seed, steps)


@each_seed(8, long=3)
async def test_any_order_of_opening_moving_and_breaking_loses_nothing(autojump_clock, seed):
    chance = random.Random(seed)

    async def steps(world):
        async with trio.open_nursery() as nursery:
            pairs = []

            async def keep(delay):
                async with open_pipe(world.client, world.server, rate=1e6, delay=delay) as pair:
                    pairs.append(pair)
                    await trio.sleep_forever()

            for _ in range(25):
                step = chance.choice(("open", "cut", "move", "move", "back", "down", "wait"))
                if step == "open" and len(pairs) < 4:
                    nursery.start_soon(keep, chance.uniform(0, 0.1))
                elif step == "cut" and pairs:
                    pairs.pop(chance.randrange(len(pairs))).cut()
                elif step == "move" and pairs:
                    address = chance.choice(pairs).first.address
                    world.mine.seek([address], elsewhere=chance.random() < 0.5)
                elif step == "back":
                    world.mine.seek([HERE], elsewhere=True)
                elif step == "down":
                    world.network.link.up = not world.network.link.up
                await trio.sleep(chance.uniform(0, 0.7))
            world.network.link.up = True
            await world.move(HERE, within=20.0)
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()

    await run_world(seed, steps)


@pytest.mark.parametrize("seed", range(2))
async def test_large_units_of_a_fast_pipe_get_through_on_a_path_that_loses_much(
    autojump_clock, seed
):
    link = Link(delay=0.01, loss=0.1)
    async with open_network(seed, link) as network, open_server(network, sink) as server:
        async with (
            open_client(network) as client,
            open_pipe(client, server, rate=1.25e7, delay=0.005) as pair,
        ):
            channel = await client.connect(PEER, [pair.first.address])
            until = trio.current_time() + 1.0
            while trio.current_time() < until:
                await channel.send([bytes(channel.bulk.message_size)])
            assert channel.bulk.message_size > 7 * SLICE_SIZE
            assert max(map(len, pair.first.sent)) > 2 * channel.bulk.message_size  # units of many
            channel.seek([HERE], elsewhere=True)
            await trio.sleep(0.5)
            assert channel.path_kind == "udp"
            await trio.sleep(20.0)
            assert channel._session.drained


async def test_what_is_under_way_is_due_at_once_on_the_new_path(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server, delay=0.1) as pair:
            channel = await client.connect(PEER, [HERE])
            network.link.up = False
            await channel.send([b"%d" % n for n in range(10)])
            channel.seek([pair.first.address], elsewhere=True)
            with trio.fail_after(0.5):  # two round trips, and a little
                assert await receive(channel, 10) == [b"%d" % n for n in range(10)]


async def test_whoever_waits_for_silence_hears_of_a_closed_pipe_at_once(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            channel = await client.connect(PEER, [pair.first.address])
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.wait_silent)
                await trio.sleep(1.0)
                pair.cut()
                before = trio.current_time()
            assert trio.current_time() == before
            channel.seek([HERE])
            await channel.send([b"still here"])
            assert await channel.receive() == [b"still here"]
            assert channel.path_kind == "udp"


async def test_nothing_is_repeated_or_copied_or_probed_in_a_pipe(autojump_clock):
    """After a path that loses much, so that repetition and copies were on."""
    got, taken = [], []

    async def take(channel):
        taken.append(channel)
        while True:
            got.extend(await channel.receive())

    link = Link(delay=0.02, loss=0.1)
    async with open_network(1, link) as network, open_server(network, take) as server:
        async with open_client(network) as client:
            channel = await client.connect(PEER, [HERE])

            async def stream():
                while True:
                    await channel.send([bytes(channel.bulk.message_size)])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream)
                await trio.sleep(3.0)
                assert channel.lossy
                async with open_pipe(client, server, rate=2e6, delay=0.05) as pair:
                    channel.seek([pair.first.address], elsewhere=True)
                    await trio.sleep(3.0)
                    before, drops = sum(map(len, got)), taken[0].statistics().drops
                    begun, first = channel.statistics().sent_bytes, len(pair.first.sent)
                    await trio.sleep(20.0)
                    payload = sum(map(len, got)) - before
                    octets = channel.statistics().sent_bytes - begun
                    assert octets == sum(map(len, pair.first.sent[first:]))
                    assert payload > 0.85 * 20 * 2e6
                    assert octets <= 1.08 * payload
                    assert taken[0].statistics().drops == drops  # none that had come already
                    assert channel.statistics().datagram_size == 65_535
                    assert not channel.lossy
                    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("rate", [2.5e5, 2.5e6])
async def test_what_waits_in_a_pipe_is_bounded_and_pings_pass_what_waits(autojump_clock, rate):
    async with open_network() as network, open_server(network, sink) as server:
        async with open_client(network) as client:
            async with open_pipe(client, server, rate=rate, delay=0.02) as pair:
                channel = await client.connect(PEER, [pair.first.address])
                late = []

                async def stream():
                    while True:
                        await channel.send([bytes(min(30_000, channel.bulk.message_size))])

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream)
                    await trio.sleep(5.0)
                    before = channel.statistics()
                    for _ in range(100):
                        await trio.sleep(0.05)
                        channel.measure()
                        asked = trio.current_time()
                        while channel.statistics().measuring:  # noqa: ASYNC110 - as above
                            await trio.sleep(0.001)
                        late.append(trio.current_time() - asked)
                    after = channel.statistics()
                    nursery.cancel_scope.cancel()
                # A unit may be begun while there is room for a byte of it.
                assert pair.first.most_waiting <= PIPE_BACKLOG + 66_000
                assert sorted(late)[95] <= 0.04 + 0.06 + PIPE_BACKLOG / rate
                lasted = after.age - before.age
                # On a slow pipe a drain of the queue costs more of it.
                share = (after.sent_bytes - before.sent_bytes) / (rate * lasted)
                assert share >= (0.85 if rate > 1e6 else 0.7)


async def test_a_handshake_in_a_pipe_is_not_repeated_in_copies(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            pair.second.abort()  # nobody hears
            with pytest.raises(HandshakeTimeout):
                await client.connect(PEER, [pair.first.address], patience=5.0)
            inits = pair.first.sent
            assert {each[0] for each in inits} == {INIT}
            assert 3 <= len(inits) == len(set(inits)) <= 7


async def test_whoever_connects_through_a_pipe_that_closes_goes_on_with_the_next(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            pair.second.abort()
            network.link.up = False
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def cut():
                    await trio.sleep(1.0)
                    pair.cut()

                with pytest.raises(PeerUnreachable, match="memory:second is closed"):
                    await client.connect(PEER, [pair.first.address])
            assert 1.0 <= trio.current_time() <= 1.1


async def test_a_flood_in_a_pipe_is_met_as_one_from_an_address_and_others_come_in(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with (
            open_client(network) as client,
            open_pipe(client, server) as pair,
            open_pipe(client, server) as other,
        ):
            channel = await client.connect(PEER, [pair.first.address])
            init = next(each for each in pair.first.sent if each[0] == INIT)
            await channel.aclose()
            pair.first.abort()
            answered = len(pair.second.sent)
            server.pipe_received(pair.second.address, [init] * 2000)
            assert len(pair.second.sent) - answered < ANSWERS_PER_INIT
            stamper, answered = MacStamper(SERVER.public.raw), len(pair.second.sent)
            flood = [init[:8] + n.to_bytes(32, "big") + init[40:-MACS_SIZE] for n in range(2000)]
            now = trio.current_time()
            flood = [stamper.stamp(each, now) for each in flood]
            server.pipe_received(pair.second.address, flood)
            cookies = pair.second.sent[answered:]
            assert {each[0] for each in cookies} == {COOKIE}
            assert len(cookies) <= COOKIE_REPLIES_PER_ADDRESS
            again = await client.connect(PEER, [other.first.address], patience=3.0)
            assert again.path_kind == "memory:second"
            drops = server.statistics().drops
            assert drops["repeated_init"] >= 1900
            assert drops["rate_limited"] + drops["cookie_limited"] >= 1900


async def test_a_flood_of_inits_in_a_pipe_closes_no_door_to_others(autojump_clock):
    """The kernel cannot hold it back, and would hold back others instead, more and more."""
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            shares = []
            server._sock.limit_inits = shares.append
            for proof in (bytes(232), bytes(231) + b"x"):
                for _ in range(8):
                    assert not server.pipe_received(pair.second.address, [b"\1" + proof[1:]] * 2000)
                    await trio.sleep(0.25)
            assert shares == []


async def test_what_is_of_a_session_on_the_pipe_is_told_from_the_rest(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with (
            open_client(network) as client,
            open_client(network, STRANGER, "10.0.0.3") as stranger,
            open_pipe(client, server) as pair,
            open_pipe(stranger, server) as other,
        ):
            told = []
            real = server.pipe_received

            def note(address, datagrams):
                told.append(real(address, datagrams))

            server.pipe_received = note
            channel = await client.connect(PEER, [pair.first.address])
            await channel.send([b"a"])
            await trio.sleep(1.0)
            assert told[0] is False  # the init
            assert all(told[1:])
            assert len(told) > 1
            sealed = [each for each in pair.first.sent if each[0] == DATA]
            assert not real(other.second.address, sealed)
            assert not real(pair.second.address, [b"junk"])


async def test_a_datagram_copied_into_a_pipe_moves_nothing(autojump_clock):
    """Whoever copies what the client has sent shows that it can send here, and gets little."""
    taken = []

    async def take(channel):
        taken.append(channel)
        while True:
            await channel.receive()

    async with open_network() as network, open_server(network, take) as server:
        async with (
            open_client(network) as client,
            open_client(network, STRANGER, "10.0.0.3") as stranger,
            open_pipe(stranger, server) as pair,
        ):
            sock = client._sock
            channel = await client.connect(PEER, [HERE])
            await trio.sleep(2.0)
            # The copy comes first, and the original never.
            network.link.up = False
            sock.sent = []
            await channel.send([b"secret"])
            copies = [data for data, _ in sock.sent if data[0] == DATA]
            server.pipe_received(pair.second.address, copies)
            got = sum(map(len, pair.second.sent))
            assert 0 < got <= 3 * sum(map(len, copies))
            network.link.up = True
            await trio.sleep(5.0)
            assert taken[0].path_kind == "udp"
            assert channel.path_kind == "udp"
            assert sum(map(len, pair.second.sent)) == got


async def test_what_comes_from_a_pipe_that_is_closed_is_not_heard(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            pair.cut()
            before = server.statistics()
            server.pipe_received(pair.second.address, [bytes(232)])
            server.pipe_writable(pair.second.address)
            server.close_pipe(pair.second.address)
            assert server.statistics() == before


async def test_a_silent_session_in_a_pipe_keeps_it_from_being_idle_for_long(autojump_clock):
    """Whoever is on the way closes what is idle for 30 s."""
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        async with open_client(network) as client, open_pipe(client, server) as pair:
            channel = await client.connect(PEER, [pair.first.address])
            for _ in range(20):
                before = len(pair.first.sent), len(pair.second.sent)
                await trio.sleep(20.0)
                assert len(pair.first.sent) > before[0]
                assert len(pair.second.sent) > before[1]
            assert not (channel.ended)
            assert not (pair.first.aborted)
            assert not (pair.second.aborted)


async def test_a_pipe_that_no_session_uses_is_let_go_of(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        async with (
            open_client(network) as client,
            open_pipe(client, server) as used,
            open_pipe(client, server) as left,
        ):
            channel = await client.connect(PEER, [left.first.address])
            await trio.sleep(40.0)
            assert not left.first.aborted  # and `used` is, since it was not
            assert used.first.aborted
            assert used.second.aborted
            channel.seek([HERE], elsewhere=True)
            await trio.sleep(PIPE_UNUSED - 5.0)
            assert channel.path_kind == "udp"
            await trio.sleep(2 * PIPE_UNUSED)
            assert left.first.aborted
            assert left.second.aborted
            await channel.send([b"on"])
            assert await channel.receive() == [b"on"]


async def test_what_the_peer_threw_away_in_a_pipe_is_sent_again_in_seconds(autojump_clock):
    """As where its key was too old when it came; a stream and its last message."""
    async with open_network() as network, open_server(network) as server:
        async with open_client(network) as client, open_pipe(client, server) as pair:
            network.link.up = False
            channel = await client.connect(PEER, [pair.first.address])
            await channel.send([b"1"])
            assert await channel.receive() == [b"1"]
            pair.second.abort()
            await channel.send([b"2"])
            await trio.sleep(0.5)
            pair.second.aborted = False
            await channel.send([b"3"])
            with trio.fail_after(3.0):
                assert await receive(channel, 2) == [b"2", b"3"]
            pair.second.abort()
            await channel.send([b"4"])
            await trio.sleep(0.5)
            pair.second.aborted = False
            with trio.fail_after(3.0):
                assert await channel.receive() == [b"4"]


async def test_the_end_of_an_endpoint_lets_go_of_its_pipes_and_tells_the_peer(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        async with open_client(network) as client, open_pipe(client, server) as pair:
            await client.connect(PEER, [pair.first.address])
            await trio.sleep(0.1)
            assert server.statistics().sessions == 1
            await client.shut_down()
            await trio.sleep(4.0)
            assert server.statistics().sessions == 0
            client.abort_pipes()
            assert pair.first.aborted


class Silent:
    """A pipe that takes all and says nothing."""

    backlog = 0
    description = "10.0.0.1"

    def __init__(self):
        self.sent = []

    def send_nowait(self, datagrams):
        self.sent.append([bytes(each) for each in datagrams])

    def abort(self):
        pass


def test_an_address_of_a_pipe_is_equal_to_itself_alone():
    pipes, pipe = Pipes(), Silent()
    first, second = pipes.add(pipe), pipes.add(pipe)
    assert first != second
    assert first != ("10.0.0.1", 0)
    assert len({first, second, first}) == 2
    assert pipes.remove(first) is pipe
    assert pipes.remove(first) is None
    assert (first.closed, first.room(0), second.room(0)) == (True, 0, PIPE_BACKLOG)
    assert pipes.add(pipe) not in (first, second)


def test_each_pipe_gets_what_is_its_own_as_one_and_in_order():
    pipes, mine, other = Pipes(), Silent(), Silent()
    first, second, gone = pipes.add(mine), pipes.add(other), pipes.add(other)
    pipes.remove(gone)
    rest, lost = pipes.send(
        [
            (b"aabb", first, 2),
            (b"u", HERE, 1),
            (b"x", second, 1),
            (b"c", first, 1),
            (b"lost", gone, 2),
        ]
    )
    assert (rest, lost) == ([(b"u", HERE, 1)], 2)
    assert mine.sent == [[b"aa", b"bb", b"c"]]
    assert other.sent == [[b"x"]]
    assert isinstance(first, PipeAddress)


def test_a_fast_pipe_gets_more():
    waiting = 0
    address = PipeAddress(1, "pipe", lambda: waiting)
    assert address.room(0) == address.room(2.5e6) == PIPE_BACKLOG
    assert address.room(2e7) == PIPE_TIME * 2e7 > PIPE_BACKLOG
    waiting = 1000
    assert address.room(inf) == PIPE_MOST - 1000
