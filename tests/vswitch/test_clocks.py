"""Dates and durations by a clock that may say anything."""

from __future__ import annotations

import time

import pytest

from vswitch.clocks import stamp, uptime, utc, wall_time_of


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-0.312, "1969-12-31T23:59:59.688Z"),
        (-315_619_199.75, "1960-01-01T00:00:00.250Z"),
        (4_102_444_800.999, "2100-01-01T00:00:00.999Z"),
        (1 << 63, "second 9.22337e+18"),
    ],
)
def test_any_clock_has_a_stamp(seconds, text):
    assert stamp(seconds) == text


def test_what_has_no_date_is_a_number():
    assert utc(-1e12, "%Y") == "second -1e+12"
    assert utc(float("nan"), "%Y") == "second nan"


def test_a_moment_has_the_date_that_the_wall_clock_now_says(monkeypatch):
    moment = uptime() - 60
    monkeypatch.setattr(time, "time", lambda: 1e9)
    assert wall_time_of(moment) == pytest.approx(1e9 - 60, abs=10)
    monkeypatch.setattr(time, "time", lambda: -1e8)
    assert wall_time_of(moment) == pytest.approx(-1e8 - 60, abs=10)
