"""What a peer with valid keys can do that means harm: nothing unbounded, and only to itself."""

import os
import random
import struct
from pathlib import Path

import pytest

from transport.constants import (
    CONTROL_PER_SECOND,
    DATA_HEADER_SIZE,
    INBOX_BYTES,
    KCP_MTU,
    MAX_CONTROL_ITEMS,
    MESSAGE_COST,
    SLICE_SIZE,
)
from transport.crypto.cipher import conversation_number
from transport.testing.cores import client_and_server
from transport.wire.control import (
    Close,
    CloseCode,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    encode_control,
)
from transport.wire.datagrams import CONTROL, DATA, INIT

PUSH = 81
VICTIM = ("203.0.113.9", 999)


class Hostile:
    """Seals what it likes towards the server, past its own session."""

    def __init__(self):
        self.wire, self.client, self.server = client_and_server()
        pair = self.client.session.keys.current
        self.conversation = conversation_number(pair.handshake_hash)
        self._seal = pair.sealer.seal
        self.wire.sent.clear()

    def segment(self, *, command=PUSH, fragment=0, number=0, una=0, data=b"", size=None):
        size = len(data) if size is None else size
        head = (self.conversation, command, fragment, 128, 0, number, una, size)
        return struct.pack("<IBBHIIII", *head) + data

    def data(self, plaintext, source=None):
        datagram = self._seal(DATA, plaintext)
        self.server.inject(datagram, source or self.client.address)
        return len(datagram)

    def control(self, *items, source=None):
        datagram = self._seal(CONTROL, encode_control(*items))
        self.server.inject(datagram, source or self.client.address)
        return len(datagram)

    def answers(self):
        """What the server sends for that, not delivered."""
        answers = self.wire.collect()
        self.wire._on_the_way.clear()
        return [each for each in answers if each.source == self.server.address]

    @property
    def drops(self):
        return self.server.session.drops


@pytest.fixture
def hostile():
    return Hostile()


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- Data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 23])
def test_plaintext_of_an_impossible_size(hostile, size):
    hostile.data(hostile.segment(data=bytes(60_000))[:size])
    assert hostile.drops == {"not_kcp": 1}
    assert hostile.server.session.ended is None
    assert hostile.answers() == []


@pytest.mark.parametrize("size", [24, KCP_MTU])
def test_plaintext_of_a_possible_size(hostile, size):
    hostile.data(hostile.segment(data=bytes(size - 24)))
    assert hostile.drops == {}
    assert hostile.server.read() == [bytes(size - 24)]


def test_the_limit_is_what_was_agreed():
    """A peer that asked for smaller datagrams in its handshake may not send larger ones."""
    hostile = Hostile()
    hostile.server.session.bulk.kcp.mtu = 600
    hostile.data(hostile.segment(data=bytes(600)))
    assert hostile.drops == {"not_kcp": 1}


def test_fragments_that_never_make_a_message_end_the_session(hostile):
    for number in range(300):
        hostile.data(hostile.segment(fragment=255, number=number, data=bytes(1000)))
    ended = hostile.server.session.ended
    assert ended.code == CloseCode.PROTOCOL
    assert not ended.by_peer
    assert hostile.server.read() == []
    hostile.wire.settle()
    assert hostile.client.session.ended.code == CloseCode.PROTOCOL


def test_segments_repeated_behind_a_long_gap_are_counted_and_answered_within_bounds(hostile):
    many = b"".join(hostile.segment(number=number) for number in range(1, 2001))
    hostile.data(many)
    hostile.answers()
    for _ in range(50):
        hostile.data(many)
        assert sum(len(each.data) for each in hostile.answers()) <= SLICE_SIZE + DATA_HEADER_SIZE
    assert hostile.drops == {"repeated": 100_000}
    assert hostile.server.session.ended is None


def test_empty_messages_are_messages(hostile):
    hostile.data(b"".join(hostile.segment(number=number) for number in range(58)))
    assert hostile.server.read() == [b""] * 58


def test_empty_messages_that_nobody_reads_are_bounded(hostile):
    number = 0
    for _ in range(2000):
        hostile.data(b"".join(hostile.segment(number=number + n) for n in range(58)))
        hostile.answers()
        number += 58
    assert len(hostile.server.session.bulk.inbox) <= INBOX_BYTES / MESSAGE_COST + 58


def test_an_acknowledgement_flood_costs_no_more_than_it_brings(hostile):
    brought = sent = 0
    flood = b"".join(hostile.segment() for _ in range(58))
    for _ in range(500):
        brought += hostile.data(flood)
        sent += sum(len(each.data) for each in hostile.answers())
    assert sent <= brought


def test_acknowledgements_do_not_pile_up_behind_junk(hostile):
    """Segments that deserve an answer, and then one that KCP refuses."""
    brought = sent = 0
    flood = b"".join(hostile.segment() for _ in range(57))
    junk = hostile.segment(command=99)
    for _ in range(200):
        brought += hostile.data(flood + junk)
        sent += sum(len(each.data) for each in hostile.answers())
        assert sent <= brought
    assert hostile.drops == {"not_kcp": 200, "repeated": 200 * 57 - 1}


def test_memory_is_bounded_whatever_the_segments_say(hostile):
    rng = random.Random(11)
    before = resident_bytes()
    for _ in range(20_000):
        data = bytes(rng.randrange(1300))
        hostile.data(
            hostile.segment(
                fragment=rng.choice([0, 0, 1, 255]),
                number=rng.choice([rng.randrange(3000), rng.getrandbits(32)]),
                una=rng.choice([0, rng.getrandbits(32)]),
                data=data,
            )
        )
        hostile.answers()
        if hostile.server.session.ended:
            hostile = Hostile()
    assert resident_bytes() - before < 50e6


def test_lies_about_acknowledgements_leave_the_other_sessions_alone(hostile):
    wire, server = hostile.wire, hostile.server
    known = server.demux._responder._admission._authority
    honest = wire.host("192.0.2.2")
    known.keys[honest.identity.public] = known.keys[hostile.client.identity.public]
    liar = server.session
    honest.connect(server)
    wire.settle()
    server.send(*[bytes(1000)] * 10)
    liar.bulk.send([bytes(1000)] * 10, wire.now)
    hostile.data(hostile.segment(command=84, una=0x7FFFFFFF))
    wire.advance(1.0)
    assert honest.read() == [bytes(1000)] * 10


# --- Control -----------------------------------------------------------------------------------


def test_control_that_is_none(hostile):
    hostile.server.inject(hostile._seal(CONTROL, b"\x01"), hostile.client.address)
    assert hostile.drops == {"bad_control": 1}
    assert hostile.answers() == []


def test_control_is_limited(hostile):
    for _ in range(3 * int(CONTROL_PER_SECOND)):
        hostile.control(Pong(bytes(8)))
    assert hostile.drops["control_limited"] >= 2 * CONTROL_PER_SECOND - 1
    hostile.wire.now += 1.0
    hostile.drops.clear()
    hostile.control(Pong(bytes(8)))
    assert hostile.drops == {}


@pytest.mark.parametrize("item", [PathChallenge(bytes(8)), Ping(bytes(8))], ids=["path", "ping"])
def test_answers_are_no_larger_than_the_questions(hostile, item):
    """Many questions in one datagram, whose source may be forged: it is the peer's own."""
    hostile.wire.now += 0.5  # no ping of the server's own in between
    brought = sent = 0
    for _ in range(20):
        brought += hostile.control(*[item] * MAX_CONTROL_ITEMS, source=VICTIM)
        sent += sum(len(each.data) for each in hostile.answers() if each.destination == VICTIM)
    assert sent <= 3 * brought
    if isinstance(item, PathChallenge):
        assert 0 < sent <= brought + 20 * 43  # and the server's own challenge


def test_answers_to_a_challenge_nobody_made(hostile):
    hostile.control(PathResponse(bytes(8)), PathResponse(b"12345678"), source=VICTIM)
    assert hostile.server.session.paths.current == hostile.client.address


def test_pongs_nobody_asked_for_change_no_round_trip(hostile):
    hostile.wire.now += 5.0
    before = hostile.server.session.statistics(hostile.wire.now).rtt
    hostile.control(Pong(bytes(8)), Pong(b"12345678"))
    assert hostile.server.session.statistics(hostile.wire.now).rtt == before


def test_a_client_cannot_make_the_server_start_a_handshake(hostile):
    hostile.control(Rekey())
    hostile.wire.advance(10.0)
    assert not [each for each in hostile.wire.sent if each.data[0] == INIT]


def test_a_server_that_asks_for_new_keys_all_the_time_gets_one_handshake_at_a_time():
    wire, client, server = client_and_server(delay=0.5)
    seal = server.session.keys.current.sealer.seal
    wire.sent.clear()
    for _ in range(20):
        client.inject(seal(CONTROL, encode_control(Rekey())), server.address)
        wire.advance(0.01)
    assert len([each for each in wire.sent if each.data[0] == INIT]) == 1


def test_a_close_with_any_reason_ends_only_this_session(hostile):
    hostile.control(Close(0xFFFF, "\x1b[31m" + "x" * 500))
    ended = hostile.server.session.ended
    assert ended.code == 0xFFFF
    assert ended.reason.isprintable()
    assert len(ended.reason) <= 200
    assert ended.by_peer
    hostile.wire.settle()
    assert hostile.server.demux.sessions == 0


def test_control_after_the_end_is_not_answered(hostile):
    hostile.wire.cut()
    hostile.server.close(CloseCode.SHUTDOWN)
    hostile.wire.advance(0.2)  # the repeats are over
    for _ in range(30):
        hostile.control(*[Ping(bytes(8))] * MAX_CONTROL_ITEMS)
    answers = hostile.answers()
    assert len(answers) == 1  # the CLOSE again
    assert hostile.server.session.ended.code == CloseCode.SHUTDOWN
