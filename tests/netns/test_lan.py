"""Three hosts on one switch, with the tools that people use: every protocol above Ethernet."""

import json
from itertools import permutations

import pytest

from tests.netns.tools import (
    NAMES,
    Lines,
    ask_for_lease,
    iperf3,
    ipv4,
    joined,
    reach,
    serve_leases,
)
from vswitch.demo.story import link_local
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

LEASED = "10.99.0"  # the network that the DHCP test makes on top


def ipv6(lan, name):
    return wait_until(lambda: link_local(lan.members[name]), f"link-local address of {name}")


@pytest.mark.netns
def test_members_are_listed_with_their_addresses(lan):
    listed = json.loads(lan.command(lan.switch, "members", "--json").stdout)
    by_name = {member["name"]: member for member in listed["members"]}
    assert {name: by_name[name]["connected"] for name in NAMES} == dict.fromkeys(NAMES, True)
    addresses = {by_name[name]["address"] for name in NAMES}
    assert len(addresses) == 3
    assert all(address.startswith("10.77.0.") for address in addresses)
    for name in NAMES:
        join = joined(lan, name)
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
def test_iperf3_crosses_both_ways(lan, options, reverse):
    one, two = lan.members["pc1"], lan.members["pc2"]
    end = iperf3(one, two, ipv4(lan, "pc2"), "-t2", *options, *reverse)
    if options:
        assert end["sum"]["packets"] > 500
        assert end["sum"]["lost_percent"] < 50  # a busy receiver's kernel drops some
    else:
        assert end["sum_received"]["bytes"] > 1_000_000


@pytest.mark.netns("dnsmasq", "dhclient", "ip", "ping")
def test_dhcp_server_of_one_member_serves_another(lan):
    server = lan.members["pc3"]
    server.call(netlink.add_address, DEV, f"{LEASED}.1/24")
    serve_leases(server, LEASED)
    lan.join("pc4", "--address", "none")
    lan.wait_connected("pc4")
    client = lan.members["pc4"]
    assert [each for each in client.call(netlink.addresses, DEV) if ":" not in each] == []
    ask_for_lease(client)
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
    capture = Lines(lan.members["pc3"], DEV, "arp", "or", "icmp")
    for host in (source, target):
        host.run(["ip", "neigh", "flush", "dev", DEV])
    assert ", 0% packet loss" in source.run(["ping", "-c5", "-i0.1", "-W5", address]).stdout
    # Frames arrive in order: when this request is there, so is all that went before it.
    source.run(["ping", "-c1", "-W1", nobody], check=False)
    wait_until(lambda: f"who-has {nobody}" in capture.text(), "flood at the third member")
    seen = capture.stop()
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
