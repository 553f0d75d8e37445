"""Two members that somebody has bridged behind the switch's back, with real programs."""

import subprocess
import time
from pathlib import Path

import pytest

from tests.netns.tools import ipv4, reach
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

WITHIN = 6.0  # seconds


def port_states(lan):
    ports = lan.status()["ports"]
    return {each["name"]: each["blocked"] for each in ports if each["name"] != "services"}


def switch_cpu(lan):
    """Seconds of CPU that the switch has used."""
    text = Path(f"/proc/{lan.programs['switch'].process.pid}/stat").read_text()
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


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
    before, begun = switch_cpu(lan), time.monotonic()
    ping = pc1.popen(["ping", "-i0.2", "-c60", "-W2", other], stdout=subprocess.PIPE, text=True)
    bridged(lan, "pc2", "eth1")
    bridged(lan, "pc3", "eth1")
    looped = time.monotonic()
    pc1.run(["ping", "-c1", "-W1", "10.77.0.250"], check=False)  # an ARP request for nobody
    wait_until(lambda: port_states(lan)["pc3"] == "loop", "a blocked port", timeout=30)
    took = time.monotonic() - looped
    assert port_states(lan) == {"pc1": None, "pc2": None, "pc3": "loop", "pc4": None}
    said = ping.communicate(timeout=60)[0].splitlines()[-2]
    used = (switch_cpu(lan) - before) / (time.monotonic() - begun)
    drops = {port["name"]: port["drops"] for port in lan.status()["ports"]}
    print(f"\nblocked after {took:.1f} s; the ping of others meanwhile: {said}")
    print(f"the switch used {100 * used:.0f} % of a core; drops {drops}")
    assert took <= WITHIN
    assert int(said.split("received")[0].split()[-1]) >= 45  # of 60: all, mostly
    assert drops["pc3"]["loop_blocked"] > 0
    log = lan.programs["switch"].tail()
    assert "port-blocked" in log
    assert "name=pc3" in log
