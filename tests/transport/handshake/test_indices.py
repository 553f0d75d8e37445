"""Receiver indices: never zero, never one that is taken."""

import random

from transport.handshake.indices import IndexTable


def numbers(*values):
    source = iter(values)
    return lambda size: next(source).to_bytes(size, "little")


def test_zero_and_taken_ones_are_passed_over():
    table = IndexTable(numbers(7, 0, 7, 0, 9))
    table[table.unused()] = "a"
    assert table.unused() == 9
    assert table.owners == {7: "a"}


def test_a_released_one_may_come_again():
    table = IndexTable(numbers(7, 7))
    table[table.unused()] = "a"
    table.release(7)
    table.release(7)
    assert table.unused() == 7


def test_indices_use_all_32_bits():
    table = IndexTable(random.Random(1).randbytes)
    seen = [table.unused() for _ in range(200)]
    assert max(seen) >= 2**31
    assert max(seen) < 2**32
    assert len(set(seen)) == 200
