"""The frames of a TAP device against the real kernel: what passes, what is counted, what breaks."""

import socket
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from vswitch.devices import netlink
from vswitch.devices.open_tap import open_tap
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError
from vswitch.frames.records import frame_record
from vswitch.testing import DevicePair, check_device

pytestmark = [pytest.mark.netns, pytest.mark.inside]

MAC = "02:00:5e:00:53:07"
INSIDE = "VSWITCH_TEST_INSIDE"  # set where the tests really run
ETHERTYPE = 0x88B5  # IEEE 802: for experiments; nothing else sends it
CONFIG = TapConfig("vsw0", mac=MAC, mtu=1500, address="10.77.0.2/24")
TIMEOUT = 20  # seconds


def frame(number, size=100):
    payload = number.to_bytes(4, "big") * (size // 4)
    return b"\xff" * 6 + bytes.fromhex("02005e005301") + ETHERTYPE.to_bytes(2, "big") + payload


def wire(name="vsw0"):
    """The kernel's side of the TAP: what is sent here is read from the device."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, ETHERTYPE)
    sock.bind((name, ETHERTYPE))
    sock.settimeout(TIMEOUT)
    return sock


def ours(records):
    """The records that this test made; the kernel adds its own neighbour discovery."""
    return [record for record in records if record[16:18] == ETHERTYPE.to_bytes(2, "big")]


async def drain(device, count):
    """The next `count` of our records."""
    got = []
    with trio.fail_after(TIMEOUT):
        while len(got) < count:
            await device.wait_readable()
            got += ours(device.read_nowait(64))
    return got


async def read_on(device):
    """Read until that raises something other than that there is nothing."""
    while True:
        await device.wait_readable()
        try:
            device.read_nowait(64)
        except trio.WouldBlock:
            pass


class Kernel:
    """The other side of the TAP for the suite of rules: a socket on the interface."""

    def __init__(self):
        self.sock = wire()

    async def put(self, frames):
        for each in frames:
            self.sock.send(each)

    async def get(self):
        return [await trio.to_thread.run_sync(self.sock.recv, 2000)]

    def close(self):
        self.sock.close()


def tap_pairs(offload):
    @asynccontextmanager
    async def tap_pair():
        async with open_tap(TapConfig("vsw0", offload=offload)) as device:
            kernel = Kernel()
            yield DevicePair(device, kernel)
            kernel.close()

    return tap_pair


@pytest.mark.parametrize("offload", [False, True])
async def test_tap_keeps_the_rules_of_devices(quiet, offload):
    # The kernel never lets a TAP be full, and throws away what waits in one that is deleted.
    with trio.fail_after(TIMEOUT):
        await check_device(tap_pairs(offload), fills=False, other_side_breaks=False)


@pytest.mark.parametrize("offload", [False, True])
async def test_frames_go_through_unchanged_and_in_order(offload):
    frames = [frame(number, size=4 * (11 + number * 18)) for number in range(20)]
    async with open_tap(attrs.evolve(CONFIG, offload=offload)) as device:
        with wire() as sock:
            for each in frames:
                sock.send(each)
            assert await drain(device, len(frames)) == [frame_record(each) for each in frames]
            assert device.write_nowait([frame_record(each) for each in frames]) == len(frames)
            received = [sock.recv(2000) for _ in frames]
        assert received == frames
        assert not device.dropped


@pytest.mark.parametrize("offload", [False, True])
async def test_largest_and_tagged_frame_pass(offload):
    tagged = frame(1)[:12] + bytes.fromhex("8100000a") + frame(1, size=1500)[12:]
    assert len(tagged) == 1518
    async with open_tap(attrs.evolve(CONFIG, offload=offload)) as device:
        with wire() as sock:
            sock.send(frame(2, size=1500))
            assert await drain(device, 1) == [frame_record(frame(2, size=1500))]
            assert device.write_nowait([frame_record(tagged)]) == 1
        assert not device.dropped


async def test_drain_is_bounded_and_says_when_there_is_nothing():
    async with open_tap(CONFIG) as device:
        with wire() as sock:
            for number in range(10):
                sock.send(frame(number))
        sizes = [len(device.read_nowait(3))]
        try:
            while True:
                sizes.append(len(device.read_nowait(4)))
        except trio.WouldBlock:
            pass
        assert sizes[0] == 3
        assert set(sizes[1:]) <= {1, 2, 3, 4}
        assert sum(sizes) >= 10


async def test_waiting_wakes_for_a_frame_and_for_closing(nursery):
    outcome = []

    async def wait(device, task_status):
        task_status.started()
        try:
            await read_on(device)
        except trio.ClosedResourceError:
            outcome.append("closed")

    async with open_tap(CONFIG) as device:
        with wire() as sock:
            sock.send(frame(1))
            assert await drain(device, 1) == [frame_record(frame(1))]
        await nursery.start(wait, device)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await device.wait_readable()
        device.close()
        await trio.testing.wait_all_tasks_blocked()
        assert outcome == ["closed"]
        for operation in (lambda: device.read_nowait(1), lambda: device.write_nowait([])):
            with pytest.raises(trio.ClosedResourceError):
                operation()
        with pytest.raises(trio.ClosedResourceError):
            await device.wait_writable()
        with pytest.raises(trio.ClosedResourceError):
            await device.set_address(None)
        device.close()
        await device.aclose()


@pytest.mark.parametrize("offload", [False, True])
async def test_deleted_interface_breaks_the_device(offload):
    async with open_tap(attrs.evolve(CONFIG, offload=offload)) as device:
        await trio.to_thread.run_sync(netlink.delete, "vsw0")
        with trio.fail_after(TIMEOUT), pytest.raises(trio.BrokenResourceError, match="vsw0"):
            await read_on(device)
        with pytest.raises(trio.BrokenResourceError, match="vsw0 is gone"):
            device.write_nowait([frame_record(frame(1))])


@pytest.mark.parametrize("offload", [False, True])
async def test_frames_that_the_kernel_refuses_are_counted(offload):
    async with open_tap(attrs.evolve(CONFIG, offload=offload)) as device:
        assert device.write_nowait([frame_record(b"short"), frame_record(frame(1))]) == 2
        assert device.dropped == {"malformed": 1}
        await trio.to_thread.run_sync(lambda: netlink.configure("vsw0", up=False))
        assert device.write_nowait([frame_record(frame(1))] * 3) == 3
        assert device.dropped == {"malformed": 1, "link_down": 3}
        await trio.to_thread.run_sync(lambda: netlink.configure("vsw0", up=True))
        assert device.write_nowait([frame_record(frame(1))]) == 1
        assert device.dropped == {"malformed": 1, "link_down": 3}


@pytest.mark.parametrize("offload", [False, True])
async def test_frames_above_the_mtu_are_counted_until_it_is_raised(offload):
    async with open_tap(attrs.evolve(CONFIG, offload=offload)) as device:
        await trio.to_thread.run_sync(lambda: netlink.configure("vsw0", mtu=4000))
        with wire() as sock:
            sock.send(frame(1, size=3000))
            sock.send(frame(2))
            assert await drain(device, 1) == [frame_record(frame(2))]
            assert device.dropped == {"oversize": 1}
            await device.set_mtu(9000)
            assert (device.mtu, netlink.find_link("vsw0").mtu) == (9000, 9000)
            sock.send(frame(3, size=8984))
            assert await drain(device, 1) == [frame_record(frame(3, size=8984))]
        with pytest.raises(VswitchError, match="MTU 9001"):
            await device.set_mtu(9001)
