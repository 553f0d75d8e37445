"""Two lanes that lose order between them: within a flow order is kept, and nothing is lost."""

import random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from vswitch.frames.flows import bucket_of
from vswitch.frames.load import load_of
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.members.device import MemberDevice
from vswitch.switch.egress import EgressQueue
from vswitch.switch.port import Port
from vswitch.testing import ethernet

FLOWS = 12


class Lane:
    message_size = 700

    def __init__(self, window):
        self.window = window
        self.sent = []  # all messages ever
        self.here = self.read = self.known = 0  # how many arrived, were read, are acknowledged

    credit = property(lambda self: self.window - sum(map(len, self.sent[self.known :])))
    readable = property(lambda self: self.here > self.read)

    def send_nowait(self, messages):
        if self.credit <= 0:
            raise trio.WouldBlock
        self.sent += messages

    def receive_nowait(self):
        if not self.readable:
            raise trio.WouldBlock
        start, self.read = self.read, self.here
        return self.sent[start : self.here]


class Path:
    """One way: what is sent arrives on each lane when told, and is acknowledged when told."""

    round_trip, lossy = None, False

    def __init__(self, window):
        self.bulk, self.sparse = Lane(window), Lane(window)
        self.held = self.ended = False

    def progress(self):
        return len(self.bulk.sent), self.bulk.known, len(self.sparse.sent), self.sparse.known

    def hold(self, held):
        pass

    def hold_bulk(self, held):
        self.held = held

    def arrive(self, lane, count):
        lane.here = min(len(lane.sent), lane.here + count)

    def acknowledge(self):
        for lane in (self.bulk, self.sparse):
            lane.known = lane.here


def record(flow, number, size):
    source = b"\x02" + bytes(4) + bytes([flow])
    content = number.to_bytes(4, "big") + bytes(size)
    frame = ethernet(b"\x04" * 6, source, 0x88B5, content)
    if size > 3000:
        return encode_record(SUPERFRAME, bytes(10) + frame)
    return frame_record(frame)


flows = st.integers(0, FLOWS - 1)
sizes = st.sampled_from([40, 40, 40, 500, 1100, 1500, 9000])
counts = st.sampled_from([1, 1, 2, 5, 100])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.tuples(flows, sizes), min_size=1, max_size=8)),
        st.tuples(st.just("write"), st.lists(st.tuples(flows, sizes), min_size=65, max_size=70)),
        st.tuples(st.just("bulk"), counts),
        st.tuples(st.just("sparse"), counts),
        st.tuples(st.just("acknowledge"), st.none()),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("read"), st.sampled_from([1, 64])),
        st.tuples(st.just("time"), st.sampled_from([0.01, 0.1, 1.0])),
    ),
    max_size=60,
)


def read(device, limit):
    try:
        return device.read_nowait(limit)
    except trio.WouldBlock:
        return []


@given(steps, st.sampled_from([2_000, 8_000, 100_000]))
@settings(max_examples=200)
def test_order_is_kept_within_each_flow_and_nothing_is_lost(steps, window):
    check(steps, window)


@pytest.mark.parametrize("seed", range(40))
def test_order_over_a_long_time(seed):
    """What takes many steps to come about: exhausted flows, fences behind fences."""
    rng = random.Random(seed)

    def step():
        what = rng.choice(["write"] * 4 + ["bulk", "bulk", "sparse", "acknowledge", "read", "time"])
        match what:
            case "write":
                small = rng.random() < 0.7
                sizes = [40, 500, 1100] if small else [40, 1100, 1500, 9000]
                count = rng.choice([1, 2, 6])
                return what, [(rng.randrange(3), rng.choice(sizes)) for _ in range(count)]
            case "bulk":
                return what, rng.choice([1, 5, 100])
            case "sparse":
                return what, rng.choice([1, 2, 8])
            case "read":
                return what, 64
            case "time":
                return what, rng.choice([0.01, 0.2])
        return what, None

    check([step() for _ in range(300)], rng.choice([8_000, 100_000]))


def check(steps, window):
    async def main():
        path = Path(window)
        sender = MemberDevice(path, name="a", superframes=True)
        receiver = MemberDevice(path, name="b", superframes=True)
        port = Port(1, "p", sender, EgressQueue(100_000, 1 << 30), 0.0)
        sent, got = [], []
        for what, value in steps:
            match what:
                case "write":
                    batch = [
                        record(flow, len(sent) + at, size) for at, (flow, size) in enumerate(value)
                    ]
                    sent += batch
                    port.send(list(batch), load_of(batch))
                case "bulk":
                    path.arrive(path.bulk, value)
                case "sparse":
                    path.arrive(path.sparse, value)
                case "acknowledge":
                    path.acknowledge()
                case "flush":
                    port.flush()
                case "read":
                    got += read(receiver, value)
                case "time":
                    await trio.sleep(value)
        for _ in range(10_000):
            if len(got) == len(sent):
                break
            port.flush()
            path.arrive(path.bulk, 1000)
            path.arrive(path.sparse, 1000)
            got += read(receiver, 1000)
            path.acknowledge()
        assert not path.held
        assert sorted(got) == sorted(sent)
        for bucket in set(map(bucket_of, sent)):
            assert [r for r in got if bucket_of(r) == bucket] == [
                r for r in sent if bucket_of(r) == bucket
            ]

    trio.run(main, clock=MockClock(autojump_threshold=0))
