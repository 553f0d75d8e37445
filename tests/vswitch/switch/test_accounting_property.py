"""Accounting, to the frame: in + copies = out + drops + queued, whatever ports come and go, and
whether superframes are carried whole, cut, or lie about what they are."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import NO_OFFLOAD, VIRTIO_HEADER, stands_for
from vswitch.switch.counters import DropReason
from vswitch.switch.switch import Switch
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

ADDRESSES = [b"\x02\0\0\0\0" + bytes([number]) for number in range(5)]
ALL = b"\xff" * 6
INDEX = st.integers(0, 99)


EXPERIMENTAL = 0x88B5
MTU = 200
FRAMES = st.tuples(
    st.sampled_from([*ADDRESSES, ALL]),
    st.sampled_from([*ADDRESSES, ALL]),
    st.sampled_from([0, 46, 150, 300]),
    # How a port that may send superframes sends it.
    st.sampled_from(["frame", "frame", "plain", "small", "cut", "cut", "huge", "lying", "stump"]),
    st.sampled_from([0, 1, 64, 65, 148, 149]),  # gso_size
)


def made(number, destination, source, size, kind, gso_size):
    """A record that carries its number where `number_of` finds it, if a device ever gets it."""
    payload = number.to_bytes(4, "big") + bytes(size)
    frame = ethernet(destination, source, EXPERIMENTAL, payload)
    # With the number in the addresses, every piece has it.
    flow = Flow(destination=destination, source=source, addresses=payload[:4] + bytes(4))
    match kind:
        case "plain":
            return encode_record(SUPERFRAME, NO_OFFLOAD + frame)
        case "small":
            return superframe(flow, bytes(size))
        case "cut" | "huge":
            return superframe(flow, bytes(size + 300 * (kind == "huge")), gso_size)
        case "lying":
            header = VIRTIO_HEADER.pack(1, 1, 0, gso_size, 34, 16)
            return encode_record(SUPERFRAME, header + frame)
        case "stump":
            return encode_record(SUPERFRAME, VIRTIO_HEADER.pack(1, 1, 0, 1, 0, 16)[:gso_size])
    return frame_record(frame)


def number_of(frame):
    at = 14 if frame[12:14] == EXPERIMENTAL.to_bytes(2, "big") else 26
    return int.from_bytes(frame[at : at + 4], "big")


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
            mtu=MTU,
            max_ports=5,
            max_queued_frames=6,
            max_queued_bytes=1500,
            clock=lambda: self.now,
        )
        self.number = 0
        self.fed = 0
        self.sources = {}  # record number -> the port it came in on, and frames

    def pick(self, index):
        return self.switch.ports[index % len(self.switch.ports)]

    @precondition(lambda self: len(self.switch.ports) < 5)
    @rule(capacity=st.none() | st.integers(0, 4), superframes=st.booleans())
    def attach(self, capacity, superframes):
        device = FakeDevice(capacity=capacity, superframes=superframes)
        self.switch.attach(device, name="p")

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX)
    def detach(self, index):
        self.switch.detach(self.pick(index))

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX)
    def break_device(self, index):
        self.pick(index).device.fail(OSError("unplugged"))

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX, frames=st.lists(FRAMES, max_size=8))
    def ingress(self, index, frames):
        port = self.pick(index)
        batch = []
        for destination, source, size, kind, gso_size in frames:
            self.number += 1
            if not port.device.superframes:
                kind = "frame"
            record = made(self.number, destination, source, size, kind, gso_size)
            self.sources[self.number] = port, stands_for(record)
            batch.append(record)
        self.fed += sum(map(stands_for, batch))
        self.switch.ingress(port, batch)

    @precondition(lambda self: self.switch.ports)
    @rule(index=INDEX, room=st.integers(0, 10))
    def device_sends_and_asks_for_more(self, index, room):
        port = self.pick(index)
        if not port.device.superframes:
            assert all(len(record) <= 4 + MTU + 22 for record in port.device.written)
        numbers = Counter(map(number_of, port.device.take(room)))
        for number, times in numbers.items():
            source, frames = self.sources[number]
            assert source is not port
            assert times <= (1 if port.device.superframes else frames)
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
            assert port.queued_bytes <= 1500
        for port in self.switch.ports:
            assert len(port._queue) <= 6
        assert set(totals.drops) <= set(DropReason)

    @invariant()
    def counters_of_live_ports_agree_with_their_devices(self):
        for port in self.switch.ports:
            written = port.device.written
            assert port.counters.tx_frames >= sum(map(stands_for, written))
            assert port.device.superframes or all(record[1] == 0xBC for record in written)


AccountingMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestAccounting = AccountingMachine.TestCase
