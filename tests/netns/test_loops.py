"""Two members that somebody has bridged behind the switch's back, with real programs."""

import pytest

from tests.netns.tools import Pings, ipv4, reach
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV


def port_states(lan):
    ports = lan.status()["ports"]
    return {each["name"]: each["blocked"] for each in ports if each["name"] != "services"}


def bridged(lan, name, port):
    """Put the member's interface and its shortcut into one bridge."""
    host = lan.members[name]
    for command in (
        "ip link add loop0 type bridge stp_state 0",
        f"ip link set {port} master loop0",
        f"ip link set {port} up",
        "ip link set loop0 up",
        f"ip link set {DEV} master loop0",
    ):
        host.run(command.split())


@pytest.mark.netns("ping", "ip")
def test_a_loop_through_two_members_is_opened(lan):
    lan.join("pc4")
    lan.wait_connected("pc4")
    shortcut = lan.lab.bridge("shortcut")
    for name in ("pc2", "pc3"):
        lan.lab.link(lan.members[name], shortcut, ifname="eth1")
    other = ipv4(lan, "pc4")
    pc1 = lan.members["pc1"]
    reach(pc1, other)
    bridged(lan, "pc2", "eth1")
    bridged(lan, "pc3", "eth1")
    pc1.run(["ping", "-c1", "-W1", "10.77.0.250"], check=False)  # an ARP request for nobody
    wait_until(lambda: port_states(lan)["pc3"] == "loop", "a blocked port", timeout=60)
    assert port_states(lan) == {"pc1": None, "pc2": None, "pc3": "loop", "pc4": None}
    reach(pc1, other)
    Pings(pc1, other).all_answered(40)
    drops = {port["name"]: port["drops"] for port in lan.status()["ports"]}
    assert drops["pc3"]["loop_blocked"] > 0
    log = lan.programs["switch"].tail()
    assert "port-blocked" in log
    assert "name=pc3" in log
