"""Underlays of other sizes: jumbo frames are used, and a wire that swallows long frames is noticed.

A bridge drops what is longer than the port's MTU and tells nobody, which is the black hole here.
What the kernel sends is cut before it gets there, as by a network card: a train would pass whole.
"""

import re

import pytest

from tests.netns.tools import iperf3, ipv4, joined
from vswitch.devices import netlink
from vswitch.lab import wait_until
from vswitch.lab.lan import UNDERLAY

HEADERS = 28


def sizes(lan, name):
    """What the switch uses towards a member, and the member towards the switch."""
    return lan.port(name)["datagram_size"], joined(lan, name)["datagram_size"]


def known_up_to(lan, name, most):
    """Whether both have found a size, and none above."""
    return all(size is not None and size <= most for size in sizes(lan, name))


def transfer(lan, source, target, seconds):
    """Bits a second that arrive in an iperf3 run from member to member."""
    end = iperf3(lan.members[source], lan.members[target], ipv4(lan, target), "-t", str(seconds))
    return end["sum_received"]["bits_per_second"]


@pytest.fixture
def wired(empty_lan):
    """Hosts whose sends are cut to datagrams before they reach the wire."""
    lan = empty_lan
    for name in ("pc1", "pc2"):
        lan.host(name)
    for host in (lan.switch, lan.members["pc1"], lan.members["pc2"]):
        host.run(["ethtool", "-K", UNDERLAY, "tx-udp-segmentation", "off"])
    return lan


def set_mtu(lan, name, port, host=None):
    end = lan.members.get(name, lan.switch)
    lan.underlay.call(netlink.configure, lan.ports[name], mtu=port)
    end.call(netlink.configure, UNDERLAY, mtu=host or port)


@pytest.mark.netns("ping", "ethtool", "iperf3")
def test_jumbo_frames_are_used_and_a_black_hole_is_left(wired):
    lan = wired
    for name in ("switch", "pc1", "pc2"):
        set_mtu(lan, name, 9000)
    lan.serve()
    for name in ("pc1", "pc2"):
        lan.join(name)
    lan.wait_connected("pc1", "pc2")
    for name in ("pc1", "pc2"):
        wait_until(lambda: sizes(lan, name) == (8972, 8972), "the search", timeout=30)  # noqa: B023

    def received():
        text = lan.members["pc2"].run(["cat", f"/sys/class/net/{UNDERLAY}/statistics/rx_bytes"])
        count = lan.members["pc2"].run(["cat", f"/sys/class/net/{UNDERLAY}/statistics/rx_packets"])
        return int(text.stdout), int(count.stdout)

    before = received()
    assert transfer(lan, "pc1", "pc2", 2) > 1e6
    bytes_, packets = (after - first for after, first in zip(received(), before, strict=True))
    assert bytes_ / packets > 3000  # acknowledgements are among them

    # The wire of pc2 shrinks in the middle of a transfer; its own interface knows nothing of it.
    log = lan.members["pc1"].directory / "ping.txt"
    with log.open("wb") as output:
        command = ["ping", "-i0.1", "-s", "1400", "-D", ipv4(lan, "pc2")]
        ping = lan.members["pc1"].popen(command, stdout=output)

    def answered():
        return sorted({int(each) for each in re.findall(r"icmp_seq=(\d+) ttl", log.read_text())})

    wait_until(lambda: len(answered()) > 20, "answers")
    set_mtu(lan, "pc2", 1300, 9000)
    shrunk = len(answered())
    # More than can have been under way: some of these were asked in the hole.
    wait_until(lambda: len(answered()) > shrunk + 30, "answers from beyond", timeout=30)
    ping.terminate()
    ping.wait()
    assert answered() == list(range(1, len(answered()) + 1))  # late, but none is lost
    assert known_up_to(lan, "pc2", 1300 - HEADERS)
    assert sizes(lan, "pc1") == (8972, 8972)
    assert transfer(lan, "pc1", "pc2", 2) > 1e6
    assert transfer(lan, "pc2", "pc1", 2) > 1e6
    assert known_up_to(lan, "pc2", 1300 - HEADERS)


@pytest.mark.netns("ping")
def test_a_member_whose_path_is_small_from_the_start(wired):
    """It connects, since handshakes are short, and carries frames that are longer than its path."""
    lan = wired
    lan.programs["pc2"].stop()
    set_mtu(lan, "pc2", 800, 1500)
    lan.join("pc2")
    lan.wait_connected("pc2")
    wait_until(lambda: known_up_to(lan, "pc2", 800 - HEADERS), "the search", timeout=30)
    done = lan.members["pc1"].run(
        ["ping", "-c5", "-i0.2", "-W5", "-M", "do", "-s", "1472", ipv4(lan, "pc2")]
    )
    assert ", 0% packet loss" in done.stdout
