"""The kernel's filter of inits, on the loopback."""

import socket
import struct
from contextlib import contextmanager, suppress

import pytest

from transport.constants import HANDSHAKE_SLICE_SIZE, HYBRID_INIT_SIZE, INIT_SIZE
from transport.endpoint import socketfilter

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104  # linux/udp.h


def arrived(shares, datagrams):
    """Which of these a socket with such a filter gets."""
    with open_pair() as (receiver, sender):
        socketfilter.apply(receiver, shares)
        for datagram in datagrams:
            sender.send(datagram)
        return received(receiver)


def received(receiver):
    got = []
    with suppress(BlockingIOError):
        while True:
            got.append(receiver.recv(65535))
    return got


@contextmanager
def open_pair():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sender.connect(receiver.getsockname())
        yield receiver, sender


def both(kind, size):
    """Without and with a proof of address."""
    return bytes([kind]) + bytes(size - 1), bytes([kind]) + bytes(size - 17) + b"\x01" * 16


BARE, PROVEN = both(1, INIT_SIZE)
FORMS = [(1, INIT_SIZE), (1, HYBRID_INIT_SIZE), (8, HANDSHAKE_SLICE_SIZE), (8, 464)]
OTHERS = [b"", b"\x01", b"\x04" * 1400, b"\x05" * 60, b"\x02" + bytes(139), b"\x01" + bytes(300)]


def test_a_filter_without_a_share_lets_in_what_is_no_init():
    # What says to be an init, and is not as long as one, is of no use to anybody.
    assert arrived((0.0, 0.0), [BARE, PROVEN, *OTHERS]) == [
        each for each in OTHERS if each[:1] not in (b"", b"\x01")
    ]


@pytest.mark.parametrize("form", FORMS)
def test_each_kind_has_its_share(form):
    bare, proven = both(*form)
    assert arrived((0.0, 0.999999999), [bare, proven]) == [proven]
    assert arrived((0.999999999, 0.0), [bare, proven]) == [bare]
    got = arrived((0.25, 0.75), [bare] * 500 + [proven] * 500)
    assert 60 < got.count(bare) < 200
    assert 300 < got.count(proven) < 440


@pytest.mark.parametrize(
    ("form", "count"), [(FORMS[0], 2), (FORMS[0], 8), (FORMS[1], 3), (FORMS[2], 3)]
)
def test_inits_that_the_kernel_has_joined_are_inits(form, count):
    """UDP_GRO: cards and kernels make one of what one sender sends at once, in one size."""
    joined = both(*form)[0] * count
    with open_pair() as (receiver, sender):
        receiver.setsockopt(SOL_UDP, UDP_GRO, 1)
        segments = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", form[1]))]
        for share, arriving in ((0.999999999, [joined]), (0.0, [])):
            socketfilter.apply(receiver, (share, 0.5))
            sender.sendmsg((joined,), segments)
            assert received(receiver) == arriving


def test_a_filter_can_be_taken_away():
    with open_pair() as (receiver, sender):
        socketfilter.apply(receiver, (0.0, 0.0))
        socketfilter.apply(receiver, (1.0, 1.0))
        sender.send(BARE)
        assert receiver.recv(2000) == BARE
        with pytest.raises(OSError, match="No such file"):
            socketfilter.apply(receiver, (1.0, 1.0))  # there is none any more
