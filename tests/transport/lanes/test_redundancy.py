"""What leaves more than once, and when that ends."""

from transport.lanes.redundancy import (
    BUDGET,
    BUDGET_WINDOWS,
    BYTES_PER_COPY,
    CLEAN_UNITS,
    HALF_CLEAN_UNITS,
    LARGEST_COPIED,
    MOST_WAITING,
    Redundancy,
)

UNIT = bytes(1000)
WINDOW = 10_000_000  # bytes: no bound


def lossy(units=0):
    """Something was lost, and then so many units arrived."""
    redundancy = Redundancy()
    redundancy.on_lost()
    redundancy.on_acked(units)
    return redundancy


def put_off(redundancy, units, until=1.0, now=0.0, window=WINDOW):
    """Put these off; what leaves of them then."""
    redundancy.defer(units, until, window)
    taken = []
    while redundancy.waiting:
        unit = redundancy.take(now)
        if unit is not None:
            taken.append(unit)
    return taken


def test_nothing_leaves_twice_before_the_first_loss():
    redundancy = Redundancy()
    assert not redundancy.path_lossy
    assert redundancy.duplicates([UNIT]) == put_off(redundancy, [UNIT]) == []


def test_what_is_repeated_leaves_twice():
    assert lossy().duplicates([UNIT, b"x"]) == [UNIT, b"x"]


def test_what_is_new_leaves_three_times_after_a_loss():
    assert put_off(lossy(), [UNIT, b"x"]) == [UNIT, b"x", UNIT, b"x"]


def test_one_copy_where_some_have_come_through():
    assert put_off(lossy(HALF_CLEAN_UNITS), [UNIT]) == [UNIT]


def test_none_when_enough_has():
    redundancy = lossy(CLEAN_UNITS)
    assert not redundancy.path_lossy
    assert redundancy.duplicates([UNIT]) == put_off(redundancy, [UNIT]) == []


def test_a_loss_begins_it_anew():
    redundancy = lossy(CLEAN_UNITS)
    redundancy.on_lost()
    assert redundancy.path_lossy
    redundancy.on_acked(CLEAN_UNITS - 1)
    assert redundancy.duplicates([UNIT]) == [UNIT]
    redundancy.on_acked(1)
    assert redundancy.duplicates([UNIT]) == []


def test_late_copies_are_of_no_use():
    redundancy = lossy(HALF_CLEAN_UNITS)
    redundancy.defer([b"old"], until=1.0, window=WINDOW)
    redundancy.defer([b"new"], until=2.0, window=WINDOW)
    assert redundancy.take(1.5) == b"new"
    assert not redundancy.waiting
    redundancy.defer([b"old"], until=1.0, window=WINDOW)
    assert redundancy.take(1.5) is None


def test_what_waits_is_bounded_and_can_be_forgotten():
    redundancy = lossy(HALF_CLEAN_UNITS)
    units = [number.to_bytes(4, "big") for number in range(MOST_WAITING + 10)]
    assert put_off(redundancy, units) == units[10:]
    redundancy.defer(units, until=1.0, window=WINDOW)
    redundancy.clear()
    assert not redundancy.waiting


def test_large_units_leave_once():
    units = [bytes(LARGEST_COPIED + 1), bytes(LARGEST_COPIED)]
    assert lossy().duplicates(units) == units[1:]
    assert put_off(lossy(HALF_CLEAN_UNITS), units) == units[1:]


def test_the_budget_ends_and_comes_back_with_what_is_sent():
    redundancy = lossy(HALF_CLEAN_UNITS)
    units = -(-BUDGET // len(UNIT))
    assert len(redundancy.duplicates([UNIT] * 2 * units)) == units
    assert redundancy.duplicates([UNIT]) == put_off(redundancy, [UNIT]) == []
    redundancy.on_sent(BYTES_PER_COPY * len(UNIT) * 10)
    assert 9 <= len(redundancy.duplicates([UNIT] * 100)) <= 10
    redundancy.on_sent(2 * BYTES_PER_COPY * BUDGET)
    assert len(redundancy.duplicates([UNIT] * 2 * units)) == units


def test_what_is_new_has_a_small_budget_on_a_slow_path():
    redundancy, slow = lossy(HALF_CLEAN_UNITS), 20 * len(UNIT)
    assert len(put_off(redundancy, [UNIT] * 100, window=slow)) == BUDGET_WINDOWS * 20
    assert put_off(redundancy, [UNIT], window=slow) == []
    assert redundancy.duplicates([UNIT]) == [UNIT]
    assert len(put_off(redundancy, [UNIT] * 100, window=2 * slow)) == BUDGET_WINDOWS * 20 - 1
