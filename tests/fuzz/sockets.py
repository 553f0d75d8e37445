"""Listeners for foreign programs, whoever sends: the kernel may say many things of a sender.

`run` gives datagrams with odd sender addresses to the loop of a shared socket, for clients and for
VXLAN; `run_bench` a conversation to the listener of `vswitch bench`. Invariants: the loop goes on
and hears who is honest; ports are bounded; nothing comes up that is no frame.
"""

import random
import socket
from collections.abc import Iterator, Sequence

import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from tests.fuzz.frames import any_frame
from tests.fuzz.reader import Reader
from tests.fuzz.untrusted import find
from vswitch.addresses import HostPort
from vswitch.bench import ECHO, GIVE, TAKE
from vswitch.foreign.formats import vxlan_header
from vswitch.foreign.kinds import ForeignSettings
from vswitch.foreign.udp import DatagramClients
from vswitch.foreign.vxlan import VxlanPeers
from vswitch.frames.build import arp_request
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice

MTU, MOST_PORTS = 1500, 8
HONEST = arp_request("02:00:00:00:00:99", "10.0.0.9", "10.0.0.1")
PLACES = (
    ("192.0.2.1", 5555),
    ("192.0.2.1", 0),
    ("::ffff:192.0.2.1", 7, 0, 0),
    ("fe80::1", 7, 0, 3),
    ("fe80::1%eth0", 7, 0, 3),
)
# Of UNIX sockets: paths, abstract names, and none.
NAMES = ("/run/a.sock", "relative", "/run/\udcff.sock", b"\0abstract", b"\0\xff\n", b"", "", None)
Datagram = tuple[bytes, object]


class _OddSocket:
    """A socket whose datagrams come from the input, with whatever is said of their sender."""

    def __init__(self, real: socket.socket, family: socket.AddressFamily) -> None:
        self.family = family
        self.waiting: list[Datagram | OSError] = []
        self._real = real
        self.sent = 0

    def fileno(self) -> int:
        return self._real.fileno()

    def getsockopt(self, level: int, option: int) -> int:
        return 0  # not of IPv6 alone

    def recvmsg(self, size: int, _: int) -> tuple[bytes, list[object], int, object]:
        if not self.waiting:
            self._real.recv(1)  # no more: the loop waits
            raise BlockingIOError
        found = self.waiting.pop(0)
        if isinstance(found, OSError):
            raise found
        return found[0][:size], [], 0, found[1]

    def sendto(self, data: bytes, address: object) -> int:
        self.sent += 1
        return len(data)


def run(data: bytes) -> None:
    trio.run(_run, Reader(data), clock=MockClock(autojump_threshold=0.0))


async def _run(reader: Reader) -> None:
    vxlan = reader.chance(0.3)
    family = socket.AF_UNIX if reader.chance(0.5) and not vxlan else socket.AF_INET6
    addresses = NAMES if family == socket.AF_UNIX else PLACES
    waking, real = socket.socketpair()
    with waking, real:
        real.setblocking(False)
        odd = _OddSocket(real, family)
        async with open_switch(mtu=MTU) as switch, trio.open_nursery() as nursery:
            device = FakeDevice("peer")
            switch.attach(device, name="peer")
            if vxlan:
                clients = VxlanPeers(switch, odd)
                remote = HostPort("192.0.2.1", 4789)
                await clients.plug(
                    ForeignSettings(kind="vxlan", name="v", remote=remote.text(), vni=42)
                )
            else:
                kind = "qemu-dgram" if family == socket.AF_UNIX else "udp"
                clients = DatagramClients(
                    switch,
                    odd,
                    ForeignSettings(kind=kind, name="f", max_ports=MOST_PORTS, idle=5),
                )
            nursery.start_soon(clients.run)
            while reader:
                burst = reader.choice((1, 2, 5, 30))
                odd.waiting += [_datagram(reader, addresses) for _ in range(burst)]
                await _hear(waking)
                assert switch.count_ports() <= MOST_PORTS + 1
                await trio.sleep(reader.choice((0.01, 1.0, 6.0)))
            await trio.sleep(20.0)  # the burst of new clients is over, and all are forgotten
            device.take()
            if vxlan:
                odd.waiting.append((vxlan_header(42) + HONEST, ("::ffff:192.0.2.1", 4789, 0, 0)))
            else:
                honest = "/run/honest" if family == socket.AF_UNIX else ("::1", 9, 0, 0)
                odd.waiting.append((HONEST, honest))
            await _hear(waking)
            assert device.take() == [HONEST], "the listener no longer hears who is honest"
            nursery.cancel_scope.cancel()


async def _hear(waking: socket.socket) -> None:
    waking.send(b"\0")
    await wait_all_tasks_blocked()


def _datagram(reader: Reader, addresses: Sequence[object]) -> Datagram | OSError:
    if reader.chance(0.05):
        return ConnectionRefusedError()
    address = reader.choice(addresses)
    content = any_frame(reader) if reader.chance(0.7) else reader.blob(2000)
    if reader.chance(0.3):
        content = vxlan_header(reader.choice((42, 7))) + content
    return content, address


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    for number in range(6):
        yield f"any-{number}", bytes((255 * (number & 1),)) + chance.randbytes(120)
    for number in range(len(PLACES)):
        yield f"place-{number}", _once(0, number)
    for number in range(len(NAMES) - 1):
        yield f"name-{number}", _once(255, number)
    yield "finding-22-no-name", _once(255, len(NAMES) - 1)


def _once(unix: int, address: int) -> bytes:
    """One ARP request from there."""
    return bytes((0, unix, 0, 0, address, 255, 1, 1, 0, 0, 0, 0, 0, 0))


def run_bench(data: bytes) -> None:
    trio.run(_bench, Reader(data), clock=MockClock(autojump_threshold=0.0))


async def _bench(reader: Reader) -> None:
    ours, theirs = lockstep_stream_pair()

    async def answer() -> None:
        async with theirs:
            try:
                await find("vswitch", "_answer_untrusted")(theirs)
            except trio.BrokenResourceError:
                pass  # it has gone, as clients do

    async with trio.open_nursery() as nursery, ours:
        nursery.start_soon(answer)
        wish, said = reader.take(1), 0
        with trio.move_on_after(60):
            try:
                await ours.send_all(wish)
                while reader:
                    piece = reader.blob(5000)
                    await ours.send_all(piece)
                    said += len(piece)
                    if wish == ECHO:
                        assert await _receive(ours, len(piece)) == piece
                if wish == TAKE:
                    await ours.send_eof()
                    assert await _receive(ours, 8) == said.to_bytes(8, "big")
                elif wish == GIVE:
                    assert len(await _receive(ours, 1000)) >= 1000
            except trio.BrokenResourceError:
                assert wish not in (ECHO, TAKE, GIVE)


async def _receive(stream: trio.abc.Stream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += await stream.receive_some()
    return received


def bench_seeds() -> Iterator[tuple[str, bytes]]:
    for name, wish in (("echo", ECHO), ("take", TAKE), ("give", GIVE), ("none", b"x")):
        yield name, wish + (b"" if wish == GIVE else b"\3abc\xff\0\4")
