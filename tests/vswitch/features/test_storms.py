"""Token buckets, storm limits of a port, and the flood limit that ports share."""

import random

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.features.manager import FeatureManager
from vswitch.features.storms import Shares, StormDrop, StormStage, level
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import VIRTIO_HEADER
from vswitch.switch.bucket import Bucket
from vswitch.switch.counters import PortCounters
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B = b"\x02\0\0\0\0\x0a", b"\x02\0\0\0\0\x0b"
ALL = b"\xff" * 6
GROUP = bytes.fromhex("01005e010203")


def record(destination=ALL, content=b"hello"):
    return frame_record(ethernet(destination, A, 0x0800, content))


def superframe(destination=ALL, segments=40):
    header = VIRTIO_HEADER.pack(1, 5, 0, 100, 34, 6)
    return encode_record(
        SUPERFRAME, header + ethernet(destination, A, 0x0800, bytes(28 + 100 * segments))
    )


def stage(broadcast=None, multicast=None, unknown=None, shares=None, ports=3, known=lambda *_: 2):
    def bucket(rate):
        return None if rate is None else Bucket(rate, max(rate, 128))

    return StormStage(
        1,
        bucket(broadcast),
        bucket(multicast),
        bucket(unknown),
        Shares(None) if shares is None else shares,
        known,
        lambda: ports,
    )


def test_a_bucket_passes_its_rate():
    rng, bucket, now, passed = random.Random(1), Bucket(100, 20), 5.0, 0
    for _ in range(20_000):
        now += rng.expovariate(1000)
        passed += bucket.allow(now, 1)
    assert 100 * (now - 5) <= passed <= 100 * (now - 5) + 21
    assert not Bucket(0, 10).allow(1.0, 1)
    assert Bucket(0, 10).grant(1.0, 5) == 0


def test_a_superframe_passes_a_small_bucket_whole_and_is_paid_for():
    bucket = Bucket(10, 10)
    assert bucket.allow(0.0, 45)
    assert not bucket.allow(3.5, 1)
    assert bucket.could(3.7, 1)
    assert bucket.allow(3.7, 1)
    assert bucket.allow(3.0, 0)  # a clock that steps back


def test_level_is_max_min_fair():
    assert level([], 100) == 100
    assert level([10, 20], 100) == 100
    assert level([10, 1000], 100) == 90
    assert level([1000, 1000, 1000, 10], 100) == 30
    rng = random.Random(2)
    for _ in range(500):
        wanted = [rng.randrange(200) for _ in range(rng.randint(1, 9))]
        room = rng.randint(1, 500)
        found = level(wanted, room)
        given = [min(want, found) for want in wanted]
        assert sum(given) <= room + 1e-6
        assert given == wanted or sum(given) == pytest.approx(room)


def test_frames_that_are_not_flooded_are_not_limited():
    limits, counters = stage(0, 0, 0), PortCounters()
    batch = [record(B)] * 5
    assert limits.take(batch, 1.0, counters) is batch
    assert counters.drops == {}
    assert limits.take([b"\xbc\xbc\0\x03abc"], 1.0, counters) == [b"\xbc\xbc\0\x03abc"]


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        (ALL, StormDrop.STORM_BROADCAST),
        (GROUP, StormDrop.STORM_MULTICAST),
        (B, StormDrop.STORM_UNKNOWN),
    ],
)
def test_each_kind_of_flooded_frame_has_its_limit(destination, reason):
    limits = stage(200, 200, 200, known=lambda *_: None)
    counters, passed = PortCounters(), 0
    for step in range(1000):
        passed += len(limits.take([record(destination)] * 10, 1.0 + step / 1000, counters))
    assert 398 <= passed <= 402
    assert counters.drops == {reason: 10_000 - passed}
    said = limits.explain(record(destination), 1.999)
    assert (said.record, said.reason) == (None, reason)
    assert limits.explain(record(destination), 9.0).record is not None


def test_mixed_batches_and_superframes_count_as_their_frames():
    limits, counters = stage(128, 1000), PortCounters()
    batch = [record(), record(B), superframe(), record(GROUP), superframe(), superframe()] * 2
    kept = limits.take(batch, 1.0, counters)
    assert [each in kept for each in batch[:6]] == [True] * 6
    frames = sum(40 if len(each) > 100 else 1 for each in kept if each[4:10] != GROUP)
    assert counters.drops == {StormDrop.STORM_BROADCAST: 6 * 40 + 2 - (frames - 2)}
    assert sum(each == record(B) for each in kept) == 2


class Floods:
    """Ports whose floods make as many copies as there are other ports."""

    def __init__(self, ports, limit):
        self.shares = Shares(limit)
        self.ports = [stage(shares=self.shares, ports=ports) for _ in range(ports)]
        for number, port in enumerate(self.ports):
            port.port = number
        self.counters = [PortCounters() for _ in range(ports)]
        self.passed = [0] * ports

    def send(self, number, frames, now):
        kept = self.ports[number].take([record()] * frames, now, self.counters[number])
        self.counters[number].flood_copies += len(kept) * (len(self.ports) - 2)
        self.passed[number] += len(kept)


def test_a_storm_does_not_take_the_broadcasts_of_others():
    floods = Floods(11, 20_000)
    for step in range(10_000):
        now = step / 1000
        floods.send(0, 50, now)
        floods.send(1, 20, now)
        if step % 50 == 0:
            floods.send(2, 1, now)
    copies = [passed * 10 for passed in floods.passed]
    assert floods.passed[2] == 200  # each of them
    assert floods.counters[2].drops == {}
    assert copies[0] == pytest.approx(copies[1], rel=0.1)
    assert 160_000 <= sum(copies) <= 220_000  # in ten seconds
    assert set(floods.counters[0].drops) == {StormDrop.FLOOD_LIMIT}


def test_a_port_that_floods_alone_may_have_the_whole_flood_limit():
    floods = Floods(3, 1000)
    for step in range(5000):
        floods.send(0, 10, step / 1000)
    assert 2300 <= floods.passed[0] <= 2700


def test_a_broadcast_passes_however_many_ports_there_are():
    floods = Floods(500, 1000)
    for step in range(10_000):
        floods.send(0, 1, step / 1000)
    assert 10 <= floods.passed[0] <= 30


def test_many_ports_that_begin_to_flood_at_once_are_bounded():
    floods = Floods(50, 20_000)
    for step in range(1000):
        for number in range(50):
            floods.send(number, 5, step / 1000)
    assert sum(floods.passed) * 49 <= 2.5 * 20_000
    assert min(floods.passed) > 0


def lying(header, size=60_000):
    """A broadcast that says it is one frame, or little."""
    return encode_record(SUPERFRAME, header + ethernet(ALL, A, 0x0800, bytes(size)))


# gso_type NONE; to be cut, with a length of segments that makes one frame of everything.
LIES = [
    bytes(10),
    VIRTIO_HEADER.pack(1, 1, 0, 60_000, 34, 16),
    VIRTIO_HEADER.pack(0, 1, 0, 1400, 0, 0),
]


@pytest.mark.parametrize("header", LIES)
async def test_a_superframe_that_lies_is_flooded_to_nobody(header):
    async with open_switch() as switch:
        FeatureManager(switch)
        devices = [FakeDevice(superframes=True) for _ in range(3)]
        liar, *_ = [switch.attach(device, name="pc") for device in devices]
        devices[0].feed_records([lying(header)] * 3)
        await wait_all_tasks_blocked()
        assert [device.take() for device in devices[1:]] == [[], []]
        drops = switch.statistics().totals.drops
        assert sum(drops.values()) == switch.statistics().totals.rx_frames
        assert set(map(str, drops)) <= {"bad_superframe", "oversize"}
        assert liar.attached


def test_the_limits_weigh_bytes_whatever_a_header_says():
    counters = PortCounters()
    kept = stage(broadcast=10).take([lying(LIES[0])] * 20, 0.0, counters)
    assert len(kept) == 3
    assert counters.drops == {StormDrop.STORM_BROADCAST: 17}


def test_the_shares_of_floods_weigh_bytes():
    shares = Shares(2000.0)  # 200 in the first interval: 100 frames to two others
    kept = stage(shares=shares).take([lying(LIES[0])] * 20, 0.0, PortCounters())
    assert len(kept) == 2  # 40 frames' worth of bytes each
