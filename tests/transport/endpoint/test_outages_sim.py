"""Outages in virtual time: what heals goes on at once and lost nothing, what does not is let go."""

import pytest

from transport.path.keepalive import DEAD_AFTER
from transport.testing.cores import client_and_server
from transport.wire.control import CloseCode

DELAY = 0.02


def cut(wire, server, direction):
    """From now on nothing arrives in that direction."""
    towards = {"both": (True, False), "to-server": (True,), "to-client": (False,)}[direction]
    wire.filter = lambda each: [] if (each.destination == server.address) in towards else [each]


class Talk:
    """Both sides send for ever, `size` bytes each `pace` seconds, as far as there is credit."""

    def __init__(self, wire, client, server, size, pace):
        self.wire, self.pace, self.size = wire, pace, size
        self.hosts = {"client": client, "server": server}
        self.sent = {"client": [], "server": []}
        self.got = {"client": [], "server": []}

    def go_on(self, seconds):
        for _ in range(round(seconds / self.pace)):
            for name, host in self.hosts.items():
                if host.session.ended is None and host.session.bulk.credit > 0:
                    message = b"%08d" % len(self.sent[name]) + bytes(self.size)
                    host.send(message)
                    self.sent[name].append(message)
            self.wire.advance(self.pace)
            for name, host in self.hosts.items():
                self.got[name] += host.read()

    def caught_up(self, marks):
        """Everything that had been sent at that time has arrived."""
        other = {"client": "server", "server": "client"}
        return all(len(self.got[other[name]]) >= mark for name, mark in marks.items())

    def going_again(self, before):
        """Both sides have got more than they had before."""
        return all(len(self.got[name]) > count for name, count in before.items())

    def marks(self):
        return {name: len(sent) for name, sent in self.sent.items()}


@pytest.mark.parametrize(("delay", "pace"), [(0.02, 0.1), (0.1, 0.037)])
@pytest.mark.parametrize("seconds", [5.0, 30.0, 45.0, 50.0, 59.0])
@pytest.mark.parametrize("direction", ["both", "to-server", "to-client"])
@pytest.mark.parametrize("size", [60, 30_000])
def test_a_partition_resumes_within_a_second_with_nothing_lost(
    size, direction, seconds, delay, pace
):
    """R10."""
    wire, client, server = client_and_server(delay=delay)
    talk = Talk(wire, client, server, size, pace)
    talk.go_on(2.0)
    cut(wire, server, direction)
    talk.go_on(seconds)
    wire.heal()
    marks, healed = talk.marks(), wire.now
    before = {name: len(got) for name, got in talk.got.items()}
    while not talk.going_again(before) and wire.now < healed + 6:
        talk.go_on(talk.pace)
    # A message that has become many datagrams leaves them one by one after losses.
    assert wire.now - healed <= (1.0 if size == 60 or delay < 0.1 else 4.0)
    # What has gathered meanwhile takes the time that the path needs for it.
    while not talk.caught_up(marks) and wire.now < healed + 6:
        talk.go_on(talk.pace)
    assert wire.now - healed <= (1.0 if size == 60 else 5.0)
    assert (client.session.ended, server.session.ended) == (None, None)
    wire.advance(3.0)
    for name, host in talk.hosts.items():
        talk.got[name] += host.read()
    assert talk.got["server"] == talk.sent["client"]
    assert talk.got["client"] == talk.sent["server"]
    assert len(client.events) == 1  # nobody above has noticed


@pytest.mark.parametrize("direction", ["both", "to-server", "to-client"])
def test_what_heals_with_losses_needs_little_longer(direction):
    """The repetition itself may be lost: it is not the only one."""
    for seed in range(5):
        wire, client, server = client_and_server(delay=DELAY, seed=seed)
        talk = Talk(wire, client, server, 600, 0.05)
        talk.go_on(1.0)
        cut(wire, server, direction)
        talk.go_on(40.0)
        wire.filter = lambda each: [each] if wire.random.random() > 0.05 else []  # noqa: B023
        marks, healed = talk.marks(), wire.now
        while not talk.caught_up(marks) and wire.now < healed + 10:
            talk.go_on(talk.pace)
        assert wire.now - healed <= 2.0
        wire.heal()
        talk.go_on(5.0)
        wire.advance(3.0)
        for name, host in talk.hosts.items():
            talk.got[name] += host.read()
        assert talk.got["server"] == talk.sent["client"]
        assert talk.got["client"] == talk.sent["server"]


@pytest.mark.parametrize("direction", ["both", "to-server", "to-client"])
def test_a_silence_costs_the_path_next_to_nothing(direction):
    wire, client, server = client_and_server(delay=DELAY)
    talk = Talk(wire, client, server, 1000, 0.05)
    talk.go_on(1.0)
    cut(wire, server, direction)
    talk.go_on(10.0)
    wire.sent.clear()
    talk.go_on(40.0)
    spent = sum(len(each.data) for each in wire.sent) / 40
    # Bytes a second. Who still hears the other has only KCP's own growing pauses.
    assert spent < (20_000 if direction == "both" else 130_000)


def test_large_datagrams_that_are_lost_while_small_ones_arrive_are_repeated_less_and_less():
    """A black hole for a datagram size answers every ping, and acknowledges nothing."""
    wire, client, server = client_and_server(delay=DELAY)
    wire.advance(1.0)
    wire.filter = lambda each: [] if len(each.data) > 1000 else [each]
    client.send(*[bytes(1376)] * 200)
    wire.advance(5.0)
    wire.sent.clear()
    wire.advance(50.0)
    spent = sum(len(each.data) for each in wire.sent if len(each.data) > 1000)
    # KCP's own repetitions are about 50 of each in that time, these are 8 at most.
    assert spent < 60 * 200 * 1432
    wire.heal()
    wire.advance(12.0)
    assert server.read() == [bytes(1376)] * 200


@pytest.mark.parametrize("seconds", [DEAD_AFTER + 1, 600.0])
def test_a_longer_partition_lets_go_of_both_ends(seconds):
    """R11."""
    wire, client, server = client_and_server(delay=DELAY)
    talk = Talk(wire, client, server, 60, 0.1)
    talk.go_on(2.0)
    cut(wire, server, "both")
    talk.go_on(seconds)
    for host in (client, server):
        assert host.session.ended.code == CloseCode.TIMEOUT
        assert host.demux.sessions == 0
    assert not server.demux._indices.owners
    assert server.demux.deadline() is None


@pytest.mark.parametrize("direction", ["to-server", "to-client"])
def test_a_longer_partition_of_one_direction_lets_go_of_both_ends(direction):
    wire, client, server = client_and_server(delay=DELAY)
    talk = Talk(wire, client, server, 60, 0.1)
    talk.go_on(2.0)
    cut(wire, server, direction)
    talk.go_on(DEAD_AFTER + 6)
    heard = {"to-server": server, "to-client": client}[direction]
    assert heard.session.ended.code == CloseCode.TIMEOUT
    wire.heal()
    talk.go_on(1.0)  # the other hears that it is over: a goodbye, or a reset
    assert (client.demux.sessions, server.demux.sessions) == (0, 0)
