"""Large units that leave in pieces: what leaves when."""

from math import inf

from transport.session.outbox import PacedPieces


def test_the_first_piece_leaves_at_once_and_the_others_follow():
    paced = PacedPieces()
    assert not paced
    assert paced.at == inf
    assert paced.add(bytes(range(10)), 2, 2, 0.5, 7.0) == (bytes(range(4)), 2)
    assert paced.at == 7.5
    assert paced.done_at(7.0) == 8.0
    assert paced.next(7.5) == (bytes(range(4, 8)), 2)
    assert paced
    assert paced.next(8.0) == (bytes((8, 9)), 2)
    assert not paced
    assert paced.at == inf


def test_a_second_unit_waits_for_the_first():
    paced = PacedPieces()
    paced.add(b"aabb", 2, 1, 0.5, 0.0)
    assert paced.add(b"cccddd", 3, 1, 1.0, 0.1) is None
    assert paced.next(0.5) == (b"bb", 2)
    assert paced.next(1.0) == (b"ccc", 3)
    assert paced.at == 2.0
    assert paced.next(2.0) == (b"ddd", 3)


def test_what_is_cleared_never_leaves():
    paced = PacedPieces()
    paced.add(b"aabb", 2, 1, 0.5, 0.0)
    paced.clear()
    assert not paced
    assert paced.at == inf
    assert paced.add(b"xxyy", 2, 1, 0.5, 9.0) == (b"xx", 2)
