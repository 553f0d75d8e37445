"""The rule of `--lane auto`: datagrams on a path that loses nothing, without going to and fro."""

from math import inf

import pytest

from vswitch.members.lane_choice import (
    BUSY,
    CALM,
    KCP,
    LANES,
    MOST_QUIET,
    QUIET,
    STABLE,
    LaneRule,
    agreed,
)


@pytest.mark.parametrize("wish", LANES)
def test_a_wish_that_is_known_is_granted(wish):
    assert agreed(wish) == wish


@pytest.mark.parametrize("wish", ["", "quic", "KCP", "datagram "])
def test_any_other_is_kcp(wish):
    assert agreed(wish) == KCP


def test_a_session_begins_on_kcp_and_moves_when_the_path_has_lost_nothing_for_long():
    rule = LaneRule(100.0)
    assert not rule.choose(100.0, -inf, 0)
    assert not rule.choose(100.0 + QUIET - 0.1, -inf, 0)
    assert rule.choose(100.0 + QUIET, -inf, 0)


def test_a_loss_begins_the_wait_anew():
    rule = LaneRule(0.0)
    assert not rule.choose(QUIET, QUIET - 1, 0)
    assert not rule.choose(2 * QUIET - 2, QUIET - 1, 0)
    assert rule.choose(2 * QUIET - 1, QUIET - 1, 0)


def test_it_waits_for_a_calm_moment_but_not_for_ever():
    rule = LaneRule(0.0)
    assert not rule.choose(QUIET, -inf, CALM + 1)
    assert rule.choose(QUIET + 1, -inf, CALM)
    rule = LaneRule(0.0)
    assert not rule.choose(QUIET + BUSY - 0.1, -inf, 1000)
    assert rule.choose(QUIET + BUSY, -inf, 1000)


def test_the_first_loss_ends_it_at_once():
    rule = LaneRule(0.0)
    assert rule.choose(QUIET, -inf, 0)
    assert not rule.choose(QUIET + 1, QUIET + 0.9, 1000)


def test_a_loss_from_before_does_not():
    rule = LaneRule(0.0)
    assert not rule.choose(5.0, 4.0, 0)
    assert rule.choose(4.0 + QUIET, 4.0, 0)
    assert rule.choose(5.0 + QUIET, 4.0, 0)


def stays(rule, now, clean_for):
    """Go on until it is on datagrams, then lose something; how long it took, and the time."""
    began = now
    while not rule.choose(now, rule._seen, 0):
        now += 1.0
    waited = now - began
    now += clean_for
    assert rule.choose(now, rule._seen, 0)
    assert not rule.choose(now, now, 0)
    return waited, now


def test_short_stays_make_it_more_patient_and_a_long_one_forgives():
    rule, now, waits = LaneRule(0.0), 0.0, []
    for _ in range(7):
        waited, now = stays(rule, now, 5.0)
        waits.append(waited)
    assert waits == [min(QUIET * 2**n, MOST_QUIET) for n in range(7)]
    _, now = stays(rule, now, STABLE * MOST_QUIET)
    waited, _ = stays(rule, now, 5.0)
    assert waited == QUIET


def test_a_path_that_always_loses_sees_few_changes():
    rule, changes, last = LaneRule(0.0), 0, False
    for second in range(7200):
        now = float(second)
        lost_at = now if rule.datagram else -inf  # kcp hides its own overload
        lane = rule.choose(now, max(lost_at, rule._seen), 0)
        changes += lane != last
        last = lane
    assert changes < 45
