# Invariant: whatever comes in on a port, with VLANs, snooping and rules for addresses, nothing is
# raised, every frame is accounted for, and an access port hears nothing that has a tag.

import random

import trio

from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings, SwitchSettings
from vswitch.frames.ethernet import VLAN_TAGS
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, arp_request, icmp_echo, vlan_tagged
from vswitch.testing.groups import igmp, igmp3_report, mld, mld2_report, multicast_data
from vswitch.testing.superframes import random_flow, superframe

BATCHES = 4000
MACS = [bytes([2, 0, 0, 0, 0, number]) for number in range(6)]


def any_record(rng):
    source, target = rng.choice(MACS), rng.choice(MACS)
    group4, group6 = f"239.1.2.{rng.randrange(4)}", f"ff15::{rng.randrange(1, 4)}"
    kind = rng.randrange(8)
    if kind == 0:
        record = superframe(random_flow(rng), bytes(rng.randrange(3000)), rng.choice((0, 100, 500)))
        return damaged(rng, record, 4) if rng.random() < 0.3 else record
    frame = (
        arp_request(source, "10.0.0.1", "10.0.0.2"),
        icmp_echo(source, "10.0.0.1", target, "10.0.0.2"),
        igmp(source, rng.choice((0x11, 0x12, 0x16, 0x17)), group4),
        igmp3_report(source, [(rng.randint(1, 6), group4, [])]),
        mld(source, rng.choice((130, 131, 132)), group6),
        mld2_report(source, [(rng.randint(1, 6), group6, [])]),
        multicast_data(source, rng.choice((group4, group6))),
    )[kind - 1]
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        tpid = rng.choice((0x8100, 0x8100, 0x88A8))
        frame = vlan_tagged(frame, rng.choice((0, 10, 20, 4095)), priority=5, tpid=tpid)
    if rng.random() < 0.3:
        frame = damaged(rng, frame, 0)
    if rng.random() < 0.2:
        return encode_record(SUPERFRAME, bytes(10) + frame)
    return frame_record(frame)


def damaged(rng, data, keep):
    data = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if len(data) > keep:
            data[rng.randrange(keep, len(data))] = rng.choice((0, 1, 0x81, 255, rng.randrange(256)))
    if keep == 0:
        del data[rng.choice((len(data), rng.randrange(len(data) + 1))) :]
    return bytes(data)


async def fuzz(seed):
    rng = random.Random(seed)
    said = {
        "p1": {"vlan": 10, "mac_limit": 3},
        "p2": {"vlan": 20, "sticky": True},
        "p3": {"trunk": "10,20", "native": 10},
        "p4": {"trunk": "all"},
        "p5": {"vlan": 10},
    }
    on = SwitchSettings(multicast_snooping=True)
    async with open_switch() as switch:
        managed = FeatureManager(switch, Settings(switch=on, ports=said))
        devices = [FakeDevice(superframes=bool(number % 2)) for number in range(5)]
        ports = [switch.attach(device, name=f"p{n}") for n, device in enumerate(devices, 1)]
        for number in range(BATCHES):
            records = [any_record(rng) for _ in range(rng.randint(1, 4))]
            port = rng.choice(ports)
            for record in records:
                switch.explain(port, record)
            switch.ingress(port, records)
            if number % 50 == 0:
                for feature in managed.features:
                    feature.tick(number / 10)
            for place, device in enumerate(devices):
                for frame in device.take():
                    assert place not in (0, 1, 4) or frame[12:14] not in VLAN_TAGS
        totals = switch.statistics().totals
        assert totals.rx_frames + totals.flood_copies == totals.tx_frames + totals.dropped
        assert totals.tx_frames > BATCHES


def test_features_account_for_every_frame_whatever_comes_in():
    trio.run(fuzz, 8021)
