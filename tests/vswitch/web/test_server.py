"""The server, on streams in memory: what it answers, and what it does about odd clients."""

import contextlib
import re
import ssl

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from vswitch.web.certificates import Certificate
from vswitch.web.requests import WELCOME, HttpError, Response, Routes
from vswitch.web.server import Limits, WebServer, network_of

GET = b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n"
LINK = (
    b"GET /v1/link HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@contextlib.asynccontextmanager
async def serving(routes=None, limits=None, prefix="", context=None):
    """A server, and what opens a connection to it."""
    server = WebServer(routes or Routes(), limits or Limits(), prefix=prefix)
    async with trio.open_nursery() as nursery:

        def connect(client="192.0.2.1"):
            ours, theirs = memory_stream_pair()
            nursery.start_soon(server.serve_connection, theirs, client, context)
            return ours

        yield server, connect
        nursery.cancel_scope.cancel()
    assert server.connections == 0


async def everything(stream):
    """All that comes until the connection ends."""
    got = b""
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            got += data
    return got


async def ask(connect, data, **options):
    stream = connect(**options)
    await stream.send_all(data)
    await stream.send_eof()
    return await everything(stream)


async def test_what_is_not_there_is_one_page(autojump_clock):
    async def answer(request):
        return Response(200, b"x")

    routes = Routes()
    routes.add("GET", "/there", answer)
    async with serving(routes) as (_, connect):
        welcome = await ask(connect, GET % b"/")
        assert welcome.startswith(b"HTTP/1.1 200 OK")
        assert welcome.endswith(WELCOME.encode())
        assert (await ask(connect, GET % b"/there")).endswith(b"\r\n\r\nx")
        missing = {
            # without the date, since a second may end between two
            re.sub(rb"\r\nDate: [^\r]*", b"", await ask(connect, data))
            for data in (
                GET % b"/v1/link",
                GET % b"/v1/",
                GET % b"/there/",
                GET % b"//",
                GET % b"/%2e%2e/etc/passwd",
                (GET % b"/there").replace(b"GET", b"DELETE"),
                LINK.replace(b"/v1/link", b"/v1/lin"),
                LINK.replace(b": 13", b": 12"),
            )
        }
        assert len(missing) == 1
        assert missing.pop().startswith(b"HTTP/1.1 404 Not Found\r\n")


async def test_an_answer_is_one_write(autojump_clock):
    async def answer(request):
        return Response(200, b"x" * 1000)

    routes = Routes()
    routes.add("GET", "/there", answer)
    async with serving(routes) as (_, connect):
        stream = connect()
        for method, length in ((b"GET", 1000), (b"HEAD", 0)):
            await stream.send_all((GET % b"/there").replace(b"GET", method))
            await wait_all_tasks_blocked()
            head, _, body = bytes(await stream.receive_some()).partition(b"\r\n\r\n")
            assert b"Content-Length: 1000" in head
            assert len(body) == length
        await stream.aclose()


async def test_below_a_prefix_and_nowhere_else(autojump_clock):
    async def answer(request):
        return Response(200, request.path.encode())

    routes = Routes()
    routes.add("GET", "/x", answer)
    async with serving(routes, prefix="/office/") as (_, connect):
        assert (await ask(connect, GET % b"/office/x?a=b")).endswith(b"\r\n/x")
        for path in (b"/x", b"/officex", b"/office", b"/", b"//office/x"):
            assert b" 404 " in await ask(connect, GET % path)


async def test_bodies_and_pipelining(autojump_clock):
    async def echo(request):
        return Response(200, await request.body(10))

    async def ignore(request):
        return Response(200, b"ignored")

    async def refuse(request):
        raise HttpError(409, "it is so")

    routes = Routes()
    routes.add("POST", "/echo", echo)
    routes.add("POST", "/ignore", ignore)
    routes.add("POST", "/refuse", refuse)
    post = b"POST /%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
    async with serving(routes) as (_, connect):
        got = await ask(
            connect,
            post % (b"echo", 3, b"abc")
            + post % (b"ignore", 3, b"abc")
            + post % (b"refuse", 0, b"")
            + GET % b"/",
        )
        assert got.count(b"HTTP/1.1") == 4
        assert got.index(b"abc") < got.index(b"ignored") < got.index(b"it is so")
        assert got.endswith(WELCOME.encode())
        got = await ask(connect, post % (b"echo", 99, bytes(98)) + GET % b"/")
        assert got.startswith(b"HTTP/1.1 413 ")
        got = await ask(connect, post % (b"ignore", 11, b"") + b"x")
        assert b"connection: close" in got.lower()


async def test_a_mistake_in_a_handler_costs_its_answer(autojump_clock, caplog):
    async def fail(request):
        raise RuntimeError("a planted fault")

    routes = Routes()
    routes.add("GET", "/fail", fail)
    async with serving(routes) as (server, connect):
        got = await ask(connect, GET % b"/fail" + GET % b"/")
        assert got.startswith(b"HTTP/1.1 500 ")
        assert b"planted" not in got
        assert got.endswith(WELCOME.encode())
        assert server.counters["failed"] == 1
    assert "a planted fault" in caplog.text


async def test_an_answer_in_pieces_ends_when_its_client_goes(autojump_clock):
    ended = trio.Event()

    async def pieces():
        try:
            for _ in range(3):
                yield b"data: 1\n\n"
            await trio.sleep_forever()  # says nothing more, by which it would notice
        finally:
            ended.set()

    async def stream(request):
        return Response(200, pieces(), [("Content-Type", "text/event-stream")])

    routes = Routes()
    routes.add("GET", "/events", stream)
    async with serving(routes) as (server, connect):
        client = connect()
        await client.send_all(GET % b"/events")
        got = b""
        while got.count(b"data") < 3:
            got += await client.receive_some()
        assert b"chunked" in got
        await client.aclose()
        with trio.fail_after(60):
            await ended.wait()
        await wait_all_tasks_blocked()
        assert server.connections == 0


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no host
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + bytes(20_000).replace(b"\0", b"x"), b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n", b"400"),
        (b"\x80" * 100 + b"\r\n\r\n", b"400"),
    ],
)
async def test_garbage_is_answered_once(autojump_clock, data, status):
    async with serving() as (server, connect):
        got = await ask(connect, data)
        assert got.startswith(b"HTTP/1.1 " + status)
        assert got.count(b"HTTP/1.1") == 1
        assert server.counters["malformed"] == 1


_CHUNKED = b"Transfer-Encoding: chunked\r\n"
_NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        # Two lengths, of which whoever is before us may believe the other one.
        (b"Content-Length: 5\r\n" + _CHUNKED, b"0\r\n\r\n"),
        (_CHUNKED + b"Content-Length: 5\r\n", b"0\r\n\r\n"),
        (b"Content-Length: 0\r\nContent-Length: 5\r\n", b""),
        (b"Content-Length: 0, 5\r\n", b""),
        (b"Content-Length: +5\r\n", b"12345"),
        (b"Content-Length: -1\r\n", b""),
        (b"Content-Length: 0x5\r\n", b"12345"),
        (b"Content-Length: 5_0\r\n", b"12345"),
        # A coding that is none, or looks so.
        (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
        (_CHUNKED + _CHUNKED, b"0\r\n\r\n"),
        (b"Transfer-Encoding:\r\n chunked\r\n", b"0\r\n\r\n"),
        (b"X: y\r\n\tz\r\n", b""),
        (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
        (b" Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (b"Content-Length\t: 5\r\n", b"12345"),
        (b"X: y\rContent-Length: 5\r\n", b""),
        (b"X: \0\r\n", b""),
        (b"Host: other\r\n", b""),
        # Chunks.
        (_CHUNKED, b"x\r\n\r\n"),
        (_CHUNKED, b"-1\r\n\r\n"),
        (_CHUNKED, b"0x1\r\na\r\n0\r\n\r\n"),
        (_CHUNKED, b"1\r\nabc\r\n0\r\n\r\n"),
        (_CHUNKED, b"1\r\naXX0\r\n\r\n"),
        (_CHUNKED, b"1" * 21 + b"\r\n"),
    ],
)
@pytest.mark.parametrize("reads", [False, True])
async def test_what_may_be_two_requests_to_somebody_else_is_none(
    autojump_clock, headers, body, reads
):
    asked = []

    async def answer(request):
        asked.append(request.path)
        return Response(200, await request.body() if reads else b"")

    routes = Routes()
    for method, path in (("POST", "/x"), ("GET", "/next")):
        routes.add(method, path, answer)
    async with serving(routes) as (server, connect):
        head = b"POST /x HTTP/1.1\r\nHost: h\r\n" + headers + b"\r\n"
        got = await ask(connect, head + body + _NEXT)
        assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
        assert got.count(b"HTTP/1.1") == 1
        assert b"Connection: close" in got
        assert "/next" not in asked
        assert server.counters["malformed"] == 1


async def test_chunks_of_the_old_protocol_are_refused(autojump_clock):
    async with serving() as (_, connect):
        data = b"POST / HTTP/1.0\r\nHost: h\r\n" + _CHUNKED + b"\r\n0\r\n\r\n"
        assert (await ask(connect, data)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n"])
async def test_slow_headers(autojump_clock, said):
    async with serving() as (server, connect):
        stream, began = connect(), trio.current_time()

        async def drip():
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(said)
                while said:
                    await trio.sleep(1)
                    await stream.send_all(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await everything(stream) == b""
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began == pytest.approx(Limits().header)
        assert server.counters["slow"] == 1


async def test_an_idle_client(autojump_clock):
    async with serving() as (_, connect):
        stream, began = connect(), trio.current_time()
        await stream.send_all(GET % b"/")
        await everything(stream)
        assert trio.current_time() - began == pytest.approx(Limits().idle)


async def test_places(autojump_clock):
    """One address has so many, loopback more; who waited for longest goes."""
    limits = Limits(connections=4, per_address=2)
    async with serving(limits=limits) as (server, connect):
        first = connect()
        await wait_all_tasks_blocked()
        connect()
        await wait_all_tasks_blocked()
        assert await everything(connect()) == b""
        assert server.counters["address_full"] == 1
        near = [connect("127.0.0.1") for _ in range(3)]
        await wait_all_tasks_blocked()
        assert server.counters["displaced"] == 1
        assert server.connections == 4
        assert await everything(first) == b""
        await near[-1].send_all(GET % b"/")
        assert b"200 OK" in await near[-1].receive_some()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:127.0.0.9", "127.0.0.0/8"),
        ("::1", "::1"),
    ],
)
def test_whose_limit_it_is(address, network):
    assert network_of(address) == network


async def test_a_websocket_and_who_has_proven_itself_keeps_its_place(autojump_clock):
    async def link(asked):
        asked.proven()

        def receive(datagrams):
            asked.socket.send_nowait(datagrams)
            return True

        await asked.socket.run(receive, lambda: None)

    routes = Routes()
    routes.add_websocket("/v1/link", link)
    async with serving(routes, Limits(connections=1)) as (server, connect):
        member = connect()
        # RFC 6455 section 1.3 has this key and its answer; a frame comes right behind.
        await member.send_all(LINK + bytes.fromhex("82810000000007"))
        got = b""
        while not got.endswith(b"\x82\x01\x07"):
            got += await member.receive_some()
        assert b"101" in got
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in got
        assert await everything(connect("198.51.100.1")) == b""
        assert server.counters["full"] == 1
        await member.send_all(b"\x82\x05garbage")
        assert (await everything(member)).startswith(b"\x88\x02")
        await wait_all_tasks_blocked()
        assert server.connections == 0


async def test_garbage_instead_of_tls_and_a_slow_handshake(autojump_clock):
    async with serving(context=Certificate().context()) as (server, connect):
        await ask(connect, GET % b"/")
        await wait_all_tasks_blocked()
        assert server.counters["broken"] == 1
        began = trio.current_time()
        await everything(connect())
        assert trio.current_time() - began == pytest.approx(Limits().tls)
        assert server.counters["slow"] == 1


async def knocking(connect, client, each):
    """Come again and again with garbage; each time that somebody looked at it, note when."""
    while True:
        with contextlib.suppress(trio.BrokenResourceError):
            if await ask(connect, b"garbage\r\n\r\n", client=client):
                each.append(trio.current_time())


async def test_turns_have_a_rate_and_go_to_newcomers_first(autojump_clock):
    """Whoever has had few comes before who has had many; who gets none in time is not kept."""
    limits, seen, honest = Limits(turns=20, connections=500), {}, []
    async with serving(limits=limits) as (server, connect):
        async with trio.open_nursery() as nursery:
            for number in range(100):
                client = f"192.0.2.{1 + number % 4}"
                seen.setdefault(client, [])
                nursery.start_soon(knocking, connect, client, seen[client])
            await trio.sleep(20)
            for number in range(5):
                began = trio.current_time()
                assert b"200 OK" in await ask(connect, GET % b"/", client=f"198.51.100.{number}")
                honest.append(trio.current_time() - began)
            nursery.cancel_scope.cancel()
        assert max(honest) < 2.0
        assert 0.7 * 20 * 20 < sum(map(len, seen.values())) < 20 * (20 + 12)
        counts = sorted(map(len, seen.values()))
        assert counts[0] > 0.5 * counts[-1]
        assert server.counters["turnless"] > 0


async def test_further_requests_of_a_connection_take_turns(autojump_clock):
    async with serving(limits=Limits(turns=10)) as (_, connect):
        began = trio.current_time()
        got = await ask(connect, GET % b"/" * 100)
        assert got.count(b"HTTP/1.1 200") <= 10 * (trio.current_time() - began + 1)


async def test_who_has_most_places_makes_room(autojump_clock):
    async with serving(limits=Limits(connections=8)) as (server, connect):
        early = connect("198.51.100.1")
        for _ in range(40):
            connect("192.0.2.1")
            await wait_all_tasks_blocked()
        assert server.connections == 8
        await early.send_all(GET % b"/")
        assert b"200 OK" in await early.receive_some()


async def test_a_header_of_many_lines_or_tiny_pieces(autojump_clock):
    async with serving() as (server, connect):
        lines = GET[:-2] % b"/" + b"a:b\r\n" * 1000 + b"\r\n"
        assert (await ask(connect, lines)).startswith(b"HTTP/1.1 431 ")
        assert server.counters["malformed"] == 1
        stream, sent = connect(), 0
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(GET[:-2] % b"/" + b"X: ")
            while True:
                await wait_all_tasks_blocked()
                await stream.send_all(b"x")
                sent += 1
                await trio.sleep(0.001)
        assert trio.current_time() < 2 * Limits().header
        assert server.counters["slow"] == 1


async def test_tls(autojump_clock):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with serving(context=Certificate().context()) as (_, connect):
        stream = trio.SSLStream(connect(), context, server_hostname="h", https_compatible=True)
        await stream.send_all(GET % b"/")
        assert b"200 OK" in await stream.receive_some()
