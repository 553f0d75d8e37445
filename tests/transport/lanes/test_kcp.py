"""The KCP wrapper: reliable, ordered, bounded, and unharmed by an authenticated hostile peer."""

import os
import random
import struct
from pathlib import Path

import pytest

from transport.constants import KCP_HEADER_SIZE, KCP_MTU, MAX_FRAGMENTS, MESSAGE_COST, RECEIVE_BYTES
from transport.errors import BadPacket
from transport.lanes.kcp import LONG, REPEATED_ACKS, REPEATED_MOST, Conversation, split_segments

CONV = 0x11223344
PUSH, ACK, WASK, WINS = 81, 82, 83, 84
MSS = KCP_MTU - 24
EVERYTHING = 1 << 40


def conversation(now=0.0, *, window=2048, mtu=KCP_MTU, conv=CONV):
    return Conversation(conv, mtu=mtu, send_window=window, receive_window=window, now=now)


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


def test_a_conversation_that_is_closed_frees_its_memory():
    def use_and_close():
        a = conversation()
        a.send([bytes(MSS)] * 100)
        a.flush(0.0)
        a.close()

    for _ in range(50):
        use_and_close()
    before = resident_bytes()
    for _ in range(300):
        use_and_close()
    assert resident_bytes() - before < 300 * 100 * MSS / 10  # 40 MB if anything held on to it


# --- What a hostile peer that has the keys can do -----------------------------------------------


@pytest.mark.parametrize(
    "datagram",
    [
        bytes(24),  # another conversation
        segment()[:23],
        segment(command=80),
        segment(command=85),
        segment(size=1),
        segment(size=0xFFFFFFFF),
        segment(size=0x80000000),
        segment(data=b"abc") + b"x" * 24,
    ],
    ids=["conv", "short", "cmd-80", "cmd-85", "len-1", "len-max", "len-negative", "junk-behind"],
)
def test_what_is_no_kcp(datagram):
    assert refused(conversation(), datagram)


def test_what_came_before_the_junk_counts():
    a, b = conversation(), conversation()
    a.send([b"first", b"second"])
    junk = segment(command=99)
    assert refused(b, *a.flush(0.0), junk)
    assert b.receive(EVERYTHING) == [b"first", b"second"]
    assert refused(a, *b.flush(0.0), junk)
    assert a.in_flight == 0
    assert not a.has_work


@pytest.mark.parametrize("fragment", [127, 200, 255])
def test_fragments_that_never_make_a_message(fragment):
    victim = conversation()
    for number in range(MAX_FRAGMENTS - 1):
        victim.input_untrusted([segment(fragment=fragment, number=number)], 0.0)
        assert victim.receive(EVERYTHING) == []
    victim.input_untrusted([segment(fragment=fragment, number=MAX_FRAGMENTS - 1)], 0.0)
    with pytest.raises(BadPacket) as caught:
        victim.receive(EVERYTHING)
    assert caught.value.reason == "not_kcp"


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


# What came with the batch that was too much, and one more message of the most fragments.
MOST_HELD = RECEIVE_BYTES + (MAX_FRAGMENTS + 20) * KCP_MTU


def test_segments_behind_a_gap_are_bounded_in_bytes():
    victim = conversation(mtu=KCP_MTU)
    before = resident_bytes()
    large = bytes(KCP_MTU - 24)
    for number in range(1, 2048):
        victim.input_untrusted([segment(number=number, data=large)], 0.0)
        assert victim.receive(EVERYTHING) == []
        victim.flush(0.0)
    assert resident_bytes() - before < 1.2 * MOST_HELD  # 2,048 segments would be 127 MB
    victim.input_untrusted([segment(number=0, data=b"the gap")], 0.0)
    got = victim.receive(EVERYTHING)
    assert got[0] == b"the gap"
    assert RECEIVE_BYTES <= sum(map(len, got)) <= MOST_HELD
    again = segment(number=len(got), data=large)
    for number in range(len(got) + 1, len(got) + 1000):  # and the window is as wide as before
        victim.input_untrusted([segment(number=number)], 0.0)
    victim.input_untrusted([again], 0.0)
    assert len(victim.receive(EVERYTHING)) == 1000


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
        assert victim._held == number * size
    victim.input_untrusted([segment(number=0), segment(number=3, data=bytes(size))], 0.0)
    assert len(victim.receive(EVERYTHING)) == 200
    assert victim._held == 0


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
        assert 0 <= victim.in_flight <= victim.unacknowledged <= victim.span
    assert victim.recovery.deadline() >= 0.0


def test_large_messages_behind_a_gap_arrive_though_the_window_narrows():
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
    assert RECEIVE_BYTES < sent * len(large) - a.unacknowledged < MOST_HELD
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
    victim.input_untrusted([segment(WINS, una=0x7FFFFFFF)], 0.0)
    assert victim.in_flight == 0
    assert not victim.has_work
    victim.send([b"more"])
    assert victim.in_flight == 4
    assert victim.flush(0.1)


def test_the_oldest_segment_is_the_one_that_nothing_acknowledges():
    a, b = conversation(), conversation()
    assert a.oldest is None
    a.send([b"one", bytes(5000), b"three"])
    assert a.oldest is None  # not on its way yet
    datagrams = a.flush(0.0)
    assert a.oldest == 0
    first, *_ = split_segments(datagrams[0], 24)
    b.input_untrusted([datagrams[0].removeprefix(first)], 0.0)
    a.input_untrusted(b.flush(0.0), 0.0)
    assert a.oldest == 0  # whatever came through behind it
    b.input_untrusted([first], 0.0)
    a.input_untrusted(b.flush(0.0), 0.0)
    assert a.oldest is None


def engine_spy(conversation):
    """Bytes that reach the engine, which cannot be asked."""
    seen = []

    class Spy:
        def __getattr__(self, name):
            return getattr(kcp, name)

        def __setattr__(self, name, value):
            setattr(kcp, name, value)

        def receive_data(self, data):
            seen.append(len(data))
            return kcp.receive_data(data)

    kcp, conversation._kcp = conversation._kcp, Spy()
    return seen


def behind_a_gap(count, at=1):
    return b"".join(segment(number=number) for number in range(at, at + count))


def test_repeated_segments_behind_a_long_gap_do_not_reach_the_engine():
    receiver = conversation(window=16_384)
    for at in range(1, 3001, 1000):
        receiver.input_untrusted([behind_a_gap(1000, at)], 0.0)
    receiver.flush(0.0)
    receiver.input_untrusted([behind_a_gap(3000)], 0.0)  # some were given before it kept note
    seen = engine_spy(receiver)
    first = receiver.repeated
    for _ in range(50):
        receiver.input_untrusted([behind_a_gap(2000)], 0.0)
    assert sum(seen) == 0
    assert receiver.repeated == first + 100_000


def with_a_long_gap():
    receiver = conversation(window=16_384)
    for at in range(1, 3001, 1000):
        receiver.input_untrusted([behind_a_gap(1000, at)], 0.0)
    receiver.input_untrusted([behind_a_gap(3000)], 0.0)
    return receiver


def test_a_peer_that_repeats_itself_absurdly_often_is_given_up():
    receiver = with_a_long_gap()
    while receiver.repeated + 2000 <= REPEATED_MOST:
        receiver.input_untrusted([behind_a_gap(2000)], 0.0)
        assert not receiver.absurd
    receiver.input_untrusted([behind_a_gap(2000)], 0.0)
    assert receiver.absurd


def test_as_many_repeated_ones_in_a_longer_time_or_beside_as_much_else_are_borne():
    slow, mixed = with_a_long_gap(), with_a_long_gap()
    for number in range(100):
        slow.input_untrusted([behind_a_gap(2000)], number * 0.25)
        mixed.input_untrusted([behind_a_gap(2000) + segment(ACK) * 400], 0.0)
    assert min(slow.repeated, mixed.repeated) > REPEATED_MOST
    assert not slow.absurd
    assert not mixed.absurd


def test_repeated_segments_are_acknowledged_again_within_bounds():
    receiver = conversation(window=16_384)
    for at in range(1, 2001, 500):
        receiver.input_untrusted([behind_a_gap(500, at)], 0.0)
    receiver.flush(0.0)
    receiver.input_untrusted([segment(number=1999) + segment(number=2001)], 0.0)
    out = b"".join(receiver.flush(0.0))
    numbers = [int.from_bytes(out[at + 12 : at + 16], "little") for at in range(0, len(out), 24)]
    assert sorted(numbers) == [1999, 2001]
    receiver.input_untrusted([behind_a_gap(500, 1501)] * 3, 0.0)
    assert len(b"".join(receiver.flush(0.0))) == REPEATED_ACKS * KCP_HEADER_SIZE


@pytest.mark.parametrize("data", [b"%d", b""])
def test_tiny_segments_behind_a_gap_are_bounded_and_all_is_well_when_it_closes(data):
    messages = [data % number if data else b"" for number in range(16_000)]
    sender = [segment(number=number, data=each) for number, each in enumerate(messages)]
    receiver = conversation(window=16_384)
    for at in range(1, 16_000, 1000):
        receiver.input_untrusted([b"".join(sender[at : at + 1000])], 0.0)
        receiver.flush(0.0)
        assert receiver._kcp.nrcv_buf <= LONG + 1000
    got = []
    for at in range(0, 16_000, 1000):
        receiver.input_untrusted([b"".join(sender[at : at + 1000])], 0.0)
        got += receiver.receive(EVERYTHING)
        receiver.flush(0.0)
    assert got == messages
    assert receiver._kcp.rcv_wnd == 16_384
    assert not receiver._behind
