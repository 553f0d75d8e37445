"""Every device in memory against the one suite of rules; TAP and real channels run it elsewhere."""

from collections import deque
from contextlib import asynccontextmanager

import pytest
import trio

from vswitch.frames.records import RecordSplitter, frame_of, frame_record, split_whole_untrusted
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Notice, encode_control
from vswitch.switch.local import local_pair
from vswitch.testing import DevicePair, FakeDevice, check_device, fake_channel_pair


class FakePeer:
    def __init__(self, device):
        self.device = device

    async def put(self, frames):
        self.device.feed(*frames)

    async def get(self):
        while not self.device.written:
            await trio.lowlevel.checkpoint()
        return self.device.take()

    def close(self):
        self.device.fail(trio.BrokenResourceError("gone"))


class LocalPeer:
    def __init__(self, port):
        self.port = port

    async def put(self, frames):
        await self.port.send_batch(frames)

    async def get(self):
        return await self.port.receive()

    def close(self):
        self.port.close()


class MemberPeer:
    """Sends in pieces of 7 bytes with control messages between the frames."""

    def __init__(self, channel):
        self.channel = channel
        self.splitter = RecordSplitter()
        self.frames = deque()

    async def put(self, frames):
        notice = encode_control(Notice("hello"))
        data = notice + b"".join(frame_record(frame) + notice for frame in frames)
        for start in range(0, len(data), 7):
            await self.channel.wait_writable()
            self.channel.bulk.send_nowait([data[start : start + 7]])

    async def get(self):
        while True:
            await self.channel.wait_readable()
            data = b"".join(self.channel.bulk.receive_nowait())
            frames = [frame_of(record) for record in self.splitter.feed_untrusted(data)]
            if frames:
                return frames

    def close(self):
        self.channel.close()


class DatagramPeer(MemberPeer):
    """Sends on the datagram lane, with control messages on the other."""

    async def put(self, frames):
        for frame in frames:
            await self.channel.wait_writable()
            self.channel.bulk.send_nowait([encode_control(Notice("hello"))])
            self.channel.datagrams.send_nowait([frame_record(frame)])

    async def get(self):
        await self.channel.wait_readable()
        return [
            frame_of(each)
            for each in split_whole_untrusted(self.channel.datagrams.receive_nowait())
        ]


@asynccontextmanager
async def fake_pair():
    device = FakeDevice(capacity=100)
    yield DevicePair(device, FakePeer(device))


@asynccontextmanager
async def local_device_pair():
    device, port = local_pair("bot")
    yield DevicePair(device, LocalPeer(port))


@asynccontextmanager
async def member_pair():
    ours, theirs = fake_channel_pair(message_size=1000, window=30_000)
    yield DevicePair(MemberDevice(ours, name="pc1"), MemberPeer(theirs))


@asynccontextmanager
async def member_pair_with_superframes():
    ours, theirs = fake_channel_pair(message_size=1000, window=30_000)
    yield DevicePair(MemberDevice(ours, name="pc1", superframes=True), MemberPeer(theirs))


@asynccontextmanager
async def member_pair_on_datagrams():
    ours, theirs = fake_channel_pair(message_size=1000, window=30_000)
    theirs.open_datagrams()
    device = MemberDevice(ours, name="pc1", superframes=True)
    device.use_lane("datagram")
    yield DevicePair(device, DatagramPeer(theirs))


@pytest.mark.parametrize(
    "make_pair",
    [
        fake_pair,
        local_device_pair,
        member_pair,
        member_pair_with_superframes,
        member_pair_on_datagrams,
    ],
)
async def test_every_device_keeps_the_rules_of_the_protocol(make_pair):
    with trio.fail_after(20):
        await check_device(make_pair)


class ShufflingDevice(FakeDevice):
    """Breaks rule 1: the order of a batch."""

    def read_nowait(self, limit):
        return super().read_nowait(limit)[::-1]


class SilentDevice(FakeDevice):
    """Breaks rule 5: a closed device stays quiet."""

    def close(self):
        pass


class CuttingDevice(FakeDevice):
    """Breaks rule 1: takes superframes, and leaves their header on."""

    def write_nowait(self, records):
        return super().write_nowait([frame_record(record[4:]) for record in records])


class EagerDevice(FakeDevice):
    """Breaks rule 4: waiting is no checkpoint."""

    async def wait_readable(self):
        if not self._incoming:
            await super().wait_readable()


@pytest.mark.parametrize("broken", [ShufflingDevice, SilentDevice, EagerDevice, CuttingDevice])
async def test_the_conformance_suite_finds_each_broken_device(broken):
    @asynccontextmanager
    async def make_pair():
        device = broken(capacity=100, superframes=True)
        yield DevicePair(device, FakePeer(device))

    with trio.fail_after(20), pytest.raises(AssertionError):
        await check_device(make_pair)
