"""Which records are DHCP or router advertisements, in whatever they are wrapped."""

import random
import struct
from collections import Counter

import pytest
import trio

from vswitch.devices.home_filter import HomeFilter
from vswitch.frames.headers import autoconfiguration_untrusted
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.virtio import NO_OFFLOAD
from vswitch.testing import FakeInterface, arp_request, ethernet, vlan_tagged

A, B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def udp4(source, target, *, options=b"", fragment=0, protocol=17):
    size = 20 + len(options)
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | size // 4,
        0,
        size + 16,
        1,
        fragment,
        64,
        protocol,
        0,
        bytes(4),
        b"\xff" * 4,
    )
    return ethernet(
        B, A, 0x0800, head + options + struct.pack(">HHHH", source, target, 16, 0) + bytes(8)
    )


def udp6(source, target, *, options=b""):
    following = 60 if options else 17
    head = struct.pack(">IHBB", 6 << 28, 16 + len(options), following, 1) + bytes(32) + options
    return ethernet(B, A, 0x86DD, head + struct.pack(">HHHH", source, target, 16, 0) + bytes(8))


DHCP = [
    udp4(68, 67),
    udp4(67, 68),
    udp4(67, 67),
    udp4(68, 67, options=bytes(4)),
    udp4(68, 67, fragment=0x2000),
    udp6(546, 547),
    udp6(547, 546),
    udp6(546, 547, options=b"\x11" + bytes(7)),  # as a host reads it
    vlan_tagged(udp4(68, 67), 7),
    vlan_tagged(vlan_tagged(udp6(546, 547), 7), 8, tpid=0x88A8),
]


def icmp6(kind, *, options=b""):
    following = 0 if options else 58
    head = struct.pack(">IHBB", 6 << 28, 16 + len(options), following, 255) + bytes(32)
    return ethernet(B, A, 0x86DD, head + options + bytes((kind,)) + bytes(15))


RA = [
    icmp6(134),
    icmp6(134, options=b"\x3a" + bytes(7)),  # behind hop-by-hop options
    vlan_tagged(icmp6(134), 7),
]
OTHER = [
    icmp6(133),  # a host that asks: who is there to answer is at home
    icmp6(135),
    icmp6(128),
    udp4(68, 53),
    udp4(40000, 9),  # Wake-on-LAN
    ethernet(b"\xff" * 6, A, 0x0842, b"\xff" * 6 + B * 16),
    udp4(68, 67, protocol=6),
    udp4(68, 67, fragment=0x0001),
    udp6(5353, 5353),
    udp6(67, 68),
    udp4(546, 547),
    arp_request("02:00:00:00:00:01", "10.0.0.1", "10.0.0.2"),
]


def wrapped(frame):
    return [frame_record(frame), encode_record(SUPERFRAME, NO_OFFLOAD + frame)]


@pytest.mark.parametrize("frame", DHCP, ids=range(len(DHCP)))
def test_dhcp(frame):
    assert [autoconfiguration_untrusted(record) for record in wrapped(frame)] == ["dhcp", "dhcp"]


@pytest.mark.parametrize("frame", RA, ids=range(len(RA)))
def test_router_advertisements(frame):
    assert [autoconfiguration_untrusted(record) for record in wrapped(frame)] == ["ra", "ra"]


@pytest.mark.parametrize("frame", OTHER, ids=range(len(OTHER)))
def test_everything_else(frame):
    assert [autoconfiguration_untrusted(record) for record in wrapped(frame)] == ["", ""]


def test_whatever_the_bytes():
    chance = random.Random(1)
    for frame in [*DHCP, *RA, *OTHER]:
        for record in wrapped(frame):
            for end in range(4, len(record)):
                autoconfiguration_untrusted(record[:end])
            for _ in range(200):
                data = bytearray(record)
                data[chance.randrange(4, len(data))] = chance.randrange(256)
                autoconfiguration_untrusted(bytes(data))


async def test_the_guard_drops_both_ways_and_counts():
    interface = FakeInterface(capacity=3)
    guard = HomeFilter(interface, frozenset(("dhcp", "ra")))
    interface.feed(DHCP[0], OTHER[0], DHCP[1], OTHER[1])
    assert guard.read_nowait(64) == [frame_record(OTHER[0]), frame_record(OTHER[1])]
    interface.feed(DHCP[0])
    with pytest.raises(trio.WouldBlock):
        guard.read_nowait(64)
    assert guard.dropped == Counter(dhcp=3)
    batch = [frame_record(each) for each in (OTHER[0], DHCP[0], *OTHER[1:4], DHCP[1], OTHER[4])]
    assert guard.write_nowait(batch) == 4  # three of four, and the one between
    assert guard.dropped == Counter(dhcp=4)
    assert interface.take() == OTHER[:3]
    assert guard.write_nowait(batch[4:]) == 3
    assert interface.take() == OTHER[3:5]
    assert guard.dropped == Counter(dhcp=5)
    assert guard.write_nowait([]) == 0


def test_what_may_pass_does():
    interface = FakeInterface()
    for stays, passes in (("dhcp", RA[0]), ("ra", DHCP[0])):
        guard = HomeFilter(interface, frozenset((stays,)))
        interface.feed(DHCP[0], RA[0])
        assert guard.read_nowait(64) == [frame_record(passes)]
    assert guard.dropped == Counter(dhcp=1, ra=1)
