"""Headers of the PROXY protocol, version 2, byte by byte as its specification has them."""

import pytest

from vswitch.services.proxy_protocol import header

HEAD = bytes.fromhex("0d0a0d0a000d0a515549540a")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        (("203.0.113.9", 40000), ("192.0.2.1", 80), "21 11 000c cb007109 c0000201 9c40 0050"),
        # A client of IPv4 at a socket for both.
        (
            ("::ffff:203.0.113.9", 40000),
            ("::ffff:192.0.2.1", 80),
            "21 11 000c cb007109 c0000201 9c40 0050",
        ),
        (
            ("2001:db8::9", 1),
            ("2001:db8::1", 65535),
            "21 21 0024 20010db800000000000000000000000920010db8000000000000000000000001 0001 ffff",
        ),
        (
            ("fe80::9%eth0", 1),
            ("fe80::1%eth0", 2),
            "21 21 0024 fe800000000000000000000000000009fe800000000000000000000000000001 0001 0002",
        ),
    ],
)
def test_header(source, destination, expected):
    assert header(source, destination) == HEAD + bytes.fromhex(expected)
