"""What an entry of the kernel's error queue says, in words."""

import errno
import socket
import struct

import pytest

from transport.endpoint import obstacles
from transport.endpoint.obstacles import IP_RECVERR, IPV6_RECVERR, of_notice, of_send

V4 = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("198.51.100.1"))
MAPPED, V6 = (
    struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, text), 0)
    for text in ("::ffff:198.51.100.1", "2001:db8::1")
)


def entry(origin, icmp, code, offender, *, level=0, kind=IP_RECVERR):
    data = struct.pack("=IBBBxII", errno.ECONNREFUSED, origin, icmp, code, 0, 0) + offender
    return [(17, 104, b""), (level, kind, data)]


@pytest.mark.parametrize(
    ("ancillary", "said"),
    [
        (
            entry(2, 3, 13, V4),
            "192.0.2.7 refused by 198.51.100.1: ICMP administratively prohibited",
        ),
        (
            entry(2, 3, 1, MAPPED, level=41, kind=IPV6_RECVERR),
            "192.0.2.7 refused by 198.51.100.1: ICMP host unreachable",
        ),
        (
            entry(3, 1, 0, V6, level=41, kind=IPV6_RECVERR),
            "192.0.2.7 refused by 2001:db8::1: ICMP no route",
        ),
        (entry(2, 11, 0, b""), "192.0.2.7 refused by a host on the way: ICMP time exceeded"),
        (entry(2, 3, 4, V4), ""),  # too big
        (entry(3, 200, 7, V6), ""),  # unknown
        (entry(1, 0, 0, V4), None),  # this host
        ([(0, IP_RECVERR, b"short")], None),
        ([], None),
    ],
)
def test_what_icmp_says(ancillary, said):
    assert of_notice(ancillary, "192.0.2.7") == said


def test_whoever_was_asked_is_not_named_twice():
    said = of_notice(entry(2, 3, 3, V4), "198.51.100.1")
    assert said.startswith("refused by 198.51.100.1: ICMP port unreachable")


def test_what_passes_is_no_obstacle():
    assert of_send(errno.ENOBUFS, "192.0.2.7") == ""
    assert of_send(errno.ENETUNREACH, "192.0.2.7") == "no route to 192.0.2.7"


def test_every_code_has_words():
    assert all(text for codes in obstacles._UNREACHABLE.values() for text in codes.values())
