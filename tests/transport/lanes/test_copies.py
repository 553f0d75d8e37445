"""What leaves more than once, and when that ends."""

from transport.lanes.copies import (
    DOUBLED_MOST,
    HALF_PROVEN,
    MOST,
    MOST_WINDOWS,
    PROVEN,
    SHARE,
    WAITING_MOST,
    Copies,
)

UNIT = bytes(1000)
WINDOW = 10_000_000  # bytes: no bound


def lossy(units=0):
    """Something was lost, and then so many units arrived."""
    copies = Copies()
    copies.on_lost()
    copies.on_acked(units)
    return copies


def put_off(copies, units, until=1.0, now=0.0, window=WINDOW):
    """Put these off; what leaves of them then."""
    copies.put_off(units, until, window)
    taken = []
    while copies.waiting:
        unit = copies.take(now)
        if unit is not None:
            taken.append(unit)
    return taken


def test_nothing_leaves_twice_before_the_first_loss():
    copies = Copies()
    assert not copies.wanted
    assert copies.of([UNIT]) == put_off(copies, [UNIT]) == []


def test_what_is_repeated_leaves_twice():
    assert lossy().of([UNIT, b"x"]) == [UNIT, b"x"]


def test_what_is_new_leaves_three_times_after_a_loss():
    assert put_off(lossy(), [UNIT, b"x"]) == [UNIT, b"x", UNIT, b"x"]


def test_one_copy_where_some_have_come_through():
    assert put_off(lossy(HALF_PROVEN), [UNIT]) == [UNIT]


def test_none_when_enough_has():
    copies = lossy(PROVEN)
    assert not copies.wanted
    assert copies.of([UNIT]) == put_off(copies, [UNIT]) == []


def test_a_loss_begins_it_anew():
    copies = lossy(PROVEN)
    copies.on_lost()
    assert copies.wanted
    copies.on_acked(PROVEN - 1)
    assert copies.of([UNIT]) == [UNIT]
    copies.on_acked(1)
    assert copies.of([UNIT]) == []


def test_late_copies_are_of_no_use():
    copies = lossy(HALF_PROVEN)
    copies.put_off([b"old"], until=1.0, window=WINDOW)
    copies.put_off([b"new"], until=2.0, window=WINDOW)
    assert copies.take(1.5) == b"new"
    assert not copies.waiting
    copies.put_off([b"old"], until=1.0, window=WINDOW)
    assert copies.take(1.5) is None


def test_what_waits_is_bounded_and_can_be_forgotten():
    copies = lossy(HALF_PROVEN)
    units = [number.to_bytes(4, "big") for number in range(WAITING_MOST + 10)]
    assert put_off(copies, units) == units[10:]
    copies.put_off(units, until=1.0, window=WINDOW)
    copies.forget()
    assert not copies.waiting


def test_large_units_leave_once():
    units = [bytes(DOUBLED_MOST + 1), bytes(DOUBLED_MOST)]
    assert lossy().of(units) == units[1:]
    assert put_off(lossy(HALF_PROVEN), units) == units[1:]


def test_the_budget_ends_and_comes_back_with_what_is_sent():
    copies = lossy(HALF_PROVEN)
    units = -(-MOST // len(UNIT))
    assert len(copies.of([UNIT] * 2 * units)) == units
    assert copies.of([UNIT]) == put_off(copies, [UNIT]) == []
    copies.on_sent(SHARE * len(UNIT) * 10)
    assert 9 <= len(copies.of([UNIT] * 100)) <= 10
    copies.on_sent(2 * SHARE * MOST)
    assert len(copies.of([UNIT] * 2 * units)) == units


def test_what_is_new_has_a_small_budget_on_a_slow_path():
    copies, slow = lossy(HALF_PROVEN), 20 * len(UNIT)
    assert len(put_off(copies, [UNIT] * 100, window=slow)) == MOST_WINDOWS * 20
    assert put_off(copies, [UNIT], window=slow) == []
    assert copies.of([UNIT]) == [UNIT]
    assert len(put_off(copies, [UNIT] * 100, window=2 * slow)) == MOST_WINDOWS * 20 - 1
