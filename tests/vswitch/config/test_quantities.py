"""How rates are written; test_spellings.py has every kind."""

import pytest

from vswitch.config.quantities import to_rate


def test_rates_are_read_or_refused():
    assert to_rate("50M") == 50e6
    assert to_rate("1.5g") == 1.5e9
    assert to_rate("500k") == 500e3
    assert to_rate(20_000) == 20_000
    assert to_rate("off") is None
    for wrong in ("fast", "50 Mbyte", "50T", "-1", "0", "", True, [], 0, 2e12):
        with pytest.raises(ValueError, match=r"must be|write"):
            to_rate(wrong)
