# Invariant: whatever datagrams come in, with keys or without, an endpoint raises nothing, counts
# each one under a documented reason, makes no session or handshake of it, sends no more bytes than
# it got (none at all without a valid mac1), and its live sessions go on as if nothing had been.
"""Random, mutated and structured garbage against the decoders, the demux, KCP and a session."""

import os
import random
import struct
from collections import Counter
from pathlib import Path

import pytest

from transport.errors import BadPacket
from transport.handshake.admission import Grant
from transport.handshake.cookie import MacStamper, check_mac1_untrusted
from transport.handshake.messages import Initiation, Peer
from transport.handshake.responder import HALF_OPEN_PER_PEER
from transport.lanes.kcp import Conversation
from transport.stats import DROP_REASONS
from transport.testing.cores import KnownPeers, Wire
from transport.wire.control import decode_control_untrusted
from transport.wire.datagrams import (
    CONTROL,
    DATA,
    DATAGRAM,
    HEADER,
    INIT,
    RESET,
    InitPayload,
    ResponsePayload,
    Suite,
    decode_cookie_index_untrusted,
    decode_init_payload_untrusted,
    decode_init_untrusted,
    decode_response_payload_untrusted,
    decode_response_untrusted,
    encode_init_clear,
    encode_response,
)
from transport.wire.trains import cut

# Inputs for each of the five targets; one that takes a key exchange gets a tenth of that.
INPUTS = int(os.environ.get("VSWITCH_FUZZ_INPUTS", "18000"))
SEED = 7450
STRANGER = ("203.0.113.9", 999)
PUSH = 81
CONV = 0x11223344
MOST_MEMORY = 50e6  # bytes that a target may keep in all, however long it runs


def mutated(rng, honest):
    """Something like `honest`, or nothing like it."""
    data = bytearray(honest)
    match rng.randrange(8):
        case 0:
            return rng.randbytes(rng.randrange(1500))
        case 1:
            return bytes(data[: rng.randrange(len(data) + 1)])
        case 2:
            return bytes(data) + rng.randbytes(rng.randrange(1, 100))
        case 3:
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        case 4:
            return honest[:1] + rng.randbytes(len(honest))[1:]  # the type alone is right
        case 5:
            return honest[:16] + rng.randbytes(len(honest))[16:]  # the header is right
        case _:
            for _ in range(rng.randrange(1, 4)):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def bounded_memory():
    before = resident_bytes()
    yield
    assert resident_bytes() - before < MOST_MEMORY


def test_decoders():
    rng = random.Random(SEED)
    noise = rng.randbytes(184)
    credential = Peer(Wire().host("192.0.2.1").identity.public).credential
    honest = {
        decode_init_untrusted: encode_init_clear(credential, Suite.AESGCM, 7) + noise + bytes(32),
        decode_response_untrusted: encode_response(7, 8, noise[:96]) + bytes(32),
        decode_init_payload_untrusted: InitPayload(timestamp_ns=1, receive_window=128).encode(),
        decode_response_payload_untrusted: ResponsePayload(
            association=1, index_copy=2, receive_window=128
        ).encode(),
        decode_cookie_index_untrusted: b"\x03\x01" + bytes(62),
        decode_control_untrusted: b"\x04\x08\x0012345678\x03\x04\x00\x01\x00no\x63\x01\x00x",
    }
    refused = 0
    for _ in range(INPUTS // len(honest)):
        for decode, sample in honest.items():
            decode(sample)
            reason = None
            try:
                decode(mutated(rng, sample))
            except BadPacket as bad:
                reason = bad.reason
                refused += 1
            assert reason is None or reason in DROP_REASONS
    assert refused > INPUTS / 4


class World:
    """A server with live sessions of both suites, and everything that was ever sent there."""

    def __init__(self):
        self.wire = Wire(seed=SEED)
        self.known = KnownPeers()
        self.server = self.wire.host("198.51.100.1", authority=self.known)
        self.clients = []
        for number, suite in enumerate([Suite.CHACHAPOLY, Suite.AESGCM, Suite.CHACHAPOLY]):
            client = self.wire.host(f"192.0.2.{number + 1}", suite=suite)
            self.known.keys[client.identity.public] = Grant()
            client.connect(self.server)
            self.wire.settle()
            self.clients.append(client)
            client.send(b"x" * 100, b"y" * 3000)
            self.server.send(b"z" * 2000)
            for host in (client, self.server):
                host.session.open_datagrams(self.wire.now)
                host.session.datagrams.send([b"lane " * 500], self.wire.now)
            self.wire.advance(0.01)
            client.read()
            self.server.read()
        self.wire.advance(0.5)
        # A cookie too: an init that is not newer than the last.
        self.wire.hosts[self.server.address].inject(self.to_server()[0], STRANGER)
        self.wire.settle()
        self.wire.sent = [each for each in self.wire.sent if each.data]

    def to_server(self):
        return [each.data for each in self.wire.sent if each.destination == self.server.address]

    def state(self):
        demux = self.server.demux
        sessions = tuple(demux._responder.sessions.items())
        return (
            demux.half_open,
            sessions,
            tuple(demux._indices.owners),
            tuple((session.keys.current, session.paths.current) for _, session in sessions),
        )

    def still_works(self):
        sessions = [event.session for event in self.server.events]
        for number, (client, session) in enumerate(zip(self.clients, sessions, strict=True)):
            assert session.ended is None
            client.send(b"client %d" % number)
            session.bulk.send([b"server %d" % number], self.wire.now)
            self.server.demux.touch(session)
            self.wire.advance(0.1)
            assert session.bulk.take_messages() == [b"client %d" % number]
            assert client.read() == [b"server %d" % number]


def drops(world):
    sessions = [session for _, session in world.state()[1]]
    return sum((session.drops for session in sessions), world.server.demux.drops.copy())


def accounted_for(world):
    """Datagrams that were dropped, or are slices that wait for others."""
    waiting = sum(session.reassembly.waiting for _, session in world.state()[1])
    return sum(drops(world).values()) + waiting


def in_trains(batch, rng):
    """Some datagrams of one size and sender as the kernel joins them, the others alone."""
    trains = []
    for data, address in batch:
        last = trains[-1] if trains else None
        if last and data and last[1] == address and rng.random() < 0.7:
            joined, _, size = last
            if joined and len(joined) % size == 0 and len(data) <= size:
                trains[-1] = (joined + data, address, size)
                continue
        trains.append((data, address, len(data)))
    return trains


def test_datagrams_from_outsiders(bounded_memory):
    world, rng = World(), random.Random(SEED)
    wire, server = world.wire, world.server
    honest = sorted(set(world.to_server()))
    honest += [each.data for each in wire.sent if each.source == server.address]  # reflected
    known = set(honest)
    before, dropped = world.state(), accounted_for(world)
    count = asked = answered = 0
    while count < INPUTS:
        batch, source = [], STRANGER
        for _ in range(rng.randrange(1, 65)):
            data = mutated(rng, rng.choice(honest))
            if data in known:
                continue
            if rng.random() < 0.3:
                source = rng.choice(
                    [STRANGER, world.clients[0].address, ("10.0.0.1", count % 60_000)]
                )
            batch.append((data, source))
        wire.now += 0.0005  # so little that no session falls silent however many there are
        server.demux.receive_trains(in_trains(batch, rng), wire.now)
        replies = [
            datagram
            for train in server.demux.datagrams_to_send(wire.now)
            for datagram in cut(train)
        ]
        count += len(batch)
        asked += sum(len(data) for data, _ in batch)
        answered += sum(map(len, replies))
        # One index in 4,096 looks as if the server had given it away before it was started anew.
        resets = [each for each in replies if each[0] == RESET]
        assert len(resets) <= sum(len(data) > len(resets[0]) for data, _ in batch if resets)
        handshakes = len(replies) - len(resets)
        assert handshakes <= sum(has_valid_mac1(server, data) for data, _ in batch)
    assert answered <= asked
    assert world.state() == before
    assert accounted_for(world) - dropped == count
    assert set(drops(world)) <= set(DROP_REASONS)
    world.still_works()


def has_valid_mac1(server, data):
    try:
        check_mac1_untrusted(server.identity.public.raw, data)
    except BadPacket:
        return False
    return data[0] == INIT


def test_answers_from_outsiders():
    """The same against a client that waits for answers and has a session besides."""
    world, rng = World(), random.Random(SEED)
    wire, client, server = world.wire, world.clients[0], world.server
    wire.filter = lambda each: []
    client.connect(server, patience=1e9)
    honest = [each.data for each in wire.sent if each.source == server.address]
    wire.collect()
    index = next(iter(client.demux._initiator._negotiations)).index.to_bytes(4, "little")
    honest += [data[:4] + index + data[8:] for data in honest if data[0] == 3]
    honest += [data[:8] + index + data[12:] for data in honest if data[0] == 2]
    before = set(client.demux._indices.owners)
    known = set(honest[: len(world.wire.sent)])
    for _ in range(INPUTS):
        data = mutated(rng, rng.choice(honest))
        if data not in known:
            client.inject(data, rng.choice([STRANGER, server.address]))
    assert wire.collect() == []
    assert set(client.demux._indices.owners) == before
    assert set(client.demux.drops) <= set(DROP_REASONS)
    assert client.demux.sessions == 1
    wire.heal()
    wire.advance(10.0)  # and the true answer still counts
    assert client.session.association == server.session.association
    client.send(b"in")
    wire.settle()
    assert server.read() == [b"in"]


def kcp_garbage(rng):
    """Segments that are nearly right, in a row."""
    out = b""
    for _ in range(rng.randrange(1, 6)):
        data = rng.randbytes(rng.choice([0, 0, 1, 100, 1376]))
        out += struct.pack(
            "<IBBHIIII",
            CONV if rng.random() < 0.95 else rng.getrandbits(32),
            rng.choice([81, 81, 81, 82, 82, 83, 84, rng.randrange(256)]),
            rng.choice([0, 0, 0, 1, 127, 255]),
            rng.choice([0, 128, 2048, 0xFFFF]),
            rng.choice([0, rng.getrandbits(32)]),
            rng.choice([rng.randrange(300), rng.getrandbits(32)]),
            rng.choice([0, rng.randrange(300), rng.getrandbits(32)]),
            len(data) if rng.random() < 0.9 else rng.getrandbits(rng.choice([4, 16, 32])),
        )
        out += data
    return out if rng.random() < 0.9 else mutated(rng, out)


def fresh_conversation():
    return Conversation(
        CONV, mtu=1400, send_window=2048, receive_window=2048, drops=Counter(), now=0.0
    )


def test_kcp_behind_the_seal(bounded_memory):
    rng = random.Random(SEED)
    victim, now = fresh_conversation(), 0.0
    refused = 0
    for _ in range(INPUTS):
        now += 0.001
        reason = None
        try:
            victim.input_untrusted([kcp_garbage(rng) or b"x"], now)
            victim.receive(1 << 20)
        except BadPacket as bad:
            reason = bad.reason
        if reason is not None:
            assert reason == "not_kcp"
            refused += 1
        if rng.random() < 0.01:
            victim = fresh_conversation()
        if rng.random() < 0.2 and victim.in_flight < 100_000:
            victim.send([rng.randbytes(rng.randrange(3000))])
        victim.recovery.take_acked(now)
        victim.recovery.handle_timeout(now)
        victim.flush(now)
        while victim.repeat(now) is not None:
            pass
        assert 0 <= victim.in_flight <= victim.unacknowledged
    assert refused > INPUTS / 10


def test_plaintext_behind_the_seal(bounded_memory):
    """What a peer with valid keys may say in data and control datagrams."""
    rng = random.Random(SEED)
    world = World()
    restarts = 0
    for number in range(INPUTS):
        wire, server, client = world.wire, world.server, world.clients[0]
        session = world.server.events[0].session
        sealer = client.session.keys.current.sealer
        if rng.random() < 0.5:
            honest_control = rng.choice(
                [
                    b"\x01\x08\x0012345678" * rng.randrange(1, 20),
                    b"\x04\x08\x0012345678\x05\x08\x0012345678\x08\x00\x00",
                    b"\x02\x08\x0012345678\x63\x05\x00abcde",
                    b"\x09\x10\x00" + struct.pack("<QQ", number, number + rng.randrange(9)),
                    b"\x03\x04\x00\x01\x00no" if number % 500 == 0 else b"\x08\x00\x00",
                ]
            )
            plaintext = honest_control if rng.random() < 0.5 else mutated(rng, honest_control)
            datagram = sealer.seal(CONTROL, plaintext)
        else:
            plaintext = rng.choice([kcp_garbage, rng_bytes])(rng)
            datagram = sealer.seal(rng.choice([DATA, DATAGRAM]), plaintext)
        wire.now += 0.02
        server.inject(datagram, rng.choice([client.address, STRANGER]))
        sent = sum(
            len(train)
            for train, address, _ in server.demux.datagrams_to_send(wire.now)
            if address == STRANGER
        )
        assert sent <= 3 * len(datagram)
        session.bulk.take_messages()
        if rng.random() < 0.01:  # what is not read is bounded
            session.datagrams.take_messages()
        assert session.lanes.datagrams.held < 5_000_000
        assert session.lanes.datagrams.meter.lost >= 0
        assert set(session.drops) <= set(DROP_REASONS)
        if session.ended:
            restarts += 1
            world = World()
    assert restarts < INPUTS / 50
    for other in world.server.events[1:]:
        assert other.session.ended is None


def rng_bytes(rng):
    return rng.randbytes(rng.randrange(1500))


def test_payloads_of_authentic_inits():
    """Somebody known says anything in its handshake: an answer or a reason, nothing else."""
    rng = random.Random(SEED)
    world = World()
    wire, server, client = world.wire, world.server, world.clients[0]
    good = InitPayload(timestamp_ns=2**62, receive_window=2048).encode()
    for number in range(INPUTS // 10):
        initiation = Initiation(
            client.identity, Peer(server.identity.public), rng.choice(list(Suite)), number + 1
        )
        payload = mutated(rng, good) if rng.random() < 0.8 else rng.randbytes(88)
        payload = payload[:88].ljust(88, b"\0")
        init = initiation.init(Encoded(payload))
        wire.now += 0.06
        server.inject(MacStamper(server.identity.public.raw).stamp(init, 0.0), ("10.0.0.1", 1))
        replies = [
            each for train in server.demux.datagrams_to_send(wire.now) for each in cut(train)
        ]
        # What else leaves are goodbyes of sessions whose peers have long been silent.
        assert sum(len(each) for each in replies if each[0] != CONTROL) <= 232
        assert server.demux.half_open <= HALF_OPEN_PER_PEER
        server.demux.handle_timeout(wire.now)
    assert set(server.demux.drops) <= set(DROP_REASONS)
    assert server.demux.drops["malformed"] > 0
    wire.advance(6.0)
    assert server.demux.half_open == 0


class Encoded:
    """A payload that is these bytes already."""

    def __init__(self, data):
        self.data = data

    def encode(self):
        return self.data


def test_headers_of_sealed_datagrams():
    """Every index, counter and slice field that can be written, for a session that lives."""
    rng = random.Random(SEED)
    world = World()
    index = world.server.events[0].session.keys.current.local_index
    edges = [0, 1, 4095, 4096, 2**32 - 1, 2**32, 2**63, 2**64 - 2**13 - 1, 2**64 - 1]
    before = world.state()
    for _ in range(INPUTS // 5):
        header = HEADER.pack(
            rng.choice([DATA, CONTROL]),
            rng.choice([0, 0, 1, 15, 255]),
            rng.choice([1, 1, 0, 2, 16, 255]),
            rng.choice([0, 0, 1]),
            rng.choice([index, index, index ^ 1, 0, 2**32 - 1]),
            rng.choice([*edges, rng.getrandbits(64)]),
        )
        world.server.inject(header + rng.randbytes(rng.choice([0, 15, 16, 40, 1416])), STRANGER)
    assert world.wire.collect() == []
    assert world.state() == before
    world.still_works()
