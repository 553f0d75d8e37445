"""`join --lane`, with real processes: a member on datagrams beside one on KCP, as captures show."""

import re

import pytest

from tests.netns.tools import Capture, ipv4, joined, reach
from vswitch.demo import transfer
from vswitch.lab import wait_until
from vswitch.lab.lan import UNDERLAY

PORT = 5300
MEMBERS = {"pc1": "datagram", "pc2": "kcp", "pc3": "auto"}
DATA, DATAGRAM = 4, 7  # types of datagrams
UDP_AT = 14 + 20 + 8  # bytes of Ethernet, IPv4 and UDP


@pytest.fixture(scope="module")
def lan(empty_lan):
    empty_lan.serve()
    for name, lane in MEMBERS.items():
        empty_lan.join(name, "--lane", lane)
    empty_lan.wait_connected(*MEMBERS)
    for name in ("pc2", "pc3"):
        reach(empty_lan.members["pc1"], ipv4(empty_lan, name))
    return empty_lan


def types_of(capture):
    """The types of the datagrams that a capture has; neither keepalives nor reports."""

    def types():
        return [data[UDP_AT] for length, data in capture.frames() if length > UDP_AT + 200]

    wait_until(lambda: len(types()) > 100, "datagrams in the capture")
    capture.stop()
    return set(types())


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
def test_tcp_and_pings_pass_in_the_lane_of_their_member(lan, name):
    other = "pc2" if name == "pc1" else "pc1"
    captures = {
        each: Capture(lan.members[each], UNDERLAY, "udp", keep=64) for each in ("pc1", "pc2")
    }
    here, there = lan.members[name], lan.members[other]
    receiving = there.start(transfer.receive, "0.0.0.0", PORT)
    sent = here.call(
        transfer.send,
        ipv4(lan, other),
        PORT,
        pattern=bytes(range(251)),
        seconds=3,
        limit=20_000_000,
    )
    received = receiving.result()
    assert received.digest == sent.digest
    assert received.size > 1_000_000
    ping = ["ping", "-q", "-i0.05", "-c20", "-s1400", ipv4(lan, other)]
    assert " 0% packet loss" in here.run(ping).stdout
    assert types_of(captures["pc1"]) == {DATAGRAM}
    assert types_of(captures["pc2"]) == {DATA}
    assert joined(lan, "pc1")["loose_sent"] > 20
    assert joined(lan, "pc1")["loose_received"] > 20
    assert lan.port("pc1")["loose_sent"] > 20
    assert joined(lan, "pc2")["loose_sent"] == joined(lan, "pc2")["loose_received"] == 0
    assert lan.port("pc1")["transport_drops"].get("bad_seal") is None


@pytest.mark.netns("ping")
def test_a_bad_lane_is_refused_with_the_reason(lan):
    done = lan.command(lan.members["pc1"], "join", "--name", "pc9", "--lane", "quic", check=False)
    assert done.returncode == 2
    assert "--lane quic: must be one of kcp, datagram, auto" in done.stderr
