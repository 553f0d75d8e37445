"""Large units that leave in pieces: what leaves when."""

from math import inf

from transport.session.outbox import Trickle


def test_the_first_piece_leaves_at_once_and_the_others_follow():
    trickle = Trickle()
    assert not trickle
    assert trickle.at == inf
    assert trickle.add(bytes(range(10)), 2, 2, 0.5, 7.0) == (bytes(range(4)), 2)
    assert trickle.at == 7.5
    assert trickle.done_at(7.0) == 8.0
    assert trickle.next(7.5) == (bytes(range(4, 8)), 2)
    assert trickle
    assert trickle.next(8.0) == (bytes((8, 9)), 2)
    assert not trickle
    assert trickle.at == inf


def test_a_second_unit_waits_for_the_first():
    trickle = Trickle()
    trickle.add(b"aabb", 2, 1, 0.5, 0.0)
    assert trickle.add(b"cccddd", 3, 1, 1.0, 0.1) is None
    assert trickle.next(0.5) == (b"bb", 2)
    assert trickle.next(1.0) == (b"ccc", 3)
    assert trickle.at == 2.0
    assert trickle.next(2.0) == (b"ddd", 3)


def test_what_is_cleared_never_leaves():
    trickle = Trickle()
    trickle.add(b"aabb", 2, 1, 0.5, 0.0)
    trickle.clear()
    assert not trickle
    assert trickle.at == inf
    assert trickle.add(b"xxyy", 2, 1, 0.5, 9.0) == (b"xx", 2)
