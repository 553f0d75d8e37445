"""Pauses between attempts: by what was lost; doubling, capped, spread, and short again."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from vswitch.joining.backoff import CAP, FIRST, PATIENT, RESTART, SILENCE, SOON, SPREAD, Backoff


def middle(low, high):
    return (low + high) / 2


def test_pauses_double_up_to_the_cap():
    backoff = Backoff(middle)
    pauses = [backoff.pause() for _ in range(12)]
    assert pauses[:8] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6])
    assert pauses[8:] == [CAP] * 4


def test_a_smaller_cap_for_what_mends_itself_soon():
    backoff = Backoff(middle)
    assert [backoff.pause(SOON) for _ in range(6)] == pytest.approx([0.2, 0.4, 0.8, 1.6, 2, 2])


def test_after_a_reset_it_begins_anew():
    backoff = Backoff(middle)
    for _ in range(12):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == pytest.approx(FIRST)
    assert backoff.pause() == pytest.approx(2 * FIRST)


def test_silence_is_asked_into_all_the_time_and_after_a_quarter_of_an_hour_less():
    backoff = Backoff(middle)
    assert {backoff.after_silence(1000.0 + n) for n in range(round(PATIENT))} == {SILENCE}
    assert backoff.pause() == pytest.approx(FIRST)  # other pauses have not grown meanwhile
    late = [backoff.after_silence(1000.0 + PATIENT + n) for n in range(10)]
    assert late[-1] == CAP
    backoff.answered()
    assert backoff.after_silence(9000.0) == SILENCE


def test_a_restart_is_waited_for_by_each_in_its_own_time():
    pauses = [Backoff().after_restart() for _ in range(200)]
    assert RESTART[0] <= min(pauses) < 0.4
    assert 1.7 < max(pauses) <= RESTART[1]


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
