"""A switch that is reached at a place of the LAN and at one of the Internet."""

import pytest

from tests.netns.tools import Lan, ipv4, joined, reach
from vswitch.devices import netlink
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import SWITCH_ADDRESS, UNDERLAY

OUTSIDE = "192.0.2.9"


def cannot_reach(host, address):
    """Datagrams to it vanish, as to a private address of elsewhere."""
    rules = f"ip daddr {address} drop"
    chain = f"chain f {{\ntype filter hook output priority 0;\n{rules}\n}}"
    host.run(["nft", "-f", "-"], input=f"flush ruleset\ntable ip t {{\n{chain}\n}}")


@pytest.mark.netns("ip", "ping", "nft")
def test_each_member_finds_the_switch_where_it_can_be_reached_from_there():
    with Lab() as lab:
        lan = Lan(lab)
        lan.switch.call(netlink.add_address, UNDERLAY, f"{OUTSIDE}/24")
        lan.serve("--public", OUTSIDE)
        cannot_reach(lan.host("pc1"), OUTSIDE)
        cannot_reach(lan.host("pc2"), SWITCH_ADDRESS)
        lan.join("pc1")
        lan.join("pc2")
        lan.wait_connected("pc1", "pc2")
        reach(lan.members["pc1"], ipv4(lan, "pc2"))
        since = lan.port("pc1")["since"]

        # The laptop leaves the house, in the same session, and knows the way after a start, too.
        cannot_reach(lan.members["pc1"], SWITCH_ADDRESS)
        reach(lan.members["pc1"], ipv4(lan, "pc2"))
        wait_until(lambda: joined(lan, "pc1")["state"] == "up", "a status")
        assert lan.port("pc1")["since"] == since
        lan.programs["pc1"].stop()
        lan.join("pc1")
        lan.wait_connected("pc1")
        reach(lan.members["pc1"], ipv4(lan, "pc2"))
        lan.stop()
