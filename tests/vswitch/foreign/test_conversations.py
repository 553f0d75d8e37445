"""One conversation, without sockets: against KCP as others have it, and against liars."""

import heapq
import random
import struct
from collections import Counter, deque

import pytest

from tests.netns.foreign_client import Kcp
from transport.lanes.segments import HEADER, PARITY
from vswitch.errors import BadRecord
from vswitch.foreign import conversations
from vswitch.foreign.conversations import (
    LONGEST,
    WINDOW,
    Opening,
    PlainConversation,
    opening_untrusted,
)
from vswitch.frames.records import frame_record
from vswitch.testing import ethernet

A, B = b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b"
CONV = 0x8000_0001
STEP = 0.01  # seconds
DELAY = 0.03


def frame(source, target=b"\xff" * 6, size=60):
    return ethernet(target, source, 0x88B5, bytes(size - 14))


def push(data, *, conv=CONV, number=0, una=0, fragment=0):
    return struct.pack("<IBBHIIII", conv, 81, fragment, 32, 7, number, una, len(data)) + data


class FromDescription:
    """A client that was written from the description of the format."""

    def __init__(self):
        self.out = []
        self.kcp = Kcp(CONV, self.out.append)

    def write(self, data, now):
        self.kcp.write(data, now)

    def take(self, datagram, now):
        return self.kcp.receive(datagram, now)

    def tick(self, now):
        self.kcp.tick(now)
        return self.kcp.waiting


class InC:
    """KCP in C, set as kcp-go is when nothing is set."""

    def __init__(self):
        self.out = []
        siokcp = pytest.importorskip("siokcp", reason="no wheel for this version of Python")
        self.kcp = siokcp.KCPConnection(CONV, self._send, lambda _: None)
        self.kcp.nodelay(0, 100, 0, 0)
        self.kcp.wndsize(32, 32)
        self.kcp.rcv_wnd = 32  # it takes no fewer than 128 otherwise
        self.kcp.setmtu(1400)

    def _send(self, datagram):
        self.out.append(datagram)
        return 0

    def write(self, data, now):
        size = 1400 - 24  # kcp-go cuts what is written before KCP would
        for at in range(0, len(data), size):
            self.kcp.send(data[at : at + size])

    def take(self, datagram, now):
        self.kcp.current = int(now * 1000)
        assert self.kcp.receive_data(datagram) >= 0
        return b"".join(iter(self.kcp.next_event, None))

    def tick(self, now):
        self.kcp.update(int(now * 1000))
        return self.kcp.waitsnd() > 2 * WINDOW


@pytest.mark.parametrize("peer", [FromDescription, InC])
@pytest.mark.parametrize("loss", [0.0, 0.05, 0.2])
def test_frames_cross_both_ways_in_order_whatever_is_lost(peer, loss):
    chance, theirs = random.Random(f"{peer} {loss}"), peer()
    ours = PlainConversation(Opening(CONV), 1500, Counter(), 0.0)
    sent = [frame(A, B, chance.choice((60, 590, 1514))) for _ in range(400)]
    records = deque(map(frame_record, sent))
    stream = b"".join(records)
    to_us, there, back = deque(sent), [], b""
    wire, now, count = [], 0.0, 0
    while len(back) < len(stream) or len(there) < len(sent):
        now += STEP
        assert now < 600, "it has come to a halt"
        while wire and wire[0][0] <= now:
            _, _, to_ours, datagram = heapq.heappop(wire)
            if to_ours:
                ours.receive_untrusted([datagram], now)
                there += [bytes(each[4:]) for each in ours.take_untrusted(64, now)]
            else:
                back += theirs.take(datagram, now)
        while to_us and not theirs.tick(now):
            theirs.write(frame_record(to_us.popleft()), now)
        theirs.tick(now)
        if records and ours.room > 0:
            for _ in range(ours.write(list(records)[:64], now)):
                records.popleft()
        leaving = [(True, each) for each in theirs.out]
        leaving += [(False, each) for each in ours.datagrams(now)]
        theirs.out.clear()
        for to_ours, datagram in leaving:
            assert len(datagram) <= 1400
            count += 1
            if chance.random() >= loss:
                heapq.heappush(wire, (now + DELAY, count, to_ours, datagram))
    assert there == sent
    assert back == stream
    assert not ours.has_gone(now)


def test_who_speaks_something_else_is_told_so():
    conversation = PlainConversation(Opening(CONV), 1500, Counter(), 0.0)
    short = [push(b"\xbc\xbc\0\1x" * 3, number=number) for number in range(7)]
    conversation.receive_untrusted(short[:5], 0.0)
    with pytest.raises(BadRecord, match="something else"):
        conversation.receive_untrusted(short[5:], 0.0)


def test_fragments_that_make_no_message_are_the_end():
    conversation = PlainConversation(Opening(CONV), 1500, Counter(), 0.0)
    with pytest.raises(BadRecord, match="another KCP"):
        conversation.receive_untrusted([push(b"x", fragment=200)], 0.0)


def test_a_peer_that_takes_nothing_is_asked():
    conversation = PlainConversation(Opening(CONV), 1500, Counter(), 0.0)
    shut = struct.pack("<IBBHIIII", CONV, 84, 0, 0, 0, 0, 0, 0)
    conversation.receive_untrusted([shut], 0.0)
    assert conversation.write([frame_record(frame(A))], 0.0) == 1
    (asked,) = conversation.datagrams(conversation.deadline())
    assert asked[4] == 83
    conversation.receive_untrusted([shut[:6] + b"\x20" + shut[7:]], 0.5)
    (sent,) = conversation.datagrams(0.5)
    assert sent[4] == 81


def test_a_frame_above_the_mtu_is_dropped_and_counted():
    dropped = Counter()
    conversation = PlainConversation(Opening(CONV), 1500, dropped, 0.0)
    short, long = (frame_record(frame(A, B, size)) for size in (60, 1523))
    assert conversation.write([short, long, short], 0.0) == 3
    (sent,) = conversation.datagrams(0.0)
    assert sent[24:] == short + short
    conversation.receive_untrusted([push(long + short)], 0.0)
    assert conversation.take_untrusted(64, 0.1) == [short]
    assert dropped["oversize"] == 2


def test_what_is_held_and_sent_to_one_who_answers_nothing_is_bounded():
    conversation = PlainConversation(Opening(CONV), 1500, Counter(), 0.0)
    records = [frame_record(frame(A, B, 1514))] * 1000
    now, sent, taken = 0.0, 0, 0
    while not conversation.has_gone(now):
        taken += conversation.write(records, now)
        sent += sum(map(len, conversation.datagrams(now)))
        assert conversation.held < (WINDOW + 4) * 1400
        now = conversation.deadline()
    assert taken <= conversations.FIRST_WINDOW
    assert sent < 25_000


def test_segments_from_a_liar_are_bounded():
    dropped = Counter()
    conversation = PlainConversation(Opening(CONV), 1500, dropped, 0.0)
    for number in range(1, 5000):
        conversation.receive_untrusted([push(bytes(1400), number=number, una=number)], 0.0)
        assert sum(map(len, conversation.datagrams(0.0))) <= 1400
        assert conversation.held < 2 * WINDOW * LONGEST
    assert dropped["beyond_window"] > 4900


def test_an_opening_says_where_to_take_up():
    ack = struct.pack("<IBBHIIII", CONV, 82, 0, 32, 7, 3, 9, 0)
    assert opening_untrusted(ack + push(b"x", number=4, una=9)) == Opening(CONV, 4, 9)


def test_parity_is_for_sessions_alone():
    """What a listener would never look at must not pile up in its conversation."""
    dropped = Counter()
    conversation = PlainConversation(Opening(7), 1500, dropped, 0.0)
    row = HEADER.pack(7, PARITY, 0, 32, 0, 0, 0, 4) + b"rows"
    for _ in range(100):
        conversation.receive_untrusted([row], 0.0)
    assert dropped["not_kcp"] == 100
    assert conversation.held == 0
    assert conversation._kcp.parity == []
