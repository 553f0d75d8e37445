"""Sessions in WebSockets: over TLS, through a proxy, and what becomes of strangers."""

import contextlib
import socket

import pytest
import trio

from tests.transport.endpoint.test_endpoint import PEER, SERVER, open_client, open_server
from transport.testing.network import open_network
from vswitch.web.certificates import Certificate
from vswitch.web.client import Proxy, open_websocket
from vswitch.web.links import link_path, open_link, serve_https

MESSAGE = bytes(60_000)
LINK = link_path(SERVER.public.raw)


async def receive(channel, count):
    got = []
    while len(got) < count:
        got += await channel.receive()
    return got


async def until(true):
    while not true():  # noqa: ASYNC110  what a kernel does sets no event
        await trio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(endpoint, keys=(SERVER.public.raw,), **settings):
    """The server, and the beginning of its URLs."""
    async with trio.open_nursery() as nursery:
        certificate = Certificate()
        listeners = []
        real = trio.open_tcp_listeners

        async def note(*args, **kw):
            listeners.extend(await real(*args, **kw))
            return listeners

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio, "open_tcp_listeners", note)
            server = await nursery.start(
                lambda task_status: serve_https(
                    endpoint,
                    lambda: keys,
                    "127.0.0.1",
                    0,
                    certificate,
                    task_status=task_status,
                    **settings,
                )
            )
        yield server, f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def proxy(stream, wanted):
    """What an HTTP proxy does, for one connection."""
    async with stream:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1000)
        if wanted.encode() not in head:
            await stream.send_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            return
        host, port = head.split()[1].decode().rsplit(":", 1)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        async with await trio.open_tcp_stream(host, int(port)) as other:
            async with trio.open_nursery() as nursery:

                async def carry(a, b):
                    with contextlib.suppress(trio.BrokenResourceError):
                        async for data in a:
                            await b.send_all(data)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(carry, stream, other)
                nursery.start_soon(carry, other, stream)


async def test_a_session_in_a_websocket_carries_messages_both_ways():
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        async with serving(server) as (web, url), open_client(network) as client:
            async with open_link(client, f"{url}{LINK}") as (address, over):
                channel = await client.connect(PEER, [address])
                assert channel.path_kind == "https:" + url.removeprefix("https://")
                await channel.send([b"a", MESSAGE, b"b"])
                assert await receive(channel, 3) == [b"a", MESSAGE, b"b"]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(channel.send, [MESSAGE] * 100)
                    assert await receive(channel, 100) == [MESSAGE] * 100
                assert web.connections == 1
                assert not over.is_set()
                await channel.aclose()
            await until(lambda: not web.connections)


async def test_a_link_through_a_proxy_with_a_password():
    async with open_network() as network, open_server(network) as server:
        network.link.up = False
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with serving(server, prefix="/office") as (_, url), open_client(network) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    trio.serve_listeners, lambda stream: proxy(stream, "Basic dTpw"), [listener]
                )
                link = f"{url}/office{LINK}"
                with pytest.raises(OSError, match="wants a name and a password"):
                    async with open_link(client, link, proxy=Proxy("127.0.0.1", port)):
                        pass
                through = Proxy("127.0.0.1", port, "u:p")
                async with open_link(client, link, proxy=through) as (address, _):
                    channel = await client.connect(PEER, [address])
                    await channel.send([b"a"])
                    assert await receive(channel, 1) == [b"a"]
                    await channel.aclose()
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        # What squid does: a page comes along in the same segment.
        (b"HTTP/1.1 407 No\r\nContent-Length: 4\r\n\r\npage", "wants a name and a password"),
        (b"HTTP/1.1 403 No\r\n\r\n<html>", "does not connect to s.example:443: status 403"),
        (b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x", "is it an HTTP proxy"),
        (b"SSH-2.0-x\r\n\r\n", "is it an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + bytes(30_000).replace(b"\0", b"x"), "is too long"),
        (b"", "it has closed the connection"),
    ],
)
async def test_what_a_proxy_answers_is_said(answer, reason):
    """The name of the switch is the proxy's to resolve."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def say(stream):
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some()
                await stream.send_all(answer)
                await stream.send_eof()
                await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, say, [listener])
        with pytest.raises(OSError, match=rf"^proxy 127.0.0.1:{port}: .*{reason}"):
            async with open_websocket("https://s.example/x", proxy=Proxy("127.0.0.1", port)):
                pass
        nursery.cancel_scope.cancel()


async def test_why_nobody_is_reached_is_said():
    """As the kernel or the resolver has it, and of whom."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match=r"^Connection refused$"):
        async with open_websocket(f"https://127.0.0.1:{port}/"):
            pass
    with pytest.raises(OSError, match=f"^proxy 127.0.0.1:{port}: Connection refused$"):
        async with open_websocket("https://s.example/", proxy=Proxy("127.0.0.1", port)):
            pass


async def test_who_is_cancelled_leaves_no_socket():
    """In the middle of TLS, with somebody who says nothing."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"
        async with trio.open_nursery() as nursery:

            async def connect():
                async with open_websocket(url):
                    pass

            nursery.start_soon(connect)
            other = await listener.accept()
            assert (await other.receive_some()).startswith(b"\x16\x03")
            nursery.cancel_scope.cancel()
        async with other:
            with contextlib.suppress(trio.BrokenResourceError):
                assert await other.receive_some() == b""


async def test_where_there_is_no_link_it_is_said():
    async with open_network() as network, open_server(network) as server:
        async with serving(server) as (web, url):
            with pytest.raises(OSError, match="no link: it answers with status 404"):
                async with open_websocket(f"{url}/v1/else"):
                    pass
            with pytest.raises(OSError, match="certificate verify failed"):
                async with open_websocket(f"{url}{LINK}", verify=True):
                    pass
            with pytest.raises(
                OSError, match=r"the connection has ended|reset by peer|closed the connection"
            ):
                async with open_websocket(f"http{url.removeprefix('https')}{LINK}"):
                    pass
            await until(lambda: not web.connections)
