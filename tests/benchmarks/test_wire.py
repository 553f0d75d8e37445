"""The captures see the frames that they are asked for, and no others."""

import socket

import pytest

from benchmarks import wire
from vswitch.lab import Lab, wait_until


def say(address, payloads):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for payload in payloads:
            sock.sendto(payload, (address, 9000))


def seen_in_all(host, ifname, found):
    found.append(host.call(wire.seen, ifname))
    return sum(found)


@pytest.mark.netns
def test_a_capture_sees_what_it_is_asked_for():
    with Lab() as lab:
        segment, a, b = lab.bridge("segment"), lab.host("a"), lab.host("b")
        ports = [
            lab.link(host, segment, ifname="eth0", address=f"192.0.2.{number}/24")
            for number, host in enumerate((a, b), start=1)
        ]
        begins, long = ports
        segment.call(wire.begin, begins, wire.udp_that_begins(2))
        segment.call(wire.begin, long, wire.longer_than(1000))
        a.call(say, "192.0.2.2", [b"\2abc", b"\1abc", b"", b"\2" * 1400])
        found: list[int] = []
        wait_until(lambda: seen_in_all(segment, begins, found) >= 2, "two of the datagrams")
        assert sum(found) == 2
        assert segment.call(wire.end, begins).oversize == 2
        caught = segment.call(wire.end, long)
        assert (caught.oversize, caught.longest) == (1, 1400 + 42)
        with pytest.raises(KeyError):
            segment.call(wire.end, long)
