"""Forwarding a batch gives exactly what forwarding its frames one by one gives."""

import hypothesis.strategies as st
from hypothesis import given

from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import VIRTIO_HEADER
from vswitch.switch.counters import PortCounters
from vswitch.switch.forwarding import Forwarder
from vswitch.testing import ethernet, vlan_tagged

STATIONS = [b"\x02\0\0\0\0" + bytes([number]) for number in range(4)]
SOURCES = st.sampled_from([*STATIONS, b"\xff" * 6, bytes(6)])
DESTINATIONS = st.sampled_from([*STATIONS, b"\xff" * 6, bytes.fromhex("0180c2000003")])


@st.composite
def records(draw):
    size = draw(st.sampled_from([0, 46, 1508, 1509, 3000]))
    frame = ethernet(draw(DESTINATIONS), draw(SOURCES), 0x0800, bytes(size))
    vlan = draw(st.sampled_from([None, None, 0, 7]))
    if vlan is not None:
        frame = vlan_tagged(frame, vlan)
    frame = frame[: draw(st.sampled_from([None, None, None, 13, 15]))]
    if draw(st.booleans()):
        header = VIRTIO_HEADER.pack(1, draw(st.sampled_from([0, 1, 5])), 0, 100, 34, 16)
        return encode_record(SUPERFRAME, header + frame)
    return frame_record(frame)


BATCHES = st.lists(
    st.tuples(st.integers(1, 3), st.lists(records(), max_size=8), st.sampled_from([0, 5, 400])),
    max_size=8,
)


def forwarder():
    made = Forwarder(mtu=1500)
    counters = {port: PortCounters() for port in (1, 2, 3)}
    for port in counters:
        made.add_port(port, counters[port])
    return made, counters


@given(BATCHES)
def test_a_batch_is_its_frames_one_by_one(batches):
    whole, whole_counters = forwarder()
    single, single_counters = forwarder()
    now = 0.0
    for port, batch, step in batches:
        now += step
        out = whole.ingress(port, batch, now)
        expected = {}
        for record in batch:
            for egress, (same,) in single.ingress(port, [record], now).items():
                assert same is record
                expected.setdefault(egress, []).append(record)
        assert out == expected
        assert port not in out
        assert whole.fdb.entries(now) == single.fdb.entries(now)
    for port in (1, 2, 3):
        assert whole_counters[port].snapshot() == single_counters[port].snapshot()
