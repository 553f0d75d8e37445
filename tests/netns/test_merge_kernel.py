"""Datagrams of real sockets, merged as they leave the kernel, and what a kernel makes of them.

Whatever comes out of the TAP is sent back to where it came from, as if the other host had sent it:
exchanging both addresses and both ports changes no checksum.
"""

import socket
import subprocess
import time
from contextlib import ExitStack, asynccontextmanager

import pytest
import trio

from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.frames.records import frame_of, is_superframe
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import stands_for

pytestmark = [pytest.mark.netns, pytest.mark.inside]

CONFIG = TapConfig("vsw0", mac="02:00:5e:00:53:07", address="10.77.0.2/24", offload=True)
PEER_MAC = "02:00:5e:00:53:08"
PEERS = {4: "10.77.0.3", 6: "fd00:77::3"}
PORTS = (7001, 7002)  # ours, one for each flow
PEER_PORT = 7009
MTU = 1500
TIMEOUT = 20  # seconds
# linux/in.h, linux/in6.h, asm-generic/socket.h
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, SO_NO_CHECK = 10, 0, 11


def ip(*words):
    subprocess.run(["ip", *words], check=True, timeout=TIMEOUT)


@asynccontextmanager
async def tap():
    async with open_tap(CONFIG) as device:
        ip("-6", "addr", "add", "fd00:77::2/64", "dev", "vsw0", "nodad")
        for peer in PEERS.values():
            ip("neigh", "replace", peer, "lladdr", PEER_MAC, "dev", "vsw0")
        yield device


def bound(version, port, *, connected=True):
    family, ours = (
        (socket.AF_INET, "10.77.0.2") if version == 4 else (socket.AF_INET6, "fd00:77::2")
    )
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((ours, port))
    if connected:  # and so counts its ids up, where otherwise all are 0
        sock.connect((PEERS[version], PEER_PORT))
    sock.settimeout(TIMEOUT)
    return sock


def ours(record):
    """Whether this goes to the peer's port: the kernel also says things of its own."""
    frame = frame_of(record)
    at = 56 if frame[12:14] == b"\x86\xdd" else 36
    return frame[at : at + 2] == PEER_PORT.to_bytes(2, "big")


def all_that_waits(device):
    """What the device reads until there is no more."""
    records = []
    while True:
        try:
            records += device.read_nowait(64)
        except trio.WouldBlock:
            return records


def burst(device, messages):
    """What comes out of the TAP when these are sent, each a socket, payload and address.

    Once more where the kernel says something of its own in between, which ends a run.
    """
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        all_that_waits(device)
        for sock, payload, *address in messages:
            sock.sendto(payload, *address) if address else sock.send(payload)
        records = all_that_waits(device)
        if all(map(ours, records)):
            return records
    raise AssertionError("the kernel will not be quiet")


def mirrored(record):
    """The same to its sender."""
    at = 14 if is_superframe(record) else 4
    start = at + 14
    sides = [(at, 6), (start + 12, 4), (start + 20, 2)]
    if record[start - 2 : start] == b"\x86\xdd":
        sides = [(at, 6), (start + 8, 16), (start + 40, 2)]
    for first, size in sides:
        one, other = record[first : first + size], record[first + size : first + 2 * size]
        record = record[:first] + other + one + record[first + 2 * size :]
    return record


def numbered(sizes):
    """A payload of each size; those that have room for it say which they are."""
    return [(number.to_bytes(2, "big") * 750)[:size] for number, size in enumerate(sizes)]


CASES = {
    "equal": ([64] * 300, [128, 128, 44]),
    "large": ([1400] * 100, [44, 44, 12]),
    "the MTU": ([1452] * 30, [30]),
    "a shorter end": ([1000] * 9 + [3], [10]),
    "shorter ends": ([700, 700, 50] * 20, [3] * 20),
    "sizes that alternate": ([100, 1200] * 10, [1, *[2] * 9, 1]),
    "growing": (list(range(100, 140)), [1] * 40),
    "shrinking": (list(range(140, 100, -1)), [2] * 20),
    "empty": ([0] * 20, [1] * 20),
    "an empty end": ([100, 100, 0, 100, 100], [2, 1, 2]),
    "63 bytes": ([63] * 20, [1] * 20),
    "64 bytes": ([64] * 20, [20]),
    "64 and 63 bytes": ([64, 64, 63, 63], [3, 1]),
    "one": ([500], [1]),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", CASES)
async def test_a_kernel_delivers_what_was_sent(version, name):
    sizes, groups = CASES[name]
    payloads = numbered(sizes)
    async with tap() as device:
        with bound(version, PORTS[0]) as sock:
            records = burst(device, [(sock, payload) for payload in payloads])
            assert [stands_for(record) for record in records] == groups
            assert device.write_nowait([mirrored(record) for record in records]) == len(records)
            assert [sock.recv(2000) for _ in payloads] == payloads
        assert not device.dropped


@pytest.mark.parametrize("version", [4, 6])
async def test_datagrams_of_two_flows_are_merged_apart(version):
    payloads = numbered([200] * 40)
    async with tap() as device:
        with ExitStack() as stack:
            socks = [stack.enter_context(bound(version, port)) for port in PORTS]
            # In turn, then five of each.
            turns = [*[0, 1] * 10, *([0] * 5 + [1] * 5) * 2]
            messages = [(socks[turn], each) for turn, each in zip(turns, payloads, strict=True)]
            records = burst(device, messages)
            assert [stands_for(record) for record in records] == [1] * 20 + [5] * 4
            device.write_nowait([mirrored(record) for record in records])
            got = [[sock.recv(2000) for _ in range(20)] for sock in socks]
        assert got == [
            payloads[0:20:2] + payloads[20:25] + payloads[30:35],
            payloads[1:20:2] + payloads[25:30] + payloads[35:40],
        ]


@pytest.mark.parametrize("version", [4, 6])
async def test_a_socket_that_is_not_connected(version):
    payloads = numbered([200] * 40)
    async with tap() as device:
        with bound(version, PORTS[0], connected=False) as sock:
            peer = (PEERS[version], PEER_PORT)
            (record,) = burst(device, [(sock, payload, peer) for payload in payloads])
            assert stands_for(record) == 40
            device.write_nowait([mirrored(record)])
            assert [sock.recv(2000) for _ in payloads] == payloads


@pytest.mark.parametrize(
    ("level", "option", "value"),
    [(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT), (socket.SOL_SOCKET, SO_NO_CHECK, 1)],
    ids=["may be fragmented", "without checksums"],
)
async def test_datagrams_with_special_options_are_not_merged(level, option, value):
    payloads = numbered([200] * 10)
    async with tap() as device:
        with bound(4, PORTS[0]) as sock:
            sock.setsockopt(level, option, value)
            records = burst(device, [(sock, payload) for payload in payloads])
            assert len(records) == 10
            assert device.write_nowait([mirrored(record) for record in records]) == 10
            assert [sock.recv(2000) for _ in payloads] == payloads


@pytest.mark.parametrize("version", [4, 6])
async def test_merged_datagrams_cut_again_are_what_the_kernel_would_have_sent_alone(version):
    """The frames of merged datagrams, against those of the same ones read one at a time."""
    sizes = [300] * 20 + [299, 1, *[1400] * 3, 64, 64]
    async with tap() as device:
        with bound(version, PORTS[0]) as sock:
            messages = [(sock, payload) for payload in numbered(sizes)]
            merged = burst(device, messages)
            alone = [record for each in messages for record in burst(device, [each])]
    assert len(alone) == len(sizes) > 5 > len(merged)
    assert frames_of(merged) == frames_of(alone)


def frames_of(records):
    """What a cutter makes of them, but for the IPv4 id and the checksum over it."""
    frames = [frame for record in records for frame in cut_untrusted(record, MTU)]
    if frames[0][16:18] == b"\x86\xdd":
        return frames
    return [each[:22] + bytes(2) + each[24:28] + bytes(2) + each[30:] for each in frames]
