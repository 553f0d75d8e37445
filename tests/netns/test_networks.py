"""Two LANs with one subnet in one serve, and a host in two networks: real hosts, ping, captures."""

import json
import re
import subprocess

import pytest

from tests.netns.tools import Capture, answers, reach
from vswitch.lab import wait_until

CONFIG = """
[network.lab]
subnet = "10.77.0.0/24"
local_port = true
dev = "vsw-lab"

[network.office]
subnet = "10.88.0.0/24"
local_port = true
dev = "vsw-office"
"""
SAME = ("02:00:00:00:00:77", "10.77.0.77/24")  # a machine that both LANs have
BULK = 100  # pings of 1400 bytes: what would show in the counters of another network
STRAYS = 10_000  # bytes: neighbour discovery and reports of the hosts themselves meanwhile


def of_network(lan, command, *arguments):
    said = lan.command(lan.switch, command, *arguments, "--json").stdout
    return json.loads(said)


def switch(lan, network):
    return of_network(lan, "status", "--network", network)["switch"]


def ports(lan, network):
    """Of members and hosts."""
    return {port["name"] for port in switch(lan, network)["ports"]} - {"services"}


@pytest.fixture(scope="module")
def networks(empty_lan):
    lan = empty_lan
    path = lan.switch.directory / "vswitch.toml"
    path.write_text(CONFIG)
    lan.serve("--config", str(path))
    lan.join("pc1")
    lan.join("pc2")
    lan.join("pc3", invite=lan.invite("pc3", "--network", "lab"))
    both = ("--dev", "vsw1")
    invite = lan.invite("pc2-office", "--network", "office")
    lan.join("pc2-office", *both, invite=invite, host=lan.members["pc2"])
    lan.wait_connected("pc1", "pc2")
    for network, name in (("lab", "pc3"), ("office", "pc2-office")):
        wait_until(lambda: name in ports(lan, network), name)  # noqa: B023 (called at once)
    for name in ("pc1", "pc3"):
        run = lan.members[name].run
        run(["ip", "link", "add", "link", "vsw0", "same", "address", SAME[0], "type", "macvlan"])
        run(["ip", "address", "add", SAME[1], "dev", "same"])
        run(["ip", "link", "set", "same", "up"])
    return lan


@pytest.mark.netns("ping", "tcpdump")
def test_two_networks_with_one_subnet_and_one_mac_are_apart(networks):
    lan, pc2, pc3 = networks, networks.members["pc2"], networks.members["pc3"]
    same = SAME[1].partition("/")[0]
    reach(pc2, same)
    reach(lan.switch, same)  # over vsw-lab
    for network, port in (("default", "pc1"), ("lab", "pc3")):
        rows = of_network(lan, "mac", "list", "--network", network)["macs"]
        assert {row["name"] for row in rows if row["mac"] == SAME[0]} == {port}
    # The switch's host is in lab, and not in this one: here the services have its address.
    reach(pc2, "10.77.0.1")
    taps = lan.switch.run(["ip", "link", "show", "vsw-lab"]).stdout
    neighbour = pc2.run(["ip", "neigh", "show", "10.77.0.1", "dev", "vsw0"]).stdout.split()
    assert neighbour[neighbour.index("lladdr") + 1] not in taps
    told = lan.switch.directory / "capture.txt"
    with told.open("wb") as output:
        inside = lan.switch.popen(
            lan.argv(lan.switch, "capture", "--network", "lab", "--all", "--filter", "icmp"),
            stdout=output,
            stderr=subprocess.DEVNULL,
        )
    wait_until(lambda: answers(pc3, "10.77.0.1") and told.stat().st_size, "a ping in the capture")
    looks = [Capture(pc3, "vsw0", "icmp"), Capture(lan.switch, "vsw-lab", "icmp")]
    before, lab = switch(lan, "default"), switch(lan, "lab")
    pc2.run(["ping", "-q", "-i0.002", f"-c{BULK}", "-s1400", "-W5", same])
    pc2.run(["ping", "-q", "-b", "-c3", "-i0.05", "-W1", "10.77.0.255"], check=False)
    grown = switch(lan, "default")["totals"]["tx_bytes"] - before["totals"]["tx_bytes"]
    stray = switch(lan, "lab")["totals"]["tx_bytes"] - lab["totals"]["tx_bytes"]
    assert grown > 2 * BULK * 1400
    assert stray < STRAYS
    pc3.run(["ping", "-q", "-c1", "-W5", "-s77", "10.77.0.1"])
    for look in looks:
        wait_until(lambda: len(look.frames()) >= 2, "the one ping of this network")  # noqa: B023
        look.stop()
        assert len(look.frames()) == 2
    inside.terminate()
    inside.wait(10)
    sizes = set(re.findall(r"icmp, (\d+) bytes", told.read_text()))
    assert sizes == {"98", "119"}  # those of this network, with 56 and 77 bytes, and no other


@pytest.mark.netns("ping")
def test_one_host_is_in_two_networks(networks):
    lan, pc2 = networks, networks.members["pc2"]
    reach(pc2, "10.88.0.1", "-I", "vsw1")
    reach(pc2, lan.port("pc1")["address"].partition("/")[0], "-I", "vsw0")
    assert ports(lan, "default") == {"pc1", "pc2"}
    assert ports(lan, "office") == {"local", "pc2-office"}
    line = lan.command(lan.switch, "status", "--network", "office").stdout
    assert "switch 10.88.0.0/24  network office (others: default, lab)" in line


@pytest.mark.netns("ping")
def test_commands_are_about_one_network(networks):
    lan = networks
    wrong = lan.command(lan.switch, "revoke", "pc1", "--network", "lab", check=False)
    assert wrong.returncode != 0
    assert "no member is named pc1" in wrong.stderr
    wrong = lan.command(lan.switch, "members", "--network", "labs", check=False)
    assert "no network labs" in wrong.stderr
    assert "only default, lab, office" in wrong.stderr
    lan.command(lan.switch, "revoke", "pc3", "--network", "lab")
    wait_until(lambda: ports(lan, "lab") == {"local"}, "end of pc3")
    assert ports(lan, "default") == {"pc1", "pc2"}
    reach(lan.members["pc2"], lan.port("pc1")["address"].partition("/")[0])
