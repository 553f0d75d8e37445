import pytest

from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import VIRTIO_HEADER
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.switch.fdb import Fdb
from vswitch.switch.forwarding import Forwarder
from vswitch.testing import ethernet, vlan_tagged

A = bytes.fromhex("02000000000a")
B = bytes.fromhex("02000000000b")
C = bytes.fromhex("02000000000c")
ALL = b"\xff" * 6
GROUP = bytes.fromhex("01005e000001")


class Bench:
    """A forwarder with three ports, and their counters."""

    def __init__(self, ports=(1, 2, 3), **limits):
        self.forwarder = Forwarder(**limits)
        self.counters = {port: PortCounters() for port in ports}
        for port, counters in self.counters.items():
            self.forwarder.add_port(port, counters)

    def ingress(self, port, *frames, now=0.0):
        return self.forwarder.ingress(port, [frame_record(frame) for frame in frames], now)

    def drops(self, port):
        return self.counters[port].drops


def frame(destination, source, payload=bytes(46)):
    return ethernet(destination, source, 0x0800, payload)


def records(*frames):
    return [frame_record(frame) for frame in frames]


@pytest.mark.parametrize("destination", [ALL, GROUP, B])
def test_broadcast_multicast_and_unknown_are_flooded_but_not_back(destination):
    bench = Bench()
    sent = frame(destination, A)
    assert bench.ingress(1, sent) == {2: records(sent), 3: records(sent)}
    assert bench.counters[1].flood_copies == 1


def test_known_unicast_goes_to_its_port_alone():
    bench = Bench()
    bench.ingress(2, frame(ALL, B))
    sent = frame(B, A)
    assert bench.ingress(1, sent) == {2: records(sent)}
    assert bench.counters[1].flood_copies == 0


def test_a_batch_of_one_conversation_stays_one_list():
    bench = Bench()
    bench.ingress(2, frame(ALL, B))
    batch = records(*(frame(B, A, bytes([n]) * 46) for n in range(64)))
    out = bench.forwarder.ingress(1, batch, 0.0)
    assert out == {2: batch}


def test_a_mixed_batch_is_grouped_in_order():
    bench = Bench()
    bench.ingress(2, frame(ALL, B))
    bench.ingress(3, frame(ALL, C))
    frames = [frame(B, A, b"1"), frame(C, A, b"2"), frame(ALL, A, b"3"), frame(B, A, b"4")]
    assert bench.ingress(1, *frames) == {
        2: records(frames[0], frames[2], frames[3]),
        3: records(frames[1], frames[2]),
    }
    assert bench.counters[1].flood_copies == 1


def test_what_is_learned_inside_a_batch_counts_for_the_rest_of_it():
    bench = Bench()
    to_b, from_b = frame(B, A), frame(A, B)
    # A and B are both behind port 1: the first frame is flooded, the last two are not.
    assert bench.ingress(1, to_b, from_b, to_b) == {2: records(to_b), 3: records(to_b)}
    assert bench.drops(1) == {DropReason.SAME_PORT: 2}


def test_a_destination_on_the_ingress_port_is_dropped():
    bench = Bench()
    bench.ingress(1, frame(ALL, B))
    assert bench.ingress(1, frame(B, A)) == {}
    assert bench.drops(1) == {DropReason.SAME_PORT: 1}


def test_a_lonely_port_reaches_nobody_but_is_learned_from():
    bench = Bench(ports=[1])
    assert bench.ingress(1, frame(ALL, A), frame(B, A)) == {}
    assert bench.drops(1) == {DropReason.NO_DESTINATION: 2}
    assert bench.forwarder.fdb.lookup(0, A, 0.0) == 1


def test_frames_up_to_the_mtu_with_two_tags_pass_and_longer_ones_are_dropped():
    bench = Bench(mtu=1500)
    longest = frame(B, A, bytes(1508))
    out = bench.ingress(1, longest, longest + b"x", b"short", b"")
    assert out == {2: records(longest), 3: records(longest)}
    assert bench.drops(1) == {DropReason.OVERSIZE: 1, DropReason.RUNT: 2}


def test_a_batch_of_oversize_frames_alone_is_dropped():
    bench = Bench(mtu=100)
    assert bench.ingress(1, frame(B, A, bytes(200)), frame(B, A, bytes(200))) == {}
    assert bench.drops(1) == {DropReason.OVERSIZE: 2}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (frame(B, ALL), DropReason.SOURCE_MULTICAST),
        (frame(B, bytes(6)), DropReason.SOURCE_ZERO),
        (frame(bytes.fromhex("0180c2000000"), A), DropReason.RESERVED_DESTINATION),
        (frame(B, A, bytes(2000)), DropReason.OVERSIZE),
    ],
)
def test_a_frame_that_its_header_forbids_leaves_no_trace(bad, reason):
    bench = Bench()
    assert bench.ingress(1, bad, bad) == {}
    assert bench.drops(1) == {reason: 2}
    assert len(bench.forwarder.fdb) == 0


def test_vlan_is_part_of_the_key_and_tags_pass_unchanged():
    bench = Bench()
    bench.ingress(2, vlan_tagged(frame(ALL, B), 7))
    tagged, other, plain = vlan_tagged(frame(B, A), 7), vlan_tagged(frame(B, A), 8), frame(B, A)
    assert bench.ingress(1, tagged) == {2: records(tagged)}
    assert set(bench.ingress(1, other)) == {2, 3}
    assert set(bench.ingress(1, plain)) == {2, 3}


def test_priority_does_not_change_the_vlan():
    bench = Bench()
    bench.ingress(2, frame(ALL, B))
    urgent = vlan_tagged(frame(B, A), 0, priority=7)
    assert bench.ingress(1, urgent) == {2: records(urgent)}


def test_superframes_are_forwarded_by_the_frame_inside():
    bench = Bench(mtu=1500)
    bench.ingress(2, frame(ALL, B))
    to_cut = VIRTIO_HEADER.pack(1, 1, 0, 1400, 34, 16)
    big = encode_record(SUPERFRAME, to_cut + frame(B, A, bytes(60_000)))
    small = encode_record(SUPERFRAME, bytes(10) + frame(B, A))
    plain = frame_record(frame(B, A))
    batch = [big, plain, small]
    assert bench.forwarder.ingress(1, batch, 0.0) == {2: batch}


def test_a_superframe_that_is_not_to_be_cut_is_no_longer_than_a_frame():
    bench = Bench(mtu=1500)
    bench.ingress(2, frame(ALL, B))
    full = encode_record(SUPERFRAME, bytes(10) + frame(B, A, bytes(1508)))
    beyond = encode_record(SUPERFRAME, bytes(10) + frame(B, A, bytes(1509)))
    assert bench.forwarder.ingress(1, [full, beyond], 0.0) == {2: [full]}
    assert bench.forwarder.ingress(1, [beyond], 0.0) == {}
    assert bench.drops(1) == {DropReason.OVERSIZE: 2}
    assert bench.forwarder.explain(1, beyond, 0.0).reason == DropReason.OVERSIZE


def test_a_superframe_without_a_whole_header_is_a_runt():
    bench = Bench()
    stump = encode_record(SUPERFRAME, bytes(10) + frame(B, A)[:13])
    assert bench.forwarder.ingress(1, [stump, encode_record(SUPERFRAME, b"")], 0.0) == {}
    assert bench.drops(1) == {DropReason.RUNT: 2}


def test_removing_a_port_forgets_its_stations():
    bench = Bench()
    bench.ingress(2, frame(ALL, B))
    bench.forwarder.remove_port(2)
    sent = frame(B, A)
    assert bench.ingress(1, sent) == {3: records(sent)}


def test_a_port_number_can_be_used_once():
    bench = Bench()
    with pytest.raises(ValueError, match="port 2 is there already"):
        bench.forwarder.add_port(2, PortCounters())


def test_aged_stations_are_unknown():
    bench = Bench(fdb=Fdb(ageing_time=300.0))
    bench.ingress(2, frame(ALL, B), now=0.0)
    assert set(bench.ingress(1, frame(B, A), now=299.0)) == {2}
    assert set(bench.ingress(1, frame(B, A), now=300.0)) == {2, 3}
