"""Addresses that change, honestly or not, and clocks that jump, under traffic in virtual time."""

import itertools
import random

import pytest

from transport.constants import AMPLIFICATION
from transport.testing.cores import client_and_server

DELAY = 0.02
TICK = 0.02  # seconds between two messages each way
SPOOFED = ("203.0.113.9", 999)


class Traffic:
    """Numbered messages both ways, one each tick, and when each arrived."""

    def __init__(self, wire, client, server):
        self.wire, self.hosts = wire, (client, server)
        self.sent = [0, 0]
        self.got = [[], []]
        self.arrivals = [[], []]

    def go_on(self, seconds):
        for _ in range(round(seconds / TICK)):
            for side, host in enumerate(self.hosts):
                host.send(b"%d" % self.sent[side])
                self.sent[side] += 1
            self.wire.advance(TICK)
            self.read()

    def read(self):
        for side, host in enumerate(self.hosts):
            new = host.read()
            self.got[side] += new
            self.arrivals[side] += [self.wire.now] * len(new)

    def check(self):
        """Everything has arrived, once and in order."""
        self.wire.advance(3.0)
        self.read()
        for side in (0, 1):
            assert self.got[side] == [b"%d" % n for n in range(self.sent[1 - side])]

    def longest_pause(self):
        pauses = [
            max(later - earlier for earlier, later in itertools.pairwise(each))
            for each in self.arrivals
        ]
        return max(pauses)


@pytest.fixture
def world():
    wire, client, server = client_and_server(delay=DELAY)
    return wire, client, server, Traffic(wire, client, server)


def test_a_move_under_traffic_pauses_for_two_round_trips_and_a_tick(world):
    """R4."""
    wire, client, server, traffic = world
    traffic.go_on(2.0)
    wire.rebind(client, ("198.18.0.7", 5555))
    traffic.go_on(2.0)
    assert server.session.paths.current == client.address
    assert traffic.longest_pause() <= 2 * 2 * DELAY + 2 * TICK  # one is the test's own
    traffic.check()


def test_five_minutes_of_a_nat_that_forgets_every_five_seconds(world):
    """R5."""
    wire, client, server, traffic = world
    for port in range(60):
        wire.rebind(client, (client.address[0], 20_000 + port))
        traffic.go_on(5.0)
    assert server.session.statistics(wire.now).path_changes == 60
    traffic.check()
    assert (client.session.ended, server.session.ended) == (None, None)
    assert len(server.events) == 1


def test_the_same_with_losses(world):
    wire, client, _, traffic = world
    chance = random.Random(1)
    wire.filter = lambda each: [each] if chance.random() > 0.05 else []
    for port in range(30):
        wire.rebind(client, (client.address[0], 20_000 + port))
        traffic.go_on(5.0)
    wire.heal()
    traffic.check()


@pytest.mark.parametrize("faster", [True, False])
def test_copies_of_all_datagrams_from_a_forged_address(world, faster):
    """R6: before the original or behind it, the path stays, and the victim gets next to nothing."""
    wire, client, server, traffic = world
    traffic.go_on(1.0)
    copied = 0

    def copy(each):
        nonlocal copied
        if each.source != client.address:
            return [each]
        copied += len(each.data)
        pair = [type(each)(each.data, SPOOFED, each.destination), each]
        return pair if faster else pair[::-1]

    wire.filter = copy
    wire.sent.clear()
    traffic.go_on(30.0)
    assert server.session.paths.current == client.address
    to_victim = sum(len(each.data) for each in wire.sent if each.destination == SPOOFED)
    assert to_victim <= AMPLIFICATION * copied
    assert traffic.longest_pause() <= 2 * TICK + 0.001
    wire.heal()
    traffic.check()


def test_a_forged_move_that_swallows_the_originals_is_reverted(world):
    """R6, worse: for two seconds the server sees the client's datagrams from elsewhere alone."""
    wire, client, server, traffic = world
    traffic.go_on(1.0)
    home = client.address
    wire.filter = lambda each: (
        [type(each)(each.data, SPOOFED, each.destination)] if each.source == home else [each]
    )
    traffic.go_on(2.0)
    assert server.session.paths.current == home
    wire.heal()
    traffic.go_on(2.0)
    assert server.session.paths.current == home
    traffic.check()


@pytest.mark.parametrize("years", [10, -10])
def test_a_wall_clock_that_jumps_by_years(world, years):
    """R9: sessions do not notice; a new connection needs one round trip more at most."""
    wire, client, server, traffic = world
    traffic.go_on(1.0)
    client.clock_offset_ns = years * 365 * 86400 * 10**9
    for _ in range(14):
        traffic.go_on(10.0)  # beyond a rekey
    assert server.session.statistics(wire.now).rekeys == 1
    traffic.check()
    client.close()
    wire.advance(4.0)
    client.clock_offset_ns = -years * 365 * 86400 * 10**9
    client.connect(server)
    wire.advance(2 * 2 * DELAY + 0.001)  # with a cookie, at most
    assert client.session.ended is None
    wire.advance(0.1)
    client.send(b"in")
    wire.advance(0.1)
    assert server.read() == [b"in"]


def test_a_wall_clock_that_goes_backwards_each_second(world):
    wire, client, server, traffic = world
    for second in range(260):
        client.clock_offset_ns = -2 * second * 10**9
        traffic.go_on(1.0)
    assert server.session.statistics(wire.now).rekeys == 2
    traffic.check()


def test_a_monotonic_clock_around_the_end_of_32_bits_of_milliseconds(monkeypatch):
    monkeypatch.setattr("transport.testing.cores.START", 2**32 / 1000 - 5.0)
    wire, client, server = client_and_server(delay=DELAY)
    traffic = Traffic(wire, client, server)
    traffic.go_on(20.0)
    traffic.check()


def test_a_session_whose_own_clock_passes_the_end_of_32_bits(world):
    """KCP counts milliseconds since the session began, and compares them signed."""
    _, client, server, traffic = world
    for host in (client, server):
        host.session.bulk.kcp._start -= 2**32 / 1000 - 5.0
    traffic.go_on(20.0)
    traffic.check()
    assert traffic.longest_pause() <= 1.0
