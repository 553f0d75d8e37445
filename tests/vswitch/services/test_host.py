"""The LAN host on a LAN in memory: the same conduct on a port of its own and beside a kernel."""

from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface

import pytest
import trio

from vswitch.errors import VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import Settings
from vswitch.frames import build
from vswitch.frames.headers import IPV4
from vswitch.frames.records import frame_of, frame_record
from vswitch.frames.virtio import UDP
from vswitch.registry.rules import SERVICES_PORT
from vswitch.services.host import (
    INBOX,
    HostBeside,
    open_host,
    open_host_beside,
    station_of,
)
from vswitch.services.station import HostDrop, Station
from vswitch.switch.switch import open_switch
from vswitch.testing import DevicePair, FakeDevice, check_device
from vswitch.testing.superframes import Flow, superframe

MAC, PC1 = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x11"
HOST, ONE = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
INTERFACE = IPv4Interface("10.77.0.1/24")


def udp(payload, *, source=ONE, target=HOST, to_mac=MAC, mac=PC1, ports=(4000, 53)):
    ends = source, target
    packet = build.ip(*ends, UDP, build.upper(UDP, *ports, payload, ends))
    return build.ethernet(to_mac, mac, IPV4, packet)


@asynccontextmanager
async def alone(switch):
    async with open_host(switch, station_of(switch, MAC, INTERFACE)) as host:
        yield host


@asynccontextmanager
async def beside(switch):
    kernel = FakeDevice("vsw0", superframes=True)
    host = HostBeside(kernel, station_of(switch, MAC, INTERFACE, answers=False))
    port = switch.attach(host, name="local")
    async with open_host_beside(switch, host, port):
        yield host


both = pytest.mark.parametrize("kind", [alone, beside])


@both
async def test_a_service_hears_and_answers(kind):
    async with open_switch() as switch, kind(switch) as host, switch.open_port("pc1") as pc1:
        with host.open_udp(53) as inbox, trio.fail_after(5):
            await pc1.send(udp(b"question"))
            datagram = await inbox.receive()
            assert (datagram.payload, datagram.port, datagram.mac) == (b"question", "pc1", PC1)
            host.reply(datagram, b"answer")
            answer = udp(b"answer", source=HOST, target=ONE, to_mac=PC1, mac=MAC, ports=(53, 4000))
            assert await pc1.receive_frame() == answer
            host.send(IPv4Address("255.255.255.255"), 68, 67, b"all")
            assert (await pc1.receive_frame()).endswith(b"all")
            host.send_frame(build.ethernet(PC1, MAC, 0x88B5, b"raw"))
            assert (await pc1.receive_frame()).endswith(b"raw")
            with pytest.raises(VswitchError, match="another service"), host.open_udp(53):
                pass
        with host.open_udp(53):
            pass


@both
async def test_a_probe_finds_who_has_an_address(kind, autojump_clock):
    async with open_switch() as switch, kind(switch) as host, switch.open_port("pc1") as pc1:
        assert await host.probe(ONE) is None
        assert (await pc1.receive())[0] == build.arp_request(MAC, "10.77.0.1", "10.77.0.2")
        async with trio.open_nursery() as nursery:

            async def answer():
                await pc1.receive()
                await pc1.send(build.arp_reply(PC1, "10.77.0.2", MAC, "10.77.0.1"))

            nursery.start_soon(answer)
            assert await host.probe(ONE, 5) == PC1


@both
async def test_a_service_that_is_slow_loses_what_comes_and_it_is_counted(kind):
    async with open_switch() as switch, kind(switch) as host, switch.open_port("pc1") as pc1:
        with host.open_udp(53) as inbox:
            await pc1.send_batch([udp(b"%d" % n) for n in range(INBOX + 3)])
            with trio.fail_after(5):
                while not host.station.drops:
                    await trio.lowlevel.checkpoint()
            got = [inbox.receive_nowait().payload for _ in range(INBOX)]
            assert got == [b"%d" % n for n in range(INBOX)]
            assert host.station.drops[HostDrop.HOST_BUSY] == 3
            assert host.describe().dropped["host_busy"] == 3


async def test_guards_keep_its_mac_and_address():
    async with open_switch() as switch, trio.open_nursery() as nursery:
        managed = FeatureManager(switch, Settings())
        managed.change_switch({"guard": True})
        async with alone(switch), switch.open_port("pc1") as pc1:
            await pc1.send(udp(b"x"))  # its own MAC is known now
            await pc1.send(build.arp_reply(PC1, "10.77.0.1", b"\xff" * 6, "10.77.0.1"))
            with trio.fail_after(5):
                port = next(each for each in switch.ports if each.name == "pc1")
                while not port.counters.drops.get("arp_check"):
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_the_port_goes_with_the_host():
    async with open_switch() as switch:
        async with alone(switch):
            assert [port.name for port in switch.ports] == [SERVICES_PORT]
        assert switch.ports == ()


async def test_beside_a_kernel_all_but_the_open_ports_is_the_kernels():
    async with open_switch() as switch, beside(switch) as host, switch.open_port("pc1") as pc1:
        kernel = host._device
        with host.open_udp(53) as inbox:
            others = [
                udp(b"other", ports=(4000, 54)),
                build.arp_request(PC1, "10.77.0.2", "10.77.0.1"),
                build.icmp_echo(PC1, "10.77.0.2", MAC, "10.77.0.1"),
            ]
            await pc1.send_batch([others[0], udp(b"ours"), *others[1:]])
            with trio.fail_after(5):
                assert (await inbox.receive()).payload == b"ours"
                while len(kernel.written) < 3:
                    await trio.lowlevel.checkpoint()
            assert [frame_of(record) for record in kernel.written] == others


async def test_beside_a_kernel_a_superframe_of_datagrams_is_cut():
    ends = ONE.packed + HOST.packed
    flow = Flow(
        protocol=UDP, source=PC1, destination=MAC, addresses=ends, ports=(4000, 53), tcp_options=b""
    )
    async with open_switch() as switch, beside(switch) as host:
        device = FakeDevice("pc1", superframes=True)
        switch.attach(device, name="pc1")
        with host.open_udp(53) as inbox, trio.fail_after(5):
            device.feed_records([superframe(flow, bytes(1000), 500)])
            assert [(await inbox.receive()).payload for _ in range(2)] == [bytes(500)] * 2
        assert host._device.written == []


def test_a_kernel_that_is_full_keeps_the_order():
    kernel = FakeDevice("vsw0", capacity=1)
    host = HostBeside(kernel, Station(MAC, INTERFACE, answers=False), clock=lambda: 0.0)
    with host.open_udp(53) as inbox:
        records = [
            frame_record(each)
            for each in (udp(b"a"), udp(b"k1", ports=(1, 9)), udp(b"k2", ports=(1, 9)), udp(b"b"))
        ]
        assert host.write_nowait(records) == 2
        assert inbox.receive_nowait().payload == b"a"
        with pytest.raises(trio.WouldBlock):
            inbox.receive_nowait()
        kernel.take()
        assert host.write_nowait(records[2:]) == 2
        assert inbox.receive_nowait().payload == b"b"
        assert kernel.take() == [udp(b"k2", ports=(1, 9))]


async def test_beside_a_kernel_it_is_a_device_like_the_one_behind_it():
    @asynccontextmanager
    async def make_pair():
        device = FakeDevice("vsw0", superframes=True, capacity=64)
        station = station_of(None, MAC, INTERFACE, answers=False)
        yield DevicePair(HostBeside(device, station), _Peer(device))

    await check_device(make_pair)


class _Peer:
    def __init__(self, device):
        self._device = device

    async def put(self, frames):
        self._device.feed(*frames)

    async def get(self):
        while not self._device.written:
            await trio.lowlevel.checkpoint()
        return self._device.take()

    def close(self):
        self._device.fail(trio.BrokenResourceError("gone"))
