"""A switch that listens on an IPv6 link-local address, and whoever reaches it there."""

import sys

import pytest

from vswitch.lab import Lab, wait_until

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
