"""Two streams as one: half-close, resets, silence, and no more than a chunk in between."""

import socket

import pytest
import trio
import trio.testing

from vswitch.proxy.relay import CHUNK, End, Traffic, of_socket, relay, reset


async def ends():
    """client <-> near, relayed to, far <-> server."""
    client, near = trio.testing.memory_stream_pair()
    far, server = trio.testing.memory_stream_pair()
    return client, near, far, server


async def test_half_close_is_passed_on_and_the_other_direction_goes_on():
    client, near, far, server = await ends()
    traffic, result = Traffic(), []
    async with trio.open_nursery() as nursery:

        async def run():
            result.append(await relay(near, far, traffic, idle=60, early=b"be"))

        nursery.start_soon(run)
        await client.send_all(b"fore")
        await client.send_eof()
        said = b""
        while more := await server.receive_some():
            said += more
        assert said == b"before"
        await server.send_all(b"answer")
        assert await client.receive_some() == b"answer"
        await server.send_eof()
        assert await client.receive_some() == b""
    assert result == [End.DONE]
    assert traffic == Traffic(up=6, down=6)


async def test_reader_that_has_gone_resets_the_writer():
    client, near, far, server = await ends()
    await server.aclose()
    await client.send_all(b"x")
    assert await relay(near, far, Traffic(), idle=60) is End.RESET
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")


async def test_silence_ends_and_traffic_keeps(autojump_clock):
    client, near, far, _ = await ends()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def talk():
            for _ in range(3):
                await trio.sleep(8)
                await client.send_all(b"x")

        nursery.start_soon(talk)
        assert await relay(near, far, Traffic(), idle=10) is End.IDLE
    assert trio.current_time() - start == pytest.approx(34)


async def test_slow_reader_slows_the_writer():
    """With streams that hold nothing, no more than a chunk is taken."""
    client, near = trio.testing.lockstep_stream_pair()
    far, server = trio.testing.lockstep_stream_pair()
    sent = 0
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay(near, far, Traffic(), idle=60))

            async def send():
                nonlocal sent
                while True:
                    await client.send_all(bytes(CHUNK))
                    sent += CHUNK

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            assert sent <= CHUNK
            await server.receive_some(CHUNK)
            await trio.testing.wait_all_tasks_blocked()
            assert CHUNK <= sent <= 2 * CHUNK
            scope.cancel()


async def connected():
    """Both ends of a TCP connection on loopback."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = trio.socket.socket()
        await client.connect(listener.getsockname())
        served, _ = await listener.accept()
        return client, of_socket(served)


async def test_reset_of_one_side_resets_the_other():
    client, near = await connected()
    server, far = await connected()
    stream = of_socket(client)
    reset(stream)
    await stream.aclose()
    assert await relay(near, far, Traffic(), idle=60) is End.RESET
    with server, pytest.raises(ConnectionResetError):
        await server.recv(1)


async def test_cancelled_in_the_middle_both_sides_are_reset():
    client, near = await connected()
    server, far = await connected()
    with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay(near, far, Traffic(), idle=60))
            await client.send(b"the beginning")
            assert await server.recv(99) == b"the beginning"
            nursery.cancel_scope.cancel()
        for end in client, server:
            with pytest.raises(ConnectionResetError):
                await end.recv(1)


async def test_much_in_both_directions_arrives_whole():
    client, near = await connected()
    server, far = await connected()
    data = bytes(range(256)) * 20_000
    traffic = Traffic()

    async def send(sock):
        stream = of_socket(sock)
        await stream.send_all(data)
        await stream.send_eof()

    async def receive(sock):
        said = bytearray()
        while more := await sock.recv(65536):
            said += more
        assert said == data

    with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay(near, far, traffic, idle=60))
            for sock in (client, server):
                nursery.start_soon(send, sock)
                nursery.start_soon(receive, sock)
    assert traffic == Traffic(len(data), len(data))


async def test_unix_sockets_have_no_resets():
    ours, theirs = trio.socket.socketpair(socket.AF_UNIX)
    with theirs:
        stream = of_socket(ours)
        reset(stream)
        await stream.aclose()
        assert await theirs.recv(1) == b""
