"""A switch that listens on an IPv6 link-local address, and whoever reaches it there."""

import sys
from functools import partial

import pytest

from tests.netns.tools import ipv4, joined, reach
from vswitch.lab import Lab, wait_until
from vswitch.lab.lan import PORT, UNDERLAY

SCRIPT = """
import socket, sys, time, trio
from transport import open_udp
from vswitch.resolver import resolve

async def main(address):
    server, client = open_udp(address, 7450), open_udp("", 0)
    (found,) = await resolve(address, 7450)
    assert "%" in found[0], found
    client.send_nowait([(b"hello", client.to_native(*found), 5)])
    await server.wait_readable()
    ((data, sender, _),) = server.receive_nowait(1)
    server.send_nowait([(b"there", sender, 5)])
    await client.wait_readable()
    ((answer, whence, _),) = client.receive_nowait(1)
    print(bytes(data).decode(), bytes(answer).decode())

trio.run(main, sys.argv[1])
"""


@pytest.mark.netns("ip")
def test_a_link_local_listener_is_bound_reached_and_answers():
    with Lab() as lab:
        host, other = lab.host("switch"), lab.host("pc1")
        wire = lab.bridge("underlay")
        dev = "eth0"
        lab.link(host, wire, ifname=dev)
        lab.link(other, wire)

        def link_local():
            shown = host.run(["ip", "-6", "-o", "addr", "show", "dev", dev, "scope", "link"])
            words = shown.stdout.split()
            return "tentative" not in words and words and words[3].partition("/")[0]

        wait_until(link_local, "a link-local address")
        run = host.run([sys.executable, "-c", SCRIPT, f"{link_local()}%{dev}"])
        assert run.stdout.split() == ["hello", "there"]


@pytest.mark.netns("ip", "ping")
def test_members_come_to_a_link_local_listener_and_to_another_beside_it(empty_lan):
    lan = empty_lan

    def own_link_local(host):
        shown = host.run(["ip", "-6", "-o", "addr", "show", "dev", UNDERLAY, "scope", "link"])
        words = shown.stdout.split()
        return "tentative" not in words and words and words[3].partition("/")[0]

    local = wait_until(lambda: own_link_local(lan.switch), "a link-local address")
    place = f"[{local}%{UNDERLAY}]:7451"
    lan.serve("--listen", place)
    assert lan.status()["listens"] == [f"[::]:{PORT}", place]
    for name in ("pc1", "pc2"):
        wait_until(partial(own_link_local, lan.host(name)), "a link-local address")
    lan.join("pc1", invite=lan.invite("pc1", "--public", place))
    # As it stands in a string without the interface, which `--bind` says then.
    bound = lan.invite("pc2", "--public", f"[{local}]:7451")
    lan.join("pc2", "--bind", UNDERLAY, invite=bound)
    lan.join("pc3")
    lan.wait_connected("pc1", "pc2", "pc3")
    assert [lan.port(name)["via"].partition("%")[0] for name in ("pc1", "pc2")] == [
        f"udp:[{own_link_local(lan.members[name])}" for name in ("pc1", "pc2")
    ]
    for name in ("pc1", "pc2"):
        reach(lan.members[name], ipv4(lan, "pc3"))
        assert joined(lan, name)["state"] == "up"
