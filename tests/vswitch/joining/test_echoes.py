"""Which source addresses were sent of late, and for how long that is remembered."""

from vswitch.frames.records import frame_record
from vswitch.joining.echoes import MEMORY, MOST, RecentSources
from vswitch.testing import ethernet


def records(*numbers):
    return [
        frame_record(ethernet(b"\xff" * 6, b"\x02" + number.to_bytes(5, "big"), 0x88B5, bytes(46)))
        for number in numbers
    ]


def passes(sources, number, now):
    return sources.without_echoes(records(number), now) == records(number)


def test_an_echo_is_known_for_a_second_at_least_and_two_at_most():
    for start in (0.0, 0.3, 0.99, 7.5):
        sources = RecentSources(0.0)
        sources.note(records(1), start)
        assert sources.without_echoes(records(2, 1, 3), start) == records(2, 3)
        assert not passes(sources, 1, start + 0.99 * MEMORY)
        assert passes(sources, 1, start + 2 * MEMORY)


def test_who_goes_on_sending_stays_known():
    sources, now = RecentSources(0.0), 0.0
    for _ in range(50):
        sources.note(records(1), now)
        now += 0.9 * MEMORY
        assert not passes(sources, 1, now)
        assert passes(sources, 2, now)


def test_what_is_remembered_is_bounded():
    sources = RecentSources(0.0)
    for first in range(0, 20 * MOST, 64):
        sources.note(records(*range(first, first + 64)), 0.0)
    known = sum(not passes(sources, number, 0.0) for number in range(20 * MOST))
    assert MOST <= known <= 2 * MOST + 128
    assert not passes(sources, 20 * MOST - 1, 0.0)
