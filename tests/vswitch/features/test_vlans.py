"""VLANs on a switch that runs: when they are on, what changes live, superframes, `explain`."""

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.errors import ConfigError
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, load_settings
from vswitch.features.vlans import Tagging
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet, vlan_tagged
from vswitch.testing.superframes import Flow, superframe

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
ALL = b"\xff" * 6


def frame(destination, source, content=b"hello"):
    return ethernet(destination, source, 0x0800, content)


@pytest.fixture
async def four():
    async with open_switch() as switch:
        devices = [FakeDevice() for _ in range(4)]
        ports = [switch.attach(device, name=f"p{n}") for n, device in enumerate(devices, 1)]
        yield switch, ports, devices


async def heard(devices, *frames, at=0):
    devices[at].feed(*frames)
    await wait_all_tasks_blocked()
    return [device.take() for device in devices]


async def test_a_switch_without_vlans_is_transparent(four):
    switch, ports, devices = four
    FeatureManager(switch)
    for sent in (
        frame(ALL, A),
        vlan_tagged(frame(ALL, A), 7),
        vlan_tagged(vlan_tagged(frame(ALL, A), 7), 9, tpid=0x88A8),
    ):
        assert await heard(devices, sent) == [[], [sent], [sent], [sent]]
    assert ports[0].egress_stages == ()
    assert not any(isinstance(stage, Tagging) for stage in ports[0].ingress_stages)
    assert switch._forwarder.reach is None


async def test_the_first_vlan_of_a_port_makes_the_others_ports_of_vlan_1(four):
    switch, ports, devices = four
    managed = FeatureManager(switch)
    await heard(devices, frame(ALL, A))
    managed.change_port("p4", {"vlan": "10"})
    sent = frame(ALL, A)
    assert switch.fdb_entries() == []  # what was learned without VLANs
    assert await heard(devices, sent) == [[], [sent], [sent], []]
    assert await heard(devices, vlan_tagged(sent, 10)) == [[], [], [], []]
    assert ports[0].counters.snapshot().drops == {"vlan_refused": 1}
    assert [entry.vlan for entry in switch.fdb_entries()] == [1]
    managed.change_port("p3", {"trunk": "1,10"})
    assert await heard(devices, sent) == [[], [sent], [vlan_tagged(sent, 1)], []]
    assert await heard(devices, vlan_tagged(frame(ALL, B), 10), at=2) == [
        *([], [], []),
        [frame(ALL, B)],
    ]
    # A station is known in its VLAN only.
    assert await heard(devices, frame(B, A)) == [
        [],
        [frame(B, A)],
        [vlan_tagged(frame(B, A), 1)],
        [],
    ]
    managed.change_port("p3", {"trunk": "none"})
    managed.change_port("p4", {"vlan": "none"})
    assert await heard(devices, sent) == [[], [sent], [sent], [sent]]
    assert not any(isinstance(stage, Tagging) for stage in ports[0].ingress_stages)


async def test_vlans_are_on_for_a_port_that_is_not_attached(four):
    switch, ports, devices = four
    managed = FeatureManager(switch, Settings(ports={"elsewhere": {"vlan": 5}}))
    tagged = vlan_tagged(frame(ALL, A), 5)
    assert await heard(devices, tagged) == [[], [], [], []]
    managed.change_port("elsewhere", {"vlan": "none"})
    assert await heard(devices, tagged) == [[], [tagged], [tagged], [tagged]]
    managed.change_switch({"vlans": "yes"})
    assert await heard(devices, tagged) == [[], [], [], []]
    assert ports[0].counters.snapshot().drops == {"vlan_refused": 2}


@pytest.mark.parametrize("superframes", [True, False])
async def test_superframes_cross_tagged_and_untagged(superframes):
    said = {"p1": {"vlan": 10}, "p2": {"vlan": 10}, "p3": {"trunk": "10"}, "p4": {"vlan": 20}}
    async with open_switch() as switch:
        FeatureManager(switch, Settings(ports=said))
        devices = [FakeDevice(superframes=superframes) for _ in range(4)]
        for number, device in enumerate(devices, 1):
            switch.attach(device, name=f"p{number}")
        flow = Flow(destination=ALL)
        switch.ingress(switch.ports[0], [superframe(flow, bytes(4000), 1000)])
        totals = switch.statistics().totals
        assert (totals.rx_frames, totals.flood_copies, totals.tx_frames) == (4, 4, 8)
        assert totals.dropped == 0
        assert [len(device.take()) for device in devices] == (
            [0, 1, 1, 0] if superframes else [0, 4, 4, 0]
        )


async def test_explain_names_the_vlan_and_what_is_refused(four):
    switch, ports, _ = four
    FeatureManager(switch, Settings(ports={"p1": {"vlan": 10}, "p2": {"vlan": 10}}))
    decision = switch.explain(ports[0], frame_record(frame(ALL, A)))
    assert decision.egress == (2,)
    assert decision.steps == (
        "VLAN 10",
        "ff:ff:ff:ff:ff:ff in VLAN 10: a group address",
        "port 2: untagged",
    )
    refused = switch.explain(ports[0], frame_record(vlan_tagged(frame(ALL, A), 11)))
    assert (refused.egress, refused.reason) == ((), "vlan_refused")


def test_vlan_settings_of_a_file_are_read_or_refused(tmp_path):
    path = tmp_path / "vswitch.toml"
    path.write_text('[port.a]\nvlan = 10\n[port.b]\ntrunk = "10, 20-30"\nnative = 1\n')
    said = load_settings(path)
    assert said.of_port("a").vlan == 10
    assert (said.of_port("b").trunk, said.of_port("b").native) == ("10,20-30", 1)
    path.write_text("[port.a]\nvlan = 4095\n")
    with pytest.raises(ConfigError, match=r"port\.a\.vlan = 4095: must be a VLAN, 1 to 4094"):
        load_settings(path)
