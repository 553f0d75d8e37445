"""Foreign ports with real tools: hosts by UDP, TCP and VXLAN of a kernel, and a member."""

from itertools import permutations

import pytest

from tests.netns.tools import iperf3, reach
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV, SWITCH_ADDRESS

ADDRESSES = {"pc1": "10.88.0.1", "udp1": "10.88.0.2", "tcp1": "10.88.0.3", "vx1": "10.88.0.4"}
VXLAN = "192.0.2.13"  # the third host of the underlay


@pytest.fixture(scope="module")
def foreign(empty_lan):
    lan = empty_lan
    hosts = {name: lan.host(name) for name in ("udp1", "tcp1", "vx1")}
    path = lan.switch.directory / "vswitch.toml"
    path.write_text(
        f"""
[[foreign]]
kind = "udp"
listen = "0.0.0.0:5555"
[[foreign]]
kind = "tcp"
listen = ":5556"
[[foreign]]
kind = "vxlan"
remote = "{VXLAN}"
vni = 42
"""
    )
    lan.serve("--config", str(path))
    lan.join("pc1", "--address", "none")
    lan.wait_connected("pc1")
    lan.members["pc1"].call(netlink.add_address, DEV, ADDRESSES["pc1"] + "/24")
    for name, url in (("udp1", "udp"), ("tcp1", "tcp")):
        port = 5555 if url == "udp" else 5556
        lan.programs[name] = lan._start(
            hosts[name],
            "join",
            *("--via", f"{url}://{SWITCH_ADDRESS}:{port}", "--dev", DEV),
            *("--address", ADDRESSES[name] + "/24"),
        )
    vx1 = hosts["vx1"]
    vx1.run(
        [
            *("ip", "link", "add", DEV, "type", "vxlan", "id", "42", "dstport", "4789"),
            *("remote", SWITCH_ADDRESS, "local", VXLAN),
        ]
    )
    vx1.run(["ip", "address", "add", ADDRESSES["vx1"] + "/24", "dev", DEV])
    vx1.run(["ip", "link", "set", DEV, "mtu", "1450", "up"])
    # Under it is a veth, which promises to complete checksums inside of tunnels, and never does.
    vx1.run(["ethtool", "-K", DEV, "tx", "off", "tso", "off", "gso", "off"])
    wait_until(lambda: len((lan.status() or {}).get("ports", [])) == 5, "five ports")
    return lan


@pytest.mark.netns("ping", "ip", "ethtool")
def test_all_ping_all(foreign):
    for source, target in permutations(ADDRESSES, 2):
        reach(foreign.members[source], ADDRESSES[target])
        done = foreign.members[source].run(
            ["ping", "-c5", "-i0.1", "-W5", ADDRESSES[target]], check=False
        )
        assert ", 0% packet loss" in done.stdout, (source, target)


@pytest.mark.netns("ping", "ip", "ethtool")
@pytest.mark.parametrize("target", ["udp1", "tcp1"])
def test_the_largest_frame(foreign, target):
    host = foreign.members["pc1"]
    reach(host, ADDRESSES[target], "-M", "do", "-s", "1472")


@pytest.mark.netns("iperf3", "ip", "ethtool")
@pytest.mark.parametrize("target", ["udp1", "tcp1", "vx1"])
@pytest.mark.parametrize("reverse", [[], ["-R"]], ids=["there", "back"])
def test_iperf3_crosses_both_ways(foreign, target, reverse):
    pc1, address = foreign.members["pc1"], ADDRESSES[target]
    reach(pc1, address)
    received = iperf3(pc1, foreign.members[target], address, "-t2", *reverse)["sum_received"]
    print(f"{target} {reverse}: {received['bits_per_second'] / 1e6:.0f} Mbit/s")
    assert received["bytes"] > 1_000_000


@pytest.mark.netns("ip", "ethtool")
def test_the_ports_have_the_names_of_the_listeners(foreign):
    names = {port["name"].partition("-")[0] for port in foreign.status()["ports"]}
    assert names == {"pc1", "udp", "tcp", "vxlan", "services"}
    log = foreign.programs["switch"].log.read_text()
    assert log.count(" WARNING foreign-listening ") == 3


@pytest.mark.netns("ping", "ip", "ethtool")
def test_a_tcp_member_that_is_killed_is_a_port_down(foreign):
    foreign.programs["tcp1"].process.kill()
    wait_until(lambda: len(foreign.status()["ports"]) == 4, "end of the port")
    assert foreign.programs["udp1"].stop() == 0
