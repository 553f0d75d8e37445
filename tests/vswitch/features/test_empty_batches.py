"""What a stage has dropped or held altogether goes no further: no later stage sees it."""

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.features.impair import Impairments, Orders
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.frames.records import frame_record
from vswitch.switch.stages import Explained
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet

HOST = bytes.fromhex("02000000000a")
BROADCAST = ethernet(b"\xff" * 6, HOST, 0x88B5, bytes(1400))
OTHERS = ethernet(b"\xff" * 6, bytes.fromhex("02000000000b"), 0x88B5, bytes(1400))


async def test_a_member_near_its_rate_that_a_guard_refuses_everything_of_stays_plugged_in():
    async with open_switch() as switch:
        settings = Settings().with_switch({"guard": "on"})
        FeatureManager(switch, settings.with_port("pc", {"rate_in": "1M"}))
        device = FakeDevice()
        port = switch.attach(device, name="pc")
        switch.attach(FakeDevice(), name="other")
        device.feed(*[BROADCAST] * 60)  # more than half of the burst
        await wait_all_tasks_blocked()
        device.feed(OTHERS)
        await wait_all_tasks_blocked()
        assert port.attached
        assert port.counters.drops["source_guard"] == 1


class Broken:
    """A stage that raises, or one that minds an empty batch."""

    def __init__(self, *, always=True):
        self.always = always

    def take(self, records, now, counters):
        if self.always or not records:
            raise ZeroDivisionError("a bug")
        return records

    def explain(self, record, now):
        return Explained(record, "")


class BrokenLater(Broken):
    """One that raises for what an impairment has held, and not for what it holds."""

    def take(self, records, now, counters):
        return super().take(records, now, counters) if records else []


class Holding:
    def take(self, records, now, counters):
        return []

    def explain(self, record, now):
        return Explained(None, "")


def balance(switch):
    """Frames that no counter knows of."""
    counted = switch.statistics()
    totals = counted.totals
    arrived = totals.rx_frames + totals.flood_copies
    return arrived - totals.tx_frames - totals.dropped - counted.queued_frames - counted.held_frames


@pytest.mark.parametrize("way", ["ingress_stages", "egress_stages"])
async def test_no_stage_sees_an_empty_batch(way):
    async with open_switch() as switch:
        devices = FakeDevice(), FakeDevice()
        ports = [switch.attach(device, name="pc") for device in devices]
        hurt = ports[way == "egress_stages"]
        holding = Holding()
        setattr(hurt, way, (holding, Broken(always=False)))
        devices[0].feed(BROADCAST)
        await wait_all_tasks_blocked()
        assert all(port.attached for port in ports)
        assert not devices[1].take()
        switch.resume(hurt, [], holding)
        assert hurt.attached


@pytest.mark.parametrize("way", ["ingress_stages", "egress_stages"])
@pytest.mark.parametrize("resumed", [False, True])
async def test_a_stage_that_raises_takes_its_port_down_alone_and_counts_what_it_had(
    way, resumed, caplog
):
    async with open_switch() as switch:
        devices = [FakeDevice() for _ in range(3)]
        ports = [switch.attach(device, name=f"pc{n}") for n, device in enumerate(devices)]
        hurt = ports[way == "egress_stages"]
        if resumed:
            held = Holding()
            setattr(hurt, way, (held, Broken()))
            hurt.held_frames, hurt.counters.rx_frames = 0, 2  # it gives them back now
            switch.resume(hurt, [frame_record(BROADCAST)] * 2, held)
        else:
            setattr(hurt, way, (Broken(),))
            devices[0].feed(BROADCAST, BROADCAST)
            await wait_all_tasks_blocked()
        assert [port.attached for port in ports] == [port is not hurt for port in ports]
        assert balance(switch) == 0
        assert switch.statistics().totals.drops["feature_failed"] == 2
        (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
        (fault,) = switch.faults.latest
        assert record.exc_info is not None
        assert fault.reference in record.getMessage()
        assert (fault.what, fault.port, fault.error) == ("port", hurt.name, "ZeroDivisionError")
        (event,) = [each for each in switch.events.since() if each.kind == "fault"]
        assert event.facts["reference"] == fault.reference
        if not resumed:
            assert len(devices[2].take()) == 2 * (way == "egress_stages")


async def test_an_observer_that_raises_sees_no_more_and_frames_pass(caplog):
    class Blind:
        def saw_ingress(self, port, records, now):
            raise ZeroDivisionError("a bug")

        def saw_egress(self, port, records, now):
            raise ZeroDivisionError("a bug")

    class BlindOut(Blind):
        def saw_ingress(self, port, records, now):
            pass

    async with open_switch() as switch:
        devices = FakeDevice(), FakeDevice()
        ports = [switch.attach(device, name="pc") for device in devices]
        switch.add_observer(Blind())
        switch.add_observer(BlindOut())
        for _ in range(2):
            devices[0].feed(BROADCAST)
            await wait_all_tasks_blocked()
        assert len(devices[1].take()) == 2
        assert all(port.attached for port in ports)
        assert [fault.what for fault in switch.faults.latest] == ["Blind", "BlindOut"]


async def test_behind_an_impairment_a_stage_that_raises_ends_its_port_not_the_switch(
    autojump_clock,
):
    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch)
        nursery.start_soon(managed.run)
        device = FakeDevice()
        port = switch.attach(device, name="pc")
        other = switch.attach(FakeDevice(), name="other")
        managed.feature(Impairments).begin(port, Orders(delay=0.06))
        port.ingress_stages = (*port.ingress_stages, BrokenLater())
        device.feed(BROADCAST)
        await trio.sleep(1)
        assert not port.attached
        assert other.attached
        nursery.cancel_scope.cancel()
