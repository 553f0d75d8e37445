"""The cutter and the checks against Linux itself: a TAP with offloads, bridged to one without.

What is written as a superframe to the first has to be cut by the kernel for the second. It does
so byte for byte as `cut_untrusted` does: nothing is left out of the comparison.
"""

import os
import random
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.frames.records import HEADER_SIZE, frame_of
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import check_superframe_untrusted
from vswitch.frames.virtio import FRAME_AT, TCP, UDP, VIRTIO_HEADER
from vswitch.testing.superframes import Flow, random_flow, superframe

pytestmark = [pytest.mark.netns, pytest.mark.inside, pytest.mark.usefixtures("quiet")]

TIMEOUT = 60  # seconds
MTU = 1500  # bytes
USO = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 2)


@asynccontextmanager
async def bridged():
    """A TAP with offloads, and the one without where what is written there comes out."""
    async with AsyncExitStack() as stack:
        await trio.to_thread.run_sync(netlink.create_bridge, "br0")
        taps = []
        for name in ("in0", "out0"):
            config = TapConfig(name, offload=name == "in0")
            taps.append(await stack.enter_async_context(open_tap(config)))
            netlink.configure(name, master="br0")
        try:
            yield taps
        finally:
            netlink.delete("br0")


async def what_comes_out(device, count):
    """The next `count` of our records; whatever follows them at once is there too."""
    records = []
    with trio.fail_after(TIMEOUT):
        while len(records) < count:
            await device.wait_readable()
            try:
                records += ours(device.read_nowait(256))
            except trio.WouldBlock:
                pass
    return records + whatever_is_there(device)


def ours(records):
    """Without the bridge's own IGMP."""
    return [record for record in records if record[10:16] == Flow().source]


def whatever_is_there(device):
    """The kernel's path from TAP to TAP is done when the write returns, so nothing comes later."""
    try:
        return ours(device.read_nowait(1000))
    except trio.WouldBlock:
        return []


def random_superframe(rng):
    flow = random_flow(rng)
    if not USO:
        flow = attrs.evolve(flow, protocol=TCP)
    largest = MTU - flow.overhead
    kind = rng.random()
    if kind < 0.3:
        return superframe(flow, rng.randbytes(rng.randrange(largest + 1)))
    size = rng.choice((largest, largest, rng.randrange(64, largest + 1)))
    # Linux looks for more than one segment before it knows how long the TCP header is, and drops
    # what is none after all: from two full segments on there is no doubt.
    most = min(64_000, 128 * size)
    length = rng.choice((2 * size, 2 * size + 1, most, rng.randrange(2 * size, most + 1)))
    ecn = flow.protocol == TCP and rng.random() < 0.2
    return superframe(flow, rng.randbytes(length), size, ecn=ecn)


async def test_the_cutter_cuts_as_the_kernel_does():
    rng = random.Random(1)
    segments = 0
    async with bridged() as (inside, outside):
        for number in range(1500):
            record = random_superframe(rng)
            expected = cut_untrusted(record, MTU)
            assert inside.write_nowait([record]) == 1
            got = await what_comes_out(outside, len(expected))
            assert got == expected, f"{number}: {record[:100].hex()}"
            segments += len(got)
        assert not inside.dropped
    assert segments > 20_000


def with_last_word(record, wanted):
    """The superframe with its last two bytes such that a checksum of its last frame is `wanted`."""
    for last in range(0x10000):
        changed = record[:-2] + last.to_bytes(2, "big")
        frame = frame_of(cut_untrusted(changed, MTU)[-1])
        if frame[50:52] == wanted or (frame[23] == UDP and frame[40:42] == wanted):
            return changed
    raise AssertionError("no such payload")


@pytest.mark.parametrize(
    ("protocol", "gso_size", "checksum"),
    # UDP never sends 0. TCP may: one segment of many keeps it, a frame by itself does not.
    [(UDP, 0, "ffff"), (UDP, 100, "ffff"), (TCP, 0, "ffff"), (TCP, 100, "0000")],
)
async def test_checksums_that_are_zero(protocol, gso_size, checksum):
    if protocol == UDP and gso_size and not USO:
        pytest.skip("Linux before 6.2 cuts no UDP")
    payload = bytes(range(200)) if gso_size else bytes(range(100))
    record = superframe(Flow(protocol=protocol), payload, gso_size)
    record = with_last_word(record, bytes.fromhex(checksum))
    expected = cut_untrusted(record, MTU)
    async with bridged() as (inside, outside):
        inside.write_nowait([record])
        assert await what_comes_out(outside, len(expected)) == expected


@pytest.mark.parametrize("tags", [(), (5,), (7, 5)])
async def test_what_fits_one_segment_passes_as_one_frame(tags):
    record = superframe(Flow(tags=tags, ident=3), bytes(range(100)), 100)
    async with bridged() as (inside, outside):
        inside.write_nowait([record])
        assert await what_comes_out(outside, 1) == cut_untrusted(record, MTU)


TCP4 = superframe(Flow(), bytes(9000), 1448)
UDP4 = superframe(Flow(protocol=UDP), bytes(9000), 1400)
TAGGED = superframe(Flow(tags=(5,)), bytes(9000), 1448)
PLAIN = superframe(Flow(), bytes(1000))


def changed(record, **fields):
    """The record with other values in its virtio-net header."""
    names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
    values = dict(zip(names, VIRTIO_HEADER.unpack_from(record, HEADER_SIZE), strict=True))
    header = VIRTIO_HEADER.pack(*(values | fields).values())
    return record[:HEADER_SIZE] + header + record[FRAME_AT:]


# What Linux takes from a TAP without an error, and makes wrong frames of, too many, or too long.
HARMFUL = [
    changed(PLAIN, flags=2),  # a checksum that nobody looks at
    changed(PLAIN, csum_start=1000),  # rewrites two bytes of the payload
    changed(TCP4, gso_size=1),  # 8,960 frames
    changed(TCP4, gso_size=8),
    changed(TCP4, gso_size=4000),  # above the MTU
    changed(UDP4, gso_type=3),  # UFO: wrong checksums
    changed(TAGGED, csum_start=34),
    changed(TCP4, gso_type=0, gso_size=0),  # 9,000 bytes uncut
    TCP4[:14] + TCP4[14:30] + bytes(2) + TCP4[32:] + bytes(57_000),  # 66 kB, IP length 0
    TCP4[:14] + TCP4[14:30] + bytes(2) + TCP4[32:] + bytes(141_000),
    superframe(Flow(), bytes(129 * 70), 70),
]


async def test_harmful_superframes_end_before_the_kernel():
    async with bridged() as (inside, outside):
        assert inside.write_nowait(HARMFUL) == len(HARMFUL)
        assert inside.dropped == {"bad_offload": len(HARMFUL)}
        assert whatever_is_there(outside) == []
        assert inside.write_nowait([PLAIN]) == 1
        assert await what_comes_out(outside, 1) == cut_untrusted(PLAIN, MTU)


async def test_hints_are_put_right():
    for hint in (0, 34, 5000, len(TCP4)):
        record = changed(TCP4, hdr_len=hint)
        assert check_superframe_untrusted(record, MTU) == TCP4[4:14]
        async with bridged() as (inside, outside):
            assert inside.write_nowait([record]) == 1
            assert await what_comes_out(outside, 7) == cut_untrusted(TCP4, MTU)
            assert not inside.dropped
