"""Addresses as people and sockets write them; the socket itself is tested on the loopback."""

import socket

import pytest

from transport.endpoint.udp import UdpSocket, format_address


class FakeSocket:
    """As much of a socket as addresses need."""

    def __init__(self, family, bound):
        self.family = family
        self._bound = bound

    def setblocking(self, flag):
        assert flag is False

    def setsockopt(self, *_):
        raise OSError("as before Linux 5.0")

    def getsockname(self):
        return self._bound


V4 = UdpSocket(FakeSocket(socket.AF_INET, ("0.0.0.0", 7450)))
V6 = UdpSocket(FakeSocket(socket.AF_INET6, ("::1", 7450, 0, 0)))
DUAL = UdpSocket(FakeSocket(socket.AF_INET6, ("::", 7450, 0, 0)))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("203.0.113.9", 41022), "203.0.113.9:41022"),
        (("2001:db8::1", 41022, 0, 0), "[2001:db8::1]:41022"),
        (("::ffff:203.0.113.9", 41022, 0, 0), "203.0.113.9:41022"),
        (("fe80::1%eth0", 1, 0, 2), "[fe80::1%eth0]:1"),
        (("fe80::1", 1, 0, socket.if_nametoindex("lo")), "[fe80::1%lo]:1"),
        (("fe80::1", 1, 0, 1 << 30), "[fe80::1%1073741824]:1"),
        (("::ffff:0:1", 1, 0, 0), "[::ffff:0:1]:1"),
    ],
)
def test_format_address(address, text):
    assert format_address(address) == text


@pytest.mark.parametrize(
    ("sock", "host", "native"),
    [
        (V4, "203.0.113.9", ("203.0.113.9", 1)),
        (V6, "2001:db8::1", ("2001:db8::1", 1, 0, 0)),
        (DUAL, "2001:db8::1", ("2001:db8::1", 1, 0, 0)),
        (DUAL, "203.0.113.9", ("::ffff:203.0.113.9", 1, 0, 0)),
    ],
)
def test_native_addresses(sock, host, native):
    assert sock.to_native(host, 1) == native


def test_a_scope_becomes_a_number():
    loopback = socket.if_nametoindex("lo")
    assert DUAL.to_native("fe80::1%lo", 1) == ("fe80::1", 1, 0, loopback)


@pytest.mark.parametrize(
    ("sock", "host", "reachable"),
    [
        (V4, "203.0.113.9", True),
        (V4, "2001:db8::1", False),
        (V6, "203.0.113.9", False),
        (V6, "2001:db8::1", True),
        (DUAL, "203.0.113.9", True),
        (DUAL, "2001:db8::1", True),
    ],
)
def test_which_families_a_socket_reaches(sock, host, reachable):
    assert sock.can_reach(host) is reachable
