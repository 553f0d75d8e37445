"""Parity: the code against a plain one, the two ends, and lanes that use it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.congestion.recovery import REBUILT
from transport.constants import KCP_MTU, RECEIVE_WINDOW
from transport.errors import BadPacket
from transport.lanes.kcp import Conversation
from transport.lanes.parity import (
    KEEP_FOR,
    KEPT,
    KEPT_COST,
    MAX_GROUP,
    MAX_ROWS,
    MIN_GROUP,
    MOST_WAITING,
    PER_ROUND,
    PER_ROW,
    Groups,
    Rebuilder,
    encode,
    rebuild,
    rows_for,
)
from transport.lanes.reliable import ReliableLane
from transport.lanes.segments import HEADER, PARITY, PUSH

LARGEST = 1376
members = st.lists(
    st.tuples(st.integers(0, 126), st.binary(max_size=24)), min_size=1, max_size=MAX_GROUP
)

# --- The code -----------------------------------------------------------------------------------


def test_vectors():
    """Worked out by hand from docs/wire-format.md."""
    group = [(0, b"\x01"), (0, b"\x02")]
    assert encode(group, 2) == [bytes.fromhex("03000000"), bytes.fromhex("12110000")]
    # The uppermost stripe comes back in stripes 0, 2, 3 and 4.
    assert encode([(0x80, b""), (0, b"")], 2)[1] == bytes.fromhex("044900")


def elements(number, width):
    """Of the field, as numbers of eight bits."""
    return [
        sum((number >> stripe * width + at & 1) << stripe for stripe in range(8))
        for at in range(width)
    ]


def product(one, other):
    total = 0
    while other:
        if other & 1:
            total ^= one
        one, other = one << 1 ^ (0x11D if one & 0x80 else 0), other >> 1
    return total


@given(members)
@settings(max_examples=25)
def test_rows_are_those_of_a_plain_code(group):
    longest = max(len(content) for _, content in group)
    width = longest + 3
    numbers = [
        elements(
            int.from_bytes(
                content.ljust(longest, b"\0") + len(content).to_bytes(2, "little") + bytes((frag,)),
                "little",
            ),
            width,
        )
        for frag, content in group
    ]
    for row, found in enumerate(encode(group, MAX_ROWS)):
        step = 1
        for _ in range(row):
            step = product(step, 2)
        totals = [0] * width
        for number in numbers:
            totals = [
                product(total, step) ^ element
                for total, element in zip(totals, number, strict=True)
            ]
        assert elements(int.from_bytes(found, "little"), width) == totals


@given(members, st.integers(0, MAX_ROWS), st.data())
@settings(max_examples=150)
def test_as_many_losses_as_rows_that_follow_one_another(group, count, data):
    count = min(count, len(group))
    lost = data.draw(st.sets(st.integers(0, len(group) - 1), min_size=count, max_size=count))
    first = data.draw(st.integers(0, MAX_ROWS - max(1, count)))
    rows = dict(enumerate(encode(group, MAX_ROWS)))
    some = {row: rows[row] for row in range(first, first + max(1, count))}
    known = [None if at in lost else member for at, member in enumerate(group)]
    assert rebuild(known, some) == [group[at] for at in sorted(lost)]


@given(members, st.data())
@settings(max_examples=100)
def test_any_rows_give_what_was_sent_or_nothing(group, data):
    rows = dict(enumerate(encode(group, MAX_ROWS)))
    some = data.draw(st.sets(st.sampled_from(sorted(rows)), min_size=1))
    lost = data.draw(st.sets(st.integers(0, len(group) - 1), max_size=MAX_ROWS + 1))
    known = [None if at in lost else member for at, member in enumerate(group)]
    found = rebuild(known, {row: rows[row] for row in some})
    assert found in (None, [group[at] for at in sorted(lost)])
    if len(lost) > len(some):
        assert found is None


@pytest.mark.parametrize("known", [[(0, b"longer"), None], [(0, b"a" * 4), None]])
def test_rows_that_contradict_what_has_come(known):
    row = {0: b"\xff" * 6}  # of contents of three bytes
    with pytest.raises(BadPacket, match="bad_parity"):
        rebuild(known, row)


def test_a_size_that_no_member_can_have():
    with pytest.raises(BadPacket, match="bad_parity"):
        rebuild([None], {0: b"abc" + b"\x04\0\0"})
    with pytest.raises(BadPacket, match="bad_parity"):  # something behind the content
        rebuild([None], {0: b"abc" + b"\x02\0\0"})
    assert rebuild([None], {0: b"ab\0" + b"\x02\0\x07"}) == [(7, b"ab")]


def test_more_loss_has_more_rows_but_not_many():
    assert rows_for(0.001, MAX_GROUP) == 1
    assert 2 <= rows_for(0.01, MAX_GROUP) <= 4
    assert rows_for(0.05, MAX_GROUP) == rows_for(0.5, MAX_GROUP) == MAX_GROUP // PER_ROW
    assert MAX_GROUP // PER_ROW <= MAX_ROWS
    for size in range(MIN_GROUP, MAX_GROUP + 1):
        assert 1 <= rows_for(0.05, size) <= max(1, size // PER_ROW)


# --- The sender's half --------------------------------------------------------------------------


def added(groups, count, *, size=100, loss=0.01, under_way=PER_ROUND * MIN_GROUP):
    """The rows that so many segments make."""
    return [
        row
        for number in range(count)
        for row in groups.add(0, bytes([number % 256]) * size, LARGEST, loss, under_way)
    ]


def test_a_group_is_a_part_of_a_round_trip():
    groups = Groups()
    groups.begin(7)
    assert not added(groups, MIN_GROUP - 1)
    ((row, first, time, content),) = added(groups, 1)
    assert (row, first, time >> 24, len(content)) == (0, 7, MIN_GROUP, 100)
    assert groups.next == 7 + MIN_GROUP
    rows = added(groups, 10 * MAX_GROUP, under_way=100_000, loss=0.05)
    assert {time >> 24 for _, _, time, _ in rows} == {MAX_GROUP}


def test_no_group_where_little_is_lost_or_sent():
    groups = Groups()
    assert not added(groups, 100, loss=0.0)
    assert not added(groups, 100, under_way=PER_ROUND * MIN_GROUP - 1)
    assert not groups.covering
    assert not added(groups, 100, size=LARGEST + 1)
    assert groups.next == 300


def test_a_large_segment_ends_a_group():
    groups = Groups()
    added(groups, MIN_GROUP - 1)
    assert not added(groups, 1, size=LARGEST + 1)
    ((_, first, _, _),) = added(groups, MIN_GROUP)
    assert first == MIN_GROUP


def test_numbers_go_round():
    groups = Groups()
    groups.begin(0xFFFFFFFE)
    added(groups, MIN_GROUP)
    assert groups.next == MIN_GROUP - 2


# --- The receiver's half ------------------------------------------------------------------------


def push(number, content):
    return HEADER.pack(1, PUSH, 0, 0, 0, number, 0, len(content)) + content


def primed(first=0, count=MIN_GROUP, **options):
    """A receiver that has had a row already, contents of a group, and its rows."""
    groups = Groups()
    groups.begin(first)
    rebuilder = Rebuilder()
    rebuilder.take_untrusted(0, first - 1000 & 0xFFFFFFFF, 1 << 24, b"", LARGEST)
    assert len(rebuilder.rebuilt()) == 1
    return rebuilder, [bytes([n]) * 100 for n in range(count)], added(groups, count, **options)


def test_a_segment_that_is_missing_is_computed_once():
    rebuilder, contents, (row,) = primed(first=0xFFFFFFFD)
    numbers = [0xFFFFFFFD + at & 0xFFFFFFFF for at in range(len(contents))]
    units = [push(n, c) for n, c in zip(numbers, contents, strict=True)]
    rebuilder.keep(units[:4] + units[5:], LARGEST)
    rebuilder.take_untrusted(*row, LARGEST)
    assert rebuilder.rebuilt() == [(numbers[4], 0, contents[4])]
    rebuilder.take_untrusted(*row, LARGEST)  # the same row again
    assert [n for n, *_ in rebuilder.rebuilt()] == [numbers[4]]  # the lane knows that it came


def test_a_late_segment_completes_a_group():
    rebuilder, contents, (row,) = primed()
    units = [push(n, c) for n, c in enumerate(contents)]
    rebuilder.keep(units[2:], LARGEST)
    rebuilder.take_untrusted(*row, LARGEST)
    assert not rebuilder.rebuilt()
    rebuilder.keep(units[:1], LARGEST)
    assert rebuilder.rebuilt() == [(1, 0, contents[1])]


@pytest.mark.parametrize(
    ("row", "time", "size"),
    [(MAX_ROWS, 8 << 24, 9), (0, 0, 9), (0, MAX_GROUP + 1 << 24, 9), (0, 8 << 24, LARGEST + 1)],
)
def test_rows_of_no_group(row, time, size):
    rebuilder = Rebuilder()
    with pytest.raises(BadPacket, match="bad_parity"):
        rebuilder.take_untrusted(row, 0, time, bytes(size), LARGEST)
    assert not rebuilder.active
    assert not rebuilder.held


def test_rows_of_one_group_are_alike():
    rebuilder = Rebuilder()
    rebuilder.take_untrusted(0, 0, 8 << 24, bytes(9), LARGEST)
    for row, time, size in (1, 9 << 24, 9), (1, 8 << 24, 10):
        with pytest.raises(BadPacket, match="bad_parity"):
            rebuilder.take_untrusted(row, 0, time, bytes(size), LARGEST)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.booleans()), max_size=400))
@settings(max_examples=30)
def test_what_is_kept_is_bounded(deeds):
    rebuilder = Rebuilder()
    for number, is_row in deeds:
        if is_row:
            rebuilder.take_untrusted(
                number % MAX_ROWS, number & ~31, 8 << 24, bytes(LARGEST), LARGEST
            )
        else:
            rebuilder.keep([push(number, bytes(LARGEST))], LARGEST)
        most = KEPT * (LARGEST + KEPT_COST) + MOST_WAITING * MAX_ROWS * (LARGEST + 3)
        assert 0 <= rebuilder.held <= most


def test_nothing_is_kept_where_no_rows_come():
    rebuilder, _, _ = primed()
    assert rebuilder.active
    for number in range(KEEP_FOR):
        rebuilder.keep([push(number, b"abc")], LARGEST)
    assert not rebuilder.active
    assert not rebuilder.held


# --- Lanes --------------------------------------------------------------------------------------


def lane(*, parity=True):
    return ReliableLane(
        7,
        kcp_mtu=KCP_MTU,
        receive_window=RECEIVE_WINDOW,
        drops=Counter(),
        now=0.0,
        parity=parity,
    )


class Pair:
    """Two lanes with a path of 20 ms each way, which loses each unit that `loses` says."""

    def __init__(self, *, parity=True):
        self.one, self.other = lane(parity=parity), lane(parity=parity)
        self.now = 0.0
        self.sent = []  # units of the first
        self.loses = lambda number: False
        self.got = []
        self._under_way = []

    def step(self):
        self.now += 0.001
        for end, peer in ((self.one, self.other), (self.other, self.one)):
            if end.deadline() <= self.now:
                end.handle_timeout(self.now)
            if end.flush_due:
                for unit in end.units_to_send(self.now, suspect=False):
                    if end is self.one:
                        self.sent.append(unit)
                        if self.loses(len(self.sent)):
                            continue
                    self._under_way.append((self.now + 0.02, peer, unit))
        arriving = [each for each in self._under_way if each[0] <= self.now]
        self._under_way = [each for each in self._under_way if each[0] > self.now]
        for _, peer, unit in arriving:
            peer.receive_units([unit], self.now)
        self.got += self.other.take_messages()

    def run(self, seconds, start=0):
        """The first sends as much as it may; each message is another."""
        number = start
        for _ in range(round(seconds * 1000)):
            while self.one.credit > 0 and number < start + 40_000:
                text = b"%d," % number
                self.one.send([text * (self.one.message_size // len(text))], self.now)
                number += 1
            self.step()
        return number

    @property
    def rows(self):
        return [unit for unit in self.sent if unit[4] == PARITY]


def test_lanes_rebuild_what_is_lost():
    pair = Pair()
    pair.loses = lambda number: number % 29 == 0
    pair.run(1.5)
    assert pair.rows
    numbers = [int(message.split(b",", 1)[0]) for message in pair.got]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 500
    repeated = pair.one._drops["repeated"] + pair.other._drops["repeated"]
    lost = len(pair.sent) // 29
    assert pair.one.congestion.loss > 0.015  # what is computed was lost all the same
    assert repeated < 3 * lost
    assert not pair.other._drops["bad_parity"]


def test_a_peer_that_does_not_take_parity_gets_none():
    pair = Pair(parity=False)
    pair.loses = lambda number: number % 29 == 0
    pair.run(1.0)
    assert pair.got
    assert not pair.rows


def test_no_parity_where_nothing_is_lost():
    pair = Pair()
    pair.run(0.5)
    assert pair.got
    assert not pair.rows
    assert not pair.other._rebuilder.active


def test_a_bad_row_is_counted_and_nothing_else():
    receiver = lane()
    receiver.receive_units([HEADER.pack(7, PARITY, MAX_ROWS, 128, 1 << 24, 0, 0, 0)], 1.0)
    assert receiver._drops == {"bad_parity": 1}
    assert not receiver.broken


def rebuilt_at_once():
    """A sender that has heard of its second segment as rebuilt, and of nothing else."""
    sender = Conversation(1, mtu=500, send_window=128, receive_window=128, drops=Counter(), now=0.0)
    sender.send([b"a", b"b", b"c"])
    sender.flush(0.0)
    sender.recovery.on_ack(1, REBUILT, 0.05)
    return sender.recovery


def test_a_rebuilt_segment_has_arrived_and_counts_as_lost_later():
    recovery = rebuilt_at_once()
    (acked,) = recovery.take_acked(0.05)
    assert acked.rtt is None  # what its round trip was is not known
    assert recovery.rtt is None
    assert not recovery.take_lost()
    recovery.on_ack(1, REBUILT, 0.06)  # again
    recovery.on_ack(2, 0, 0.1)
    recovery.take_acked(0.1)
    assert acked in recovery.take_lost()


def test_a_rebuilt_segment_that_was_only_late_is_not_lost():
    recovery = rebuilt_at_once()
    (acked,) = recovery.take_acked(0.05)
    recovery.on_ack(1, 0, 0.051)
    recovery.on_ack(2, 0, 0.1)
    recovery.take_acked(0.1)
    assert acked not in recovery.take_lost()
