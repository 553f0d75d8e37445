"""A LAN of hosts on a bad network: one switch, real endpoints, sessions and ports, no kernel.

Everything follows from the seed: the network's misfortunes, the keys, and what the hosts send. Trio
runs its tasks in an order that is the same each time. Hosts write down what they sent and received.
"""

import random
import struct
from collections import deque
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock

from benchmarks.soak.order import in_fixed_order
from transport import Grant, Peer, PrivateKey, open_endpoint
from transport.testing.network import Link, open_network
from vswitch.frames.records import frame_of, frame_record
from vswitch.members.device import MemberDevice
from vswitch.switch.switch import open_switch
from vswitch.testing import ethernet

SERVER = ("198.51.100.1", 7450)
LINK = Link(delay=0.01, jitter=0.01, loss=0.05, duplicate=0.02, corrupt=0.01)
STAMP = struct.Struct(">IB")  # serial number and host of the source
EPOCH_NS = 1_700_000_000 * 10**9


class Host:
    """A station with its own endpoint; it can leave, be cut off, and come back."""

    def __init__(self, lan, number):
        self.lan = lan
        self.number = number
        self.name = f"h{number}"
        self.mac = bytes([2, 0, 0, 0, 0, number])
        self.key = PrivateKey.from_raw(lan.random.randbytes(32))
        self.sent = []  # frames that a session took, in order
        self.received = []  # frames, in order
        self.device = None  # while plugged in
        self.homes = 0
        self._scope = None

    async def plug_in(self, nursery):
        """Connect, from an address that is new each time."""
        self.homes += 1
        self._scope = await nursery.start(self._live, f"192.0.{self.homes}.{self.number}")

    async def _live(self, address, *, task_status):
        lan = self.lan
        with trio.CancelScope() as scope:
            sock = lan.network.socket(address)
            async with lan.open_endpoint(sock, self.key) as endpoint:
                peer = Peer(lan.identity.public)
                channel = await endpoint.connect(peer, [SERVER], patience=120.0)
                self.device = MemberDevice(channel, name=self.name)
                # The switch knows of us when it has heard our first datagram.
                await lan.wait_for(lambda: lan.port(self) is not None)
                task_status.started(scope)
                await self._read(self.device)

    async def _read(self, device):
        while True:
            try:
                await device.wait_readable()
                self.received += [frame_of(record) for record in device.read_nowait(64)]
            except trio.WouldBlock:
                continue

    def leave(self):
        """Say goodbye."""
        self.device = None
        self._scope.cancel()

    def vanish(self):
        """Be gone without a word: nothing comes from there or gets there any more."""
        self.lan.cut.add(f"192.0.{self.homes}.{self.number}")
        self.leave()

    async def send(self, destination, size=0):
        """Send one frame when there is room, and remember it if the session has taken it."""
        if (device := self.device) is None:
            return
        stamp = STAMP.pack(len(self.sent), self.number)  # makes each frame unique
        frame = ethernet(destination, self.mac, 0x88B5, stamp + self.lan.random.randbytes(size))
        try:
            await device.wait_writable()
            assert device.write_nowait([frame_record(frame)]) == 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        self.sent.append(frame)

    @property
    def idle(self):
        """Nothing that it has sent is under way."""
        return self.device is None or not self.device._channel.statistics().in_flight


@attrs.define
class Lan:
    """The network, the switch and all hosts."""

    random: random.Random
    network: object
    switch: object
    identity: PrivateKey
    hosts: list = attrs.Factory(list)
    cut: set = attrs.Factory(set)  # addresses that nothing reaches

    def open_endpoint(self, sock, key, **options):
        return open_endpoint(
            sock,
            key,
            random_bytes=self.network.random_bytes,
            timestamp_ns=lambda: EPOCH_NS + round(trio.current_time() * 1e9),
            **options,
        )

    def look_up(self, peer, credential):
        return Grant()

    async def receive(self, channel):
        (host,) = [host for host in self.hosts if host.key.public == channel.peer]
        device = MemberDevice(channel, name=host.name)
        port = self.switch.attach(device, name=host.name)
        device.on_blocked = port.flush_soon
        await port.wait_detached()

    def port(self, host):
        """The newest port of a host, if it has one."""
        ports = [port for port in self.switch.ports if port.name == host.name]
        return max(ports, key=lambda port: port.attached_at, default=None)

    async def wait_for(self, condition, patience=300.0):
        """Until it holds; the time is the network's."""
        with trio.fail_after(patience):
            while not condition():  # noqa: ASYNC110 (polled in no time at all)
                await trio.sleep(0.05)

    async def settle(self):
        """Until nothing is under way to or from anybody who is there."""

        def quiet():
            # A port whose host has vanished never gets rid of what it has sent.
            there = [self.port(host) for host in self.hosts if host.device is not None]
            return all(host.idle for host in self.hosts) and not any(
                port.statistics().queued_frames or port.device._channel.statistics().in_flight
                for port in there
            )

        await self.wait_for(quiet)

    def imbalance(self):
        """Frames in and copies, less frames out, drops and what waits; 0, always."""
        statistics = self.switch.statistics()
        totals = statistics.totals
        coming = totals.rx_frames + totals.flood_copies
        return coming - totals.tx_frames - totals.dropped - statistics.queued_frames

    def outcome(self):
        """All that happened, to compare one run with another."""
        totals = self.switch.statistics().totals
        return (
            list(self.network.log),
            [(host.sent, host.received) for host in self.hosts],
            attrs.astuple(totals, recurse=False),
        )


@asynccontextmanager
async def open_lan(seed, hosts, **options):
    """A switch, and hosts that are not plugged in yet."""
    rng = random.Random(seed)
    identity = PrivateKey.from_raw(rng.randbytes(32))
    async with (
        open_network(seed, attrs.evolve(LINK)) as network,
        open_switch(**options) as switch,
        trio.open_nursery() as nursery,
    ):
        lan = Lan(rng, network, switch, identity)
        network.log = deque()  # all of it
        carry = network.carry

        def carry_unless_cut(datagram, source, destination):
            if source[0] not in lan.cut and destination[0] not in lan.cut:
                carry(datagram, source, destination)

        network.carry = carry_unless_cut
        lan.hosts = [Host(lan, number) for number in range(1, hosts + 1)]
        async with lan.open_endpoint(network.socket(*SERVER), identity, authority=lan) as endpoint:
            await nursery.start(endpoint.serve, lan.receive)
            yield lan
            nursery.cancel_scope.cancel()


@pytest.fixture
def simulate():
    """Runs `story(lan, nursery)` on a LAN; gives what the story returns."""

    def run(seed, story, hosts=20, **options):
        async def main():
            async with open_lan(seed, hosts, **options) as lan, trio.open_nursery() as nursery:
                result = await story(lan, nursery)
                nursery.cancel_scope.cancel()
            assert lan.imbalance() == 0
            return result

        return in_fixed_order(lambda: trio.run(main, clock=MockClock(autojump_threshold=0)))

    return run
