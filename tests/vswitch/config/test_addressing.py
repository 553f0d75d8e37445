"""How VLANs and accepted routes are written."""

import pytest

from vswitch.addresses import WAY_OUT
from vswitch.config.addressing import to_accepted, to_vlan, to_vlans


def test_vlans_are_read_or_refused():
    assert to_vlan("10") == to_vlan(10) == 10
    assert to_vlan("none") is to_vlan(None) is to_vlans("none") is to_vlans(None) is None
    assert to_vlans("10, 20-30") == to_vlans(to_vlans("10, 20-30")) == "10,20-30"
    assert to_vlans(7) == "7"
    for value in (0, 4095, True, 1.5, "0", "x", "-1", "9" * 5000):
        with pytest.raises(ValueError, match="must be a VLAN"):
            to_vlan(value)
    for value in (True, 1.5, "x", 0):
        with pytest.raises(ValueError, match="VLANs"):
            to_vlans(value)


def test_accepted_routes_have_words():
    assert to_accepted(["all"]) == to_accepted("ALL") == WAY_OUT
    assert to_accepted("off") == to_accepted([]) == ()
