"""Three hosts on one switch, with the tools that people use: every protocol above Ethernet."""

import json
import subprocess
from itertools import permutations

import pytest

from vswitch.demo.story import link_local
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

NAMES = ("pc1", "pc2", "pc3")
LEASED = "10.99.0"  # the network that the DHCP test makes on top


def ipv4(lan, name):
    """The address that the switch gave."""
    return lan.port(name)["address"].partition("/")[0]


def ipv6(lan, name):
    return wait_until(lambda: link_local(lan.members[name]), f"link-local address of {name}")


def reach(host, *target):
    """Wait until the target answers: addresses may be tentative, neighbours unknown."""
    wait_until(
        lambda: host.run(["ping", "-c1", "-W1", *target], check=False).returncode == 0,
        f"answer of {target[-1]}",
    )


@pytest.mark.netns
def test_members_are_listed_with_their_addresses(lan):
    listed = json.loads(lan.command(lan.switch, "members", "--json").stdout)
    by_name = {member["name"]: member for member in listed["members"]}
    assert {name: by_name[name]["connected"] for name in NAMES} == dict.fromkeys(NAMES, True)
    addresses = {by_name[name]["address"] for name in NAMES}
    assert len(addresses) == 3
    assert all(address.startswith("10.77.0.") for address in addresses)
    for name in NAMES:
        status = json.loads(lan.command(lan.members[name], "status", "--json").stdout)
        (join,) = status["joins"]
        link = lan.members[name].call(netlink.find_link, DEV)
        assert (join["name"], join["state"], join["dev"]) == (name, "up", DEV)
        assert (join["mac"], join["mtu"]) == (link.mac, link.mtu)


@pytest.mark.netns("ping")
@pytest.mark.parametrize("version", [4, 6])
def test_all_ping_all(lan, version):
    for source, target in permutations(NAMES, 2):
        address = ipv4(lan, target) if version == 4 else f"{ipv6(lan, target)}%{DEV}"
        reach(lan.members[source], address)
        done = lan.members[source].run(["ping", "-c5", "-i0.1", "-W5", address])
        assert ", 0% packet loss" in done.stdout


@pytest.mark.netns("ping")
def test_largest_frame_passes_unfragmented(lan):
    reach(lan.members["pc1"], ipv4(lan, "pc2"))
    largest = ["ping", "-c2", "-i0.1", "-W5", "-M", "do", ipv4(lan, "pc2"), "-s"]
    assert ", 0% packet loss" in lan.members["pc1"].run([*largest, "1472"]).stdout
    assert lan.members["pc1"].run([*largest, "1473"], check=False).returncode != 0


@pytest.mark.netns("ping")
def test_all_nodes_multicast_is_answered_by_all(lan):
    expected = {ipv6(lan, name) for name in NAMES}

    def answered():
        lines = lan.members["pc1"].run(
            ["ping", "-6", "-c6", "-i0.2", "-w5", f"ff02::1%{DEV}"], check=False
        )
        sources = {
            line.split(" from ")[1].partition("%")[0]
            for line in lines.stdout.splitlines()
            if " bytes from " in line
        }
        return sources >= expected

    wait_until(answered, "answer of every member to ff02::1", timeout=60)


@pytest.mark.netns("iperf3")
@pytest.mark.parametrize("reverse", [[], ["-R"]], ids=["there", "back"])
@pytest.mark.parametrize("options", [[], ["-u", "-b5M", "-l1200"]], ids=["tcp", "udp"])
def test_iperf3(lan, options, reverse):
    address = ipv4(lan, "pc2")
    server = lan.members["pc2"].popen(
        ["iperf3", "-s", "-1", "-B", address, "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in server.stdout:
        if "listening" in line:
            break
    client = ["iperf3", "-c", address, "-t2", "-J", *options, *reverse]
    result = json.loads(lan.members["pc1"].run(client).stdout)
    server.communicate(timeout=20)
    if options:
        assert result["end"]["sum"]["packets"] > 500
        assert result["end"]["sum"]["lost_percent"] < 5
    else:
        assert result["end"]["sum_received"]["bytes"] > 1_000_000


DHCLIENT_SCRIPT = f"""#!/bin/sh
case "$reason" in
BOUND|RENEW|REBIND|REBOOT) ip addr replace "$new_ip_address/24" dev {DEV} ;;
esac
"""


@pytest.mark.netns("dnsmasq", "dhclient", "ip", "ping")
def test_dhcp_server_of_one_member_serves_another(lan):
    server = lan.members["pc3"]
    server.call(netlink.add_address, DEV, f"{LEASED}.1/24")
    server.popen(
        [
            *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0"),
            *(f"--interface={DEV}", "--bind-dynamic", "--log-dhcp"),
            f"--dhcp-range={LEASED}.100,{LEASED}.120,255.255.255.0,1h",
            f"--dhcp-leasefile={server.directory}/dnsmasq.leases",
            f"--pid-file={server.directory}/dnsmasq.pid",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lan.join("pc4", "--address", "none")
    lan.wait_connected("pc4")
    client = lan.members["pc4"]
    assert [each for each in client.call(netlink.addresses, DEV) if ":" not in each] == []
    script = client.directory / "dhclient-script"
    script.write_text(DHCLIENT_SCRIPT)
    script.chmod(0o755)
    client.popen(
        [
            *("dhclient", "-d", "-4", "-cf", "/dev/null", "-sf", str(script)),
            *("-lf", f"{client.directory}/leases", "-pf", f"{client.directory}/dhclient.pid"),
            DEV,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(
        lambda: any(each.startswith(f"{LEASED}.1") for each in client.call(netlink.addresses, DEV)),
        "leased address",
        timeout=60,
    )
    reach(client, f"{LEASED}.1")


@pytest.mark.netns("tcpdump", "ping", "ip")
def test_third_member_sees_floods_and_no_unicast_of_others(lan):
    source, target = lan.members["pc1"], lan.members["pc2"]
    address, nobody = ipv4(lan, "pc2"), "10.77.0.250"
    reach(source, address)
    capture = lan.members["pc3"].directory / "flood.txt"
    with capture.open("wb") as output:
        tcpdump = lan.members["pc3"].popen(
            ["tcpdump", "-i", DEV, "-nn", "-l", "arp", "or", "icmp"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_until(lambda: "listening on" in capture.read_text(), "start of tcpdump")
    for host in (source, target):
        host.run(["ip", "neigh", "flush", "dev", DEV])
    assert ", 0% packet loss" in source.run(["ping", "-c5", "-i0.1", "-W5", address]).stdout
    # Frames arrive in order: when this request is there, so is all that went before it.
    source.run(["ping", "-c1", "-W1", nobody], check=False)
    wait_until(lambda: f"who-has {nobody}" in capture.read_text(), "flood at the third member")
    tcpdump.terminate()
    tcpdump.wait(20)
    seen = capture.read_text()
    assert f"who-has {address} tell {ipv4(lan, 'pc1')}" in seen
    assert "echo" not in seen
    assert "is-at" not in seen


@pytest.mark.netns("ping")
def test_host_of_the_switch_joins_without_a_string(lan):
    done = lan.join("tower", host=lan.switch)
    lan.wait_connected("tower")
    assert done.running
    reach(lan.members["pc1"], ipv4(lan, "tower"))
    assert done.stop() == 0
