"""The MAC table with real hosts: a host that invents addresses, static addresses, `vswitch mac`."""

import json
import sys

import pytest

from tests.netns.tools import ipv4, reach
from vswitch.lab import wait_until
from vswitch.lab.lan import DEV

FLOOD = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for number in range(5000):
    if number % 50 == 0:
        time.sleep(0.01)  # or most would be lost in the queue of the interface
    s.send(b"\\xff" * 6 + b"\\x02\\xee" + number.to_bytes(4, "big") + b"\\x88\\xb5" + bytes(46))
"""


def macs(lan, *arguments):
    return json.loads(lan.command(lan.switch, "mac", "--json", *arguments).stdout)["macs"]


@pytest.mark.netns("ping")
def test_a_host_that_invents_addresses_harms_itself(lan):
    one, two, attacker = (lan.members[name] for name in ("pc1", "pc2", "pc3"))
    reach(one, ipv4(lan, "pc2"))
    attacker.run([sys.executable, "-c", FLOOD, DEV])
    wait_until(lambda: lan.port("pc3")["drops"].get("mac_limit", 0) > 500, "the limit of pc3")
    done = one.run(["ping", "-c10", "-i0.1", "-W5", ipv4(lan, "pc2")])
    assert ", 0% packet loss" in done.stdout
    assert len(macs(lan, "--port", "pc3")) == 32
    assert {entry["name"] for entry in macs(lan)} == {"pc1", "pc2", "pc3"}
    said = lan.command(lan.switch, "mac", "flush", "--port", "pc3").stdout
    assert said == "32 forgotten\n"
    assert two.run(["ping", "-c1", "-W5", ipv4(lan, "pc3")]).returncode == 0


@pytest.mark.netns("ping", "ip")
def test_an_address_that_is_anothers_is_refused(lan):
    one, two = lan.members["pc1"], lan.members["pc2"]
    mine = one.run(["cat", f"/sys/class/net/{DEV}/address"]).stdout.strip()
    lan.command(lan.switch, "mac", "add", "pc1", mine)
    (entry,) = [entry for entry in macs(lan) if entry["mac"] == mine]
    assert (entry["name"], entry["kind"]) == ("pc1", "static")
    before = two.run(["cat", f"/sys/class/net/{DEV}/address"]).stdout.strip()
    two.run(["ip", "link", "set", DEV, "address", mine])
    two.run(["ping", "-c3", "-i0.2", "-W1", ipv4(lan, "pc3")], check=False)
    assert lan.port("pc2")["drops"]["mac_refused"] > 0
    two.run(["ip", "link", "set", DEV, "address", before])
    assert one.run(["ping", "-c1", "-W5", ipv4(lan, "pc3")]).returncode == 0
    lan.command(lan.switch, "mac", "del", mine)
    assert [entry["kind"] for entry in macs(lan) if entry["mac"] == mine] in ([], ["learned"])
