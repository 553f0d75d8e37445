"""Routes and the way out in a kernel: set, gone through, and taken away without a trace."""

import errno
import socket

import pytest

from vswitch.devices import netlink
from vswitch.devices.questions import allow_questions, refuse_questions
from vswitch.devices.routing import (
    NOTHING,
    Route,
    Routing,
    WayOut,
    apply,
    others_way_out,
    remove_way_out,
)
from vswitch.lab import Lab

ROUTES = frozenset(
    {
        Route("192.168.1.0/24", "10.77.0.3", "10.77.0.2"),
        Route("fd99::/48", "fd77::3", "fd77::2"),
    }
)
AWAY = WayOut(frozenset(), frozenset({"192.0.2.1", "2001:db8::1"}), frozenset({"192.0.2.9"}))
HALF = WayOut(frozenset({Route("0.0.0.0/0", "10.77.0.3", "10.77.0.2")}))
WANTED = [Routing("fd77::2/64", ROUTES, out) for out in (None, AWAY, HALF)]


@pytest.fixture(scope="module")
def host():
    with Lab() as lab:
        yield lab.host("host")


@pytest.fixture
def before(host):
    """What the host has, with an interface d0."""
    host.call(netlink.create_bridge, "d0")
    host.run(["ip", "link", "set", "d0", "addrgenmode", "none"])
    host.call(netlink.add_address, "d0", "10.77.0.2/24")
    yield shown(host)
    host.call(netlink.delete, "d0")


def shown(host):
    said = [
        host.run(["ip", version, *what]).stdout
        for version in ("-4", "-6")
        for what in (["rule"], ["route", "show", "table", "all"])
    ]
    return [line for text in said for line in text.splitlines() if "fe80:" not in line]


@pytest.mark.netns
@pytest.mark.parametrize("wanted", WANTED)
def test_what_is_set_is_taken_away(host, before, wanted):
    host.call(apply, "d0", wanted, NOTHING)
    there = shown(host)
    assert len(there) > len(before)
    host.call(apply, "d0", wanted, wanted)
    assert shown(host) == there
    for other in WANTED:
        host.call(apply, "d0", other, wanted)
        host.call(apply, "d0", wanted, other)
        assert sorted(shown(host)) == sorted(there)
    assert host.call(others_way_out) == (wanted.out is not None)
    host.call(apply, "d0", NOTHING, wanted)
    assert shown(host) == before


@pytest.mark.netns
@pytest.mark.parametrize("wanted", WANTED)
def test_nothing_outlives_the_interface(host, before, wanted):
    host.call(netlink.delete, "d0")
    without = shown(host)
    host.call(netlink.create_bridge, "d0")
    host.call(netlink.add_address, "d0", "10.77.0.2/24")
    host.call(apply, "d0", wanted, NOTHING)
    host.call(netlink.delete, "d0")
    host.call(apply, "d0", NOTHING, wanted)
    assert shown(host) == without


@pytest.mark.netns
@pytest.mark.parametrize("out", [AWAY, HALF])
def test_what_a_killed_process_leaves_is_found(host, before, out):
    host.call(netlink.delete, "d0")
    without = shown(host)
    assert not host.call(remove_way_out)
    host.call(netlink.create_bridge, "d0")
    host.call(netlink.add_address, "d0", "10.77.0.2/24")
    host.call(apply, "d0", Routing(None, frozenset(), out), NOTHING)
    host.call(netlink.delete, "d0")
    assert host.call(remove_way_out)
    assert shown(host) == without


BOTH = WayOut(HALF.routes | {Route("::/0", "fd77::3", "fd77::2")})
DOWN = ["ip", "link", "set", "d0", "down"]
LOSSES = {
    "down": [DOWN],
    "renamed": [DOWN, ["ip", "link", "set", "d0", "name", "d1"]],
    "gone": [["ip", "link", "del", "d0"]],
    "flushed": [["ip", "address", "flush", "dev", "d0"]],
}


@pytest.mark.netns("ip")
def test_nothing_leaves_another_way_when_the_interface_goes(host):
    host.call(netlink.create_bridge, "up0")
    host.call(netlink.add_address, "up0", "192.0.2.9/24")
    host.call(netlink.add_address, "up0", "2001:db8::9/64")
    for version, router in (("-4", "192.0.2.1"), ("-6", "2001:db8::1")):
        host.run(["ip", version, "route", "add", "default", "via", router])
    wanted = Routing("fd77::2/64", frozenset(), BOTH)
    for loss, commands in LOSSES.items():
        host.call(netlink.create_bridge, "d0")
        host.call(netlink.add_address, "d0", "10.77.0.2/24")
        host.call(apply, "d0", wanted, NOTHING)
        for where in ("198.51.100.1", "2001:db8:f::1"):
            assert " dev d0 " in host.run(["ip", "route", "get", where]).stdout
        for command in commands:
            host.run(command)
        for where in ("198.51.100.1", "2001:db8:f::1"):
            said = host.run(["ip", "route", "get", where], check=False).stdout
            assert " dev up0 " not in said, (loss, where)
        if loss in ("down", "flushed"):  # what has been put back leads through it again
            host.run(["ip", "link", "set", "d0", "up"])
            host.call(netlink.add_address, "d0", "10.77.0.2/24")
            host.call(apply, "d0", wanted, wanted)
            assert " dev d0 " in host.run(["ip", "route", "get", "198.51.100.1"]).stdout
        host.call(apply, "d0", NOTHING, wanted)
        assert not host.call(others_way_out)
        assert "No route" not in host.run(["ip", "route", "get", "198.51.100.1"]).stdout
        for dev in ("d0", "d1"):
            host.run(["ip", "link", "del", dev], check=False)
    host.call(netlink.delete, "up0")


def asks(address, port=53):
    """What the kernel says to who asks."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        return asking.connect_ex((address, port))


@pytest.mark.netns
def test_questions_to_a_name_server_are_refused_and_nothing_else_is(host, before):
    host.call(netlink.configure, "d0", up=True)
    host.run(["ip", "address", "add", "fd77::2/64", "dev", "d0", "nodad"])
    servers = ("10.77.0.1", "fd77::1")
    for _ in range(2):  # what is refused already may be refused
        host.call(refuse_questions, servers)
    for server in servers:
        assert host.call(asks, server) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
        assert host.call(asks, server, 5353) == 0
    assert host.call(asks, "10.77.0.3") == 0
    out = Routing(out=AWAY)  # which has rules of its own
    host.call(apply, "d0", out, NOTHING)
    host.call(apply, "d0", NOTHING, out)
    assert not host.call(others_way_out)
    host.call(allow_questions, servers[:1])
    assert host.call(asks, servers[0]) == 0
    assert host.call(asks, servers[1]) in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    for _ in range(2):
        host.call(allow_questions, servers)
    assert host.call(asks, servers[1]) == 0
