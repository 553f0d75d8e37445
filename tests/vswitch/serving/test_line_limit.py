"""Lines of the log that one key may cause."""

from vswitch.serving import line_limit
from vswitch.serving.line_limit import BURST, EVERY, LineLimit


def test_a_burst_and_then_one_a_minute_that_says_what_was_left_out():
    limit = LineLimit()
    assert [limit.allow(b"a", 0.0) for _ in range(BURST)] == [0] * BURST
    assert [limit.allow(b"a", 1.0) for _ in range(1000)] == [None] * 1000
    assert limit.allow(b"b", 1.0) == 0
    assert limit.allow(b"a", EVERY + 1) == 1000
    assert limit.allow(b"a", EVERY + 1) is None
    assert limit.allow(b"a", 2 * EVERY + 1) == 1


def test_a_day_of_reconnecting_is_a_bounded_number_of_lines():
    limit = LineLimit()
    lines = sum(limit.allow(b"a", second / 2) is not None for second in range(2 * 86400))
    assert lines <= BURST + 86400 / EVERY


def test_the_keys_are_bounded(monkeypatch):
    monkeypatch.setattr(line_limit, "KEYS", 3)
    limit = LineLimit()
    for number in range(100):
        assert limit.allow(bytes([number]), 0.0) == 0
    assert len(limit._keys) == 3
