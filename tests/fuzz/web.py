"""The HTTPS side: what clients send, in plain text, and what answers to a member look like.

Invariants: the reader of frames raises BadRecord and nothing else, holds no more than one message
and one read, and says the same however its input is cut. A server ends the connection, raises
nothing, logs no fault of ours, and answers what is not there with one page.
"""

import contextlib
from collections.abc import Iterator

import trio
from trio.testing import MockClock, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from tests.fuzz.reader import Reader
from tests.fuzz.untrusted import find
from vswitch.errors import BadRecord
from vswitch.web import frames
from vswitch.web.requests import LinkRequest, Response, Routes
from vswitch.web.requests import Request as HttpRequest
from vswitch.web.server import WebServer

AT_MOST = 200_000  # bytes of one run
HEAD = b" HTTP/1.1\r\nHost: h\r\n"
UPGRADE = (
    b"GET /v1/link" + HEAD + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
PIECES = (
    b"GET /" + HEAD + b"\r\n",
    b"HEAD /x" + HEAD + b"\r\n",
    b"POST /echo" + HEAD + b"Content-Length: 3\r\n\r\nabc",
    b"POST /echo" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /echo" + HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"GET /events" + HEAD + b"\r\n",
    UPGRADE,
    b"\r\n",
    b"Connection: close\r\n",
)


def _messages(data: bytes, masked: bool, step: int) -> list[frames.Message] | None:
    stream, got = frames.FrameReader(masked=masked), []
    try:
        for at in range(0, len(data), step):
            got += stream.feed_untrusted(data[at : at + step])
            assert stream.held <= 2 * frames.MESSAGE_LIMIT + 14
    except BadRecord:
        return None
    return got


def run_frames(data: bytes) -> None:
    reader = Reader(data)
    masked, step = reader.chance(0.5), 1 + reader.below(200)
    whole = b""
    while reader and len(whole) < AT_MOST:
        kind = reader.choice((frames.BINARY, frames.PING, frames.PONG, frames.CLOSE))
        match reader.below(4):
            case 0:
                body = reader.blob(125 if kind >= frames.CLOSE else frames.MESSAGE_LIMIT)
                key = reader.take(4).ljust(4, b"\0") if masked else None
                whole += b"".join(frames.encode(kind, body, key))
            case 1:  # a header, and what it promises or less
                whole += bytes((reader.number(), reader.number())) + reader.blob(9000)
            case 2:  # a fragment
                whole += bytes((reader.below(3), 0x80 * masked + 1)) + bytes(1 + 4 * masked)
            case _:
                whole += reader.blob(9000)
    assert _messages(whole, masked, step) == _messages(whole, masked, len(whole) or 1)


def run_answers(data: bytes) -> None:
    """Of a proxy, and of a server to a handshake."""
    connect = find("vswitch.web", "connect_status_untrusted")(data)
    assert connect is None or 100 <= connect < 1000
    handshake = WSConnection(ConnectionType.CLIENT)
    handshake.send(Request(host="h", target="/"))
    status = find("vswitch.web", "upgrade_status_untrusted")(handshake, data)
    assert status != 101  # the key is random: nobody can have answered it


async def _echo(request: HttpRequest) -> Response:
    return Response(200, await request.body(100))


async def _events(request: HttpRequest) -> Response:
    async def pieces():
        for _ in range(3):
            yield b"data: 1\n\n"
            await trio.sleep(1)

    return Response(200, pieces())


async def _link(link: LinkRequest) -> None:
    def receive(datagrams: list[bytes]) -> bool:
        link.socket.send_nowait(datagrams)
        return True

    await link.socket.run(receive, lambda: None, idle=60)


def run_server(data: bytes) -> None:
    reader = Reader(data)
    said: list[bytes] = []
    while reader and sum(map(len, said)) < AT_MOST:
        piece = reader.choice(PIECES) if reader.chance(0.5) else reader.blob(9000)
        if reader.chance(0.3) and piece:
            at = reader.number(2) % len(piece)
            piece = piece[:at] + reader.take(2) + piece[at + reader.below(3) :]
        said.append(piece)
    trio.run(_serve, said, reader.chance(0.5), clock=MockClock(autojump_threshold=0))


async def _serve(said: list[bytes], half_close: bool) -> None:
    routes = Routes()
    routes.add("POST", "/echo", _echo)
    routes.add("GET", "/events", _events)
    routes.add_websocket("/v1/link", _link)
    server = WebServer(routes)
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_connection, theirs, "192.0.2.1", None)
        with contextlib.suppress(trio.BrokenResourceError):
            for piece in said:
                await ours.send_all(piece)
            if half_close:
                await ours.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            async for _ in ours:
                pass
    assert server.connections == 0
    assert server.counters["failed"] == 0


def frame_seeds() -> Iterator[tuple[str, bytes]]:
    yield "plain", bytes((0, 9, 0, 0, 3)) + b"abc" + bytes((1, 0, 2)) + b"hi" + bytes((3, 0, 0))
    yield "masked", bytes((255, 3, 0, 0, 3)) + b"abc" + b"key!" + bytes((1, 0, 2)) + b"hikeys"
    yield "fragments", bytes((0, 50, 0, 2, 2, 0, 2, 0, 0, 2, 1))
    yield "long", bytes((0, 199, 0, 0, 0xE0, 0xFF, 0xFF, 0, 0, 0xE0, 0, 0x20))


def answer_seeds() -> Iterator[tuple[str, bytes]]:
    yield "accepted", ANSWER
    yield "connected", b"HTTP/1.1 200 OK\r\n\r\n"
    yield "refused", b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"
    yield "none", b"SSH-2.0-x\r\n\r\n"


def server_seeds() -> Iterator[tuple[str, bytes]]:
    for number in range(len(PIECES)):
        yield f"piece-{number}", bytes((255, number, 0, 255, 0, 0, 0))
    frame = b"".join(frames.encode(frames.BINARY, b"abc", b"key!"))
    yield "upgraded", bytes((255, 6, 0, 0, len(frame))) + frame + b"\0"
    yield "changed", bytes((255, 2, 255, 50, 0)) + b"xy" + b"\1" + bytes((255, 0, 0))
