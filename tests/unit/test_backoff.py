"""Pauses between attempts: short at first, doubling, capped, spread, and short again."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from vswitch.backoff import CAP, FIRST, SPREAD, Backoff


def middle(low, high):
    return (low + high) / 2


def test_pauses_double_up_to_the_cap():
    backoff = Backoff(middle)
    pauses = [backoff.pause() for _ in range(12)]
    assert pauses[:8] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])
    assert pauses[8:] == [CAP] * 4


def test_after_a_reset_it_begins_anew():
    backoff = Backoff(middle)
    for _ in range(12):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == pytest.approx(FIRST)
    assert backoff.pause() == pytest.approx(2 * FIRST)


@settings(deadline=None)
@given(seed=st.integers(), attempts=st.integers(1, 40))
def test_a_pause_is_near_its_nominal_length_and_never_over_the_cap(seed, attempts):
    backoff = Backoff(random.Random(seed).uniform)
    nominal = FIRST
    for _ in range(attempts):
        pause = backoff.pause()
        assert nominal * (1 - SPREAD) <= pause <= min(CAP, nominal * (1 + SPREAD))
        nominal = min(CAP, 2 * nominal)


def test_members_of_one_switch_do_not_come_back_in_step():
    pauses = {Backoff().pause() for _ in range(50)}
    assert len(pauses) > 40
    assert max(pauses) - min(pauses) > FIRST * SPREAD
