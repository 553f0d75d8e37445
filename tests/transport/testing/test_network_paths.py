"""Emulated paths in the network in memory: per direction, shared by a host, one after another."""

from collections import Counter

import pytest
import trio

from transport.emulation import PathSpec
from transport.testing.network import Link, open_network
from transport.wire.trains import lay

A, A2, B, C = ("10.0.0.1", 1000), ("10.0.0.1", 1001), ("10.0.0.2", 7450), ("10.0.0.3", 1000)
HEADERS = 28  # bytes of UDP over IPv4
MEGABYTE = 8e6  # bit/s: a microsecond a byte


async def arrivals(sock, count):
    """When each of the next datagrams arrives, its first byte, and its source."""
    seen = []
    while len(seen) < count:
        await sock.wait_readable()
        for data, source, _ in sock.receive_nowait(100):
            seen.append((pytest.approx(trio.current_time()), data[0], source))
    return seen


def send(sock, to, *sizes):
    sock.mtu = 65_535  # of its interface: the path is what is tested
    for number, size in enumerate(sizes):
        sock.send_nowait(lay([bytes([number]) + bytes(size - HEADERS - 1)], to))


async def test_a_path_is_one_way_and_for_two_hosts(autojump_clock):
    async with open_network(link=Link(delay=1.0)) as network:
        a, b, c = (network.socket(*address) for address in (A, B, C))
        network.path(A[0], B[0], PathSpec(delay=0.2))
        start = trio.current_time()
        send(a, B, 100)
        send(a, C, 100)
        assert await arrivals(b, 1) == [(start + 0.2, 0, A)]
        send(b, A, 100)
        assert await arrivals(c, 1) == [(start + 1.0, 0, A)]
        assert await arrivals(a, 1) == [(start + 1.2, 0, B)]


async def test_the_rate_counts_ip_packets(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        network.path(A[0], B[0], PathSpec(rate=MEGABYTE, delay=0.5))
        start = trio.current_time()
        send(a, B, 1000, 500)
        assert await arrivals(b, 2) == [(start + 0.501, 0, A), (start + 0.5015, 1, A)]
        six = [network.socket(f"fd00::{number}", 9) for number in (1, 2)]
        network.path("fd00::1", "fd00::2", PathSpec(mtu=1000))
        for size in (1000 - 48, 1001 - 48):
            six[0].send_nowait(lay([bytes(size)], ("fd00::2", 9)))
        await trio.sleep(1)
        assert six[1].waiting == 1
        assert [fate.verdict for fate in network.log][-2:] == ["sent", "too_big"]


async def test_all_sockets_of_a_host_share_its_uplink(autojump_clock):
    async with open_network() as network:
        a, a2, b, c = (network.socket(*address) for address in (A, A2, B, C))
        up = network.uplink(A[0], PathSpec(rate=MEGABYTE, queue=2000))
        start = trio.current_time()
        send(a, B, 1000)
        send(a2, C, 1000)
        send(a, B, 1000)
        assert up.backlog(trio.current_time()) == pytest.approx(2000)
        assert await arrivals(b, 1) == [(start + 0.001, 0, A)]
        assert await arrivals(c, 1) == [(start + 0.002, 0, A2)]
        assert network.log[2].verdict == "queue_full"
        send(c, A, 1000)  # the other way is free
        assert await arrivals(a, 1) == [(start + 0.002, 0, C)]


async def test_a_downlink_is_shared_by_all_who_send_there(autojump_clock):
    async with open_network() as network:
        a, b, c = (network.socket(*address) for address in (A, B, C))
        network.path(A[0], B[0], PathSpec(delay=0.01))
        network.downlink(B[0], PathSpec(rate=MEGABYTE))
        start = trio.current_time()
        send(a, B, 1000)  # sent first, at the downlink last
        send(c, B, 5000)
        send(c, B, 5500)
        assert await arrivals(b, 3) == [
            (start + 0.005, 0, C),
            (start + 0.0105, 0, C),
            (start + 0.0115, 0, A),
        ]


async def test_uplink_path_and_downlink_come_one_after_another(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        ways = (
            network.uplink(A[0], PathSpec(delay=0.1)),
            network.path(A[0], B[0], PathSpec(delay=0.2, mtu=500)),
            network.downlink(B[0], PathSpec(delay=0.4)),
        )
        start = trio.current_time()
        send(a, B, 500, 501)
        assert await arrivals(b, 1) == [(start + 0.7, 0, A)]
        assert [way.counts.delivered for way in ways] == [2, 1, 1]
        assert Counter(fate.verdict for fate in network.log) == {"sent": 1, "too_big": 1}


async def test_a_path_changes_at_run_time(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        way = network.path(A[0], B[0], PathSpec(delay=0.1))
        start = trio.current_time()
        send(a, B, 100)
        way.change(PathSpec(up=False), trio.current_time())
        send(a, B, 100)
        assert await arrivals(b, 1) == [(start + 0.1, 0, A)]
        way.change(PathSpec(delay=0.3), trio.current_time())
        send(a, B, 100)
        assert await arrivals(b, 1) == [(start + 0.4, 0, A)]
        assert way.counts.down == 1


async def test_damage_is_one_bit_of_the_payload(autojump_clock):
    async with open_network(seed=2) as network:
        a, b = network.socket(*A), network.socket(*B)
        network.path(A[0], B[0], PathSpec(corrupt=1, duplicate=1))
        a.send_nowait(lay([bytes(4)] * 50, B) + lay([b""], B))
        await trio.sleep(0.1)
        data = [datagram for datagram, *_ in b.receive_nowait(1000)]
        assert len(data) == 102
        assert [sum(map(int.bit_count, each)) for each in data] == [1] * 100 + [0] * 2
        verdicts = Counter(fate.verdict for fate in network.log)
        assert verdicts == {"duplicated": 51, "corrupted": 100, "sent": 102}


async def test_a_rebound_socket_keeps_its_path(autojump_clock):
    async with open_network() as network:
        a, b = network.socket(*A), network.socket(*B)
        network.uplink(A[0], PathSpec(delay=0.1))
        network.downlink(A[0], PathSpec(delay=0.2))
        outside = network.rebind(a)
        start = trio.current_time()
        send(a, B, 100)
        assert await arrivals(b, 1) == [(start + 0.1, 0, outside)]
        send(b, outside, 100)
        assert await arrivals(a, 1) == [(start + 0.3, 0, B)]


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_same_seed_gives_the_same_run(autojump_clock, seed):
    async def run(number):
        async with open_network(seed=number) as network:
            a, b = network.socket(*A), network.socket(*B)
            spec = PathSpec(loss=0.2, jitter=0.01, duplicate=0.1, corrupt=0.1)
            ways = network.uplink(A[0], spec), network.path(A[0], B[0], spec)
            a.send_nowait(lay([bytes([each]) for each in range(200)], B))
            await trio.sleep(1)
            assert ways[0].counts != ways[1].counts
            return b.receive_nowait(1000)

    assert await run(seed) == await run(seed) != await run(seed + 1)
