import pytest

from vswitch.core.egress import MAX_QUEUED_BYTES, MAX_QUEUED_FRAMES, EgressQueue
from vswitch.core.records import frame_record
from vswitch.testing.superframes import Flow, superframe


def records(*sizes):
    """Records of these total sizes, told apart by their filling."""
    return [frame_record(bytes([index % 251]) * (size - 4)) for index, size in enumerate(sizes)]


def test_order_is_kept():
    queue = EgressQueue()
    first, second = records(64, 65, 66), records(70, 71)
    assert queue.offer(first) == []
    assert queue.offer(second) == []
    assert len(queue) == 5
    assert queue.bytes == 64 + 65 + 66 + 70 + 71
    assert queue.take(10_000) == first + second
    assert (len(queue), queue.bytes) == (0, 0)


def test_frame_limit_drops_at_the_tail():
    queue = EgressQueue(max_frames=3)
    offered = records(64, 65, 66, 67, 68)
    assert queue.offer(offered) == offered[3:]
    assert queue.offer(records(64)) == records(64)
    assert queue.take(10_000) == offered[:3]


def test_byte_limit_refuses_what_does_not_fit_and_takes_what_does():
    queue = EgressQueue(max_bytes=300)
    offered = records(200, 101, 100, 64)
    assert queue.offer(offered) == [offered[1], offered[3]]
    assert queue.bytes == 300
    assert queue.take(10_000) == [offered[0], offered[2]]


def test_default_limits_are_reached():
    queue = EgressQueue()
    assert len(queue.offer(records(64) * 600)) == 600 - MAX_QUEUED_FRAMES
    queue = EgressQueue()
    assert len(queue.offer(records(65_536) * 10)) == 10 - MAX_QUEUED_BYTES // 65_536
    assert queue.bytes <= MAX_QUEUED_BYTES


def test_take_gives_at_least_one_and_at_most_the_bytes():
    queue = EgressQueue()
    offered = records(100, 100, 100)
    queue.offer(offered)
    assert queue.take(1) == offered[:1]
    assert queue.take(199) == offered[1:2]
    assert queue.take(200) == offered[2:]
    assert queue.take(200) == []


def test_put_back_restores_front_and_bytes():
    queue = EgressQueue()
    offered = records(100, 101, 102)
    queue.offer(offered)
    taken = queue.take(10_000)
    queue.put_back(taken[1:])
    assert queue.bytes == 203
    queue.offer(offered[:1])
    assert queue.take(10_000) == [*offered[1:], offered[0]]


def test_a_superframe_is_one_record_and_as_many_frames_as_it_stands_for():
    queue = EgressQueue(max_frames=2)
    batch = [superframe(Flow(), bytes(3000), 1000), *records(64)]
    assert queue.offer(batch * 2) == batch
    assert (len(queue), queue.frames) == (2, 4)
    queue.take(1)
    assert queue.frames == 1


def test_clear_forgets_everything():
    queue = EgressQueue()
    queue.offer(records(64, 64))
    queue.clear()
    assert queue.frames == 0
    assert (len(queue), queue.bytes, queue.take(100)) == (0, 0, [])


@pytest.mark.parametrize("limits", [(0, 100), (1, 0)])
def test_limits_have_to_make_sense(limits):
    with pytest.raises(ValueError, match="at least one"):
        EgressQueue(*limits)
