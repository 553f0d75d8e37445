"""TLS over a stream: Trio's as the other end, many records at once, what is no TLS, the end."""

import contextlib
import socket
import ssl

import pytest
import trio
from trio.testing import memory_stream_pair

from vswitch.web.certificates import Certificate
from vswitch.web.tls import RECORD, TlsStream

SERVER = Certificate().context()
CLIENT = ssl.create_default_context()
CLIENT.check_hostname = False
CLIENT.verify_mode = ssl.CERT_NONE
STRICT = ssl.create_default_context()
READ = 16 * RECORD
SOME = bytes(range(256)) * 1000


def ours(stream, server_side):
    if server_side:
        return TlsStream(stream, SERVER, server_side=True)
    return TlsStream(stream, CLIENT, server_hostname="h")


def theirs(stream, server_side):
    if server_side:
        return trio.SSLStream(stream, SERVER, server_side=True, https_compatible=True)
    return trio.SSLStream(stream, CLIENT, server_hostname="h", https_compatible=True)


async def shake_hands(*streams):
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(stream.do_handshake)
    return streams


async def over_memory(make_client=ours, make_server=ours):
    one, other = memory_stream_pair()
    return await shake_hands(make_client(one, False), make_server(other, True))


async def over_sockets():
    """Both ends, and that of the client below TLS."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        one = await trio.open_tcp_stream(*listener.socket.getsockname())
        other = await listener.accept()
    return await shake_hands(ours(one, False), ours(other, True))


async def read(stream, size):
    got = b""
    while len(got) < size and (data := await stream.receive_some()):
        got += data
    return got


@pytest.mark.parametrize("makers", [(ours, ours), (ours, theirs), (theirs, ours)])
async def test_bytes_both_ways_in_order(autojump_clock, makers):
    ends = await over_memory(*makers)
    for sender, receiver in (ends, reversed(ends)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send_all, SOME)
            assert await read(receiver, len(SOME)) == SOME


async def test_a_read_has_all_records_that_have_come(autojump_clock):
    client, server = await over_memory()
    await client.send_all(SOME[: 10 * RECORD])
    assert await server.receive_some(READ) == SOME[: 10 * RECORD]
    await client.send_all(SOME + SOME)
    many = await server.receive_some(READ)
    few = await server.receive_some(100)
    assert READ >= len(many) > 14 * RECORD
    assert len(few) == 100
    assert (SOME + SOME).startswith(many + few)
    assert len(await server.receive_some()) <= RECORD


async def test_the_end_is_the_end_with_and_without_a_word(autojump_clock):
    client, server = await over_memory(theirs, ours)
    await client.transport_stream.aclose()
    assert await server.receive_some() == b""
    one, other = memory_stream_pair()
    client = trio.SSLStream(one, CLIENT, server_hostname="h")
    server = ours(other, True)
    await shake_hands(client, server)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)  # says it, and waits for the same
        assert await server.receive_some() == b""
        await server.aclose()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b""])
async def test_who_speaks_no_tls(autojump_clock, said):
    one, other = memory_stream_pair()
    await one.send_all(said)
    await one.send_eof()
    with pytest.raises(trio.BrokenResourceError):
        await ours(other, True).do_handshake()


async def test_a_certificate_that_is_not_good(autojump_clock):
    one, other = memory_stream_pair()
    client = TlsStream(one, STRICT, server_hostname="h")
    heard = []

    async def serve():
        try:
            server = ours(other, True)
            await server.do_handshake()
            await server.receive_some()
        except trio.BrokenResourceError as error:
            heard.append(type(error.__cause__))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(trio.BrokenResourceError) as refused:
            await client.do_handshake()
        assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
        await client.aclose()
    assert heard == [ssl.SSLError]  # the alert that says so


async def test_garbage_after_the_handshake(autojump_clock):
    client, server = await over_memory()
    await client.send_all(b"before")
    await client.transport.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert await server.receive_some() == b"before"
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()


async def test_what_leaves_at_once_and_what_does_not():
    client, server = await over_sockets()
    async with client, server:
        assert client.send_nowait(b"at once")
        assert await read(server, 7) == b"at once"
        client.transport.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent = 0
        while client.send_nowait(SOME):
            sent += len(SOME)
        sent += 2 * len(SOME)
        assert not client.send_nowait(SOME)  # taken, behind what has not left
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"")
            got = await read(server, sent)
        assert got == SOME * (sent // len(SOME))
        assert client.send_nowait(b"again")
        assert await read(server, 5) == b"again"


async def test_where_the_transport_is_no_socket_nothing_leaves_at_once(autojump_clock):
    client, server = await over_memory()
    assert not client.send_nowait(b"ab")
    await client.send_all(b"cd")
    assert await server.receive_some() == b"abcd"


async def test_a_connection_that_breaks():
    client, server = await over_sockets()
    server.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    await server.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        client.send_nowait(b"gone")
    with contextlib.suppress(trio.BrokenResourceError):
        await client.aclose()
    with pytest.raises(trio.BrokenResourceError):
        client.send_nowait(b"closed")
