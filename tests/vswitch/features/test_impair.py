"""A port with a worse wire: what is late, lost and twice there, and that the accounts are exact."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.features.base import ANY_PORT
from vswitch.features.impair import ImpairDrop, Impairments, Orders
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, SwitchSettings
from vswitch.frames.records import frame_record
from vswitch.switch.counters import DropReason
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
ALL = b"\xff" * 6


def frames(number, content=b""):
    return [ethernet(ALL, A, 0x0800, n.to_bytes(2, "big") + content) for n in range(number)]


def numbers(written):
    return [int.from_bytes(frame[14:16], "big") for frame in written]


class Bench:
    def __init__(self, switch):
        self.switch = switch
        # Nothing else drops: all that is lost here was lost on purpose.
        unlimited = {"storm_broadcast": "off", "storm_unknown": "off"}
        said = Settings(switch=SwitchSettings(flood_limit=None), ports={ANY_PORT: unlimited})
        self.managed = FeatureManager(switch, said)
        self.devices = [FakeDevice() for _ in range(3)]
        self.ports = [switch.attach(each, name=f"pc{n}") for n, each in enumerate(self.devices, 1)]
        self.impairments = self.managed.feature(Impairments)

    def impair(self, number, **orders):
        port = self.ports[number - 1]
        self.impairments.begin(port, Orders(**orders))

    async def feed(self, *some):
        self.devices[0].feed(*some)
        await wait_all_tasks_blocked()

    def taken(self):
        return [len(device.take()) for device in self.devices[1:]]

    @property
    def exact(self):
        now = self.switch.statistics()
        counted = now.totals.tx_frames + now.totals.dropped + now.queued_frames + now.held_frames
        return now.totals.rx_frames + now.totals.flood_copies == counted


@pytest.fixture
async def bench():
    async with open_switch() as switch, trio.open_nursery() as nursery:
        bench = Bench(switch)
        nursery.start_soon(bench.managed.run)
        await wait_all_tasks_blocked()
        yield bench
        assert bench.exact
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("direction", ["in", "out"])
async def test_frames_are_late_by_the_delay_on_the_way_that_is_impaired(
    bench, autojump_clock, direction
):
    bench.impair(1 if direction == "in" else 2, delay=0.04, direction=direction)
    await bench.feed(*frames(5))
    late_for_both = direction == "in"
    assert bench.taken() == [0, 0 if late_for_both else 5]
    assert bench.switch.statistics().held_frames == 5
    assert bench.ports[0].counters.rx_frames == 5
    assert bench.exact
    await trio.sleep(0.039)
    assert bench.taken() == [0, 0]
    await trio.sleep(0.002)
    assert numbers(bench.devices[1].take()) == list(range(5))
    assert bench.taken() == [0, 5 if late_for_both else 0]
    assert bench.switch.statistics().held_frames == 0
    assert bench.ports[0].counters.rx_frames == 5


async def test_loss_and_duplicates_are_counted_and_repeat_with_the_seed(bench, autojump_clock):
    fates = []
    for _ in range(2):
        bench.impair(1, loss=0.1, duplicate=0.1, jitter=0.002, seed=5, direction="in")
        await bench.feed(*frames(600))
        assert bench.exact
        await trio.sleep(0.1)
        got = numbers(bench.devices[1].take())
        bench.devices[2].take()
        assert got == sorted(got)
        assert 30 < len(set(range(600)) - set(got)) < 90
        assert 30 < len(got) - len(set(got)) < 90
        fates.append(got)
    assert fates[0] == fates[1]
    lost = bench.ports[0].counters.drops[ImpairDrop.IMPAIRED]
    assert lost == 2 * (600 - len(set(fates[0])))


async def test_frames_are_reordered_and_slowed_down_to_the_rate(bench, autojump_clock):
    bench.impair(1, reorder=0.3, direction="in", delay=0.001)
    await bench.feed(*frames(40))
    await trio.sleep(0.1)
    got = numbers(bench.devices[1].take())
    assert got != sorted(got) == list(range(40))
    bench.impair(1, rate=1e6, direction="in")
    await bench.feed(*frames(100, bytes(984)))  # 1,000 bytes: 8 ms each
    await trio.sleep(0.4)
    assert 48 <= len(bench.devices[1].take()) <= 52
    await trio.sleep(1)
    assert len(bench.devices[1].take()) >= 48


async def test_an_impairment_ends_after_its_time_by_order_and_with_its_port(bench, autojump_clock):
    bench.impair(1, delay=5.0, seconds=2.0)
    await bench.feed(*frames(3))
    await trio.sleep(2.1)
    assert bench.taken() == [3, 3]
    assert not bench.impairments.active
    left = bench.ports[0].ingress_stages + bench.ports[0].egress_stages
    assert not [stage for stage in left if type(stage).__module__ == Impairments.__module__]
    bench.impair(2, delay=5.0)
    await bench.feed(*frames(3))
    assert bench.impairments.end(bench.ports[1])
    assert not bench.impairments.end(bench.ports[1])
    assert bench.taken() == [3, 3]
    bench.impair(1, delay=5.0)
    await bench.feed(*frames(3))
    bench.switch.detach(bench.ports[0])
    assert bench.exact
    assert bench.switch.statistics().totals.drops[DropReason.PORT_DETACHED] == 3
    assert not bench.impairments.active
    kinds = [event.kind for event in bench.switch.events.since()]
    assert kinds.count("impaired") == 3
    assert kinds.count("unimpaired") == 2


async def test_a_device_that_fails_while_frames_are_held_for_it(bench, autojump_clock):
    bench.impair(2, delay=0.04, direction="out")
    await bench.feed(*frames(4))
    bench.devices[1].fail(OSError("gone"))
    await trio.sleep(0.1)
    assert not bench.ports[1].attached
    assert bench.exact
    assert bench.switch.statistics().held_frames == 0


async def test_superframes_are_impaired_frame_by_frame(bench, autojump_clock):
    big = FakeDevice(superframes=True)
    port = bench.switch.attach(big, name="big")
    bench.impairments.begin(port, Orders(delay=0.01, direction="in"))
    record = superframe(Flow(), bytes(5000), 1400)
    bench.switch.ingress(port, [record, record[:20]])
    assert bench.switch.statistics().held_frames == 4
    assert bench.exact
    await trio.sleep(0.02)
    assert bench.taken() == [4, 4]
    assert port.counters.rx_frames == 5
    assert bench.switch.explain(port, frame_record(frames(1)[0])).steps[0].startswith("impaired")


async def test_frames_held_by_an_impairment_are_bounded(bench, autojump_clock, monkeypatch):
    monkeypatch.setattr("vswitch.features.impair.MAX_HELD_FRAMES", 10)
    bench.impair(1, delay=1.0, direction="in")
    await bench.feed(*frames(30))
    assert bench.switch.statistics().held_frames == 10
    assert bench.ports[0].counters.drops[ImpairDrop.IMPAIRED] == 20
    assert bench.exact
    await trio.sleep(1.1)
    assert bench.taken() == [10, 10]
