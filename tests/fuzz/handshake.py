"""Datagrams of whoever has seen some, or knows the keys: inits, answers, cookies, resets.

An input changes what was honestly sent, stamps it anew or not, and gives it to the server or to the
client from any address. Invariants: those of `world.py`; no answer is larger than what it answers;
a stranger has no session, and nobody has two.
"""

import random
from collections.abc import Iterator

from tests.fuzz.reader import Reader
from tests.fuzz.world import STRANGER, World
from transport.constants import HANDSHAKE_SLICE_SIZE
from transport.crypto.identity import PrivateKey
from transport.handshake.cookie import MacStamper
from transport.handshake.messages import Initiation, Peer
from transport.wire.datagrams import INIT_SLICE, Suite, encode_reset

MOST_DEEDS = 60
SOURCES = (STRANGER, ("192.0.2.1", 7450), ("192.0.2.2", 7450), ("10.0.0.1", 1), ("2001:db8::1", 2))


class _Saying:
    """A payload that says any bytes."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def encode(self) -> bytes:
        return self._payload


class _Attack:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.world = World()
        wire = self.world.wire
        self.seen = [(each.data, each.destination) for each in wire.sent]
        self.stranger = PrivateKey.from_raw(bytes(range(32)))

    def run(self) -> None:
        world, reader = self.world, self.reader
        for _ in range(MOST_DEEDS):
            if not reader:
                break
            before = len(world.wire.sent)
            match reader.below(7):
                case 0 | 1:
                    data, to = self._changed()
                case 2:
                    data, to = self._init(), world.server.address
                case 3:  # a client begins anew, and answers are late: they can be guessed at
                    world.wire.cut()
                    world.wire.largest = reader.choice((1432, HANDSHAKE_SLICE_SIZE))
                    world.evil.connect(world.server, patience=5.0)
                    world.wire.collect()
                    self._see()
                    world.wire.heal()
                    continue
                case 4:
                    world.wire.advance(reader.choice((0.01, 0.3, 2.0, 6.0, 40.0)))
                    self._see()
                    continue
                case 5:  # that the server has lost the session, true or not
                    token = world.evil.session.keys.current.reset_token
                    token = token if reader.chance(0.7) else reader.take(16).ljust(16, b"\0")
                    data, to = encode_reset(bytes(7), token), world.evil.address
                case _:
                    data, to = reader.choice(self.seen)
            self._inject(data, to)
            sent = world.wire.collect()
            out = [each for each in sent if each.source == to and each.destination in SOURCES[::3]]
            # The last slice of an init is answered with three, together smaller than all of its.
            caused = 3 * HANDSHAKE_SLICE_SIZE if data[:1] == bytes((INIT_SLICE,)) else len(data)
            assert sum(len(each.data) for each in out) <= caused, "an answer that is too large"
            self.seen += [(each.data, each.destination) for each in world.wire.sent[before:]]
            del self.seen[:-200]
            world.check()
            stranger = self.stranger.public
            peers = [session.peer for session in world.server.demux.live_sessions()]
            assert stranger not in peers
            assert len(peers) == len(set(peers))
        world.wire.advance(0.3)
        world.neighbour_lives()

    def _see(self) -> None:
        self.seen += [(each.data, each.destination) for each in self.world.wire.sent[-20:]]

    def _changed(self) -> tuple[bytes, tuple[str, int]]:
        reader = self.reader
        honest, to = reader.choice(self.seen)
        data = bytearray(honest)
        for _ in range(reader.below(4)):
            data[reader.number(2) % len(data)] = reader.edge(8)
        if reader.chance(0.3):
            del data[reader.number(2) % (len(data) + 1) :]
        if reader.chance(0.1):
            data += reader.blob(1400)
        if len(data) > 32 and reader.chance(0.5):
            stamper = MacStamper(self._at(to).identity.public.raw)
            data = bytearray(stamper.stamp(bytes(data[:-32]), self.world.wire.now))
        return bytes(data), reader.choice((to, self.world.server.address, self.world.evil.address))

    def _init(self) -> bytes:
        """Of somebody known, or not, with any payload."""
        reader, world = self.reader, self.world
        identity = world.evil.identity if reader.chance(0.7) else self.stranger
        init = Initiation(
            identity,
            Peer(world.server.identity.public),
            reader.choice(tuple(Suite)),
            reader.number(4),
            hybrid=reader.chance(0.5),
        )
        size = 88  # of every payload; less or more is no init
        payload = b"".join(reader.edge(32).to_bytes(4, "little") for _ in range(size // 4))
        try:
            clear = init.init(_Saying(payload))
        except ValueError:
            return payload
        return MacStamper(world.server.identity.public.raw).stamp(clear, world.wire.now)

    def _at(self, address):
        return self.world.wire.hosts.get(address, self.world.server)

    def _inject(self, data: bytes, to: tuple[str, int]) -> None:
        self._at(to).inject(data, self.reader.choice(SOURCES))


def run(data: bytes) -> None:
    _Attack(Reader(data)).run()


def seeds() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    for number in range(8):  # each of what was sent, again and again
        yield f"replay-{number}", bytes((6, number, 0, 6, number, 1, 4, 3, 6, number, 2))
    yield "init", bytes((2, 255, 0, 1, 2, 3, 4)) + bytes(range(0x80, 0x90)) + chance.randbytes(60)
    yield "reset", bytes((5, 255, 0, 4, 2, 5, 0)) + chance.randbytes(16) + bytes((1, 6, 255, 3))
    yield "answers", bytes((3, 0, 0, 0, 0, 0, 3)) + chance.randbytes(80)
    for number in range(6):
        yield f"any-{number}", chance.randbytes(160)
