"""Pipes beside the socket: handshakes in them, moves to them and back, back-pressure, the end."""



from tests.transport.endpoint.test_endpoint import PEER, open_client, open_server
from transport.testing.network import open_network
from transport.testing.pipes import open_pipe

HERE = ("10.0.0.2", 7450)
MESSAGE = bytes(60_000)


async def receive(channel, count):
    """So many messages of the bulk lane."""
    got = []
    while len(got) < count:
        got += await channel.receive()
    return got


async def test_a_session_begins_in_a_pipe_and_carries_messages_both_ways(autojump_clock):
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        async with open_client(network) as client, open_pipe(client, server) as pair:
            channel = await client.connect(PEER, [pair.first.address])
            assert channel.path_kind == channel.remote == "memory:second"
            assert channel.statistics().path == "memory:second"
            await channel.send([b"a", MESSAGE, b"b"])
            assert await receive(channel, 3) == [b"a", MESSAGE, b"b"]
            await channel.aclose()
