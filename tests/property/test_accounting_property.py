"""Accounting, to the frame: in + copies = out + drops + queued, whatever ports come and go."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vswitch.core.counters import DropReason
from vswitch.core.records import SUPERFRAME, encode_record, frame_record
from vswitch.switch import Switch
from vswitch.testing import FakeDevice, ethernet

ADDRESSES = [b"\x02\0\0\0\0" + bytes([number]) for number in range(5)]
ALL = b"\xff" * 6
INDEX = st.integers(0, 99)


class IdleNursery:
    """The machine itself plays the port's tasks, so that every step is its own."""

    def start_soon(self, *args, name=None):
        pass


class AccountingMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.switch = Switch(
            IdleNursery(),
            mtu=200,
            max_ports=5,
            max_queued_frames=6,
            max_queued_bytes=1500,
            clock=lambda: self.now,
        )
        self.number = 0
        self.fed = 0
        self.read = 0  # by devices, from the switch
        self.sources = {}  # frame number -> the port it came in on

    def pick(self, index):
        return self.switch.ports[index % len(self.switch.ports)]

    @precondition(lambda self: len(self.switch.ports) < 5)
    @rule(capacity=st.none() | st.integers(0, 4), superframes=st.booleans())
    def attach(self, capacity, superframes):
        self.switch.attach(FakeDevice(capacity=capacity, superframes=superframes), name="p")

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX)
    def detach(self, index):
        self.switch.detach(self.pick(index))

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX)
    def break_device(self, index):
        self.pick(index).device.fail(OSError("unplugged"))

    @precondition(lambda self: self.switch.ports)
    @rule(
        index=INDEX,
        frames=st.lists(
            st.tuples(
                st.sampled_from([*ADDRESSES, ALL]),
                st.sampled_from([*ADDRESSES, ALL]),
                st.sampled_from([0, 46, 150, 300]),
                st.booleans(),
            ),
            max_size=8,
        ),
    )
    def ingress(self, index, frames):
        port = self.pick(index)
        batch = []
        for destination, source, size, superframe in frames:
            self.number += 1
            payload = self.number.to_bytes(4, "big") + bytes(size)
            frame = ethernet(destination, source, 0x0800, payload)
            self.sources[self.number] = port
            if superframe and port.device.superframes:
                batch.append(encode_record(SUPERFRAME, bytes(10) + frame))
            else:
                batch.append(frame_record(frame))
        self.fed += len(batch)
        self.switch.ingress(port, batch)

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX, room=st.integers(0, 10))
    def device_sends_and_asks_for_more(self, index, room):
        port = self.pick(index)
        frames = port.device.take(room)
        self.read += len(frames)
        numbers = [int.from_bytes(frame[14:18], "big") for frame in frames]
        assert all(self.sources[number] is not port for number in numbers)
        assert max(Counter(numbers).values(), default=1) == 1
        try:
            port.flush()
        except OSError as error:
            self.switch._take_down(port, error)

    @rule(seconds=st.sampled_from([1.0, 301.0]))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def every_frame_is_accounted_for(self):
        statistics = self.switch.statistics()
        totals = statistics.totals
        assert totals.rx_frames == self.fed
        assert (
            totals.rx_frames + totals.flood_copies
            == totals.tx_frames + totals.dropped + statistics.queued_frames
        )
        for port in statistics.ports:
            assert port.queued_frames <= 6
            assert port.queued_bytes <= 1500
        assert set(totals.drops) <= set(DropReason)

    @invariant()
    def counters_of_live_ports_agree_with_their_devices(self):
        for port in self.switch.ports:
            assert port.counters.tx_frames >= len(port.device.written)


AccountingMachine.TestCase.settings = settings(
    deadline=None, max_examples=80, stateful_step_count=40
)
TestAccounting = AccountingMachine.TestCase
