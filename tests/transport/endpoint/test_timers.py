"""The heap of deadlines, against the obvious way to do it."""

import random

from transport.endpoint.timers import TimerHeap


class Timed:
    def __init__(self, due):
        self.due = due
        self.timer = self.entry = None

    def deadline(self):
        return self.due


def test_in_order():
    heap = TimerHeap()
    timed = [Timed(due) for due in (3.0, 1.0, 2.0, 1.0)]
    for each in timed:
        heap.schedule(each)
    assert heap.next() == 1.0
    assert heap.due(0.9) == []
    assert heap.due(2.0) == [timed[1], timed[3], timed[2]]
    assert heap.due(2.0) == []
    assert heap.next() == 3.0


def test_empty():
    heap = TimerHeap()
    assert heap.next() is None
    assert heap.due(1e9) == []


def test_an_earlier_deadline_wins():
    heap, timed = TimerHeap(), Timed(5.0)
    heap.schedule(timed)
    timed.due = 2.0
    heap.schedule(timed)
    assert heap.next() == 2.0
    assert heap.due(10.0) == [timed]  # once
    assert heap.next() is None


def test_a_deadline_that_has_moved_later_wakes_nobody():
    heap, timed, other = TimerHeap(), Timed(2.0), Timed(4.0)
    heap.schedule(timed)
    heap.schedule(other)
    timed.due = 5.0
    heap.schedule(timed)
    assert heap.next() == 4.0
    assert heap.due(3.0) == []
    assert heap.due(5.0) == [other, timed]
    assert heap.next() is None


def test_a_deadline_that_moves_with_every_packet_leaves_one_entry():
    heap, timed = TimerHeap(), Timed(0.0)
    for number in range(1000):
        timed.due = 1.0 + number
        heap.schedule(timed)
        assert heap.next() == timed.due
    assert len(heap._heap) == 1


def test_cancel():
    heap, timed, other = TimerHeap(), Timed(1.0), Timed(2.0)
    heap.schedule(timed)
    heap.schedule(other)
    heap.cancel(timed)
    assert heap.next() == 2.0
    assert heap.due(9.0) == [other]
    heap.schedule(timed)
    assert heap.due(9.0) == [timed]


def test_cancelled_and_scheduled_again_comes_up_once():
    heap, timed = TimerHeap(), Timed(1.0)
    for _ in range(3):
        heap.schedule(timed)
        heap.cancel(timed)
    heap.schedule(timed)
    assert heap.due(1.0) == [timed]
    assert heap.next() is None


def test_what_is_outdated_does_not_pile_up():
    """A session that is now busy, now idle leaves an entry far ahead each time."""
    heap = TimerHeap()
    timed = [Timed(0.0) for _ in range(10)]
    now = 0.0
    for _ in range(5000):
        for each in timed:
            each.due = now + 60.0
            heap.schedule(each)
            each.due = now + 0.01
            heap.schedule(each)
        now += 0.01
        assert heap.due(now) == timed
        assert len(heap._heap) < 200
    heap.cancel(timed[0])
    assert heap.next() is None


def test_against_a_plain_list():
    rng = random.Random(5)
    heap = TimerHeap()
    timed = [Timed(0.0) for _ in range(30)]
    wanted = {}
    now = 0.0
    for _ in range(3000):
        each = rng.choice(timed)
        if rng.random() < 0.1:
            heap.cancel(each)
            wanted.pop(each, None)
        else:
            each.due = now + rng.random()
            heap.schedule(each)
            wanted[each] = each.due
        assert heap.next() == min(wanted.values(), default=None)
        if rng.random() < 0.3:
            now += rng.random() / 10
            expected = [each for each, due in wanted.items() if due <= now]
            assert sorted(map(id, heap.due(now))) == sorted(map(id, expected))
            for each in expected:
                del wanted[each]
