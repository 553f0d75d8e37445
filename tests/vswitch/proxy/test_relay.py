"""Two streams as one: half-close, resets, silence, and no more than a chunk in between."""

import fcntl
import math
import socket
import struct
import termios

import pytest
import trio

from vswitch.proxy.relay import CHUNK, End, IdleLimit, Silence, Traffic, of_socket, relay, reset


async def connected():
    """Both ends of a TCP connection on loopback."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = trio.socket.socket()
        await client.connect(listener.getsockname())
        served, _ = await listener.accept()
        return client, of_socket(served)


async def ends():
    """client <-> near, relayed to, far <-> server."""
    client, near = await connected()
    server, far = await connected()
    return of_socket(client), near, far, of_socket(server)


async def test_half_close_is_passed_on_and_the_other_direction_goes_on():
    client, near, far, server = await ends()
    traffic, result = Traffic(), []
    async with client, server, trio.open_nursery() as nursery:

        async def run():
            result.append(await relay(near, far, traffic, idle=IdleLimit(60), early=b"be"))

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


async def test_what_was_sent_with_its_end_is_passed_on_whole():
    """The end may come with the last bytes, and then no event tells of it."""
    for size in (1, CHUNK - 1, CHUNK, CHUNK + 1):
        client, near, far, server = await ends()
        async with client, server, trio.open_nursery() as nursery:

            async def send(stream=client, size=size):
                await stream.send_all(bytes(size))
                await stream.send_eof()

            nursery.start_soon(send)
            await server.send_eof()
            nursery.start_soon(lambda a, b: relay(a, b, Traffic(), idle=IdleLimit(60)), near, far)
            received = 0
            while more := await server.receive_some():
                received += len(more)
            assert received == size


async def test_reader_that_has_gone_resets_the_writer():
    client, near, far, server = await ends()
    reset(server)
    await server.aclose()
    await client.send_all(b"x")
    assert await relay(near, far, Traffic(), idle=IdleLimit(60)) is End.RESET
    async with client:
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_reset_is_seen_while_the_other_side_takes_nothing():
    client, near, far, server = await ends()
    async with server, trio.open_nursery() as nursery:
        traffic, result = Traffic(), []

        async def run():
            result.append(await relay(near, far, traffic, idle=IdleLimit(60)))
            nursery.cancel_scope.cancel()

        async def fill():
            while True:
                await client.send_all(bytes(CHUNK))

        async def break_off():
            """When nothing moves any more."""
            before = -1
            while before != traffic.up:
                before = traffic.up
                await trio.sleep(0.2)
            reset(client)
            filling.cancel()
            await client.aclose()

        nursery.start_soon(run)
        with trio.CancelScope() as filling:
            nursery.start_soon(break_off)
            await fill()
        await trio.sleep_forever()
    assert result == [End.RESET]


async def test_cancelled_is_a_reset_for_both_ends():
    client, near, far, server = await ends()
    async with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay(near, far, Traffic(), idle=IdleLimit(60)))
            await client.send_all(b"x")
            assert await server.receive_some() == b"x"
            nursery.cancel_scope.cancel()
        for stream in (client, server):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()


async def test_fault_is_raised_by_its_own_relay_and_others_go_on(monkeypatch):
    client, near, far, server = await ends()
    others = await ends()
    async with client, server, others[0], others[3], trio.open_nursery() as nursery:
        nursery.start_soon(lambda: relay(others[1], others[2], Traffic(), idle=IdleLimit(60)))
        with pytest.raises(AttributeError):
            await relay(near, far, None, idle=IdleLimit(60), early=b"x")
        await others[0].send_all(b"x")
        assert await others[3].receive_some() == b"x"
        nursery.cancel_scope.cancel()


async def test_silence_ends_and_traffic_keeps(autojump_clock):
    client, near, far, server = await ends()
    start = trio.current_time()
    async with client, server, trio.open_nursery() as nursery:

        async def talk():
            for _ in range(3):
                await trio.sleep(8)
                await client.send_all(b"x")

        nursery.start_soon(talk)
        assert await relay(near, far, Traffic(), idle=IdleLimit(10)) is End.IDLE
    assert trio.current_time() - start == pytest.approx(34)


async def test_another_limit_of_silence_holds_for_what_is_silent(autojump_clock):
    client, near, far, server = await ends()
    patience = IdleLimit(math.inf)
    start, told = trio.current_time(), []

    async def wait():
        await Silence(patience).reached()
        told.append(trio.current_time() - start)

    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(wait)

        async def change():
            for limit in (100, 20, 40):
                await trio.sleep(5)
                patience.change(limit)

        nursery.start_soon(change)
        assert await relay(near, far, Traffic(), idle=patience) is End.IDLE
    assert trio.current_time() - start == pytest.approx(40)
    assert told == [pytest.approx(40)]


def unread(stream):
    """Bytes that the kernel holds for whoever reads it."""
    return struct.unpack("i", fcntl.ioctl(stream.socket, termios.FIONREAD, bytes(4)))[0]


async def test_slow_reader_slows_the_writer():
    """What it does not take stays in the kernel, and soon the writer cannot send more."""
    client, near, far, server = await ends()
    sent = received = 0
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: relay(near, far, Traffic(), idle=IdleLimit(60)))

        async def send():
            nonlocal sent
            while True:
                await client.send_all(bytes(CHUNK))
                sent += CHUNK
                assert sent < 1000 * CHUNK

        nursery.start_soon(send)
        before = -1
        while before != sent or not unread(near):
            before = sent
            await trio.sleep(0.05)
        stalled = sent
        while received < stalled:
            received += len(await server.receive_some(CHUNK))
        nursery.cancel_scope.cancel()


async def test_reset_of_one_side_resets_the_other():
    client, near = await connected()
    server, far = await connected()
    stream = of_socket(client)
    reset(stream)
    await stream.aclose()
    assert await relay(near, far, Traffic(), idle=IdleLimit(60)) is End.RESET
    with server, pytest.raises(ConnectionResetError):
        await server.recv(1)


async def test_cancelled_in_the_middle_both_sides_are_reset():
    client, near = await connected()
    server, far = await connected()
    with client, server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: relay(near, far, Traffic(), idle=IdleLimit(60)))
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
            nursery.start_soon(lambda: relay(near, far, traffic, idle=IdleLimit(60)))
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
