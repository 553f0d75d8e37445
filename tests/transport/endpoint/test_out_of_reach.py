"""What an endpoint makes of addresses that this host or ICMP says are out of reach."""

import pytest
import trio

from tests.transport.endpoint.test_endpoint import (
    CLIENT,
    HERE,
    NOWHERE,
    PEER,
    nothing_left,
    open_server,
)
from transport import HandshakeTimeout, PeerUnreachable, open_endpoint
from transport.constants import CONNECT_STAGGER
from transport.path.keepalive import DOUBTED_AFTER, SUSPECT_AFTER
from transport.testing.network import Link, open_network

ELSEWHERE = ("10.9.9.8", 7450)


@pytest.fixture
async def network():
    async with open_network(link=Link(delay=0.01)) as network:
        yield network


async def test_where_nothing_can_be_sent_nobody_is_waited_for(autojump_clock, network):
    sock = network.socket("10.0.0.1")
    sock.barred = {NOWHERE: "no route", ELSEWHERE: "a firewall"}
    async with open_endpoint(sock, CLIENT) as client:
        start = trio.current_time()
        with pytest.raises(PeerUnreachable) as caught:
            await client.connect(PEER, [NOWHERE, ELSEWHERE], patience=1000.0)
        assert trio.current_time() - start < CONNECT_STAGGER
        assert caught.value.obstacles == sock.barred
        assert str(caught.value) == "no route; a firewall"
        assert nothing_left(client)
        assert client.statistics().sent_datagrams == 0


async def test_the_next_address_is_tried_at_once_when_one_is_out_of_reach(autojump_clock, network):
    sock = network.socket("10.0.0.1")
    sock.barred = {NOWHERE: "no route"}
    async with open_server(network), open_endpoint(sock, CLIENT) as client:
        start = trio.current_time()
        channel = await client.connect(PEER, [NOWHERE, HERE])
        assert trio.current_time() - start == pytest.approx(0.02)
        assert channel.address == HERE
        assert CONNECT_STAGGER > 0.1  # which would have been waited for


async def test_what_icmp_says_hurries_on_and_ends_nothing(autojump_clock, network):
    sock = network.socket("10.0.0.1")
    sent = sock.sent = []
    async with open_endpoint(sock, CLIENT) as client, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def connect():
            with pytest.raises(HandshakeTimeout) as caught:
                await client.connect(PEER, [NOWHERE, ELSEWHERE], patience=5.0)
            assert not isinstance(caught.value, PeerUnreachable)
            assert caught.value.obstacles == {NOWHERE: "refused"}
            assert trio.current_time() == start + 5.0

        start = trio.current_time()
        await trio.sleep(0.01)
        assert [to for _, to in sent] == [NOWHERE]
        sock.notify(NOWHERE, "refused")
        sock.notify(NOWHERE, "and again")
        await trio.sleep(0.01)
        assert [to for _, to in sent] == [NOWHERE, ELSEWHERE]
    assert nothing_left(client)


@pytest.mark.parametrize("true", [True, False])
async def test_a_session_whose_path_is_said_to_be_gone_asks_at_once(autojump_clock, network, true):
    sock = network.socket("10.0.0.1")
    async with open_server(network), open_endpoint(sock, CLIENT) as client:
        channel = await client.connect(PEER, [HERE])
        await trio.sleep(5.0)
        start = trio.current_time()
        if true:
            sock.barred = {HERE: "no route"}
        sock.notify(HERE, "refused")
        with trio.move_on_after(10.0) as waited:
            await channel.wait_silent()
        assert waited.cancelled_caught is not true
        if true:
            assert trio.current_time() - start == pytest.approx(DOUBTED_AFTER)
            assert DOUBTED_AFTER < SUSPECT_AFTER
        assert channel.silent is true
