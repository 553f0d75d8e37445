"""The replay window: every counter at most once, and none that is too old."""

import pytest

from transport.crypto.replay import COUNTER_LIMIT, WINDOW, ReplayWindow


def take(window, counter):
    """What a receiver does; check and mark must agree when nothing happens in between."""
    looked, marked = window.check(counter), window.mark(counter)
    assert looked == marked
    return marked


def test_table():
    # In the manner of WireGuard's selftest/counter.c: one window, steps in order. The edge is
    # the oldest counter that is still inside: highest - (WINDOW - 1).
    big = 5 * WINDOW
    steps = [
        (0, True),
        (1, True),
        (1, False),
        (0, False),
        (9, True),
        (8, True),
        (7, True),
        (7, False),
        (9, False),
        (WINDOW, True),
        (WINDOW - 1, True),
        (WINDOW - 1, False),
        (WINDOW - 2, True),
        (2, True),
        (2, False),
        (1, False),
        (0, False),  # left the window when WINDOW came
        (WINDOW + 16, True),
        (3, False),
        (16, False),
        (17, True),
        (17, False),
        (WINDOW + 16, False),
        (big, True),
        (big - WINDOW, False),
        (big - WINDOW + 1, True),
        (big - WINDOW + 1, False),
        (big - 1, True),
        (WINDOW + 16, False),
        (COUNTER_LIMIT - 1, True),
        (COUNTER_LIMIT - 1, False),
        (COUNTER_LIMIT, False),
        (COUNTER_LIMIT + 1, False),
        (2**64 - 1, False),
        (COUNTER_LIMIT - 2, True),
        (COUNTER_LIMIT - 2, False),
        (COUNTER_LIMIT - WINDOW, True),
        (COUNTER_LIMIT - WINDOW, False),
        (COUNTER_LIMIT - WINDOW - 1, False),
        (0, False),
    ]
    window = ReplayWindow()
    for number, (counter, expected) in enumerate(steps):
        assert take(window, counter) is expected, f"step {number}: counter {counter}"


@pytest.mark.parametrize("first", [1, 0])
def test_ascending_sweep(first):
    window = ReplayWindow()
    assert all(take(window, counter) for counter in range(first, first + 2 * WINDOW))
    assert not any(take(window, counter) for counter in range(first + 2 * WINDOW))


@pytest.mark.parametrize("last", [1, 0])
def test_descending_sweep(last):
    window = ReplayWindow()
    assert all(take(window, counter) for counter in range(last + WINDOW - 1, last - 1, -1))
    assert not any(take(window, counter) for counter in range(last + WINDOW))


def test_descending_from_beyond_the_window_stops_at_its_edge():
    window = ReplayWindow()
    taken = [counter for counter in range(WINDOW + 3, -1, -1) if take(window, counter)]
    assert taken == list(range(WINDOW + 3, 3, -1))


def test_descending_then_one_above():
    window = ReplayWindow()
    assert all(take(window, counter) for counter in range(WINDOW - 1, -1, -1))
    assert take(window, WINDOW)
    assert not any(take(window, counter) for counter in range(WINDOW + 1))


def test_lowest_counter_arrives_last():
    window = ReplayWindow()
    assert all(take(window, counter) for counter in range(1, WINDOW))
    assert take(window, 0)
    late = ReplayWindow()
    assert all(take(late, counter) for counter in range(1, WINDOW + 1))
    assert not take(late, 0)


def test_check_changes_nothing():
    window = ReplayWindow()
    take(window, 10)
    for counter in (10**6, 11, COUNTER_LIMIT - 1):
        assert window.check(counter)
    assert window.highest == 10
    assert take(window, 5)


def test_limit_does_not_move_the_window():
    window = ReplayWindow()
    assert not window.mark(COUNTER_LIMIT)
    assert not window.mark(2**64 - 1)
    assert window.highest == -1
    assert take(window, 0)


def test_burst_checked_before_anything_is_marked():
    window = ReplayWindow()
    burst = [WINDOW, 0, WINDOW, 1, 1]
    assert all(window.check(counter) for counter in burst)
    # 0 shares its slot with WINDOW: marking it must neither succeed nor free WINDOW again.
    assert [window.mark(counter) for counter in burst] == [True, False, False, True, False]
    assert not window.check(WINDOW)


def test_windows_share_nothing():
    first, second = ReplayWindow(), ReplayWindow()
    assert take(first, 0)
    assert take(second, 0)
