"""A member whose own address changes under traffic: nothing is lost. How short the pause is, is
measured on virtual time: `transport/endpoint/test_moves_sim.py`.
"""

import re
import time

import pytest

from tests.netns.tools import Lines, ipv4
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import PORT, UNDERLAY

PING = 0.02  # seconds between two requests


def moved(host, old, new, *, gap=0.0):
    """Take the address away and give another, as a DHCP client does on another network."""
    host.call(netlink.remove_address, UNDERLAY, old)
    time.sleep(gap)
    host.call(netlink.add_address, UNDERLAY, new)


def underlay_address(host):
    (address,) = [each for each in host.call(netlink.addresses, UNDERLAY) if each[:4] == "192."]
    return address


@pytest.mark.netns("ping")
@pytest.mark.parametrize("gap", [0.0, 1.5])
def test_a_member_that_gets_another_address_loses_nothing(lan, gap):
    """R4: of the pings in both directions every one is answered; late is not lost."""
    member = lan.members["pc1"]
    there = ipv4(lan, "pc2")
    old = underlay_address(member)
    new = old.replace(".11/", ".111/") if ".11/" in old else old.replace(".111/", ".11/")
    count = 300
    command = ["ping", f"-i{PING}", f"-c{count}", "-W30", there]
    log = member.directory / f"ping-move-{gap}.txt"
    before = lan.port("pc1")["since"]
    with log.open("wb") as output:
        process = member.popen(command, stdout=output)
        wait_until(lambda: log.read_text().count("bytes from") > 50, "answers of pc2", timeout=60)
        moved(member, old, new, gap=gap)
        process.wait(120)
    text = log.read_text()
    answered = {int(number) for number in re.findall(r"bytes from.*icmp_seq=(\d+)", text)}
    assert answered == set(range(1, count + 1)), text[-300:]
    port = lan.port("pc1")
    assert port["since"] == before  # the session is the same
    assert port["via"].startswith(f"udp:{new.partition('/')[0]}:")


@pytest.mark.netns("ip", "tcpdump")
def test_changes_that_do_not_lead_to_the_switch_send_nothing(lan):
    """Containers, routing daemons, advertisements: an idle member says no more than it would."""
    member = lan.members["pc3"]
    capture = Lines(member, UNDERLAY, f"udp port {PORT} and dst port {PORT}")
    for number in range(20):
        change = ["ip", "route", "add" if number % 2 == 0 else "del", "198.18.0.0/24", "dev", "lo"]
        member.run(change)
        time.sleep(0.3)  # volleys of their own, each of which was two pings
    said = sum(" > " in line for line in capture.stop().splitlines())
    assert said < 10
