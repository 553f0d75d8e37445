"""A transfer, pings, and flows that are now the one and now the other, on a path that loses 5 %:
all of it arrives once, in order within its flow, and the pings do not wait for the transfer."""

import random

import pytest
import trio
import trio.testing

from tests.transport.endpoint.test_channel import open_pair
from transport.emulation import PathSpec
from transport.testing.network import Link
from vswitch.frames.load import load_of
from vswitch.frames.records import frame_of, frame_record
from vswitch.members.device import MemberDevice
from vswitch.switch.egress import EgressQueue
from vswitch.switch.port import Port
from vswitch.testing import ethernet

SECONDS = 8
LEARNING = 2  # seconds in which the window finds out about the path, and its queue overflows
ONE_WAY = 0.02


def record(flow, number, size):
    source = b"\x02" + bytes(4) + bytes([flow])
    return frame_record(
        ethernet(b"\x04" * 6, source, 0x88B5, number.to_bytes(4, "big") + bytes(size))
    )


class Traffic:
    """What a port was given, by flow, and when each came out at the other end."""

    def __init__(self, port):
        self.port = port
        self.sent = {}
        self.at = {}
        self.got = {}
        self.took = {}

    def send(self, flow, sizes):
        sent = self.sent.setdefault(flow, [])
        batch = []
        for size in sizes:
            self.at[flow, len(sent)] = trio.current_time()
            batch.append(record(flow, len(sent), size))
            sent.append(batch[-1])
        self.port.send(batch, load_of(batch))

    def receive(self, records):
        for each in records:
            frame = frame_of(each)
            flow, number = frame[11], int.from_bytes(frame[14:18], "big")
            self.got.setdefault(flow, []).append(each)
            took = trio.current_time() - self.at[flow, number]
            self.took.setdefault(flow, []).append(took)

    @property
    def complete(self):
        return all(len(self.got.get(flow, ())) == len(sent) for flow, sent in self.sent.items())


async def drive(seed, link):
    rng = random.Random(seed)
    async with open_pair(link) as (network, mine, theirs), trio.open_nursery() as nursery:
        network._random.seed(seed)
        network.uplink("10.0.0.1", PathSpec(rate=10e6, queue=50_000, delay=ONE_WAY, loss=0.05))
        here, there = MemberDevice(mine, name="a"), MemberDevice(theirs, name="b")
        port = Port(1, "p", here, EgressQueue(), 0.0)
        traffic = Traffic(port)

        async def read():
            def take():
                try:
                    traffic.receive(there.read_nowait(64))
                except trio.WouldBlock:
                    pass
                return True

            await there.push(take)

        async def flush():
            while True:
                await port.flush_when_writable()
                port.flush()

        async def bulk():
            while trio.current_time() < SECONDS:
                if port._queue.bytes < 50_000:  # more would be dropped for its age
                    traffic.send(1, [1486] * 40)
                await trio.sleep(0.02)

        async def pings(flow):
            while trio.current_time() < SECONDS:
                traffic.send(flow, [60])
                await trio.sleep(rng.uniform(0.1, 0.3))

        async def moody(flow):
            while trio.current_time() < SECONDS:
                size = rng.choice([60, 60, 900, 1486])
                traffic.send(flow, [size] * rng.choice([1, 1, 3, 10]))
                await trio.sleep(rng.choice([0.001, 0.01, 0.1, 0.5]))

        nursery.start_soon(read)
        nursery.start_soon(flush)
        async with trio.open_nursery() as senders:
            senders.start_soon(bulk)
            for flow in range(2, 5):
                senders.start_soon(pings, flow)
            for flow in range(5, 8):
                senders.start_soon(moody, flow)
        with trio.fail_after(60):
            while not traffic.complete:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.05)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
        assert port.counters.snapshot().dropped == 0
        assert mine.progress()[2] > 100
        assert mine.progress()[2:] == (mine.progress()[2],) * 2
    return traffic


@pytest.fixture(scope="module")
def runs():
    """With the same seeds no two runs are alike: Trio draws the order of what it may do next."""
    return [
        trio.run(
            drive,
            seed,
            Link(delay=ONE_WAY, jitter=0.002, loss=0.05),
            clock=trio.testing.MockClock(autojump_threshold=0),
        )
        for seed in range(3)
    ]


def test_all_of_a_flow_arrives_once_and_in_order(runs):
    for traffic in runs:
        assert traffic.got == traffic.sent


def test_pings_do_not_wait_for_the_transfer(runs):
    took = sorted(
        took
        for traffic in runs
        for flow in range(2, 5)
        for number, took in enumerate(traffic.took[flow])
        if traffic.at[flow, number] >= traffic.at[flow, 0] + LEARNING
    )
    # In 60 runs, three together, the median was 33 to 34 ms and the 90th percentile 39 to 48; on
    # the bulk lane 145 and 158. What both copies of a lost datagram hold up takes 100 to 200 ms: of
    # the 90 pings of one run that may be one in ten, of those of three it is not.
    assert took[len(took) // 2] <= ONE_WAY + 0.030
    assert took[len(took) * 90 // 100] <= ONE_WAY + 0.060
