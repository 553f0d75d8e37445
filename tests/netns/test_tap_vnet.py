"""What the kernel leaves undone on a TAP with offloads, and what it does with what is written."""

import json
import os
import random
import socket
import struct
import subprocess

import attrs
import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import GSO_MAX_SIZE, TapConfig
from vswitch.frames.records import HEADER_SIZE, frame_of, is_superframe
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import USUAL_HEADERS
from vswitch.frames.virtio import FRAME_AT, MAX_SEGMENTS, TCP, stands_for
from vswitch.testing import checksum
from vswitch.testing.superframes import Flow, random_flow, superframe

pytestmark = [pytest.mark.netns, pytest.mark.inside, pytest.mark.usefixtures("quiet")]

CONFIG = TapConfig("vsw0", mac="02:00:5e:00:53:07", address="10.77.0.2/24", offload=True)
MTU = 1500
TIMEOUT = 20  # seconds
USO = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 2)
# linux/if_packet.h, linux/udp.h
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
SOL_UDP, UDP_SEGMENT = 17, 103


def wire():
    """The kernel's side of the TAP, with a virtio-net header in front of each frame."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.bind(("vsw0", 0x0003))
    sock.settimeout(TIMEOUT)
    return sock


async def read(device, wanted, count=1):
    """The next `count` of the records that are wanted."""
    records = []
    with trio.fail_after(TIMEOUT):
        while len(records) < count:
            await device.wait_readable()
            records += filter(wanted, device.read_nowait(64))
    return records


def from_flow(record):
    return frame_of(record)[6:12] == Flow().source


def random_superframe(rng):
    flow = random_flow(rng)
    if not USO:
        flow = attrs.evolve(flow, protocol=TCP)
    largest = MTU - flow.overhead
    if rng.random() < 0.4:
        return superframe(flow, rng.randbytes(rng.randrange(largest + 1)))
    size = rng.randrange(500, largest + 1)
    return superframe(flow, rng.randbytes(rng.randrange(2 * size, 60_000)), size)


async def test_superframes_come_out_of_the_kernel_whole():
    rng = random.Random(1)
    async with open_tap(CONFIG) as device:
        with wire() as sock:
            for _ in range(300):
                record = random_superframe(rng)
                sock.send(record[HEADER_SIZE:])
                assert await read(device, from_flow) == [record]
        assert not device.dropped


async def test_superframes_enter_the_kernel_whole():
    rng = random.Random(2)
    async with open_tap(CONFIG) as device:
        with wire() as sock:
            for _ in range(300):
                # A tag would be taken off the frame before a socket sees it.
                record = random_superframe(rng)
                while record[26:28] not in (b"\x08\x00", b"\x86\xdd"):
                    record = random_superframe(rng)
                assert device.write_nowait([record]) == 1
                got = sock.recv(70_000)
                # hdr_len says how much of it lies together in the receiver's memory.
                assert got[:2] + got[4:] == record[4:6] + record[8:]
        assert not device.dropped


async def test_small_segments_of_this_host_are_cut_before_a_peer_sees_them():
    if not USO:
        pytest.skip("Linux before 6.2 cuts no UDP")
    flow = Flow(protocol=17)
    record = superframe(flow, bytes(range(200)), 20)
    async with open_tap(CONFIG) as device:
        with wire() as sock:
            sock.send(record[HEADER_SIZE:])
            sock.send(superframe(flow, b"after")[HEADER_SIZE:])
            records = await read(device, from_flow, 11)
        assert records[:10] == cut_untrusted(record, MTU, min_gso_size=1)
        assert records[10:] == [superframe(flow, b"after")]


def is_udp(record):
    frame = frame_of(record)
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\x1d\x1a"


async def test_udp_of_this_host():
    async with open_tap(CONFIG) as device:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.sendto(b"hello" * 20, ("10.77.0.255", 7450))
            (record,) = await read(device, is_udp)
            assert record[HEADER_SIZE:FRAME_AT] in USUAL_HEADERS
            (cut,) = cut_untrusted(record, MTU)
            segment = cut[4 + 34 :]
            pseudo = cut[30:38] + len(segment).to_bytes(4, "big") + b"\0\0\0\x11"
            assert checksum(pseudo + segment) == 0
            assert frame_of(cut).endswith(b"hello" * 20)
            if USO:
                size = [(SOL_UDP, UDP_SEGMENT, struct.pack("H", 1000))]
                sock.sendmsg([bytes(4500)], size, 0, ("10.77.0.255", 7450))
                (record,) = await read(device, is_udp)
                assert is_superframe(record)
                assert stands_for(record) == len(cut_untrusted(record, MTU)) == 5


async def test_arp_needs_nothing_and_is_a_frame():
    async with open_tap(CONFIG) as device:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("10.77.0.9", 7450))
            (record,) = await read(device, lambda each: frame_of(each)[12:14] == b"\x08\x06")
        assert not is_superframe(record)


def link_details():
    run = subprocess.run(
        ["ip", "-d", "-j", "link", "show", "vsw0"], capture_output=True, check=True, timeout=TIMEOUT
    )
    return json.loads(run.stdout)[0]


async def test_limits_and_queue_are_set():
    config = attrs.evolve(CONFIG, txqueuelen=50)
    async with open_tap(config):
        link = link_details()
        assert (link["gso_max_size"], link["gso_max_segs"]) == (GSO_MAX_SIZE, MAX_SEGMENTS)
        assert link["txqlen"] == 50
        assert (link["mtu"], "UP" in link["flags"]) == (1500, True)


async def test_an_interface_that_was_made_without_offloads_gets_them():
    netlink.create_tap("vsw0")
    async with open_tap(CONFIG) as device:
        assert device.persistent
        with wire() as sock:
            record = superframe(Flow(), bytes(9000), 1448)
            sock.send(record[HEADER_SIZE:])
            assert await read(device, from_flow) == [record]
    netlink.delete("vsw0")
