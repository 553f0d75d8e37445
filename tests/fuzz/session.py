"""A member with valid keys, behind the seal: whatever it says, and in which time.

An input is a list of deeds: segments of KCP with edge numbers, control items, units of the
datagram lane, slices, counters up to 2^64, new keys, other source addresses, reading or not, time.
Invariants: those of `world.py`; and an address that has proven nothing gets at most three times its
bytes.
"""

import random
import struct
from collections.abc import Iterator

from tests.fuzz.reader import Reader
from tests.fuzz.world import STRANGER, World
from transport.wire.control import (
    Arrivals,
    Close,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    encode_control,
)
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM

DEEDS = (
    "segments", "segments", "items", "raw control", "raw data", "datagram", "slices", "counter",
    "rekey", "time", "read", "open", "send", "train",
)  # fmt: skip
MOST_DEEDS = 150
COMMANDS = (81, 82, 83, 84, 85)
SPARSE = 1  # by this bit the sparse lane's conversation differs from the bulk lane's


class _Attack:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.world = World()
        self.counter = 1000  # of the next unit; above all that was sent honestly
        self.asked = self.answered = 0  # bytes from and to the stranger's address

    def run(self) -> None:
        for _ in range(MOST_DEEDS):
            if not self.reader:
                break
            self._deed(self.reader.choice(DEEDS))
            self.answered += self.world.flush()
            assert self.answered <= 3 * self.asked, "more to an unproven address than is allowed"
            self.world.check()
        self.world.wire.advance(0.3)  # reports and timeouts of what was done
        self.world.check()
        self.world.neighbour_lives()

    def _deed(self, deed: str) -> None:
        reader, world = self.reader, self.world
        now, session = world.wire.now, world.attacked
        match deed:
            case "segments":
                self._unit(DATA, b"".join(self._segment() for _ in range(self._count())))
            case "items":
                items = [self._item() for _ in range(self._count())]
                self._unit(CONTROL, encode_control(*items))
            case "raw control":
                self._unit(CONTROL, reader.blob(1400))
            case "raw data":
                self._unit(reader.choice((DATA, DATA, DATAGRAM)), reader.blob(62_000))
            case "datagram":
                self._unit(DATAGRAM, reader.blob(62_000))
            case "slices":
                self._slices()
            case "counter":
                self.counter = reader.edge(64)
            case "rekey":
                if world.evil.session.ended is None:
                    world.evil.session.renew()
                    world.evil.demux.touch(world.evil.session)
                    world.wire.settle()
                    self.counter = 1000
            case "time":
                seconds = reader.choice((0.005, 0.1, 1.0, 5.0, 20.0))
                world.wire.advance(seconds)
            case "read":
                session.bulk.take_messages()
                session.sparse.take_messages()
                if session.datagrams is not None:
                    session.datagrams.take_messages()
                world.server.demux.touch(session)
            case "open":
                if session.ended is None:
                    session.open_datagrams(now)
            case "send":
                if session.ended is None and session.bulk.credit > 0:
                    session.bulk.send([reader.blob(60_000)], now)
                    session.sparse.send([reader.blob(1000)], now)
                    world.server.demux.touch(session)
            case "train":
                one = self._sealed(DATA, self._segment())
                self._inject(one * (1 + reader.below(40)), len(one))

    def _count(self) -> int:
        return self.reader.choice((1, 1, 2, 5, 16, 17, 120))

    def _segment(self) -> bytes:
        reader = self.reader
        data = reader.blob(1400)
        size = len(data) if reader.chance(0.9) or not reader else reader.edge(32)
        conversation = self.world.conversation ^ reader.choice((0, 0, 0, SPARSE, SPARSE, 2))
        command = reader.choice(COMMANDS) if not reader.chance(0.05) else reader.below(256)
        numbers = (reader.edge(8), reader.edge(16), reader.edge(32), reader.edge(32))
        head = struct.pack("<IBBHIIII", conversation, command, *numbers, reader.edge(32), size)
        return head + data

    def _item(self):
        reader = self.reader
        eight = reader.take(8).ljust(8, b"\0")
        match reader.below(9):
            case 0:
                return PathChallenge(eight)
            case 1:
                return PathResponse(eight)
            case 2:
                return Ping(eight)
            case 3:
                return Pong(eight)
            case 4:
                return MtuProbe(reader.edge(32), reader.edge(8))
            case 5:
                return MtuAck(reader.edge(16), reader.edge(32))
            case 6:
                expected = reader.edge(64)
                return Arrivals(min(reader.edge(64), expected), expected)
            case 7:
                return Rekey()
            case _:
                if reader.chance(0.1):
                    return Close(reader.edge(16), "bye\x1b" * reader.below(50))
                return Ping(eight)

    def _slices(self) -> None:
        """Of one unit, or of what looks like one; some are missing, twice, or not where they go."""
        reader = self.reader
        slices = 1 + reader.choice((1, 2, 43, 117, 127, 200, 254))
        whole = self._sealed(DATA, self._segment() * (1 + reader.below(8)), slices=slices)
        head, sealed = whole[:16], whole[16:]
        step = -(-len(sealed) // slices)
        places = (
            list(range(slices)) if reader.chance(0.5) else [reader.below(256) for _ in range(8)]
        )
        for place in places:
            piece = sealed[place * step : place * step + step] or reader.blob(1400)
            self._inject(head[:1] + bytes((place,)) + head[2:] + piece)

    def _sealed(self, kind: int, plaintext: bytes, slices: int = 1) -> bytes:
        counter = self.counter
        self.counter = (counter + 1) % (1 << 64)
        return self.world.sealed(kind, plaintext, counter, slices=slices)

    def _unit(self, kind: int, plaintext: bytes) -> None:
        self._inject(self._sealed(kind, plaintext[:65_000]))

    def _inject(self, train: bytes, size: int = 0) -> None:
        world = self.world
        source = STRANGER if self.reader.chance(0.1) else world.evil.address
        if source == STRANGER:
            self.asked += len(train)
        world.server.demux.receive_trains([(train, source, size or len(train))], world.wire.now)


def run(data: bytes) -> None:
    _Attack(Reader(data)).run()


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    items = encode_control(
        Ping(b"12345678"), Rekey(), MtuProbe(7, 30), MtuAck(1400, 7), Arrivals(3, 5)
    )
    control = bytes((DEEDS.index("raw control"), len(items))) + items + b"\0"
    yield "control", control + bytes((DEEDS.index("time"), 2)) + control
    plain = (
        bytes((DEEDS.index("segments"), 0, 3)) + b"abc" + bytes((0, 0, 0, 0x80, 0, 0, 0x80, 0x80))
    )
    yield "segment", plain + bytes((DEEDS.index("read"),))
    message = bytes((DEEDS.index("open"), DEEDS.index("datagram"), 5)) + b"whole" + b"\0"
    yield "datagram", message + bytes((DEEDS.index("time"), 1, DEEDS.index("read")))
    yield "reports", bytes((DEEDS.index("open"),)) + control + control
    yield "rekey", bytes((DEEDS.index("rekey"), DEEDS.index("time"), 4)) + plain
    yield "slices", bytes((DEEDS.index("slices"), 0, 200)) + chance.randbytes(200)
    yield "send", bytes((DEEDS.index("send"), 255, 0, 200, 5)) + b"12345" + plain
    highest = bytes((DEEDS.index("counter"), 0xC0)) + ((1 << 64) - (1 << 13) - 2).to_bytes(
        8, "little"
    )
    for number in range(4):
        yield f"any-{number}", chance.randbytes(200)
    worn = highest + message[1:]
    yield "finding-1-counters", message[:1] + worn + bytes((DEEDS.index("rekey"),)) + worn
