"""A port with a rate: what leaves waits for its turn, and a ping not behind a transfer."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
BULK = ethernet(B, A, 0x9000, bytes(986))


@pytest.fixture
async def pair():
    async with open_switch() as switch:
        managed = FeatureManager(switch, Settings().with_switch({"flood_limit": "off"}))
        managed.change_port("*", {"storm_unknown": "off", "loop_guard": "no"})
        devices = [FakeDevice(), FakeDevice()]
        ports = [switch.attach(device, name=f"pc{n}") for n, device in enumerate(devices, 1)]
        yield managed, ports, devices


def totals_agree(switch):
    totals, queued = switch.statistics().totals, switch.statistics().queued_frames
    return totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped + queued


async def test_frames_that_leave_are_shaped_to_the_rate(pair, autojump_clock):
    managed, _, devices = pair
    managed.change_port("pc2", {"rate_out": "800k"})  # 100 frames of 1,000 bytes a second
    got = 0
    for _ in range(100):
        devices[0].feed(*[BULK] * 2)
        await trio.sleep(0.01)
        await wait_all_tasks_blocked()
        got += len(devices[1].take())
    assert 100 <= got <= 100 + 17 + 2  # a second, and the burst
    assert totals_agree(managed.switch)
    small = ethernet(B, A, 0x0800, bytes(12) + b"\x0a\0\0\x01\x0a\0\0\x02" + bytes(24))
    devices[0].feed(small)
    await trio.sleep(0.05)
    assert small in devices[1].take()  # a flow that begins goes first
    managed.change_port("pc2", {"rate_out": "off"})
    await trio.sleep(0.1)
    devices[1].take()
    devices[0].feed(*[BULK] * 100)
    await trio.sleep(0.1)
    assert len(devices[1].take()) == 100
    assert totals_agree(managed.switch)


async def test_a_flow_that_stands_loses_and_nothing_is_lost_of_the_account(pair, autojump_clock):
    managed, ports, devices = pair
    managed.change_port("pc2", {"rate_out": "80k"})
    for _ in range(300):
        devices[0].feed(BULK)
        await trio.sleep(0.02)
    assert ports[1].counters.drops["queue_delay"] > 10
    assert totals_agree(managed.switch)
    devices[1].take()
    devices[0].feed(*[BULK] * 5)
    await trio.sleep(60)
    assert ports[1].statistics().queued_frames == 0
    assert totals_agree(managed.switch)


async def test_frames_that_come_in_above_the_rate_are_dropped(pair, autojump_clock):
    managed, ports, devices = pair
    managed.change_port("pc1", {"rate_in": "8M", "frames_in": "100"})
    devices[0].feed(*[BULK] * 200)
    await wait_all_tasks_blocked()
    assert len(devices[1].take()) == 128
    assert ports[0].counters.drops == {"rate_in": 72}
    managed.change_port("pc2", {"frames_out": "100"})
    managed.change_port("pc1", {"rate_in": "off", "frames_in": "off"})
    devices[0].feed(*[BULK] * 200)
    await wait_all_tasks_blocked()
    assert len(devices[1].take()) == 128
    assert ports[1].counters.drops == {"rate_out": 72}
    assert totals_agree(managed.switch)
