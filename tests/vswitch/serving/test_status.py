"""The status of a switch, byte for byte as the control socket gives it."""

import json
import os
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from transport.stats import SessionStatistics
from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.devices.home_filter import HomeFilter
from vswitch.devices.tap import TapDevice
from vswitch.features.impair import Impairments, orders_untrusted
from vswitch.features.manager import FeatureManager
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.serve import Listener
from vswitch.foreign.streams import StreamDevice
from vswitch.management.status import to_json
from vswitch.members.device import MemberDevice
from vswitch.registry.rules import LastServed, Member
from vswitch.serving.connected_member import ConnectedMember
from vswitch.serving.status import ServeStatus, Underlay
from vswitch.switch.counters import DropReason
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, fake_channel_pair

GOLDEN = Path(__file__).with_name("status.json")


@pytest.fixture
def ends():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    shared = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for each in (*pair, shared):
        each.setblocking(False)
    with pair[0], pair[1], shared:
        yield pair[0], pair[1], shared


def tap(end, **given):
    return TapDevice(
        mac="02:00:00:00:00:01", mtu=1500, persistent=False, fd=os.dup(end.fileno()), **given
    )


def statistics():
    return SessionStatistics(
        **dict.fromkeys(("sent_datagrams", "sent_bytes", "received_datagrams"), 1),
        **dict.fromkeys(("received_bytes", "in_flight", "window", "rekeys", "path_changes"), 1),
        **dict.fromkeys(("age", "idle"), 1.0),
        suite="test",
        rtt=0.0125,
        datagram_size=1412,
        drops={"replay": 3},
        datagram_sent=10,
        datagram_received=11,
        datagram_lost=2,
    )


async def test_json_of_every_kind_of_port_is_as_recorded(ends, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    monkeypatch.setattr("vswitch.clocks.boot_time", lambda: 1000.0)
    monkeypatch.setattr("vswitch.serving.status.VERSION", "1")
    stream, other, shared = ends
    async with open_switch() as switch:
        datagrams = DatagramDevice(SharedSocket(shared, 1500), ("192.0.2.1", 7), "udp:192.0.2.1:7")
        datagrams.dropped.update(inbox_full=2, never=0)
        streams = StreamDevice(stream, "qemu-1", None, 1500, Counter(too_long=1))
        channel, _ = fake_channel_pair()
        member = MemberDevice(channel, name="pc1")
        member.use_lane("auto")
        member._datagrams.dropped["too_long"] += 4
        inner = tap(other, name="tap1", dropped=Counter(dhcp=6))
        guarded = HomeFilter(inner, frozenset(("dhcp",)))
        devices = {
            "fake": FakeDevice(),
            "tap": tap(other, name="tap0", dropped=Counter(oversize=5)),
            "local": guarded,
            "udp": datagrams,
            "qemu": streams,
            "pc1": member,
        }
        ports = {name: switch.attach(device, name=name) for name, device in devices.items()}
        ports["fake"].blocked = "loop"
        ports["udp"].counters.drop(DropReason.RUNT, 7)
        about = Member("pc1", bytes(32), None, 1.0, None, None)
        seen = SimpleNamespace(remote="203.0.113.9:41022", path_kind="udp", statistics=statistics)
        asked = []
        seen.measure = lambda: asked.append(1)
        connected = ConnectedMember(about, "10.0.0.2/24", seen, member, ports["pc1"], 900.0)
        async with switch.open_port("bot"):
            managed = FeatureManager(switch)
            managed.change_port("fake", {"isolated": "yes", "vlan": "10"})
            impairments = managed.feature(Impairments)
            impairments.begin(ports["fake"], orders_untrusted({"loss": "1%"}))
            status = ServeStatus(
                "default",
                LastServed(
                    (HostPort("::", 7450), HostPort("192.0.2.1", 443)),
                    (HostPort("switch.example.org", 0),),
                    ServeConfig().subnet,
                ),
                Underlay(
                    SimpleNamespace(statistics=lambda: SimpleNamespace(drops={"unknown": 1})),
                    subject=None,
                ),
                switch,
                SimpleNamespace(connected={bytes(32): connected}),
                SimpleNamespace(count=lambda: 1),
                managed,
                1000.0,
            )
            status.listeners = [Listener("udp", "udp-1", "0.0.0.0:9", Counter(full=8))]
            said = json.dumps(to_json(await status.read()), indent=1) + "\n"
            async with trio.open_nursery() as nursery:
                for _ in range(9):
                    nursery.start_soon(status.read)
            assert len(asked) == 1  # many who look ask the member no more than one does
            monkeypatch.setattr("vswitch.serving.status.FRESH", 0.0)
            await status.read()
            assert len(asked) == 2
        assert said == GOLDEN.read_text()
