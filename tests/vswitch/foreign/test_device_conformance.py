"""Devices of foreign ports against the suite of rules, over real sockets."""

import socket
from collections import Counter
from contextlib import asynccontextmanager

import pytest
import trio

from vswitch.addresses import HostPort
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import FramedStream, QemuStream, vxlan_header
from vswitch.foreign.sockets import open_place
from vswitch.foreign.streams import StreamDevice
from vswitch.frames.records import frame_record
from vswitch.testing import DevicePair, check_device


class StreamPeer:
    def __init__(self, sock, qemu):
        self.sock, self.qemu, self.data = sock, qemu, b""

    def encode(self, frame):
        head = b"" if self.qemu else b"\xbc\xbc"
        return head + len(frame).to_bytes(4 if self.qemu else 2, "big") + frame

    async def put(self, frames):
        self.sock.sendall(b"".join(map(self.encode, frames)))

    async def get(self):
        while True:
            found = []
            while len(self.data) >= 4:
                length = int.from_bytes(self.data[0 if self.qemu else 2 : 4], "big")
                if len(self.data) < 4 + length:
                    break
                found.append(self.data[4 : 4 + length])
                self.data = self.data[4 + length :]
            if found:
                return found
            await trio.lowlevel.wait_readable(self.sock)
            self.data += self.sock.recv(1 << 20)

    def close(self):
        self.sock.close()


def stream_pair(family, codec):
    @asynccontextmanager
    async def make():
        ours, theirs = socket.socketpair(family)
        with ours, theirs:
            ours.setblocking(False)
            dropped = Counter()
            device = StreamDevice(ours, "tcp:x", codec(1500, dropped), 1500, dropped)
            yield DevicePair(device, StreamPeer(theirs, codec is QemuStream))

    return make


@pytest.mark.parametrize("codec", [FramedStream, QemuStream])
async def test_a_stream_keeps_the_rules_of_devices(codec):
    await check_device(stream_pair(socket.AF_UNIX, codec))


class DatagramPeer:
    def __init__(self, sock, target, header):
        self.sock, self.target, self.header = sock, target, header

    async def put(self, frames):
        for frame in frames:
            self.sock.sendto(self.header + frame, self.target)

    async def get(self):
        await trio.lowlevel.wait_readable(self.sock)
        return [self.sock.recv(65536)[len(self.header) :]]

    def close(self):
        self.sock.close()


def datagram_pair(header):
    @asynccontextmanager
    async def make():
        with (
            open_place(HostPort("127.0.0.1", 0), stream=False) as ours,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
        ):
            theirs.bind(("127.0.0.1", 0))
            shared = SharedSocket(ours, 1500)
            device = DatagramDevice(shared, theirs.getsockname(), "udp:x", header=header)

            def judge(data, _):
                return device, data[len(header) :]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(shared.run, judge)
                yield DevicePair(device, DatagramPeer(theirs, ours.getsockname(), header))
                nursery.cancel_scope.cancel()

    return make


@pytest.mark.parametrize("header", [b"", vxlan_header(42)], ids=["udp", "vxlan"])
async def test_a_datagram_peer_keeps_the_rules_of_devices(header):
    await check_device(datagram_pair(header), fills=False, other_side_breaks=False)


async def test_a_full_socket_fills_its_devices_until_there_is_room():
    async with datagram_pair(b"")() as pair:
        shared = pair.device._shared
        shared.note_full()
        assert pair.device.write_nowait([frame_record(bytes(60))]) == 0
        with trio.fail_after(5):
            await pair.device.wait_writable()
        assert pair.device.write_nowait([frame_record(bytes(60))]) == 1
        pair.device.close()


async def test_a_full_inbox_drops_and_counts():
    async with datagram_pair(b"")() as pair:
        for _ in range(2000):
            pair.device.put_untrusted(bytes(60))
        assert pair.device.dropped["inbox_full"] == 2000 - 1024
        pair.device.close()


async def test_the_rest_of_a_half_written_record_goes_out_first():
    async with stream_pair(socket.AF_UNIX, FramedStream)() as pair:
        blocked = []
        pair.device.on_blocked = lambda: blocked.append(True)
        frames = [bytes([number % 251]) * 1500 for number in range(5000)]
        taken = pair.device.write_nowait([frame_record(frame) for frame in frames])
        assert 0 < taken < 5000
        assert blocked
        got = []
        while len(got) < taken:
            got += await pair.peer.get()
            pair.device.write_nowait([])
        assert got == frames[:taken]
