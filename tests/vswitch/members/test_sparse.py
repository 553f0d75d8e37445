"""Which lane a record takes, case by case; order over long runs is in test_lanes_property.py."""

from vswitch.frames.flows import bucket_of
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.members.sparse import CALM, DEPTH, MOST_LOOKED, MOST_SPARSE, RATE, LaneChooser
from vswitch.testing import ethernet

BUSY = CALM + 1
PLENTY = 1 << 20


def record(flow, size=60):
    return frame_record(ethernet(b"\x04" * 6, b"\x02" * 5 + bytes([flow]), 0x88B5, bytes(size)))


def choose(chooser, records, progress, *, credit=PLENTY, sparse_credit=PLENTY, now=0.0):
    choice = chooser.choose(records, progress, credit, sparse_credit, now)
    sent, arrived, sparse_sent, sparse_arrived = progress
    chooser.sent(
        (sent + bool(choice.bulk), arrived, sparse_sent + bool(choice.sparse), sparse_arrived),
        fence=choice.fence,
    )
    return choice


def test_a_calm_session_is_not_looked_at():
    chooser = LaneChooser()
    assert chooser.skips((CALM, 0, 0, 0), 1)
    assert not chooser.skips((BUSY, 0, 0, 0), 1)
    assert chooser.skips((BUSY, 0, 0, 0), MOST_LOOKED + 1)
    assert not chooser.skips((0, 0, 1, 0), MOST_LOOKED + 1)


def test_a_small_record_of_a_quiet_flow_is_sparse_while_bulk_is_busy():
    chooser = LaneChooser()
    small, large = record(1), record(2, MOST_SPARSE)
    super_ = encode_record(SUPERFRAME, bytes(10) + record(3)[4:])
    choice = choose(chooser, [small, large, super_], (BUSY, 0, 0, 0))
    assert choice == (3, [large, super_], [small], False)


def test_what_was_not_looked_at_may_be_of_any_flow():
    chooser = LaneChooser()
    chooser.skipped(3)
    assert choose(chooser, [record(1)], (9, 2, 0, 0)).bulk
    assert choose(chooser, [record(2)], (10, 3, 0, 0)).sparse
    assert choose(chooser, [record(1)], (10, 9, 0, 0)).bulk  # its first is the tenth
    assert choose(chooser, [record(1)], (20, 11, 0, 0)).sparse


def test_a_flow_that_sends_much_is_not_sparse_until_it_rests():
    chooser = LaneChooser()
    chatty = [record(1, 1000)] * 8
    first = choose(chooser, chatty, (BUSY, 0, 0, 0))
    assert len(first.sparse) == -(-DEPTH // len(chatty[0]))
    assert first.fence  # its later records may not pass its first
    assert first.sparse + first.bulk == chatty
    rest = (20, 10, 1, 1)
    assert choose(chooser, [record(1)], rest, now=0.01).bulk
    assert choose(chooser, [record(1)], (30, 30 - BUSY, 1, 1), now=1 + 2 * DEPTH / RATE).sparse


def test_one_fence_is_enough_for_what_was_sent_before_it():
    chooser = LaneChooser()
    assert choose(chooser, [record(1), record(2)], (BUSY, 0, 0, 0)).sparse
    assert choose(chooser, [record(1, 1500)], (BUSY, 0, 1, 0)).fence
    assert not choose(chooser, [record(2, 1500)], (BUSY + 1, 0, 1, 0)).fence
    assert choose(chooser, [record(3)], (BUSY + 2, 0, 1, 0)).sparse
    assert choose(chooser, [record(3, 1500)], (BUSY + 2, 0, 2, 0)).fence
    assert not choose(chooser, [record(3, 1500)], (BUSY + 3, 0, 2, 2)).fence


def test_credit_of_either_lane_is_kept():
    chooser = LaneChooser()
    large = record(1, 1500)
    choice = choose(chooser, [large, large, large], (BUSY, 0, 0, 0), credit=1600)
    assert choice.taken == 2
    choice = choose(chooser, [record(2), record(3)], (BUSY, 0, 0, 0), sparse_credit=50)
    assert (choice.sparse, choice.bulk) == ([record(2)], [record(3)])
    choice = choose(chooser, [record(4), large], (BUSY, 0, 1, 0), credit=0)
    assert (choice.taken, choice.sparse) == (1, [record(4)])


def test_overtaking_keeps_behind_what_waits():
    chooser = LaneChooser()
    waiting = record(1)
    batch = [record(1), record(2, 1500), record(2), record(3)]
    passing, rest = chooser.overtake(
        batch, (BUSY, 0, 0, 0), PLENTY, lambda bucket: bucket == bucket_of(waiting), 0.0
    )
    assert passing == [record(3)]
    assert rest == batch[:3]


def test_what_has_arrived_may_not_have_been_handled_and_is_fenced_all_the_same():
    """A peer that reads late finds both in front of it, and takes bulk first."""
    chooser = LaneChooser()
    assert choose(chooser, [record(1)], (BUSY, 0, 0, 0)).sparse
    assert choose(chooser, [record(1, 1500)], (BUSY, 0, 1, 1)).fence


def test_before_batches_are_not_looked_at_again_a_fence_covers_all_that_was_sparse():
    chooser = LaneChooser()
    assert choose(chooser, [record(1)], (BUSY, 0, 0, 0)).sparse
    calm = (BUSY, BUSY, 1, 1)
    assert not chooser.skips(calm, 1)
    assert choose(chooser, [record(2)], calm) == (1, [record(2)], [], True)
    assert chooser.skips((BUSY + 1, BUSY, 1, 1), 1)
