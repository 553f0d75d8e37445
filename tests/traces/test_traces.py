"""What the project does has not changed since the simulations were recorded."""

import pytest

from tests.traces.record import SCENARIOS, recorded, result


def test_the_record_is_of_these_scenarios():
    assert list(recorded()) == list(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_trace_is_as_recorded(name):
    assert result(name) == recorded()[name]
