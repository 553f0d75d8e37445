"""In which order pauses are tried, for any NAT."""

import pytest

from vswitch.doctor.nat import CLOSE_ENOUGH, FIRST_PAUSE, LONGEST_PAUSE, next_pause


@pytest.mark.parametrize("life", [0.5, 1.5, 10.0, 17.0, 30.0, 44.0, 60.0])
def test_pauses_grow_and_close_in_on_what_a_mapping_outlives(life):
    alive, gone, pauses = 0.0, None, []
    while pause := next_pause(alive, gone):
        pauses.append(pause)
        alive, gone = (pause, gone) if pause < life else (alive, pause)
    assert len(pauses) <= 10
    assert max(pauses) <= LONGEST_PAUSE
    assert alive < life
    if life <= LONGEST_PAUSE:
        assert life <= gone <= FIRST_PAUSE + CLOSE_ENOUGH * alive
    else:
        assert (alive, gone) == (LONGEST_PAUSE, None)
        assert sum(pauses) < 120
