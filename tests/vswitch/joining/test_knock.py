"""Who answers a knock on loopback: a switch with that key, at each of its places, and no other."""

import socket
from contextlib import asynccontextmanager

import pytest
import trio

from transport import PrivateKey, listen_at, open_endpoint, open_udp
from transport.testing.cores import KnownPeers
from vswitch.doctor import nat
from vswitch.joining import knock as module
from vswitch.joining.knock import KNOCKS, knock

SWITCH = PrivateKey.from_raw(b"\x22" * 32)
OTHER = PrivateKey.from_raw(b"\x33" * 32)
HERE = "127.0.0.1"


@pytest.fixture
def nobody(monkeypatch):
    """A knock that is not answered, which need not take long."""

    async def unanswered(key, places):
        with monkeypatch.context() as patch:
            patch.setattr(module, "PATIENCE", 0.2)
            return await knock(key, places) == {} and await nat.one_port(key, places) is None

    return unanswered


@asynccontextmanager
async def a_switch():
    """Its endpoint, at two places."""
    sockets = [open_udp(HERE), open_udp(HERE)]
    places = [(HERE, each.local_address[1]) for each in sockets]
    async with open_endpoint(listen_at(sockets), SWITCH, authority=KnownPeers({}, {})) as endpoint:
        yield endpoint, places


async def test_a_switch_shows_that_it_has_its_key_and_no_other(nobody):
    async with a_switch() as (endpoint, places):
        assert (await knock(SWITCH.public, places[:1])).keys() == {places[0]}
        assert await nobody(OTHER.public, places)
        drops = endpoint.statistics().drops
        assert 0 < drops["unknown_peer"] < KNOCKS
        assert drops["bad_mac1"]
        assert endpoint.statistics().sessions == endpoint.statistics().half_open == 0
    assert await nobody(SWITCH.public, places)
    assert await nobody(SWITCH.public, [])


async def test_one_socket_gets_one_cookie_at_all_places_and_another_one_another():
    async with a_switch() as (_, places):
        first, second = await knock(SWITCH.public, places), await knock(SWITCH.public, places)
        assert first.keys() == second.keys() == set(places)
        assert len(set(first.values())) == len(set(second.values())) == 1
        assert first != second
        assert await nat.one_port(SWITCH.public, places) is True
        assert await nat.one_port(SWITCH.public, places[:1]) is None


async def test_what_is_no_answer_is_none(nobody):
    """Garbage, and the cookie of somebody else."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await sock.bind((HERE, 0))
    place = sock.getsockname()

    async def answer():
        while True:
            init, asker = await sock.recvfrom(2048)
            for said in (b"", b"\3" * 64, bytes((3, 1, 0, 0)) + init[4:8] + bytes(56)):
                await sock.sendto(said, asker)

    with sock:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            assert await nobody(SWITCH.public, [place])
            nursery.cancel_scope.cancel()
