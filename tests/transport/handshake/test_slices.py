"""The table of inits in slices: what fits together, who may have how much of it, and its bounds."""

import itertools

import pytest

from transport.constants import COOKIE_REPLY_SIZE, HYBRID_INIT_SIZE, HYBRID_RESPONSE_SIZE
from transport.errors import BadPacket
from transport.handshake.slices import SLICE_LIFETIME, SLICED_INITS, SliceTable
from transport.wire.datagrams import (
    INIT_SLICE,
    RESPONSE_SLICE,
    HandshakeSlice,
    cut_handshake,
    decode_slice_untrusted,
)

MESSAGE = bytes(each % 251 for each in range(HYBRID_INIT_SIZE))
MACS = bytes(32)


def slices(number, message=MESSAGE, kind=INIT_SLICE):
    return cut_handshake(kind, 7, number.to_bytes(8, "little"), message)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_makes_the_message_and_leaves_nothing(order):
    table, pieces = SliceTable(), slices(1)
    found = [table.add(pieces[each], "here", "me", 0.0) for each in (order[0], *order)]
    assert found == [None, None, None, MESSAGE]
    assert (len(table), table._groups) == (0, {})


def test_what_comes_from_elsewhere_or_too_late_belongs_to_another():
    table, pieces = SliceTable(), slices(1)
    table.add(pieces[0], "here", "me", 0.0)
    table.add(pieces[1], "here", "me", 0.0)
    assert table.add(pieces[2], "there", "me", 0.1) is None
    assert table.add(pieces[2], "here", "me", SLICE_LIFETIME) is None


def test_who_has_less_is_not_pushed_out_by_who_has_more():
    """One that fills the table, from any number of ports, and another between its slices."""
    table, mine = SliceTable(), slices(0)
    for number in range(1, 3 * SLICED_INITS):
        table.add(slices(number)[0], number, f"flood {number % 100}", 0.0)
    for piece in mine[:2]:
        assert table.add(piece, "here", "me", 0.1) is None
        for number in range(SLICED_INITS, 3 * SLICED_INITS):
            table.add(slices(number)[1], number + 9_999, f"flood {number % 100}", 0.1)
        assert len(table) == SLICED_INITS
    assert table.add(mine[2], "here", "me", 0.2) == MESSAGE
    table.add(mine[0], "here", "me", 0.1 + SLICE_LIFETIME)
    assert len(table) == 1
    assert table._groups.keys() == {"me"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [(INIT_SLICE, MESSAGE), (RESPONSE_SLICE, MESSAGE[:HYBRID_RESPONSE_SIZE])],
)
def test_a_slice_has_one_size(kind, message):
    """So there is no init of another size to keep, and none smaller than its answer, a cookie."""
    for piece in slices(1, message, kind):
        data = piece.encode() + MACS
        assert decode_slice_untrusted(data).piece == piece.piece
        assert len(data) > COOKIE_REPLY_SIZE
        for other in (data[:48], data[:49], data[:-1], data + b"x"):
            with pytest.raises(BadPacket):
                decode_slice_untrusted(other)


@pytest.mark.parametrize(("number", "count"), [(0, 0), (0, 1), (1, 2), (3, 3), (0, 4), (255, 3)])
@pytest.mark.parametrize("size", [1, 416, 500])
def test_a_number_that_is_none_is_refused(number, count, size):
    data = HandshakeSlice(INIT_SLICE, number, count, 7, bytes(8), bytes(size)).encode() + MACS
    with pytest.raises(BadPacket):
        decode_slice_untrusted(data)
