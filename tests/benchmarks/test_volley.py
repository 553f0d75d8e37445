"""Many datagrams in one call, on the loopback."""

import socket
from contextlib import closing

import pytest

from benchmarks.faults.volley import Volley


@pytest.fixture
def pair():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with closing(receiver), closing(sender):
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sender.connect(receiver.getsockname())
        yield receiver, sender


def test_they_arrive_in_order_and_begin_again_after_the_last(pair):
    receiver, sender = pair
    datagrams = [b"first", b"", b"third one"]
    Volley(sender, datagrams).send(2, 5)
    assert [receiver.recv(100) for _ in range(5)] == [datagrams[n % 3] for n in range(2, 7)]
    with pytest.raises(BlockingIOError):
        receiver.recv(100)


def test_what_nobody_takes_is_lost(pair):
    receiver, sender = pair
    receiver.close()
    Volley(sender, [b"one"]).send(0, 3)  # the second meets the error of the first


def test_a_socket_that_is_gone_is_an_error(pair):
    _, sender = pair
    volley = Volley(sender, [b"one"])
    sender.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        volley.send(0, 1)
