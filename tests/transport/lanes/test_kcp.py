"""The KCP engine: reliable, ordered, bounded, and unharmed by an authenticated hostile peer."""

import os
import random
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.constants import (
    KCP_HEADER_SIZE,
    KCP_MTU,
    MAX_FRAGMENTS,
    MESSAGE_COST,
    RECEIVE_BYTES,
    SHUT_INTERVAL,
)
from transport.errors import BadPacket
from transport.lanes.arrivals import REPEATED_ACKS, SEGMENT_COST
from transport.lanes.kcp import PEER_WINDOW, Conversation
from transport.lanes.segments import HEADER

CONV = 0x11223344
PUSH, ACK, ASK, TELL, PARITY = 81, 82, 83, 84, 85
MSS = KCP_MTU - 24
EVERYTHING = 1 << 40


def conversation(now=0.0, *, window=2048, mtu=KCP_MTU, conv=CONV):
    return Conversation(
        conv, mtu=mtu, send_window=window, receive_window=window, drops=Counter(), now=now
    )


def drops(conversation):
    return dict(conversation.arrivals._drops)


def segments(datagrams):
    """Command, number and window of each segment in them."""
    found = []
    for datagram in datagrams:
        at = 0
        while at < len(datagram):
            _, command, _, window, _, number, _, size = HEADER.unpack_from(datagram, at)
            found.append((command, number, window))
            at += KCP_HEADER_SIZE + size
    return found


def segment(command=PUSH, *, fragment=0, window=128, number=0, una=0, data=b"", size=None):
    """One KCP segment, as anyone who has the keys could write it."""
    size = len(data) if size is None else size
    return struct.pack("<IBBHIIII", CONV, command, fragment, window, 0, number, una, size) + data


def due(conversation, now):
    """What leaves now, repetitions too."""
    recovery = conversation.recovery
    recovery.take_acked(now)
    if now >= recovery.deadline():
        recovery.handle_timeout(now)
    return [*iter(lambda: conversation.repeat(now), None), *conversation.flush(now)]


def exchange(a, b, now, lose=lambda: False):
    """Both flush once, and take what the other had; True if anything was sent."""
    there = [d for d in due(a, now) if not lose()]
    if there:
        b.input_untrusted(there, now)
    back = [d for d in due(b, now) if not lose()]
    if back:
        a.input_untrusted(back, now)
    return bool(there or back)


def refused(conversation, *datagrams, now=0.0):
    with pytest.raises(BadPacket) as caught:
        conversation.input_untrusted(datagrams, now)
    return caught.value.reason == "not_kcp"


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# --- What it promises ------------------------------------------------------------------------


def test_messages_arrive_in_order():
    a, b = conversation(), conversation()
    a.send([b"one", b"two", b"three"])
    exchange(a, b, 0.0)
    assert b.receive(EVERYTHING) == [b"one", b"two", b"three"]
    assert b.receive(EVERYTHING) == []


def test_the_empty_message_is_a_message():
    a, b = conversation(), conversation()
    a.send([b"", b"x", b""])
    assert a.has_work
    assert exchange(a, b, 0.0)
    assert b.receive(EVERYTHING) == [b"", b"x", b""]
    assert not a.has_work


@pytest.mark.parametrize("loss", [0.1, 0.5])
def test_loss_both_ways(loss):
    rng = random.Random(7)
    a, b = conversation(), conversation()
    sent = [rng.randbytes(rng.randrange(3000)) for _ in range(200)]
    a.send(sent)
    got = []
    now = 0.0
    while a.has_work:
        exchange(a, b, now, lambda: rng.random() < loss)
        got += b.receive(EVERYTHING)
        now += 0.010
        assert now < 60
    assert got == sent
    assert a.in_flight == 0


@pytest.mark.parametrize("size", [0, 1, MSS, MSS + 1, 3 * MSS, MAX_FRAGMENTS * MSS])
def test_sizes(size):
    a, b = conversation(), conversation()
    assert a.message_size == MSS
    assert a.max_message == MAX_FRAGMENTS * MSS
    message = random.Random(size).randbytes(size)
    a.send([message])
    assert a.in_flight == size
    datagrams = a.flush(0.0)
    assert len(datagrams) == max(1, -(-size // MSS))
    assert a.in_flight == a.unacknowledged == size + KCP_HEADER_SIZE * len(datagrams)
    assert all(len(datagram) <= KCP_MTU for datagram in datagrams)
    b.input_untrusted(datagrams, 0.0)
    assert b.receive(EVERYTHING) == [message]


def test_a_message_that_is_too_long():
    a = conversation()
    with pytest.raises(ValueError, match="at most"):
        a.send([bytes(MAX_FRAGMENTS * MSS + 1)])
    assert a.in_flight == 0
    assert a.flush(0.0) == []


def test_a_message_of_one_segment_fills_one_datagram():
    a = conversation(mtu=600)
    a.send([bytes(a.message_size)] * 2)
    assert [len(datagram) for datagram in a.flush(0.0)] == [600, 600]


def test_in_flight_follows_the_acknowledgements():
    a, b = conversation(), conversation()
    a.send([bytes(100), bytes(2 * MSS), b""])
    assert a.in_flight == 100 + 2 * MSS
    datagrams = a.flush(1.0)
    whole = 100 + 2 * MSS + 4 * KCP_HEADER_SIZE
    assert a.in_flight == a.unacknowledged == whole
    b.input_untrusted(datagrams[:1], 1.0)
    a.input_untrusted(b.flush(1.0), 1.5)
    acknowledged = a.recovery.take_acked(1.5)
    assert 0 < sum(each.size for each in acknowledged) < whole
    assert {(each.sent, each.rtt) for each in acknowledged} == {(1.0, 0.5)}
    assert a.in_flight == whole - sum(each.size for each in acknowledged)
    b.input_untrusted(datagrams[1:], 1.5)
    a.input_untrusted(b.flush(1.5), 2.0)
    assert a.in_flight == a.unacknowledged == 0
    assert not a.has_work
    assert len(a.recovery.take_acked(2.0)) + len(acknowledged) == 4
    assert a.recovery.take_acked(2.0) == []


def test_an_idle_conversation_is_silent():
    a, b = conversation(), conversation()
    a.send([b"x"])
    exchange(a, b, 0.0)
    for step in range(100):
        assert a.flush(step / 10) == []
        assert b.flush(step / 10) == []


def test_receive_stops_at_the_limit():
    a, b = conversation(), conversation()
    a.send([bytes(1000)] * 10)
    exchange(a, b, 0.0)
    assert len(b.receive(1)) == 1
    assert len(b.receive(2 * (1000 + MESSAGE_COST))) == 2
    assert len(b.receive(2 * (1000 + MESSAGE_COST) + 1)) == 3
    assert b.receive(0) == []
    assert len(b.receive(EVERYTHING)) == 4


def test_empty_messages_count_against_the_limit():
    a, b = conversation(), conversation()
    a.send([b""] * 100)
    exchange(a, b, 0.0)
    assert len(b.receive(10 * MESSAGE_COST)) == 10


def test_a_full_receiver_closes_the_window_and_opens_it_again():
    a, b = conversation(window=128), conversation(window=128)
    sent = [bytes([number % 256]) * MSS for number in range(600)]
    a.send(sent)
    now = 0.0
    for _ in range(100):
        exchange(a, b, now)
        now += 0.010
    assert a.in_flight >= MSS * (600 - 256)  # what b holds unread, and no more, is acknowledged
    got = []
    while len(got) < 600:
        got += b.receive(EVERYTHING)
        exchange(a, b, now)
        now += 0.010
        assert now < 5  # without asking: b tells that there is room again
    assert got == sent


def test_the_clock_may_wrap():
    start = 100.0
    a, b = conversation(start), conversation(start)
    rng = random.Random(1)
    now = start + 2**32 / 1000 - 2.0
    got = []
    for number in range(400):
        a.send([number.to_bytes(2, "big")])
        exchange(a, b, now, lambda: rng.random() < 0.2)
        got += b.receive(EVERYTHING)
        now += 0.010
    while a.has_work:
        exchange(a, b, now)
        now += 0.010
    got += b.receive(EVERYTHING)
    assert now > start + 2**32 / 1000 + 1.0
    assert got == [number.to_bytes(2, "big") for number in range(400)]


def test_what_is_sent_is_kept_once_and_let_go_of_when_it_has_arrived():
    message = bytes(MSS)
    a, b = conversation(), conversation()
    a.send([message])
    b.input_untrusted(a.flush(0.0), 0.0)
    (segment,) = a.recovery.segments.values()
    assert segment.content is message
    a.input_untrusted(b.flush(0.0), 0.0)
    assert segment.content == b""
    assert not a.recovery.segments


def test_datagrams_are_as_large_as_the_caller_says():
    a = conversation()
    a.send([bytes(100)] * 10)
    datagrams = a.flush(0.0, 400)
    assert [len(each) for each in datagrams] == [372, 372, 372, 124]
    a.send([bytes(1000), bytes(10), bytes(10)])
    assert [len(each) for each in a.flush(0.0, 400)] == [1024, 68]


def test_a_peer_says_nothing_of_its_window_before_it_is_heard():
    a = conversation()
    a.send([b""] * 1000)
    assert len(segments(a.flush(0.0))) == PEER_WINDOW


def test_a_peer_whose_window_is_shut_is_asked_until_it_says_more():
    a = conversation()
    a.send([b"x"] * 3)
    a.input_untrusted([segment(TELL, window=0)], 1.0)
    assert segments(a.flush(1.0)) == [(ASK, 0, 2048)]
    assert a.shut
    assert a.flush(1.0 + SHUT_INTERVAL / 2) == []
    assert segments(a.flush(1.0 + SHUT_INTERVAL)) == [(ASK, 0, 2048)]
    a.input_untrusted([segment(TELL, window=2)], 2.0)
    assert segments(a.flush(2.0)) == [(PUSH, 0, 2048), (PUSH, 1, 2048)]
    assert not a.shut
    a.input_untrusted([segment(ACK, number=0, window=2)], 2.0)
    assert segments(a.flush(2.0)) == [(PUSH, 2, 2048)]


def test_the_window_of_the_peer_begins_at_the_oldest_that_it_misses():
    a = conversation()
    a.send([b"x"] * 10)
    a.input_untrusted([segment(TELL, window=4)], 0.0)
    assert [number for _, number, _ in segments(a.flush(0.0))] == [0, 1, 2, 3]
    a.input_untrusted([segment(ACK, number=0, window=4), segment(ACK, number=2, window=4)], 0.0)
    assert [number for _, number, _ in segments(a.flush(0.0))] == [4]
    a.input_untrusted([segment(ACK, number=1, window=4)], 0.0)
    assert [number for _, number, _ in segments(a.flush(0.0))] == [5, 6]


def test_who_asks_is_told():
    a = conversation()
    a.input_untrusted([segment(ASK)], 0.0)
    assert segments(a.flush(0.0)) == [(TELL, 0, 2048)]
    assert a.flush(0.0) == []


def test_the_window_counts_what_waits_to_be_read():
    a = conversation(window=100)
    a.input_untrusted([segment(number=number) for number in range(30)], 0.0)
    assert {window for _, _, window in segments(a.flush(0.0))} == {70}


# --- What a hostile peer that has the keys can do -----------------------------------------------


@pytest.mark.parametrize(
    "datagram",
    [
        bytes(24),  # another conversation
        segment()[:23],
        segment(command=80),
        segment(command=86),
        segment(size=1),
        segment(size=0xFFFFFFFF),
        segment(size=0x80000000),
        segment(data=b"abc") + b"x" * 24,
        segment(data=b"abc") + b"x",
        b"",
    ],
    ids=[
        "conv",
        "short",
        "cmd-80",
        "cmd-86",
        "len-1",
        "len-max",
        "len-negative",
        "junk-behind",
        "rest",
        "empty",
    ],
)
def test_what_is_no_kcp(datagram):
    assert refused(conversation(), datagram)


def test_what_came_before_the_junk_in_the_same_datagram_counts():
    a, b = conversation(), conversation()
    a.send([b"first", b"second"])
    assert refused(b, b"".join(a.flush(0.0)) + bytes(30))
    assert b.receive(EVERYTHING) == [b"first", b"second"]
    assert refused(a, b"".join(b.flush(0.0)) + bytes(30))
    assert not a.has_work


def test_what_came_before_the_junk_counts():
    a, b = conversation(), conversation()
    a.send([b"first", b"second"])
    junk = segment(command=99)
    assert refused(b, *a.flush(0.0), junk)
    assert b.receive(EVERYTHING) == [b"first", b"second"]
    assert refused(a, *b.flush(0.0), junk)
    assert a.in_flight == 0
    assert not a.has_work


@pytest.mark.parametrize("fragment", [1, 30, 126, 127, 200, 255])
@pytest.mark.parametrize("behind", [False, True])
def test_fragments_that_never_make_a_message(fragment, behind):
    victim = conversation()
    numbers = range(MAX_FRAGMENTS)
    many = [segment(fragment=fragment, number=number) for number in numbers]
    victim.input_untrusted([segment(number=MAX_FRAGMENTS + 1)], 0.0)
    assert refused(victim, *(many[::-1] if behind else many))
    assert victim.arrivals.broken
    assert victim.receive(EVERYTHING) == []
    for number in range(victim.arrivals.next, 2000):
        with suppress(BadPacket):
            victim.input_untrusted([segment(number=number)], 0.0)
    assert victim.receive(EVERYTHING) == []
    assert victim.arrivals.held <= 2000 * SEGMENT_COST


def test_an_honest_message_of_all_fragments_may_come_in_pieces():
    a, b = conversation(), conversation()
    message = bytes(MAX_FRAGMENTS * MSS)
    a.send([message])
    *most, last = a.flush(0.0)
    for datagram in most:
        b.input_untrusted([datagram], 0.0)
        assert b.receive(EVERYTHING) == []
    b.input_untrusted([last], 0.0)
    assert b.receive(EVERYTHING) == [message]


def test_an_acknowledgement_flood_is_answered_with_no_more_than_it_brought():
    victim = conversation()
    flood = b"".join([segment()] * (KCP_MTU // 24))
    sent = 0
    for _ in range(500):
        victim.input_untrusted([flood], 0.0)
        sent += sum(map(len, victim.flush(0.0)))
    assert 0 < sent <= 500 * len(flood)
    assert victim.flush(0.0) == []


def test_segments_beyond_the_window_are_not_kept():
    victim = conversation(window=128)
    before = resident_bytes()
    for start in range(0, 200_000, 64):
        batch = [segment(number=1 + start + n, data=bytes(1000)) for n in range(64)]
        victim.input_untrusted(batch, 0.0)
        victim.flush(0.0)
    assert victim.receive(EVERYTHING) == []
    assert resident_bytes() - before < 20e6  # 200 MB came in


# And one more message of the most fragments, where none can be read before it.
MOST_HELD = RECEIVE_BYTES + MAX_FRAGMENTS * (KCP_MTU + SEGMENT_COST)


def test_segments_behind_a_gap_are_bounded_in_bytes():
    victim = conversation()
    large = bytes(MSS)
    for number in range(1, 2048):
        victim.input_untrusted([segment(number=number, data=large)], 0.0)
        assert victim.receive(EVERYTHING) == []
    taken = RECEIVE_BYTES // (MSS + SEGMENT_COST)
    assert victim.arrivals.held == taken * (MSS + SEGMENT_COST)
    assert drops(victim) == {"beyond_window": 2047 - taken}
    assert len(segments(victim.flush(0.0))) == taken  # of the others none is acknowledged
    victim.input_untrusted([segment(number=0, data=b"the gap")], 0.0)
    got = victim.receive(EVERYTHING)
    assert got == [b"the gap"] + [large] * taken
    assert victim.arrivals.held == 0
    for number in range(len(got) + 1, len(got) + 1000):  # and the window is as wide as before
        victim.input_untrusted([segment(number=number)], 0.0)
    victim.input_untrusted([segment(number=len(got), data=large)], 0.0)
    assert len(victim.receive(EVERYTHING)) == 1000


def test_a_message_of_the_most_fragments_is_taken_however_much_waits_behind_it():
    sender, victim = conversation(), conversation()
    message = random.Random(1).randbytes(sender.max_message)
    sender.send([message])
    for number in range(MAX_FRAGMENTS, 2000):
        victim.input_untrusted([segment(number=number, data=bytes(MSS))], 0.0)
    for datagram in sender.flush(0.0):
        victim.input_untrusted([datagram], 0.0)
        assert victim.arrivals.held <= MOST_HELD
    assert victim.receive(EVERYTHING)[0] == message


def test_what_comes_twice_behind_a_gap_is_not_held_twice():
    """On a path with losses there may always be a gap: a count that is too high by a little each
    time would narrow the window for good.
    """
    victim = conversation()
    size = 1000
    victim.input_untrusted([segment(number=1, data=bytes(size))], 0.0)
    for number in range(2, 200):
        again = segment(number=number - 1, data=bytes(size))
        acks = segment(ACK, number=7) * 3
        new = segment(number=number, data=bytes(size))
        victim.input_untrusted([again, acks + new, again, acks], 0.0)
        victim.flush(0.0)
        assert victim.arrivals.held == number * (size + SEGMENT_COST)
    victim.input_untrusted([segment(number=0), segment(number=3, data=bytes(size))], 0.0)
    assert len(victim.receive(EVERYTHING)) == 200
    assert victim.arrivals.held == 0


def test_the_newest_una_counts_behind_repeated_acknowledgements():
    victim = conversation()
    victim.send([bytes(10)] * 5)
    victim.flush(0.0)
    victim.input_untrusted([segment(ACK, number=2, una=0) + segment(ACK, number=4, una=4)], 0.0)
    assert victim.unacknowledged == 0


@pytest.mark.parametrize("una", [0, 6, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_lies_about_una_cost_nothing(una):
    victim = conversation()
    for _ in range(200):
        victim.send([b"x"])
        victim.flush(0.0)
        victim.input_untrusted([segment(ACK, number=una, una=una)], 0.0)
        assert 0 <= victim.recovery.pipe <= victim.recovery.unacknowledged <= victim.recovery.span
    assert victim.recovery.deadline() >= 0.0


def test_large_messages_behind_a_gap_arrive_though_not_all_is_taken():
    a, b = conversation(mtu=KCP_MTU), conversation(mtu=KCP_MTU)
    rng = random.Random(5)
    sent = [rng.randbytes(a.max_message) for _ in range(4)]
    a.send(sent)
    got, now, first = [], 0.0, True
    while len(got) < len(sent):
        for datagram in due(a, now)[first:]:
            b.input_untrusted([datagram], now)
        first = False
        got += b.receive(EVERYTHING)
        for datagram in b.flush(now):
            a.input_untrusted([datagram], now)
        now += 0.01
        assert now < 10
    assert got == sent


def test_a_reader_that_stops_is_sent_a_bounded_number_of_bytes():
    a, b = conversation(mtu=KCP_MTU), conversation(mtu=KCP_MTU)
    large, now, sent = bytes(KCP_MTU - 24), 0.0, 0
    for _ in range(1000):
        if a.unacknowledged < 2e6:
            a.send([large] * 8)
            sent += 8
        exchange(a, b, now)
        now += 0.01
    assert RECEIVE_BYTES / 2 < sent * len(large) - a.unacknowledged < RECEIVE_BYTES
    assert not drops(b)  # of what was under way when the window closed
    got = 0
    start = now
    while got < sent:
        got += len(b.receive(EVERYTHING))
        exchange(a, b, now)
        now += 0.01
    assert now - start < 5  # it is told at once that there is room


def test_numbers_in_descending_order():
    victim = conversation(window=512)
    data = [number.to_bytes(2, "big") for number in range(512)]
    for number in reversed(range(512)):
        victim.input_untrusted([segment(number=number, data=data[number])], 0.0)
    assert victim.receive(EVERYTHING) == data


def test_lies_about_what_has_arrived_harm_only_the_liar():
    """Why nothing unauthenticated may come here: one such segment empties the send buffer."""
    victim = conversation()
    victim.send([bytes(1000)] * 50)
    victim.flush(0.0)
    victim.input_untrusted([segment(TELL, una=0x7FFFFFFF)], 0.0)
    assert victim.in_flight == 0
    assert not victim.has_work
    victim.send([b"more"])
    assert victim.in_flight == 4
    assert victim.flush(0.1)


def test_the_oldest_segment_is_the_one_that_nothing_acknowledges():
    a, b = conversation(), conversation()
    assert a.recovery.oldest is None
    a.send([b"one", bytes(5000), b"three"])
    assert a.recovery.oldest is None  # not on its way yet
    datagrams = a.flush(0.0)
    assert a.recovery.oldest == 0
    first = datagrams[0][: KCP_HEADER_SIZE + len(b"one")]
    b.input_untrusted([datagrams[0].removeprefix(first)], 0.0)
    a.input_untrusted(b.flush(0.0), 0.0)
    assert a.recovery.oldest == 0  # whatever came through behind it
    b.input_untrusted([first], 0.0)
    a.input_untrusted(b.flush(0.0), 0.0)
    assert a.recovery.oldest is None


def behind_a_gap(count, at=1):
    return b"".join(segment(number=number) for number in range(at, at + count))


def test_what_came_already_is_counted_and_acknowledged_again_within_bounds():
    receiver = conversation(window=16_384)
    receiver.input_untrusted([segment(number=0), behind_a_gap(2000, 2)], 0.0)
    assert len(segments(receiver.flush(0.0))) == 2001
    receiver.input_untrusted([segment(number=0) + segment(number=1999) + segment(number=3000)], 0.0)
    assert [number for _, number, _ in segments(receiver.flush(0.0))] == [0, 1999, 3000]
    receiver.input_untrusted([behind_a_gap(500, 2)] * 3, 0.0)
    assert len(segments(receiver.flush(0.0))) == REPEATED_ACKS
    assert drops(receiver) == {"repeated": 1502}
    assert receiver.arrivals.held == 2001 * SEGMENT_COST + MESSAGE_COST


def test_what_is_beyond_the_window_is_counted_and_not_acknowledged():
    receiver = conversation(window=128)
    receiver.input_untrusted([segment(number=127), segment(number=128)], 0.0)
    receiver.input_untrusted([segment(number=0x7FFFFFFF)], 0.0)
    assert [number for _, number, _ in segments(receiver.flush(0.0))] == [127]
    assert drops(receiver) == {"beyond_window": 2}


@pytest.mark.parametrize("data", [b"%d", b""])
def test_tiny_segments_in_descending_order_wait_behind_a_gap_until_it_closes(data):
    messages = [data % number if data else b"" for number in range(16_000)]
    receiver = conversation(window=16_384)
    for number in range(15_999, 0, -1):
        receiver.input_untrusted([segment(number=number, data=messages[number])], 0.0)
    content = sum(map(len, messages[1:]))
    assert receiver.arrivals.held == 15_999 * SEGMENT_COST + content < RECEIVE_BYTES
    receiver.input_untrusted([segment(data=messages[0])], 0.0)
    assert receiver.receive(EVERYTHING) == messages
    assert receiver.arrivals.held == 0
    assert not drops(receiver)


# --- Whatever comes ---------------------------------------------------------------------------

FIELDS = st.tuples(
    st.sampled_from([PUSH, PUSH, PUSH, ACK, ASK, TELL, 80, PARITY, 86]),
    st.sampled_from([0, 0, 0, 1, 2, 126, 127, 255]),  # fragment
    st.sampled_from([0, 1, 128, 0xFFFF]),  # window
    st.one_of(st.integers(0, 40), st.integers(0, 0xFFFFFFFF)),  # number, from the first on
    st.one_of(st.integers(0, 10), st.integers(0, 0xFFFFFFFF)),  # una, the same
    st.sampled_from([0, 1, 1000, MSS]),  # size
)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.lists(FIELDS, max_size=60), st.sampled_from([0, 2**32 - 20]))
def test_no_bytes_raise_anything_else_and_what_is_held_is_bounded(junk, fields, first):
    victim = conversation(window=1024)
    victim.arrivals.next = first
    victim.recovery.una = victim.recovery._first = victim.recovery._next_sn = first
    victim.send([b"x", bytes(2 * MSS), b""])
    victim.flush(0.0)
    for turn, (command, fragment, window, number, una, size) in enumerate(fields):
        datagram = segment(
            command,
            fragment=fragment,
            window=window,
            number=(first + number) % 2**32,
            una=(first + una) % 2**32,
            data=bytes(size),
        )
        for each in (datagram + junk if turn % 5 == 4 else datagram, junk):
            with suppress(BadPacket):
                victim.input_untrusted([each], 0.0)
        assert victim.arrivals.held <= MOST_HELD
        assert 0 <= victim.recovery.pipe <= victim.recovery.unacknowledged <= victim.recovery.span
        if turn % 7 == 6:
            assert all(len(each) <= KCP_MTU for each in due(victim, 0.0))
            victim.receive(EVERYTHING)
    victim.receive(EVERYTHING)
    waiting = [(number, *each) for number, each in victim.arrivals.ahead.items()]
    parts = victim.arrivals._parts
    contents = [content for _, _, content in waiting] + parts
    assert victim.arrivals.held == sum(map(len, contents)) + SEGMENT_COST * len(contents)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 300),
    mtu=st.sampled_from([25, 100, 1400]),
    first=st.sampled_from([0, 2**32 - 30]),
)
def test_messages_arrive_whatever_the_order_of_their_segments(seed, count, mtu, first):
    rng = random.Random(seed)
    a, b = conversation(mtu=mtu), conversation(mtu=mtu)
    b.arrivals.next = first
    a.recovery.una = a.recovery._first = a.recovery._next_sn = first
    sent = [rng.randbytes(rng.choice([0, 1, rng.randrange(mtu * 3)])) for _ in range(count)]
    a.send([message[: a.max_message] for message in sent])
    got, now = [], 0.0
    while a.has_work:
        datagrams = [each for each in due(a, now) if rng.random() < 0.8] * rng.choice([1, 2])
        rng.shuffle(datagrams)
        b.input_untrusted(datagrams, now)
        got += b.receive(EVERYTHING)
        a.input_untrusted([each for each in b.flush(now) if rng.random() < 0.8], now)
        now += 0.05
    assert got == [message[: a.max_message] for message in sent]
    assert b.arrivals.held == a.arrivals.held == 0
    assert drops(b).keys() <= {"repeated"}
