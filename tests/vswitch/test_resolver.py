"""Names to addresses."""

import socket

from vswitch.resolver import resolve


async def test_an_address_is_its_own_and_a_name_gives_each_address_once():
    assert await resolve("127.0.0.1", 7450) == [("127.0.0.1", 7450)]
    assert await resolve("::1", 7450, socket.SOCK_STREAM) == [("::1", 7450)]
    found = await resolve("localhost", 7450)
    assert {host for host, _ in found} <= {"127.0.0.1", "::1"}
    assert len(set(found)) == len(found) > 0
