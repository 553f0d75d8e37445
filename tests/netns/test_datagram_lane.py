"""`join --lane`, with real processes: a member on datagrams beside one on KCP, as captures show."""

import json
import re
import struct
import subprocess
import time

import pytest

from vswitch.demo import transfer
from vswitch.lab import wait_until
from vswitch.lab.lan import UNDERLAY

PORT = 5300
MEMBERS = {"pc1": "datagram", "pc2": "kcp", "pc3": "auto"}
DATA, DATAGRAM = 4, 7  # types of datagrams
UDP_AT = 14 + 20 + 8  # bytes of Ethernet, IPv4 and UDP


class Capture:
    """The types of the datagrams that a member's host sends and gets, by tcpdump."""

    def __init__(self, host):
        self.path = host.directory / f"{time.monotonic_ns()}.pcap"
        self.process = host.popen(
            ["tcpdump", "-i", UNDERLAY, "-U", "-s64", "-Zroot", "-w", str(self.path), "udp"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in self.process.stdout:
            if "listening on" in line:
                return
        raise AssertionError("tcpdump ended")

    def types(self):
        self.process.terminate()
        self.process.communicate(timeout=20)
        data, at, found = self.path.read_bytes(), 24, []
        while at + 16 <= len(data):
            kept, length = struct.unpack_from("<8xII", data, at)
            if length > UDP_AT + 200:  # no keepalive, no report
                found.append(data[at + 16 + UDP_AT])
            at += 16 + kept
        return set(found)


def address(lan, name):
    return lan.port(name)["address"].partition("/")[0]


def joined(lan, name):
    """What the member says of itself."""
    said = lan.command(lan.members[name], "status", "--json").stdout
    return json.loads(said)["joins"][0]


@pytest.fixture(scope="module")
def lan(empty_lan):
    empty_lan.serve()
    for name, lane in MEMBERS.items():
        empty_lan.join(name, "--lane", lane)
    empty_lan.wait_connected(*MEMBERS)
    for name in ("pc2", "pc3"):
        wait_until(
            lambda target=name: (
                empty_lan.members["pc1"]
                .run(["ping", "-c1", "-W1", address(empty_lan, target)], check=False)
                .returncode
                == 0
            ),
            f"answer of {name}",
        )
    return empty_lan


@pytest.mark.netns("ping")
@pytest.mark.parametrize("name", MEMBERS)
def test_status_shows_the_lane_on_both_sides(lan, name):
    mode = MEMBERS[name]
    port, join = lan.port(name), joined(lan, name)
    assert port["lane_mode"] == join["lane_mode"] == mode
    assert join["lane"] == ("datagram" if mode == "datagram" else "kcp")  # auto begins so
    shown = "auto(kcp)" if mode == "auto" else mode
    table = lan.command(lan.members[name], "status", name).stdout
    assert "LANE" in table
    assert re.search(rf"\s{re.escape(shown)}\s", table)
    table = lan.command(lan.switch, "status", name).stdout
    assert re.search(rf"\s{re.escape(shown)}\s", table)
    assert f" lane={mode}" in lan.programs[name].log.read_text()


@pytest.mark.netns("ping", "tcpdump")
@pytest.mark.parametrize("name", ["pc1", "pc2"])
def test_tcp_and_pings_pass_in_that_lane(lan, name):
    other = "pc2" if name == "pc1" else "pc1"
    captures = {each: Capture(lan.members[each]) for each in ("pc1", "pc2")}
    here, there = lan.members[name], lan.members[other]
    receiving = there.start(transfer.receive, "0.0.0.0", PORT)
    sent = here.call(
        transfer.send,
        address(lan, other),
        PORT,
        pattern=bytes(range(251)),
        seconds=3,
        limit=20_000_000,
    )
    received = receiving.result()
    assert received.digest == sent.digest
    assert received.size > 1_000_000
    ping = ["ping", "-q", "-i0.05", "-c20", "-s1400", address(lan, other)]
    assert " 0% packet loss" in here.run(ping).stdout
    assert captures["pc1"].types() == {DATAGRAM}
    assert captures["pc2"].types() == {DATA}
    assert joined(lan, "pc1")["datagram_sent"] > 20
    assert joined(lan, "pc1")["datagram_received"] > 20
    assert lan.port("pc1")["datagram_sent"] > 20
    assert joined(lan, "pc2")["loose_sent"] == joined(lan, "pc2")["loose_received"] == 0
    assert lan.port("pc1")["transport_drops"].get("bad_seal") is None


@pytest.mark.netns("ping")
def test_a_bad_lane_is_refused_with_the_reason(lan):
    done = lan.command(lan.members["pc1"], "join", "--name", "pc9", "--lane", "quic", check=False)
    assert done.returncode == 2
    assert "--lane quic: must be one of kcp, datagram, auto" in done.stderr
