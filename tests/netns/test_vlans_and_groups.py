"""VLANs and multicast snooping with real hosts: VLAN interfaces, captures, sockets that join."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netns.tools import Lines, answers, iperf3
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

CONFIG = """
[switch]
multicast_snooping = true

[port.pc1]
vlan = 10
[port.pc2]
vlan = 20
[port.pc3]
trunk = "10,20"
"""
GROUP = "239.1.2.3"
INTERFACE = Path(__file__).with_name("vlan_interface.py")
STREAM = 40  # datagrams

JOIN = f"""
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 5353 + 1))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
             socket.inet_aton("{GROUP}") + socket.inet_aton(sys.argv[1]))
print("joined", flush=True)
while True:
    print(s.recv(2000)[:6], flush=True)
"""
SEND = f"""
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
for _ in range({STREAM}):
    s.sendto(b"stream" + bytes(500), ("{GROUP}", 5354))
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def lan(empty_lan):
    path = empty_lan.switch.directory / "vswitch.toml"
    path.write_text(CONFIG)
    empty_lan.serve("--config", str(path))
    names = ("pc1", "pc2", "pc3", "pc4")
    for name in names:
        empty_lan.join(name, "--address", "none")
    empty_lan.wait_connected(*names)
    for name, address in (("pc1", "10.1.0.1"), ("pc2", "10.1.0.2"), ("pc4", "10.1.0.4")):
        empty_lan.members[name].run(["ip", "addr", "add", f"{address}/24", "dev", DEV])
    for vlan, address, peer in ((10, "10.1.0.30", "10.1.0.1"), (20, "10.1.0.40", "10.1.0.2")):
        trunk = empty_lan.members["pc3"]
        helper = trunk.popen(
            [sys.executable, str(INTERFACE), DEV, str(vlan), address],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert helper.stdout.readline() == "up\n"
        route = ["dev", f"{DEV}.{vlan}", "src", address]
        trunk.run(["ip", "route", "replace", f"{peer}/32", *route])
    return empty_lan


@pytest.mark.netns("ping", "tcpdump", "ip")
def test_tagged_on_the_trunk_untagged_on_access_nothing_across(lan):
    one, two, trunk, other = (lan.members[name] for name in ("pc1", "pc2", "pc3", "pc4"))
    at_one, at_trunk = Lines(one, DEV, "-e", "icmp", "or", "arp"), Lines(trunk, DEV, "-e")
    at_two, at_other = (Lines(host, DEV, "-e", "arp", "or", "vlan") for host in (two, other))
    wait_until(lambda: answers(one, "10.1.0.30"), "the trunk in VLAN 10")
    assert not answers(one, "10.1.0.2")
    assert not answers(one, "10.1.0.4")
    wait_until(lambda: "ICMP echo reply" in at_one.text(), "the answer at pc1")
    assert "802.1Q" not in at_one.stop()
    tagged = "vlan 10, p 0, ethertype IPv4"
    wait_until(lambda: tagged in at_trunk.text(), "a tagged frame at the trunk")
    said = at_trunk.stop()
    assert "vlan 20, p 0, ethertype ARP" not in said
    assert "10.1.0.1" not in at_two.stop()
    assert "10.1.0.1" not in at_other.stop()
    wait_until(lambda: answers(two, "10.1.0.40"), "the trunk in VLAN 20")
    listed = json.loads(lan.command(lan.switch, "mac", "--json").stdout)["macs"]
    by_vlan = {(entry["name"], entry["vlan"]) for entry in listed}
    assert {("pc1", 10), ("pc2", 20), ("pc3", 10), ("pc3", 20)} <= by_vlan
    assert ("pc1", 20) not in by_vlan


@pytest.mark.netns("iperf3", "ip")
def test_tcp_crosses_from_access_to_trunk_in_superframes(lan):
    end = iperf3(lan.members["pc1"], lan.members["pc3"], "10.1.0.30", "-t2")
    assert end["sum_received"]["bytes"] > 1_000_000
    assert "bad_superframe" not in lan.port("pc1")["drops"]


def received(host):
    """Frames of the stream that have come to a host's interface, joined or not."""
    (link,) = json.loads(host.run(["ip", "-j", "-s", "link", "show", "dev", DEV]).stdout)
    return link["stats64"]["rx"]["packets"]


@pytest.mark.netns("ip")
def test_a_stream_leaves_out_who_has_not_asked_for_it(lan):
    for name in ("pc1", "pc2", "pc3", "pc4"):
        vlan = {"pc3": "trunk=10"}.get(name, "vlan=10")
        lan.command(lan.switch, "port", "set", name, vlan)
    sender, member, bystander = (lan.members[name] for name in ("pc1", "pc2", "pc4"))
    listening = member.popen(
        [sys.executable, "-c", JOIN, "10.1.0.2"], stdout=subprocess.PIPE, text=True
    )
    assert listening.stdout.readline() == "joined\n"
    assert GROUP in member.run(["ip", "maddr", "show", "dev", DEV]).stdout

    def stream():
        before = received(bystander)
        sender.run([sys.executable, "-c", SEND, "10.1.0.1"])
        for _ in range(STREAM):
            assert "stream" in listening.stdout.readline()
        return received(bystander) - before

    # Ports that have just come get everything for some seconds; then the stream is gone there.
    wait_until(lambda: stream() < STREAM // 2, "silence at the bystander", timeout=60)
    assert stream() < STREAM // 4
    listening.terminate()
    listening.wait(20)

    def everywhere():
        before = received(bystander)
        sender.run([sys.executable, "-c", SEND, "10.1.0.1"])
        time.sleep(0.5)
        return received(bystander) - before >= STREAM

    wait_until(everywhere, "the stream, which nobody reports any more", timeout=60)
