"""Monitors get copies of what passes others, and take no part."""

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.errors import ConfigError
from vswitch.features.manager import FeatureManager
from vswitch.features.mirror import MonitorDrop
from vswitch.features.settings import Settings
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

A, B, M = (bytes.fromhex(f"02000000000{letter}") for letter in "abc")
ALL = b"\xff" * 6


def frame(destination, source, content=b"hello"):
    return ethernet(destination, source, 0x0800, content)


class Bench:
    def __init__(self, switch, **settings):
        self.switch = switch
        self.managed = FeatureManager(switch, Settings(**settings))
        self.devices = {}

    def attach(self, name, **options):
        self.devices[name] = FakeDevice(**options)
        return self.switch.attach(self.devices[name], name=name)

    async def feed(self, name, *frames):
        self.devices[name].feed(*frames)
        await wait_all_tasks_blocked()
        return {name: len(device.take()) for name, device in self.devices.items()}

    @property
    def exact(self):
        now = self.switch.statistics()
        counted = now.totals.tx_frames + now.totals.dropped + now.queued_frames + now.held_frames
        return now.totals.rx_frames + now.totals.flood_copies == counted


@pytest.fixture
async def bench():
    async with open_switch() as switch:
        bench = Bench(switch)
        for name in ("pc1", "pc2", "pc3", "mon"):
            bench.attach(name)
        yield bench
        assert bench.exact


async def test_a_monitor_gets_copies_of_both_ways_and_nothing_else(bench):
    bench.managed.change_port("mon", {"mirror": "pc1"})
    assert await bench.feed("pc1", frame(ALL, A)) == {"pc1": 0, "pc2": 1, "pc3": 1, "mon": 1}
    assert await bench.feed("pc2", frame(A, B)) == {"pc1": 1, "pc2": 0, "pc3": 0, "mon": 1}
    assert await bench.feed("pc3", frame(B, M)) == {"pc1": 0, "pc2": 1, "pc3": 0, "mon": 0}
    assert await bench.feed("pc2", frame(ALL, B)) == {"pc1": 1, "pc2": 0, "pc3": 1, "mon": 1}
    bench.managed.change_port("mon", {"mirror": "pc1,pc2"})
    assert (await bench.feed("pc1", frame(B, A)))["mon"] == 2
    assert bench.exact


async def test_what_a_monitor_sends_goes_nowhere_and_teaches_nothing(bench):
    await bench.feed("mon", frame(ALL, M))
    bench.managed.change_port("mon", {"mirror": "pc1"})
    assert bench.switch.fdb_entries() == []
    assert await bench.feed("mon", frame(ALL, M)) == dict.fromkeys(bench.devices, 0)
    assert bench.switch.fdb_entries() == []
    port = bench.managed.port("mon")
    assert port.counters.drops == {MonitorDrop.MONITOR_PORT: 1}
    decision = bench.switch.explain(port, frame_record(frame(ALL, M)))
    assert decision.reason == "monitor_port"
    assert (
        4 not in bench.switch.explain(bench.managed.port("pc2"), frame_record(frame(M, B))).egress
    )
    bench.switch.originate(frame_record(frame(ALL, B)), [3, 4])
    assert [len(device.take()) for device in bench.devices.values()] == [0, 0, 1, 0]
    bench.managed.change_port("mon", {"mirror": "none"})
    assert (await bench.feed("pc1", frame(ALL, A)))["mon"] == 1
    assert bench.switch._observers == ()


async def test_a_monitor_and_the_ports_that_it_copies_come_and_go():
    async with open_switch() as switch:
        bench = Bench(switch, ports={"mon": {"mirror": "pc1"}})
        bench.attach("pc2")
        bench.attach("mon")
        pc1 = bench.attach("pc1")
        assert await bench.feed("pc1", frame(ALL, A)) == {"pc2": 1, "mon": 1, "pc1": 0}
        bench.switch.detach(pc1)
        assert switch._observers == ()
        bench.attach("pc1")
        assert (await bench.feed("pc1", frame(ALL, A)))["mon"] == 1
        bench.devices["mon"].fail(OSError("gone"))
        assert (await bench.feed("pc1", frame(ALL, A)))["pc2"] == 1
        assert bench.exact


async def test_superframes_are_cut_for_a_monitor_that_takes_none(bench):
    port = bench.attach("big", superframes=True)
    bench.managed.change_port("mon", {"mirror": "big"})
    record = superframe(Flow(), bytes(5000), 1400)
    bench.switch.ingress(port, [record, record[:20]])
    assert len(bench.devices["mon"].take()) == 4
    assert bench.exact


async def test_a_full_monitor_holds_up_nobody(bench):
    bench.attach("slow", capacity=1)
    bench.managed.change_port("slow", {"mirror": ["pc1"]})
    assert (await bench.feed("pc1", *(frame(ALL, A) for _ in range(60))))["pc2"] == 60
    assert bench.exact


@pytest.mark.parametrize(
    ("name", "mirror", "complaint"),
    [
        ("mon", "mon", "its own monitor"),
        ("pc3", "mon", "mon is a monitor itself"),
        ("pc1", "pc2", "pc1 is a monitor itself"),
        ("*", "pc1", "name the port"),
        ("mon", 7, "names of ports"),
        ("mon", ["x" * 3] * 2 + [str(n) for n in range(70)], "1 to 64 names"),
    ],
)
async def test_a_monitor_that_cannot_be_is_refused_and_changes_nothing(
    bench, name, mirror, complaint
):
    bench.managed.change_port("mon", {"mirror": "pc1"})
    before = bench.managed.settings
    with pytest.raises(ConfigError, match=complaint):
        bench.managed.change_port(name, {"mirror": mirror})
    assert bench.managed.settings is before


async def test_a_monitor_gets_copies_of_every_vlan(bench):
    bench.managed.change_port("pc1", {"vlan": "10"})
    bench.managed.change_port("pc2", {"vlan": "10"})
    bench.managed.change_port("mon", {"mirror": "pc1"})
    assert await bench.feed("pc1", frame(ALL, A)) == {"pc1": 0, "pc2": 1, "pc3": 0, "mon": 1}
    assert (await bench.feed("pc2", frame(A, B)))["mon"] == 1
