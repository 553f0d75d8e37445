"""Members with and without ML-KEM-768 in their handshakes, on paths of every size."""

import json
from collections import Counter

import pytest

from tests.netns.test_path_mtu import set_mtu
from tests.netns.tools import Capture, ipv4, joined, reach
from vswitch.errors import ExitCode
from vswitch.lab import wait_until
from vswitch.lab.lan import UNDERLAY

UDP_AT = 14 + 20  # behind Ethernet and IPv4
HANDSHAKE = {1: "init", 2: "response", 3: "cookie", 8: "init slice", 9: "response slice"}


def handshakes(capture, address):
    """How many datagrams of each type and size of UDP payload went to or from an address."""
    found = Counter()
    for _, frame in capture.frames():
        ends = (frame[26:30], frame[30:34])
        assert frame[20:22] in (b"\0\0", b"\x40\0"), "a fragment"
        kind = frame[UDP_AT + 8]
        if bytes(map(int, address.split("."))) in ends and kind in HANDSHAKE:
            size = int.from_bytes(frame[UDP_AT + 4 : UDP_AT + 6], "big") - 8
            found[HANDSHAKE[kind], size] += 1
    return found


@pytest.mark.netns("ping", "tcpdump")
def test_members_on_paths_of_every_size(empty_lan):
    """Interfaces of 1,280 and 576 bytes refuse a whole init, a bridge's port swallows it."""
    lan = empty_lan
    lan.serve()
    names = ("pc1", "small", "tiny", "hole", "plain")
    for name in names:
        lan.host(name)
    set_mtu(lan, "small", 1280)
    set_mtu(lan, "tiny", 576)
    set_mtu(lan, "hole", 576, 1500)
    capture = Capture(lan.switch, UNDERLAY, "udp", "port", "7450", "and", "ip", keep=64)
    for name in names:
        lan.join(name, *(("--pq", "off") if name == "plain" else ()))
    ports = dict(zip(names, lan.wait_connected(*names), strict=True))
    for name in names[1:]:
        reach(lan.members["pc1"], ipv4(lan, name))
    assert {name: port["post_quantum"] for name, port in ports.items()} == {
        name: name != "plain" for name in names
    }
    addresses = {name: f"192.0.2.{11 + number}" for number, name in enumerate(names)}
    answered = {("response", 1244), ("response", 140), ("response slice", 292)}
    for name, address in addresses.items():
        wait_until(lambda a=address: answered & handshakes(capture, a).keys(), f"{name}'s answer")
    capture.stop()
    seen = {name: handshakes(capture, address) for name, address in addresses.items()}
    assert seen["pc1"].keys() == {("init", 1416), ("response", 1244)}
    assert seen["plain"].keys() == {("init", 232), ("response", 140)}
    for name in ("small", "tiny"):  # a cookie, and all three slices of each
        assert seen[name] == {
            ("init slice", 548): 3,
            ("cookie", 64): 1,
            ("init slice", 464): 1,
            ("response slice", 548): 2,
            ("response slice", 292): 1,
        }
    assert ("init slice", 464) in seen["hole"]  # the whole one did not get here
    assert ("init", 1416) not in seen["hole"]
    # What people see of it.
    listed = json.loads(lan.command(lan.switch, "members", "--json").stdout)["members"]
    assert {each["name"]: each["post_quantum"] for each in listed} == {
        name: name != "plain" for name in names
    }
    assert "not post-quantum" in lan.command(lan.members["plain"], "status").stdout
    assert "not post-quantum" not in lan.command(lan.members["pc1"], "status").stdout
    assert joined(lan, "pc1")["post_quantum"] is True
    # A switch that requires it says so to who will not.
    lan.programs["switch"].stop()
    for name in names:
        lan.programs[name].stop()
    lan.serve("--pq", "require")
    lan.join("pc1", "--pq", "require")
    (port,) = lan.wait_connected("pc1")
    assert port["post_quantum"] is True
    said = "requires post-quantum handshakes, and this member was told --pq off"
    refused = lan.join("new", "--pq", "off")
    assert refused.process.wait(20) == ExitCode.REFUSED
    assert said in refused.tail()
    known = lan.join("plain", "--pq", "off")
    wait_until(lambda: said in known.tail(), "the reason")
    assert known.running  # and goes on trying
