"""KCP clients of a foreign listener: whatever segments come, from whomever.

Invariants: ports are bounded, and what each conversation holds; nothing is a fault; what comes up
are frames; the listener hears who is honest, and answers him.
"""

import random
import socket
from collections.abc import Iterator
from struct import pack

import trio
from trio.testing import MockClock

from tests.fuzz.frames import any_frame
from tests.fuzz.reader import Reader
from tests.fuzz.sockets import HONEST, MOST_PORTS, MTU, PLACES, OddSocket, hear
from vswitch.foreign.conversations import LONGEST, WINDOW
from vswitch.foreign.kcp_clients import KcpClients
from vswitch.foreign.kinds import ForeignSettings
from vswitch.frames.records import frame_record
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice

CONVS = (0, 7, 0x8000_0001)
# Bytes: a window each way, a read, and what one write has more than fits.
MOST_HELD = 2 * (WINDOW + 1) * (LONGEST + 512) + 200_000


class _Peer:
    """What a client would send next, by address."""

    def __init__(self) -> None:
        self.numbers: dict[object, int] = {}

    def datagram(self, reader: Reader) -> tuple[bytes, object]:
        address = reader.choice(PLACES)
        conv = reader.choice(CONVS)
        segments = b"".join(
            self._segment(reader, (address, conv), conv) for _ in range(1 + reader.below(4))
        )
        if reader.chance(0.1):
            segments = segments[: reader.number(2)]
        return segments, address

    def _segment(self, reader: Reader, peer: object, conv: int) -> bytes:
        number = self.numbers.setdefault(peer, reader.choice((0, 5, 0xFFFF_FFF0)))
        command, content = 81, b""
        match reader.below(6):
            case 0:
                content = frame_record(any_frame(reader))[: LONGEST - 24]
                self.numbers[peer] = (number + 1) & 0xFFFF_FFFF
            case 1:  # ahead or behind
                number = (number + reader.edge(32)) & 0xFFFF_FFFF
                content = reader.blob(LONGEST)
            case 2:
                command, number = 82, reader.edge(32)
            case 3:
                command = reader.choice((83, 84, 80, 85))
            case 4:
                content = b"\xbc\xbc\0\1x" * reader.number()
                self.numbers[peer] = (number + 1) & 0xFFFF_FFFF
            case _:
                content = reader.blob(LONGEST)
                self.numbers[peer] = (number + 1) & 0xFFFF_FFFF
        fragment = reader.below(256) if reader.chance(0.1) else 0
        window = reader.choice((32, 0, 1, 0xFFFF))
        una, size = reader.edge(32), len(content)
        if reader.chance(0.05):
            size = reader.edge(32)
        return pack("<IBBHIIII", conv, command, fragment, window, 1, number, una, size) + content


def run(data: bytes) -> None:
    trio.run(_run, Reader(data), clock=MockClock(autojump_threshold=0.0))


async def _run(reader: Reader) -> None:
    waking, real = socket.socketpair()
    with waking, real:
        real.setblocking(False)
        odd = OddSocket(real, socket.AF_INET6)
        settings = ForeignSettings(kind="kcp", name="f", max_ports=MOST_PORTS, idle=5)
        async with open_switch(mtu=MTU) as switch, trio.open_nursery() as nursery:
            device, peer = FakeDevice("peer"), _Peer()
            switch.attach(device, name="peer")
            clients = KcpClients(switch, odd, settings)
            nursery.start_soon(clients.run)
            while reader:
                for _ in range(reader.choice((1, 2, 5, 30))):
                    odd.waiting.append(peer.datagram(reader))
                if reader.chance(0.5):
                    device.feed(*[HONEST] * reader.below(40))
                await hear(waking)
                assert switch.count_ports() <= MOST_PORTS + 1
                for port in switch.ports[1:]:
                    assert port.device.conversation.held <= MOST_HELD
                assert all(14 <= len(frame) <= MTU + 22 for frame in device.take())
                await trio.sleep(reader.choice((0.0, 0.01, 1.0, 6.0)))
            await trio.sleep(30.0)  # the burst of new clients is over, and all are forgotten
            assert switch.count_ports() == 1
            opening = pack("<IBBHIIII", 9, 81, 0, 32, 1, 0, 0, 4 + len(HONEST))
            odd.waiting.append((opening + frame_record(HONEST), ("::1", 9, 0, 0)))
            sent = odd.sent
            await hear(waking)
            assert device.take() == [HONEST], "the listener no longer hears who is honest"
            assert odd.sent > sent, "nor answers him"
            assert not clients.refused["fault"]
            nursery.cancel_scope.cancel()


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    for number in range(8):
        yield f"any-{number}", chance.randbytes(150)
    # One segment with an ARP request in it from each place.
    for number in range(len(PLACES)):
        yield f"place-{number}", bytes((0, number, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0))
