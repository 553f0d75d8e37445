"""KCP as kcp-go sends it, on a path that loses: two clients that somebody else has written, a host
with `--via kcp://`, and a member.
"""

import re
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from tests.netns.tools import Lan, iperf3, ipv4, reach
from vswitch.devices import netlink
from vswitch.lab import Lab, PathSpec, WireSpec
from vswitch.lab.lan import DEV, SWITCH_ADDRESS

CLIENT = Path(__file__).with_name("foreign_client.py")
PORT = 5558
LOSSY = WireSpec(forward=PathSpec(delay=0.005, loss=0.02), back=PathSpec(delay=0.005, loss=0.02))
ADDRESSES = {"kcp1": "10.77.0.201", "kcp2": "10.77.0.202", "via1": "10.77.0.203"}
NOISE = f"""
import os, random, socket, struct, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 3
while time.monotonic() < end:
    junk = os.urandom(random.choice((0, 3, 24, 100, 1400, 1472, 9000)))
    segment = struct.pack("<IBBHIIII", random.choice((1, 2, 3)), 81, 0, 32, 0,
        random.choice((0, 1, 1 << 31)), 0, min(len(junk), 1400)) + junk[:1400]
    for datagram in (junk, segment):
        sock.sendto(datagram, ("{SWITCH_ADDRESS}", {PORT}))
    time.sleep(0.001)
"""


class Site:
    """The LAN, the programs of the two clients, and where everybody is."""

    def __init__(self, lan):
        self.lan, self.clients, self.addresses = lan, {}, dict(ADDRESSES)

    def serve(self):
        path = self.lan.switch.directory / "vswitch.toml"
        path.write_text(f'[[foreign]]\nkind = "kcp"\nlisten = ":{PORT}"\n')
        self.lan.serve("--config", str(path))

    def start_client(self, name):
        """A client from the description alone, with a TAP of its own."""
        where = (SWITCH_ADDRESS, str(PORT), DEV, ADDRESSES[name] + "/24")
        self.clients[name] = client = self.host(name).popen(
            [sys.executable, str(CLIENT), "kcp", *where], stdout=subprocess.PIPE, text=True
        )
        assert client.stdout.readline() == "ready\n"

    def start_via(self):
        self.lan.programs["via1"] = self.lan._start(
            self.host("via1"),
            "join",
            *("--via", f"kcp://{SWITCH_ADDRESS}:{PORT}", "--dev", DEV),
            *("--address", ADDRESSES["via1"] + "/24"),
        )

    def host(self, name):
        return self.lan.members[name]

    def reach_all(self, *options):
        for source, target in permutations(self.addresses, 2):
            reach(self.host(source), self.addresses[target], *options)


@pytest.fixture(scope="module")
def site():
    with Lab() as lab:
        lan = Lan(lab, paths=dict.fromkeys(ADDRESSES, LOSSY))
        site = Site(lan)
        site.serve()
        for name in ADDRESSES:
            lan.host(name)
        site.start_client("kcp1")
        site.start_client("kcp2")
        site.start_via()
        lan.join("pc1")
        lan.wait_connected("pc1")
        site.addresses["pc1"] = ipv4(lan, "pc1")
        yield site
        lan.stop()


@pytest.mark.netns("ping", "ip")
def test_all_ping_all(site):
    site.reach_all()
    site.reach_all("-M", "do", "-s", "1472")
    for source, target in permutations(site.addresses, 2):
        assert none_missing(start_pings(site, source, target))


def start_pings(site, source, target):
    """Goes on until fifty are answered: behind a loss they come late."""
    return site.host(source).popen(
        ["ping", "-c50", "-w30", "-i0.02", site.addresses[target]],
        stdout=subprocess.PIPE,
        text=True,
    )


def none_missing(ping):
    """Whether all up to the last that was answered were, in order."""
    numbers = [int(each) for each in re.findall(r"icmp_seq=(\d+) ttl", ping.communicate()[0])]
    return len(numbers) >= 50 and numbers == list(range(1, len(numbers) + 1))


@pytest.mark.netns("iperf3", "ip")
@pytest.mark.parametrize("pair", [("pc1", "kcp1"), ("kcp1", "kcp2"), ("kcp2", "via1")])
@pytest.mark.parametrize("reverse", [[], ["-R"]], ids=["there", "back"])
def test_iperf3_crosses_both_ways(site, pair, reverse):
    one, two = pair
    reach(site.host(one), site.addresses[two])
    ends = site.host(one), site.host(two), site.addresses[two]
    received = iperf3(*ends, "-n", "512K", *reverse)["sum_received"]
    print(f"{pair} {reverse}: {received['bits_per_second'] / 1e6:.1f} Mbit/s")
    assert received["bytes"] > 100_000  # the rest was in buffers when the sender had given all


@pytest.mark.netns("ping", "ip")
def test_rubbish_beside_them_harms_nobody(site):
    noise = site.lan.host("noise").popen([sys.executable, "-c", NOISE])
    pairs = (("pc1", "kcp1"), ("kcp1", "kcp2"), ("via1", "pc1"))
    pings = [start_pings(site, *pair) for _ in range(2) for pair in pairs]
    assert all(map(none_missing, pings))
    assert noise.wait() == 0
    (listener,) = site.lan.status()["foreign"]
    assert listener["refused"]["no_conversation"] > 100
    assert "fault" not in listener["refused"]


@pytest.mark.netns("ping", "ip")
def test_a_client_that_is_started_again_is_heard_at_once(site):
    reach(site.host("pc1"), ADDRESSES["kcp1"])
    site.clients["kcp1"].kill()
    site.clients["kcp1"].wait()
    site.start_client("kcp1")
    reach(site.host("kcp1"), site.addresses["pc1"])
    site.reach_all()


@pytest.mark.netns("ping", "ip")
def test_a_host_that_is_started_again_has_the_mac_address_that_it_had(site):
    host, pc1 = site.host("via1"), site.host("pc1")
    reach(pc1, ADDRESSES["via1"])
    before = host.call(netlink.find_link, DEV).mac
    site.lan.programs["via1"].process.kill()
    site.lan.programs["via1"].process.wait()
    site.start_via()
    reach(pc1, ADDRESSES["via1"])
    assert host.call(netlink.find_link, DEV).mac == before


@pytest.mark.netns("ping", "ip")
def test_all_go_on_when_the_switch_was_killed(site):
    site.lan.programs["switch"].process.kill()
    site.lan.programs["switch"].process.wait()
    site.serve()
    site.reach_all()
    assert all(client.poll() is None for client in site.clients.values())
    assert site.lan.programs["via1"].running
