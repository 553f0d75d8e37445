"""The TAP device with offloads, a datagram socket in the place of the kernel."""

import errno
import os
import socket
from itertools import chain

import pytest
import trio

from vswitch.devices.tap_offload import OffloadTapDevice
from vswitch.frames.merge import MERGEABLE
from vswitch.frames.records import SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import USUAL_HEADERS
from vswitch.frames.virtio import NO_OFFLOAD, UDP, VIRTIO_HEADER, stands_for
from vswitch.switch.device import Device
from vswitch.testing import checksum
from vswitch.testing.superframes import Flow, superframe

MTU = 1500
FRAME = bytes.fromhex("02005e005302") + bytes.fromhex("02005e00530188b5") + bytes(range(100))
SMALL = superframe(Flow(), bytes(500))
BIG = superframe(Flow(), bytes(20_000), 1448)
FLOW, OTHER = Flow(protocol=UDP), Flow(protocol=UDP, ports=(1, 2))
DATAGRAM = superframe(FLOW, bytes(100))
TINY = superframe(FLOW, bytes(range(100)), 20)


@pytest.fixture
async def kernel():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.settimeout(5)
    device = OffloadTapDevice(
        name="vsw0", mac="02:00:5e:00:53:01", mtu=MTU, persistent=False, fd=ours.detach()
    )
    with theirs:
        yield device, theirs
    device.close()


def read(kernel, *written, limit=64):
    device, theirs = kernel
    for each in written:
        theirs.send(each)
    return device.read_nowait(limit)


async def test_an_offload_tap_is_a_device_that_takes_superframes(kernel):
    assert isinstance(kernel[0], Device)
    assert kernel[0].superframes


async def test_frames_and_superframes_are_read_as_records(kernel):
    written = [NO_OFFLOAD + FRAME, SMALL[4:], BIG[4:], NO_OFFLOAD + FRAME]
    assert read(kernel, *written, limit=3) == [frame_record(FRAME), SMALL, BIG]
    assert kernel[0].read_nowait(3) == [frame_record(FRAME)]
    with pytest.raises(trio.WouldBlock):
        kernel[0].read_nowait(3)
    assert not kernel[0].dropped


async def test_a_checksum_found_valid_is_complete(kernel):
    # VIRTIO_NET_HDR_F_DATA_VALID: the host forwards what its network card has checked.
    assert read(kernel, b"\x02" + bytes(9) + FRAME) == [frame_record(FRAME)]


async def test_hints_of_the_kernel_are_put_right(kernel):
    written = BIG[4:6] + b"\xff\xff" + BIG[8:]
    assert read(kernel, written) == [BIG]


async def test_a_checksum_that_no_peer_would_complete_is_completed_here(kernel):
    # As a tunnel's inner checksum, or TCP behind an IPv6 extension header.
    header = VIRTIO_HEADER.pack(1, 0, 0, 0, 20, 4)
    (record,) = read(kernel, header + FRAME)
    frame = frame_of(record)
    assert record[:4] == frame_record(FRAME)[:4]
    assert frame == FRAME[:24] + checksum(FRAME[20:]).to_bytes(2, "big") + FRAME[26:]


async def test_segments_too_small_for_a_peer_are_cut_here_in_order(kernel):
    device, theirs = kernel
    wanted = [frame_of(each) for each in cut_untrusted(TINY, MTU, min_gso_size=1)]
    assert len(wanted) == 5
    for each in (NO_OFFLOAD + FRAME, TINY[4:], SMALL[4:]):
        theirs.send(each)
    got = []
    with trio.fail_after(5):
        while len(got) < 7:
            await device.wait_readable()
            records = device.read_nowait(3)
            assert 1 <= len(records) <= 3
            got += records
    assert got == [frame_record(FRAME), *map(frame_record, wanted), SMALL]


@pytest.fixture
def give(kernel, monkeypatch):
    """Have the kernel hold these records, more than a socket would."""
    queue = []

    def read(fd, size):
        if not queue:
            raise BlockingIOError
        return queue.pop(0)

    monkeypatch.setattr("vswitch.devices.tap_offload.os.read", read)

    def give(records):
        queue.extend(record[4:] for record in records)
        return queue

    return give


@pytest.mark.parametrize("flow", [FLOW, Flow(version=6, protocol=UDP)], ids=["v4", "v6"])
async def test_datagrams_that_come_in_a_row_are_merged(kernel, flow):
    datagrams = [superframe(flow, bytes([number]) * 100) for number in range(4)]
    merged = superframe(flow, b"".join(bytes([number]) * 100 for number in range(3)), 100)
    written = [each[4:] for each in (SMALL, *datagrams[:3], BIG, datagrams[3])]
    assert read(kernel, *written) == [SMALL, merged, BIG, datagrams[3]]
    assert read(kernel, datagrams[0][4:]) == datagrams[:1]
    assert not kernel[0].dropped


async def test_datagrams_alone_are_read_until_they_fill_a_superframe(kernel, give):
    left = give([DATAGRAM] * 200)
    assert kernel[0].read_nowait(64) == [superframe(FLOW, bytes(128 * 100), 100)]
    assert len(left) == 72
    assert kernel[0].read_nowait(64) == [superframe(FLOW, bytes(72 * 100), 100)]
    with pytest.raises(trio.WouldBlock):
        kernel[0].read_nowait(64)


@pytest.mark.parametrize("at", [0, 30, 63])
async def test_no_more_than_the_limit_is_read_where_there_is_more_than_datagrams(kernel, give, at):
    records = [DATAGRAM] * 200
    records[at] = SMALL
    left = give(records)
    counts = [stands_for(record) for record in kernel[0].read_nowait(64)]
    assert counts == [count for count in (at, 1, 63 - at) if count]
    assert len(left) == 136


async def test_datagrams_that_cannot_be_merged_come_within_the_limit_and_in_order(kernel, give):
    pairs = [record for n in range(60) for record in (DATAGRAM, superframe(OTHER, bytes([n])))]
    give([*pairs, TINY, SMALL, DATAGRAM, DATAGRAM])
    batches = [kernel[0].read_nowait(50) for _ in range(4)]
    tiny = cut_untrusted(TINY, MTU, min_gso_size=1)
    assert [*chain(*batches)] == [*pairs, *tiny, SMALL, superframe(FLOW, bytes(200), 100)]
    assert list(map(len, batches)) == [50, 50, 25, 2]


async def test_closing_forgets_what_was_cut(kernel):
    read(kernel, TINY[4:], limit=1)
    kernel[0].close()
    for operation in (lambda: kernel[0].read_nowait(1), lambda: kernel[0].write_nowait([])):
        with pytest.raises(trio.ClosedResourceError):
            operation()
    with pytest.raises(trio.ClosedResourceError):
        await kernel[0].wait_readable()


async def test_headers_that_passed_once_pass_again_up_to_a_bound(kernel, monkeypatch):
    monkeypatch.setattr("vswitch.devices.tap_offload._MAX_PASSED", 4)
    sizes = [512, 600, 512, 700, 511, 600]
    records = [superframe(Flow(), bytes(3000), size) for size in sizes]
    for record in records:
        assert read(kernel, record[4:], record[4:]) == [record, record]
        assert kernel[0]._passed >= USUAL_HEADERS - MERGEABLE
        assert len(kernel[0]._passed) <= 4
    assert not kernel[0].dropped


async def test_a_lower_mtu_is_heeded_by_headers_that_passed(kernel):
    assert read(kernel, BIG[4:], BIG[4:]) == [BIG, BIG]
    kernel[0]._set_lengths(1400)
    assert read(kernel, BIG[4:], NO_OFFLOAD + FRAME) == [frame_record(FRAME)]
    assert kernel[0].dropped == {"bad_offload": 1}


async def test_a_superframe_too_long_for_a_record_is_cut_here(kernel):
    # As where the kernel's bound could not be set.
    data = bytearray(superframe(Flow(tags=(1, 2)), bytes(65_000), 1448)[4:] + bytes(483))
    data[34:36] = b"\xff\xff"  # of IP
    assert len(data) == 10 + 22 + 65_535
    records = read(kernel, data)
    assert len(records) == 46
    # Also where its header has passed before.
    short = superframe(Flow(tags=(1, 2)), bytes(5000), 1448)
    assert read(kernel, short[4:], data) == [short]
    assert kernel[0].read_nowait(64) == records
    assert sum(len(each) - 4 - 22 - 52 for each in records) == 65_483


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (NO_OFFLOAD + bytes(1523), "oversize"),
        (VIRTIO_HEADER.pack(1, 0, 0, 0, 34, 16) + bytes(1523), "oversize"),
        (VIRTIO_HEADER.pack(1, 0, 0, 0, 38, 16) + bytes(1523), "oversize"),
        (VIRTIO_HEADER.pack(2, 0, 0, 0, 0, 0) + bytes(1523), "oversize"),
        (VIRTIO_HEADER.pack(1, 0, 0, 0, 200, 16) + FRAME, "bad_offload"),
        (VIRTIO_HEADER.pack(1, 1, 66, 1448, 34, 16) + FRAME, "bad_offload"),
    ],
)
async def test_data_that_makes_no_record_is_counted(kernel, data, reason):
    assert read(kernel, data, NO_OFFLOAD + FRAME) == [frame_record(FRAME)]
    assert kernel[0].dropped == {reason: 1}


async def test_records_are_written_with_a_virtio_net_header(kernel):
    device, theirs = kernel
    hint = BIG[:6] + b"\xff\xff" + BIG[8:]
    assert device.write_nowait([frame_record(FRAME), SMALL, BIG, hint]) == 4
    got = [theirs.recv(70_000) for _ in range(4)]
    assert got == [NO_OFFLOAD + FRAME, SMALL[4:], BIG[4:], BIG[4:]]
    assert not device.dropped


async def test_superframes_that_fail_the_check_are_counted_and_not_written(kernel):
    device, theirs = kernel
    bad = [TINY, encode_record(SUPERFRAME, b""), BIG[:4] + b"\x02" + BIG[5:]]
    assert device.write_nowait([*bad, frame_record(FRAME)]) == 4
    assert theirs.recv(70_000) == NO_OFFLOAD + FRAME
    assert device.dropped == {"bad_offload": 3}


async def test_a_kernel_that_does_not_know_a_type_gets_frames(kernel, monkeypatch):
    device, theirs = kernel
    write = os.write

    def old_kernel(fd, data):
        if bytes(data[1:2]) == b"\x05":
            raise OSError(errno.EINVAL, "Invalid argument")
        return write(fd, data)

    monkeypatch.setattr("vswitch.devices.tap_offload.os.write", old_kernel)
    datagrams = superframe(Flow(protocol=UDP), bytes(2000), 700)
    assert device.write_nowait([datagrams, SMALL]) == 2
    got = [theirs.recv(70_000) for _ in range(4)]
    wanted = [NO_OFFLOAD + frame_of(each) for each in cut_untrusted(datagrams, MTU)]
    assert got == [*wanted, SMALL[4:]]
    assert not device.dropped


async def test_a_kernel_that_is_full_takes_a_part(kernel):
    device, _ = kernel
    taken = device.write_nowait([SMALL] * 1000)
    assert 0 < taken < 1000
    assert device.write_nowait([BIG]) == 0
    assert not device.dropped
