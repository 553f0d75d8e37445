"""The cutter and the checks against Linux itself: a TAP with offloads, bridged to one without.

What is written as a superframe to the first has to be cut by the kernel for the second. It does
so byte for byte as `cut_untrusted` does; nothing is left out of the comparison, and no packet is
sent by the hosts themselves, as IPv6 is off. What the check refuses, the kernel is given raw, to
show which of it would have done harm.
"""

import os
import random
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from vswitch.core.records import HEADER_SIZE, SUPERFRAME, encode_record, frame_of
from vswitch.core.segment import cut_untrusted
from vswitch.core.superframes import check_superframe_untrusted
from vswitch.core.virtio import TCP, UDP, VIRTIO_HEADER
from vswitch.errors import BadRecord
from vswitch.ports import netlink
from vswitch.ports.tap import TapConfig, open_tap
from vswitch.testing.superframes import Flow, random_flow, superframe

pytestmark = [pytest.mark.netns, pytest.mark.inside]

INSIDE = "VSWITCH_TEST_INSIDE"  # set where the tests really run
TIMEOUT = 60  # seconds
MTU = 1500  # bytes


@pytest.fixture(autouse=True)
def quiet():
    """No IPv6 on new interfaces, so that the kernel sends nothing by itself."""
    if INSIDE not in os.environ:
        yield
        return
    switch = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    switch.write_text("1")
    yield
    switch.write_text("0")


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
    """The next `count` records; whatever follows them at once is there too."""
    records = []
    with trio.fail_after(TIMEOUT):
        while len(records) < count:
            await device.wait_readable()
            try:
                records += device.read_nowait(256)
            except trio.WouldBlock:
                pass
    return records + whatever_is_there(device)


def whatever_is_there(device):
    """The kernel's path from TAP to TAP is done when the write returns, so nothing comes later."""
    try:
        return device.read_nowait(1000)
    except trio.WouldBlock:
        return []


def random_superframe(rng):
    flow = random_flow(rng)
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
TCP6 = superframe(Flow(version=6), bytes(9000), 1428)
UDP4 = superframe(Flow(protocol=UDP), bytes(9000), 1400)
PLAIN = superframe(Flow(), bytes(1000))
TAGGED = superframe(Flow(tags=(5,)), bytes(9000), 1448)
ARP = bytes.fromhex("02005e00530202005e0053010806") + bytes(2000)


def changed(record, **fields):
    """The record with other values in its virtio-net header."""
    names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")
    values = dict(zip(names, VIRTIO_HEADER.unpack_from(record, HEADER_SIZE), strict=True))
    header = VIRTIO_HEADER.pack(*(values | fields).values())
    return record[:HEADER_SIZE] + header + record[HEADER_SIZE + 10 :]


def raw(header, frame):
    """A record of any length, which a real one could not have."""
    body = VIRTIO_HEADER.pack(*header) + frame
    return encode_record(SUPERFRAME, b"") + body


def with_frame_bytes(record, at, new):
    """The record with other bytes from `at` in its frame."""
    at += HEADER_SIZE + 10
    return record[:at] + new + record[at + len(new) :]


# The lines of what Linux does with headers that are wrong; "taken" is what no error told.
HOSTILE = {
    "checksum said to be valid": (changed(PLAIN, flags=2), "taken"),
    "unknown flags": (changed(PLAIN, flags=0xFF), "taken"),
    "9,000 bytes uncut": (changed(PLAIN, gso_type=0)[:14] + bytes(12) + b"\x88\xb5" + bytes(9000),
                          "taken"),
    "65,549 bytes uncut": (raw((0, 0, 0, 0, 0, 0), TCP4[14:28] + bytes(65_535)), "taken"),
    "UFO": (changed(UDP4, gso_type=3), "taken"),
    "UFO with ECN": (changed(UDP4, gso_type=0x83), "taken"),
    **{
        f"gso_type {kind:#x}": (changed(TCP4, gso_type=kind), "EINVAL")
        for kind in (2, 6, 7, 8, 0x10, 0x21, 0x25, 0x40, 0x41, 0x80, 0x85)
    },
    "gso_size 0": (changed(TCP4, gso_size=0), "EINVAL"),
    "gso_size 1": (changed(TCP4, gso_size=1), "taken"),
    "gso_size 8": (changed(TCP4, gso_size=8), "taken"),
    "gso_size above the MTU": (changed(TCP4, gso_size=4000), "taken"),
    "gso_size 65535": (changed(TCP4, gso_size=65535), "EINVAL"),
    "129 segments of UDP": (superframe(Flow(protocol=UDP), bytes(129 * 70), 70), "EINVAL"),
    "129 segments of TCP": (superframe(Flow(), bytes(129 * 70), 70), "taken"),
    "UDP without a checksum to do": (changed(UDP4, flags=0), "EINVAL"),
    "TCP without a checksum to do": (changed(TCP4, flags=0), "taken"),
    "UDP type on TCP": (changed(TCP4, gso_type=5), "EINVAL"),
    "csum_start 0": (changed(TCP4, csum_start=0), "EINVAL"),
    "csum_start 14": (changed(TCP4, csum_start=14), "EINVAL"),
    "csum_start 33": (changed(TCP4, csum_start=33), "taken"),
    "csum_start 35 of UDP": (changed(UDP4, csum_start=35), "taken"),
    "csum_offset 0": (changed(TCP4, csum_offset=0), "EINVAL"),
    "checksum behind the end": (changed(PLAIN, csum_start=1066), "EINVAL"),
    "checksum in the payload": (changed(PLAIN, csum_start=1000), "taken"),
    "TCP type on UDP": (changed(UDP4, gso_type=1), "taken"),
    "TCP type on IPv6": (changed(TCP6, gso_type=1), "taken"),
    "IPv6 type on IPv4": (changed(TCP4, gso_type=4), "EINVAL"),
    "TCP type on ARP": (raw((1, 1, 66, 1448, 34, 16), ARP), "taken"),
    "csum_start of an untagged frame": (changed(TAGGED, csum_start=34), "taken"),
    "IP length 40": (with_frame_bytes(TCP4, 16, b"\0\x28"), "taken"),
    "66 kB, IP length 0": (
        raw((1, 1, 66, 1448, 34, 16), with_frame_bytes(TCP4, 16, b"\0\0")[14:] + bytes(57_000)),
        "taken",
    ),
    "150 kB, IP length 0": (
        raw((1, 1, 66, 1448, 34, 16), with_frame_bytes(TCP4, 16, b"\0\0")[14:] + bytes(141_000)),
        "taken",
    ),
    "an IP fragment": (with_frame_bytes(TCP4, 20, b"\x20\0"), "taken"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_headers_end_before_the_kernel(name):
    record, outcome = HOSTILE[name]
    with pytest.raises(BadRecord):
        check_superframe_untrusted(record, MTU)
    with pytest.raises(BadRecord):
        cut_untrusted(record, MTU)
    async with bridged() as (inside, outside):
        assert inside.write_nowait([record]) == 1
        assert inside.dropped == {"bad_offload": 1}
        assert whatever_is_there(outside) == []
        # And what would have become of it.
        try:
            os.write(inside._fd, record[HEADER_SIZE:])
        except OSError as error:
            assert (error.strerror, outcome) == ("Invalid argument", "EINVAL")
        else:
            assert outcome == "taken"


async def test_hints_are_put_right():
    for hint in (0, 34, 5000, len(TCP4)):
        record = changed(TCP4, hdr_len=hint)
        assert check_superframe_untrusted(record, MTU) == TCP4[4:14]
        async with bridged() as (inside, outside):
            assert inside.write_nowait([record]) == 1
            assert await what_comes_out(outside, 7) == cut_untrusted(TCP4, MTU)
            assert not inside.dropped
