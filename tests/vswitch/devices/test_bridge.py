"""What `--bridge` refuses by looking alone; the rest needs a kernel (tests/netns)."""

import pytest

from vswitch.devices import netlink
from vswitch.devices.bridge import enter_bridge
from vswitch.errors import VswitchError


@pytest.mark.parametrize("kind", ["bond", "team", "vrf", "openvswitch"])
def test_an_interface_of_something_else_than_a_bridge_is_refused(kind, monkeypatch):
    links = {
        "eth1": netlink.Link(3, "eth1", "02:00:00:00:00:01", 1500, True, "", False, "red"),
        "red": netlink.Link(4, "red", "02:00:00:00:00:01", 1500, True, kind, False),
    }
    monkeypatch.setattr(netlink, "find_link", links.get)
    with pytest.raises(VswitchError, match="eth1 is in red, which is no bridge: name that one"):
        enter_bridge("vsw0", "eth1")
