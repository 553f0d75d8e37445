"""Loops are opened and closed again, storms are cut, and the others hear each other meanwhile."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

MAC = [bytes.fromhex(f"02000000000{number}") for number in range(5)]
ALL = b"\xff" * 6
BPDU = ethernet(bytes.fromhex("0180c2000000"), MAC[2], 38, b"\x42\x42\x03" + bytes(35))


class Four:
    def __init__(self, switch, nursery, **settings):
        self.switch = switch
        self.managed = FeatureManager(switch, Settings().with_switch(settings))
        self.devices = [FakeDevice() for _ in range(4)]
        self.ports = [
            switch.attach(device, name=f"pc{n}") for n, device in enumerate(self.devices, 1)
        ]
        nursery.start_soon(self.managed.run)

    def blocked(self):
        return [port.blocked for port in self.ports]

    async def bridge(self, one, other, seconds):
        """What leaves on one port comes in on the other, and back, for so long."""
        ends = [(self.devices[one - 1], self.devices[other - 1])]
        ends += [(there, here) for here, there in ends]
        for _ in range(int(seconds * 20)):
            await trio.sleep(0.05)
            await wait_all_tasks_blocked()
            for here, there in ends:
                there.feed(*here.take())
            for device in self.devices:
                if device not in ends[0]:
                    device.take()

    async def hears(self, source, target):
        self.devices[target - 1].take()
        self.devices[source - 1].feed(ethernet(ALL, MAC[source], 0x9000, b"hello"))
        await wait_all_tasks_blocked()
        return any(b"hello" in frame for frame in self.devices[target - 1].take())


@pytest.fixture
async def four():
    async with open_switch() as switch, trio.open_nursery() as nursery:
        yield Four(switch, nursery)
        nursery.cancel_scope.cancel()


def totals_agree(switch):
    totals = switch.statistics().totals
    return totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped


async def test_a_loop_is_open_within_six_seconds_and_tried_again(four, autojump_clock):
    four.devices[0].feed(ethernet(ALL, MAC[1], 0x0806, b"who-has"))
    await four.bridge(2, 3, 3)
    assert four.blocked() == [None, None, "loop", None]
    assert await four.hears(1, 4)
    assert await four.hears(2, 1)
    assert not await four.hears(3, 1)
    assert not await four.hears(1, 3)
    decision = four.switch.explain(four.ports[2], frame_record(ethernet(ALL, MAC[3], 1, b"x")))
    assert decision.reason == "loop_blocked"
    await four.bridge(2, 3, 12)  # let back after ten seconds, and shut again
    assert four.blocked() == [None, None, "loop", None]
    kinds = [each.kind for each in four.switch.events.since() if each.kind.startswith("port-")]
    assert kinds[-3:] == ["port-blocked", "port-unblocked", "port-blocked"]
    await trio.sleep(15)
    assert four.blocked()[2] == "loop"
    await trio.sleep(7)
    assert four.blocked() == [None] * 4
    assert await four.hears(3, 1)
    assert await four.hears(1, 3)
    assert totals_agree(four.switch)


async def test_a_calm_switch_sends_no_probes(four, autojump_clock):
    await trio.sleep(10)
    for device in four.devices:
        device.take()
    for _ in range(20):
        four.devices[0].feed(ethernet(ALL, MAC[1], 0x0806, b"who-has"))
        await trio.sleep(1)
    assert four.devices[1].take() == [ethernet(ALL, MAC[1], 0x0806, b"who-has")] * 20


async def test_plugging_in_again_does_not_help(four, autojump_clock):
    four.devices[0].feed(ethernet(ALL, MAC[1], 0x0806, b"who-has"))
    await four.bridge(2, 3, 3)
    four.switch.detach(four.ports[2])
    device = FakeDevice()
    port = four.switch.attach(device, name="pc3")
    assert port.blocked == "loop"
    four.devices[0].feed(ethernet(ALL, MAC[1], 0x0806, b"who-has"))
    await wait_all_tasks_blocked()
    assert device.take() == []
    other = four.switch.attach(FakeDevice(), name="pc5")
    assert other.blocked is None


async def test_many_stations_that_move_open_a_loop_that_swallows_probes(four, autojump_clock):
    for _ in range(4):
        for station in range(5):
            for device in four.devices[1:3]:
                device.feed(ethernet(ALL, bytes([2, 0, 0, 0, 1, station]), 0x0800, b"x"))
                await wait_all_tasks_blocked()
    await trio.sleep(1.5)
    assert four.blocked() == [None, None, "loop", None]


async def test_a_probe_of_nobody_blocks_nobody(four, autojump_clock):
    assert not any(b"vswloop" in frame for frame in four.devices[0].take())  # a calm port
    for number in (0, 1):
        four.devices[number].feed(*[ethernet(ALL, MAC[number + 1], 0x0800, b"x")] * 100)
    await trio.sleep(1.5)
    (probe,) = [frame for frame in four.devices[0].take() if b"vswloop" in frame]
    (other,) = [frame for frame in four.devices[1].take() if b"vswloop" in frame]
    assert probe != other
    four.devices[3].feed(probe[:38] + bytes(22), probe[:22] + bytes(38))
    await wait_all_tasks_blocked()
    assert four.blocked() == [None] * 4
    four.devices[3].feed(probe)
    await wait_all_tasks_blocked()
    assert four.blocked() == [None, None, None, "loop"]


async def test_without_loop_guard_nothing_is_probed_or_blocked(four, autojump_clock):
    four.managed.change_port("*", {"loop_guard": "no"})
    await trio.sleep(10)
    assert not any(b"vswloop" in frame for device in four.devices for frame in device.take())


async def test_a_bpdu_shuts_the_port_for_longer_each_time(four, autojump_clock):
    four.devices[1].feed(BPDU)
    await wait_all_tasks_blocked()
    assert four.blocked() == [None] * 4  # only dropped, as ever
    assert four.ports[1].counters.drops == {"reserved_destination": 1}
    four.managed.change_switch({"guard": "yes"})
    four.devices[1].feed(BPDU)
    await wait_all_tasks_blocked()
    assert four.blocked() == [None, "bpdu", None, None]
    assert not await four.hears(2, 1)
    await trio.sleep(32)
    assert four.blocked() == [None] * 4
    assert await four.hears(2, 1)
    four.devices[1].feed(BPDU)
    await trio.sleep(32)
    assert four.blocked() == [None, "bpdu", None, None]
    four.managed.change_port("pc3", {"trusted": "yes"})
    four.devices[2].feed(BPDU)
    await wait_all_tasks_blocked()
    assert four.ports[2].blocked is None
    assert four.ports[1].counters.drops["bpdu_guard"] >= 2


async def test_a_storm_is_cut_and_the_others_are_heard(four, autojump_clock):
    four.managed.change_switch({"flood_limit": "off"})
    storm = [ethernet(ALL, MAC[1], 0x0800, b"storm")] * 200
    heard = 0
    for step in range(200):
        four.devices[0].feed(*storm)
        if step % 10 == 0:
            four.devices[1].feed(ethernet(ALL, MAC[2], 0x0800, b"mine"))
        await wait_all_tasks_blocked()
        await trio.sleep(0.01)
        heard += sum(b"mine" in frame for frame in four.devices[2].take())
    assert heard == 20
    drops = four.ports[0].counters.drops
    assert 2 * 1000 <= 40_000 - sum(drops.values()) <= 3_100  # two seconds and a burst
    assert set(drops) == {"storm_broadcast"}
    assert four.ports[1].counters.drops == {}


async def test_unknown_unicast_is_limited_and_known_is_not(four, autojump_clock):
    four.managed.change_port("pc1", {"storm_unknown": "200", "storm_broadcast": "off"})
    unknown = [ethernet(MAC[2], MAC[1], 0x0800, b"x")] * 1000
    four.devices[0].feed(*unknown)
    await wait_all_tasks_blocked()
    assert four.ports[0].counters.drops == {"storm_unknown": 800}
    four.devices[1].feed(ethernet(ALL, MAC[2], 0x0800, b"here"))
    await wait_all_tasks_blocked()
    four.devices[1].take()
    four.devices[0].feed(*unknown[:400])
    await wait_all_tasks_blocked()
    assert len(four.devices[1].take()) == 400
    four.devices[0].feed(*[ethernet(ALL, MAC[1], 0x0800, b"y")] * 400)
    await wait_all_tasks_blocked()
    assert len(four.devices[1].take()) == 400
    assert totals_agree(four.switch)
