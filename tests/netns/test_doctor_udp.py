"""What doctor and netcheck tell of a way by UDP alone, behind a NAT, which is the kernel's own."""

import json
import re
import subprocess

import pytest

from tests.netns.tools import Lan
from vswitch.devices import netlink
from vswitch.doctor.table import TABLE
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import OWN, SWITCH_ADDRESS, UNDERLAY

OUTSIDE = "192.0.2.50"
NAT = (
    "table ip nat {{ chain out {{ type nat hook postrouting priority 100;\n"
    'oifname "eth0" masquerade {}\n}}\n}}\n'
)
OF_THIS_MACHINE = {"slow-python", "several-installed"}  # true of whatever runs the tests
FORGETS = 2  # seconds


def checked(lan, host, *arguments):
    done = lan.command(host, "netcheck", *arguments, "--json")
    (path,) = (answer := json.loads(done.stdout))["paths"]
    return path, {each["id"] for each in answer["findings"]}


def found(lan, host, *invites):
    """What the doctor says of each, by id; all are asked side by side."""
    programs = [
        host.popen(
            lan.argv(host, "doctor", each, "--json"),
            env=OWN.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in invites
    ]
    answers = [json.loads(each.communicate(timeout=60)[0])["findings"] for each in programs]
    return [
        {each["id"]: each["seen"] for each in answer if each["id"] not in OF_THIS_MACHINE}
        for answer in answers
    ]


def route(host, *arguments):
    host.run(["ip", "route", "add", *arguments])


def sysctl(host, name, value):
    host.run(["sh", "-c", f"echo {value} > /proc/sys/net/{name}"])


@pytest.fixture(scope="module")
def lan():
    """pc ─ 192.168.1.0/24 ─ home ─ 100.64.0.0/24 ─ carrier, the NAT ─ 192.0.2.0/24 ─ switch."""
    with Lab() as lab:
        lan = Lan(lab)
        inner, between = lab.bridge("inner"), lab.bridge("between")
        pc, home, carrier = lab.host("pc"), lab.host("home"), lab.host("carrier")
        lab.link(carrier, lan.underlay, ifname=UNDERLAY, address=f"{OUTSIDE}/24")
        lab.link(carrier, between, ifname="eth1", address="100.64.0.1/24")
        lab.link(home, between, ifname="eth0", address="100.64.0.2/24")
        lab.link(home, inner, ifname="eth1", address="192.168.1.1/24")
        lab.link(pc, inner, ifname="eth0", address="192.168.1.2/24")
        route(pc, "default", "via", "192.168.1.1")
        route(home, "default", "via", "100.64.0.1")
        route(carrier, "192.168.1.0/24", "via", "100.64.0.2")
        for router in (home, carrier):
            sysctl(router, "ipv4/ip_forward", 1)
        carrier.run(["nft", "-f", "-"], input=NAT.format(""))
        lan.serve("--listen", ":7451")
        yield lan, pc, carrier
        lan.stop()


@pytest.mark.netns("nft", "ip")
def test_the_nat_on_the_way_is_told(lan):
    lan, pc, carrier = lan
    two = ("--public", SWITCH_ADDRESS, "--public", f"{SWITCH_ADDRESS}:7451")
    invite = lan.invite("pc", *two)
    path, found = checked(lan, pc, invite)
    assert path["carrier"] == "100.64.0.1"
    assert path["one_port"] is True
    assert path["seen"].startswith(f"{OUTSIDE}:")
    assert OUTSIDE not in path["own"]
    assert (path["outlived"], path["forgotten"]) == (None, None)
    assert found == set()
    carrier.run(["nft", "flush", "ruleset"])
    carrier.run(["nft", "-f", "-"], input=NAT.format("fully-random"))
    shown = lan.command(pc, "netcheck", invite).stdout
    assert re.search(r"  carrier  by destination  -$", shown, re.M)


@pytest.mark.netns("nft", "ip")
def test_nothing_is_found_of_a_member_behind_it(lan):
    lan, pc, _ = lan
    lan.join("home", host=pc)
    lan.wait_connected("home")
    assert found(lan, pc, "home") == [{}]
    path, seen = checked(lan, pc, "home", "--time", "20s")
    assert path["seen"].startswith(f"{OUTSIDE}:")
    assert OUTSIDE not in path["own"]
    assert path["outlived"] is None  # the session is in use
    assert seen == set()
    lan.programs["home"].stop()


@pytest.mark.netns("nft", "ip")
def test_how_long_it_remembers_is_measured(lan):
    lan, pc, carrier = lan
    for name in ("udp_timeout", "udp_timeout_stream"):
        sysctl(carrier, f"netfilter/nf_conntrack_{name}", FORGETS)
    path, found = checked(lan, pc, lan.invite("pc"), "--time", "20s")
    assert path["one_port"] is None  # nobody is there to compare with
    assert path["outlived"] < path["forgotten"] <= 2 * FORGETS
    assert found == {"nat-forgets"}
    command = re.search(r"`(sysctl .*?)`", TABLE["nat-forgets"].remedy)[1]
    carrier.run(command.split())  # which is what is to be done there


@pytest.mark.netns("nft", "ip")
def test_who_does_not_answer_is_told_apart(lan):
    """The switch without the invite, another one in its place, and nobody."""
    lan, pc, _ = lan
    other = lan.host("other")
    another = other.popen(lan.argv(other, "serve", "--listen", ":7450"), env=OWN.environment)
    wait_until(lambda: (lan.state(other) / "control.sock").exists(), "another switch")
    (elsewhere,) = (
        each.partition("/")[0]
        for each in other.call(netlink.addresses, UNDERLAY)
        if each.startswith("192.0.2.")
    )
    names = {"healthy": (), "revoked": (), "wrong": (elsewhere,), "away": (f"{SWITCH_ADDRESS}:9",)}
    invites = [
        lan.invite(name, *(each for place in places for each in ("--public", place)))
        for name, places in names.items()
    ]
    lan.command(lan.switch, "revoke", "revoked")
    key = lan.status()["key"]
    healthy, revoked, wrong, away = found(lan, pc, *invites)
    assert healthy == {}
    assert revoked == {
        "not-a-member": f"{SWITCH_ADDRESS}:7450 has the key {key}, and is silent to this member's"
    }
    assert wrong.keys() == {"no-answer"}
    assert f"nobody there has shown to know the key {key}" in wrong["no-answer"]
    assert (
        f"though {elsewhere}:7450 is not closed as other ports of that host" in wrong["no-answer"]
    )
    assert away == {"port-closed": f"{SWITCH_ADDRESS}:9: ICMP says so"}
    another.terminate()
    another.wait(20)
