"""Whatever numbers somebody with valid keys writes: no core raises, and the neighbour's session
goes on."""

import random
import struct

import pytest

from transport.constants import KCP_MTU, REJECT_AFTER_UNITS
from transport.crypto.cipher import Sealer, conversation_number
from transport.handshake.admission import Grant
from transport.lanes.lanes import SPARSE
from transport.testing.cores import KnownPeers, Wire
from transport.wire.datagrams import CONTROL, DATA, DATAGRAM
from transport.wire.trains import cut

COUNTERS = [0, 1, 4095, 2**22, REJECT_AFTER_UNITS - 1, REJECT_AFTER_UNITS, 2**32, 2**63, 2**64 - 1]
COUNTERS += [2**64 - 2**13 - 2]
WORDS = [0, 1, 2, 127, 128, 16_383, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
STEPS = [0.0, 0.0, 0.001, 0.02, 0.3, 3.0, 40.0]


class Lawless(Sealer):
    """Seals under any counter, and leaves that of the honest program alone."""

    def __init__(self, sealer):
        self._encrypt, self._nonce, self._index = sealer._encrypt, sealer._nonce, sealer._index
        self.counter = sealer.counter
        self.limit = 2**64
        sealer.counter += 1


class Attack:
    """One hostile peer beside an honest one, at one victim, which has connected to the hostile one
    or been connected to."""

    def __init__(self, seed, *, initiator):
        self.rng = random.Random(seed)
        self.wire = wire = Wire(seed=seed)
        known = KnownPeers()
        self.victim = wire.host("198.51.100.1", authority=known)
        self.honest = wire.host("192.0.2.2")
        self.hostile = wire.host("192.0.2.1", authority=known)
        for host in (self.victim, self.honest, self.hostile):
            known.keys[host.identity.public] = Grant()
        self.honest.connect(self.victim)
        wire.settle()
        self.neighbour = self.victim.session
        self.initiator = initiator
        self.login()

    def login(self):
        one, other = self.victim, self.hostile
        (one if self.initiator else other).connect(other if self.initiator else one)
        self.wire.settle()
        self.session = self.victim.session
        now = self.wire.now
        if self.rng.random() < 0.7:
            for host in (one, other):
                host.session.open_datagrams(now)

    def number(self):
        return self.rng.choice([*WORDS, self.rng.getrandbits(32), self.rng.randrange(64)])

    def segments(self):
        rng = self.rng
        conv = conversation_number(self.hostile.session.keys.current.handshake_hash)
        conv ^= rng.choice([0, 0, 0, SPARSE, 2])
        out = b""
        for _ in range(rng.choice([1, 1, 3, 40])):
            data = bytes(rng.choice([0, 0, 1, 3, 1000]))
            size = rng.choice([len(data)] * 6 + [self.number()])
            out += struct.pack(
                "<IBBHIIII",
                conv,
                rng.choice([81, 81, 81, 82, 82, 83, 84, rng.randrange(256)]),
                rng.choice([0, 0, 0, 1, 127, 255]),
                rng.choice([0, 1, 128, 65_535]),
                self.number(),
                self.number(),
                self.number(),
                size,
            )
            out += data
        return out[:KCP_MTU]

    def items(self):
        rng, out = self.rng, b""
        for _ in range(rng.choice([1, 2, 16, 17])):
            kind = rng.choice([1, 2, 4, 5, 6, 7, 9, 9, 8, 3, rng.randrange(256)])
            if kind in (3, 8) and rng.random() < 0.8:
                continue  # seldom: it ends the session, or asks for new keys
            size = {1: 8, 2: 8, 4: 8, 5: 8, 6: 4, 7: 6, 9: 16, 3: 2, 8: 0}.get(kind, 5)
            size = size if rng.random() < 0.9 else rng.randrange(40)
            value = rng.choice([bytes(size), b"\xff" * size, rng.randbytes(size)])
            out += bytes((kind,)) + size.to_bytes(2, "little") + value
        return out

    def send(self):
        rng = self.rng
        sealer = Lawless(self.hostile.session.keys.current.sealer)
        if rng.random() < 0.2:
            sealer.counter = rng.choice([*COUNTERS, rng.getrandbits(64)])
        kind = rng.choice([DATA, DATA, CONTROL, DATAGRAM])
        plaintext = {DATA: self.segments, CONTROL: self.items, DATAGRAM: self.items}[kind]()
        size = rng.choice([1416, 1416, 200, 64])
        train = sealer.seal_unit(kind, plaintext, size if len(plaintext) < 128 * size else 1416)
        datagrams = cut((train[0], self.hostile.address, train[1]))
        if rng.random() < 0.2:
            rng.shuffle(datagrams)
        for datagram in datagrams[: None if rng.random() < 0.9 else -1]:
            self.victim.inject(datagram, self.hostile.address)

    def step(self):
        if self.session.ended is not None or self.hostile.session.ended is not None:
            self.login()
        match self.rng.random():
            case chance if chance < 0.75:
                self.send()
            case chance if chance < 0.8:
                for host in (self.victim, self.hostile):
                    host.session.renew()
                    host.demux.touch(host.session)
            case chance if chance < 0.85:
                self.victim.session.bulk.send(
                    [bytes(self.rng.choice([0, 100, 5000]))], self.wire.now
                )
                self.victim.demux.touch(self.victim.session)
            case _:
                self.victim.read()
        self.wire.advance(self.rng.choice(STEPS))


@pytest.mark.parametrize("initiator", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_no_sequence_of_authentic_units_makes_a_core_raise(seed, initiator):
    attack = Attack(seed, initiator=initiator)
    for number in range(250):
        attack.step()
        attack.honest.send(b"%d" % number)
        attack.wire.settle()
        received = attack.neighbour.bulk.take_messages()
        attack.victim.demux.touch(attack.neighbour)
        assert received[-1:] == [b"%d" % number]
    assert attack.neighbour.ended is None
    assert attack.victim.demux.drops["core_failed"] == 0


def test_highest_counters_under_two_keys_are_refused():
    """Two datagrams ended the process of all: the sum of their counters did not fit its field."""
    attack = Attack(1, initiator=False)
    for _ in range(2):
        for host in (attack.victim, attack.hostile):
            host.session.open_datagrams(attack.wire.now)
        sealer = Lawless(attack.hostile.session.keys.current.sealer)
        sealer.counter = 2**64 - 2**13 - 2
        attack.victim.inject(sealer.seal(DATAGRAM, b"x"), attack.hostile.address)
        attack.victim.inject(Lawless(sealer).seal(DATAGRAM, b"x"), attack.hostile.address)
        attack.hostile.session.renew()
        attack.hostile.demux.touch(attack.hostile.session)
        attack.wire.advance(1.0)
    assert attack.session.ended is None
    assert attack.session.drops["counter_limit"] == 4
    assert attack.neighbour.ended is None
