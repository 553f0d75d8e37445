"""Multicast snooping on a switch that runs: who gets a stream, where reports go, what is asked."""

from contextlib import asynccontextmanager

import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, SwitchSettings
from vswitch.frames.igmp import Says, read_untrusted
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice
from vswitch.testing.groups import igmp, igmp3_report, mld2_report, multicast_data

STATIONS = [bytes([2, 0, 0, 0, 0, number]) for number in range(1, 5)]
ON = SwitchSettings(multicast_snooping=True)
STREAM = "239.1.2.3"


@asynccontextmanager
async def running():
    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch, Settings(switch=ON))
        devices = [FakeDevice() for _ in range(4)]
        for number, device in enumerate(devices, 1):
            switch.attach(device, name=f"p{number}")
        nursery.start_soon(managed.run)
        await trio.sleep(10)  # new ports get everything at first
        for device in devices:
            device.take()
        yield managed, devices
        totals = switch.statistics().totals
        assert totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped
        nursery.cancel_scope.cancel()


async def heard(devices, at, *frames):
    devices[at].feed(*frames)
    await wait_all_tasks_blocked()
    return [device.take() for device in devices]


def counts(lists):
    return [len(each) for each in lists]


async def test_a_stream_goes_to_the_ports_that_have_asked_for_it(autojump_clock):
    async with running() as (managed, devices):
        stream = multicast_data(STATIONS[0], STREAM)
        assert counts(await heard(devices, 0, stream)) == [0, 1, 1, 1]
        assert counts(await heard(devices, 1, igmp(STATIONS[1], 0x16, STREAM))) == [0, 0, 0, 0]
        assert counts(await heard(devices, 0, stream)) == [0, 1, 0, 0]
        assert managed.port("p2").counters.snapshot().drops == {"group_report": 1}
        # A router gets the stream, and the reports.
        assert counts(await heard(devices, 3, igmp(STATIONS[3], 0x11, "0.0.0.0", code=100))) == [
            1,
            1,
            1,
            0,
        ]
        assert counts(await heard(devices, 0, stream)) == [0, 1, 0, 1]
        report = igmp3_report(STATIONS[2], [(4, STREAM, [])])
        assert await heard(devices, 2, report) == [[], [], [], [report]]
        assert counts(await heard(devices, 0, stream)) == [0, 1, 1, 1]
        # The only station of its port leaves.
        await heard(devices, 1, igmp(STATIONS[1], 0x17, STREAM))
        assert counts(await heard(devices, 0, stream)) == [0, 0, 1, 1]
        for group in ("224.0.0.251", "ff02::fb", "ff02::1:ff00:1", "239.255.255.250"):
            assert counts(await heard(devices, 0, multicast_data(STATIONS[0], group))) == [
                0,
                1,
                1,
                1,
            ]
        managed.change_switch({"multicast_snooping": "no"})
        assert counts(await heard(devices, 0, stream)) == [0, 1, 1, 1]
        assert counts(await heard(devices, 1, igmp(STATIONS[1], 0x16, STREAM))) == [1, 0, 1, 1]


async def test_the_switch_asks_and_forgets_who_does_not_answer(autojump_clock):
    async with running() as (_, devices):
        stream = multicast_data(STATIONS[0], STREAM)
        await heard(devices, 1, igmp(STATIONS[1], 0x16, STREAM))
        await heard(devices, 2, igmp(STATIONS[2], 0x16, STREAM))
        queries = {4: 0, 6: 0}
        for _ in range(300):
            await trio.sleep(1)
            for frame in devices[1].take():
                message = read_untrusted(frame)
                assert message.says is Says.QUERY
                assert message.group == b""
                queries[message.version] += 1
                if message.version == 4:  # one of the two answers
                    await heard(devices, 1, igmp(STATIONS[1], 0x16, STREAM))
            devices[2].take()
        assert queries == {4: 3, 6: 3}
        assert counts(await heard(devices, 0, stream)) == [0, 1, 0, 0]


async def test_a_leave_among_several_is_asked_about(autojump_clock):
    async with running() as (_, devices):
        stream = multicast_data(STATIONS[0], STREAM)
        await heard(
            devices, 1, igmp(STATIONS[1], 0x16, STREAM), multicast_data(STATIONS[2], STREAM)
        )
        asked = await heard(devices, 1, igmp(STATIONS[1], 0x17, STREAM))
        assert counts(asked) == [0, 1, 0, 0]
        assert read_untrusted(asked[1][0]).group == bytes([239, 1, 2, 3])
        await trio.sleep(2)
        assert counts(await heard(devices, 0, stream)) == [
            0,
            2,
            0,
            0,
        ]  # asked again, and the stream
        await trio.sleep(3)
        assert counts(await heard(devices, 0, stream)) == [0, 1, 1, 1]  # nobody has reported it


async def test_vlans_have_groups_of_their_own(autojump_clock):
    async with running() as (managed, devices):
        for name, vlan in (("p1", 10), ("p2", 10), ("p3", 20), ("p4", 10)):
            managed.change_port(name, {"vlan": str(vlan)})
        await trio.sleep(10)  # a port in another VLAN is a new one
        for device in devices:
            device.take()
        stream = multicast_data(STATIONS[0], STREAM)
        await heard(devices, 1, mld2_report(STATIONS[1], [(4, "ff15::1", [])]))
        await heard(devices, 2, igmp(STATIONS[2], 0x16, STREAM))
        assert counts(await heard(devices, 0, stream)) == [0, 1, 0, 1]
        await heard(devices, 3, igmp(STATIONS[3], 0x16, STREAM))
        assert await heard(devices, 0, stream) == [[], [], [], [stream]]
        await trio.sleep(60)
        said = [read_untrusted(frame) for device in devices for frame in device.take()]
        assert len(said) >= 8
        assert all(message.says is Says.QUERY for message in said)


async def test_a_source_that_may_not_be_there_joins_nothing(autojump_clock):
    async with running() as (managed, devices):
        managed.change_port("p2", {"macs": "02:00:00:00:00:09"})
        await heard(devices, 1, igmp(STATIONS[1], 0x16, STREAM))
        assert managed.port("p2").counters.snapshot().drops == {"mac_refused": 1}
        assert counts(await heard(devices, 0, multicast_data(STATIONS[0], STREAM))) == [0, 1, 1, 1]
        report = frame_record(igmp(STATIONS[2], 0x16, STREAM))
        assert managed.switch.explain(managed.port("p3"), report).reason == "group_report"
