"""Whose datagrams are worked on next: fair by the time that they cost, bounded in what waits."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.transport.endpoint.test_channel import open_pair
from transport.endpoint.fairness import CHUNK, WAITING, WAITING_TOTAL, FairQueue

HERE = ("192.0.2.1", 1000)


class Waiter:
    """What the queue knows of a session."""

    def __init__(self):
        self.time_used = 0.0
        self.finished = False


def train(size=1000):
    return bytes(size), 1000


def worked_off(queue, cost):
    """The sessions in the order in which they were served; `cost`: seconds of a chunk of each."""
    order = []
    while queue:
        each, _ = queue.pop()
        queue.charge(each, cost[id(each)])
        order.append(each)
    return order


def test_trains_of_one_address_share_a_chunk_up_to_its_size():
    queue, one = FairQueue(), Waiter()
    for _ in range(3):
        assert queue.add(one, train(CHUNK // 2), HERE)
    assert queue.add(one, train(), ("192.0.2.9", 1))
    runs = []
    while queue:
        each, run = queue.pop()
        queue.charge(each, 0.0)
        runs.append(run)
    assert [(len(trains), address[0]) for trains, address in runs] == [
        (2, "192.0.2.1"),
        (1, "192.0.2.1"),
        (1, "192.0.2.9"),
    ]


def test_whoever_is_cheap_is_served_before_whoever_is_dear():
    queue, dear, cheap = FairQueue(), Waiter(), Waiter()
    for _ in range(4):
        queue.add(dear, train(CHUNK), HERE)
        queue.add(cheap, train(CHUNK), HERE)
    order = worked_off(queue, {id(dear): 0.1, id(cheap): 0.001})
    assert order == [dear, cheap, cheap, cheap, cheap, dear, dear, dear]


def test_what_a_session_costs_besides_counts_too():
    queue, sends_much, sends_little = FairQueue(), Waiter(), Waiter()
    for each in (sends_much, sends_little):
        queue.add(each, train(CHUNK), HERE)
        queue.add(each, train(CHUNK), HERE)
    queue.spend(sends_much, 0.5)
    cost = {id(sends_much): 0.1, id(sends_little): 0.1}
    assert worked_off(queue, cost) == [sends_little, sends_little, sends_much, sends_much]


def test_a_session_that_was_idle_has_saved_nothing_up():
    queue, busy, late = FairQueue(), Waiter(), Waiter()
    for _ in range(50):
        queue.add(busy, train(), HERE)
        worked_off(queue, {id(busy): 1.0})
    for _ in range(4):
        queue.add(busy, train(CHUNK), HERE)
        queue.add(late, train(CHUNK), HERE)
    order = worked_off(queue, {id(busy): 1.0, id(late): 1.0})
    assert order.count(late) == 4
    assert order[:4].count(busy) >= 1  # not after all that the other wants


def test_what_waits_of_one_session_is_bounded():
    queue, greedy, other = FairQueue(), Waiter(), Waiter()
    taken = sum(queue.add(greedy, train(CHUNK), HERE) for _ in range(100))
    assert taken == WAITING // CHUNK
    assert queue.add(other, train(), HERE)


def test_what_waits_of_all_is_bounded_and_a_newcomer_still_gets_a_place():
    queue = FairQueue()
    sessions = [Waiter() for _ in range(100)]
    taken = [
        sum(queue.add(each, train(CHUNK), HERE) for _ in range(WAITING // CHUNK))
        for each in sessions
    ]
    assert sum(taken) * CHUNK <= WAITING_TOTAL + len(sessions) * CHUNK
    assert min(taken) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.booleans()), max_size=60))
def test_everything_that_was_taken_comes_out_once_and_in_order(steps):
    queue, sessions = FairQueue(), [Waiter() for _ in range(4)]
    given_in, taken_out = ([[] for _ in sessions] for _ in range(2))

    def serve(cost):
        each, (trains, _) = queue.pop()
        queue.charge(each, cost)
        taken_out[sessions.index(each)] += [data for data, _ in trains]

    for number, (who, cost, serves) in enumerate(steps):
        data = number.to_bytes(2, "big")
        assert queue.add(sessions[who], (data, 2), HERE)
        given_in[who].append(data)
        if serves:
            serve(cost)
    while queue:
        serve(0.1)
    assert taken_out == given_in


@pytest.mark.parametrize("dear", [0.0, 0.2])
async def test_a_session_that_costs_much_holds_up_the_others_by_one_chunk(mock_clock, dear):
    """Both sessions of a server get a burst; working on that of the first costs `dear` a chunk."""
    mock_clock.autojump_threshold = 0
    async with open_pair() as (_, _client, server):
        endpoint = server._shell
        hostile, honest, served = session_of(server), Waiter(), []

        def receive_run(each, _trains, _address, _now):
            served.append(each)
            if each is hostile:
                mock_clock.jump(dear)

        endpoint._demux.receive_run = receive_run
        runs = [(hostile, [train(CHUNK)] * 5, HERE), (honest, [train(CHUNK)] * 3, HERE)]
        endpoint._turn = trio.current_time()
        endpoint._share(runs)
        while endpoint._waiting:
            endpoint._share([])
        assert served.count(hostile) == 5
        assert served.count(honest) == 3
        if dear:
            assert served[:4] == [hostile, honest, honest, honest]
        else:
            assert served[:2] == [hostile, honest]
        del endpoint._demux.receive_run


async def test_sending_is_a_session_s_time_while_something_waits(mock_clock):
    mock_clock.autojump_threshold = 0
    async with open_pair() as (_, _client, server):
        endpoint, mine = server._shell, session_of(server)
        sent, send = [], endpoint._send

        def slow(trains, now):
            mock_clock.jump(0.2)
            send(trains, now)
            sent.extend(trains)

        endpoint._send = slow
        server.bulk.send_nowait([b"x"])
        assert mine.time_used == 0.0
        endpoint._waiting.add(Waiter(), train(), HERE)
        before = len(sent)
        server.bulk.send_nowait([b"x"])
        assert len(sent) == before + 1
        assert mine.time_used == pytest.approx(0.2)
        del endpoint._send
        endpoint._waiting.charge(endpoint._waiting.pop()[0], 0.0)


def session_of(channel):
    return channel._session


async def test_what_finds_the_queue_full_is_counted():
    async with open_pair() as (_, _client, server):
        endpoint, mine = server._shell, session_of(server)
        endpoint._demux.receive_run = lambda *_: None
        endpoint._turn = trio.current_time()
        endpoint._share([(mine, [train(CHUNK)] * (WAITING // CHUNK + 2), HERE)])
        assert endpoint.statistics().drops["cpu_share"] == 2 * -(-CHUNK // 1000)
        del endpoint._demux.receive_run


class Socket:
    """Reads into one buffer, like `UdpSocket`, of which each read lies over the one before."""

    def __init__(self, reads):
        self.reads = reads
        self.buffer = bytearray(1000)

    @property
    def drained(self):
        return not self.reads

    def receive_nowait(self, limit):
        self.buffer[:] = bytes([self.reads.pop(0)]) * len(self.buffer)
        return [(memoryview(self.buffer), HERE, 1000)]


async def test_a_socket_that_fills_up_is_emptied_and_what_waits_stays_as_it_was_read(mock_clock):
    """Each chunk costs more than a turn; whoever waits must not wait in the kernel, nor change."""
    mock_clock.autojump_threshold = 0
    async with open_pair() as (_, _client, server):
        endpoint, demux, mine = server._shell, server._shell._demux, session_of(server)
        sock, real = Socket([1, 2, 3, 4, 5, 6]), endpoint._sock
        others, served = [Waiter() for _ in range(6)], []

        def sort_trains(trains, _now):
            return [(others.pop(), [(data, size)], whence) for data, whence, size in trains]

        def receive_run(_session, trains, _address, _now):
            served.extend(bytes(data)[:1] for data, _ in trains)
            mock_clock.jump(1.0)

        endpoint._sock, demux.sort_trains, demux.receive_run = sock, sort_trains, receive_run
        endpoint._turn = trio.current_time()
        endpoint._share([(mine, [(bytes(1), 1)], HERE), *sort_trains(sock.receive_nowait(1), 0.0)])
        assert len(sock.reads) == 5  # nobody waited yet: no more than was read
        endpoint._share([])
        assert sock.drained
        while endpoint._waiting:
            endpoint._share([])
        assert served == [b"\0", b"\1", b"\2", b"\3", b"\4", b"\5", b"\6"]
        endpoint._sock = real
        del demux.sort_trains, demux.receive_run
