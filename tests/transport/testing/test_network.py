"""The network in memory does what it is told, and the same again for the same seed."""

from collections import Counter

import pytest
import trio

from transport.testing.network import Link, open_network
from transport.wire.trains import lay

A, B = ("10.0.0.1", 1000), ("10.0.0.2", 7450)


async def delivered(sock):
    """All datagrams that are there now, without their sources."""
    return [datagram for datagram, _, _ in sock.receive_nowait(10_000)]


def verdicts(network):
    return Counter(fate.verdict for fate in network.log)


async def test_a_datagram_arrives_with_its_source(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([b"one", b"two"], B))
        await b.wait_readable()
        assert b.receive_nowait(10) == [(b"one", A, 3), (b"two", A, 3)]
        assert b.receive_nowait(10) == []
        assert a.local_address == A
        assert b.drops == {}


async def test_a_reader_takes_no_more_than_it_asked_for(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([bytes([number]) for number in range(5)], B))
        assert len(b.receive_nowait(3)) == 3
        assert len(b.receive_nowait(3)) == 2


async def test_free_ports(autojump_clock):
    async with open_network() as network:
        ports = {network.socket("10.0.0.1").local_address for _ in range(50)}
        assert len(ports) == 50


async def test_delay_is_kept_to_the_moment(autojump_clock):
    async with open_network(link=Link(delay=0.25)) as network:
        a, b = network.socket(*A), network.socket(*B)
        start = trio.current_time()
        a.send_nowait(lay([b"x"], B))
        await trio.sleep(0.1)
        a.send_nowait(lay([b"y"], B))
        await b.wait_readable()
        assert trio.current_time() - start == pytest.approx(0.25)
        assert await delivered(b) == [b"x"]
        await b.wait_readable()
        assert trio.current_time() - start == pytest.approx(0.35)


async def test_a_wait_on_its_way_is_shortened_by_a_faster_one(autojump_clock):
    async with open_network(link=Link(delay=10.0)) as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([b"slow"], B))
        await trio.sleep(1)
        network.link.delay = 0.5
        a.send_nowait(lay([b"fast"], B))
        await b.wait_readable()
        assert trio.current_time() == pytest.approx(1.5)
        assert await delivered(b) == [b"fast"]


async def test_jitter_reorders(autojump_clock):
    async with open_network(seed=1, link=Link(delay=0.01, jitter=0.05)) as network:
        a, b = network.socket(*A), network.socket(*B)
        sent = [bytes([number]) for number in range(50)]
        a.send_nowait(lay(sent, B))
        await trio.sleep(0.0601)
        got = await delivered(b)
        assert sorted(got) == sent != got


async def test_shares_are_about_what_was_asked_for(autojump_clock):
    link = Link(loss=0.2, duplicate=0.1, corrupt=0.05)
    async with open_network(seed=2, link=link) as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([bytes(100)] * 2000, B))
        got = await delivered(b)
        counts = verdicts(network)
        assert len(got) == counts["sent"] == 2000 + counts["duplicated"] - counts["lost"]
        assert 300 < counts["lost"] < 550
        assert 150 < counts["duplicated"] < 260
        damaged = [data for data in got if data != bytes(100)]
        assert len(damaged) == counts["corrupted"]
        assert 50 < len(damaged) < 140
        assert {sum(byte.bit_count() for byte in data) for data in damaged} == {1}


async def test_each_copy_is_damaged_for_itself(autojump_clock):
    async with open_network(seed=3, link=Link(duplicate=1.0, corrupt=0.5)) as network:
        a, b = network.socket(*A), network.socket(*B)
        pairs = []
        for _ in range(100):
            a.send_nowait(lay([bytes(10)], B))
            pairs.append([data == bytes(10) for data in await delivered(b)])
        assert [False, True] in pairs
        assert [True, False] in pairs
        assert {len(pair) for pair in pairs} == {2}


async def test_a_link_that_is_down(autojump_clock):
    async with open_network(link=Link(up=False)) as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([b"x"], B))
        assert await delivered(b) == []
        network.link.up = True
        a.send_nowait(lay([b"y"], B))
        assert await delivered(b) == [b"y"]
        assert verdicts(network) == {"lost": 1, "sent": 1}


async def test_nobody_there(autojump_clock):
    async with open_network() as network:
        a = network.socket(*A)
        a.send_nowait(lay([b"x"], B))
        assert verdicts(network)["unreachable"] == 1


async def test_a_rebound_socket_is_seen_and_reached_at_its_new_address_only(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        outside = network.rebind(a)
        assert outside[0] == A[0]
        assert outside != A
        a.send_nowait(lay([b"x"], B))
        assert b.receive_nowait(1) == [(b"x", outside, 1)]
        b.send_nowait(lay([b"to the old address"], A))
        b.send_nowait(lay([b"to the new one"], outside))
        assert await delivered(a) == [b"to the new one"]
        again = network.rebind(a)
        b.send_nowait(lay([b"late"], outside))
        assert await delivered(a) == []
        b.send_nowait(lay([b"found"], again))
        assert await delivered(a) == [b"found"]


async def test_a_queue_is_bounded(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        a.send_nowait(lay([b"x"] * (network.QUEUE + 5), B))
        assert verdicts(network)["overflow"] == 5
        assert len(b.receive_nowait(2 * network.QUEUE)) == network.QUEUE


async def test_a_closed_socket(autojump_clock):
    async with open_network() as network, trio.open_nursery() as nursery:
        a, b = network.socket(*A), network.socket(*B)

        @nursery.start_soon
        async def wait():
            with pytest.raises(trio.ClosedResourceError):
                await b.wait_readable()

        await trio.testing.wait_all_tasks_blocked()
        b.close()
        b.close()
        with pytest.raises(trio.ClosedResourceError):
            b.receive_nowait(1)
        with pytest.raises(trio.ClosedResourceError):
            b.send_nowait(lay([b"x"], A))
        a.send_nowait(lay([b"x"], B))
        assert verdicts(network)["unreachable"] == 1
        network.socket(*B)  # its address is free again


async def test_what_was_sent_can_be_recorded(autojump_clock):
    async with open_network(link=Link(loss=1.0)) as network:
        a = network.socket(*A)
        a.send_nowait(lay([b"before"], B))
        a.sent = []
        a.send_nowait(lay([b"x"], B))
        assert a.sent == [(b"x", B)]


async def run_for_log(seed):
    link = Link(delay=0.01, jitter=0.02, loss=0.1, duplicate=0.1, corrupt=0.1)
    async with open_network(seed=seed, link=link) as network:
        a, b = network.socket(*A), network.socket(*B)
        start = trio.current_time()
        for _ in range(100):
            a.send_nowait(lay([bytes(50)], B))
            await trio.sleep(0.005)
            for datagram, source, _ in b.receive_nowait(100):
                b.send_nowait(lay([datagram], source))
        return [(round(fate.time - start, 9), fate.size, fate.verdict) for fate in network.log]


async def test_the_same_seed_gives_the_same_run(autojump_clock):
    first, again, other = [await run_for_log(seed) for seed in (1, 1, 2)]
    assert first == again
    assert first != other
