"""A WebSocket over a stream in memory: what waits, what is answered, and how it ends."""

import contextlib
from socket import SO_SNDBUF, SOL_SOCKET

import pytest
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tests.vswitch.web.test_tls import over_sockets
from vswitch.web.frames import BINARY, CLOSE, PING, PONG, FrameReader, encode, encode_all
from vswitch.web.links import PROOF, Links
from vswitch.web.requests import LinkRequest, Request
from vswitch.web.websocket import WAITING_LIMIT, WebSocket

KEY = b"key!"
MARK = 1000
CLOSED = (CLOSE, b"\x03\xe8")


@contextlib.asynccontextmanager
async def running(pair=memory_stream_pair, known=bool, **options):
    """A server's end that runs, the raw stream of its client, what came, and why it ended."""
    ours, theirs = pair()
    socket = WebSocket(theirs, client=False, description="https:test", mark=MARK)
    came, calls, why = [], [], []

    def receive(datagrams):
        came.extend(datagrams)
        return known(datagrams)

    async def run():
        why.append(await socket.run(receive, lambda: calls.append(socket.backlog), **options))
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield socket, ours, came, calls, why
        nursery.cancel_scope.cancel()


async def messages(stream):
    """Until the connection ends."""
    reader, got = FrameReader(masked=False), []
    with contextlib.suppress(trio.BrokenResourceError):
        async for data in stream:
            got += reader.feed_untrusted(data)
    return got


def sent(kind, data=b""):
    return b"".join(encode(kind, data, KEY))


async def test_datagrams_pings_and_the_close(autojump_clock):
    async with running() as (socket, ours, came, _, why):
        await ours.send_all(
            encode_all([b"a", b""], client=True) + sent(PING, b"1") + sent(PING, b"2")
        )
        await wait_all_tasks_blocked()
        socket.send_nowait([b"b", bytearray(b"c")])
        await wait_all_tasks_blocked()
        socket.send_nowait([b""])
        await wait_all_tasks_blocked()
        await ours.send_all(sent(PONG) + sent(BINARY, b"d") + sent(CLOSE))
        said = [(PONG, b"2"), (BINARY, b"b"), (BINARY, b"c"), (BINARY, b""), CLOSED]
        assert await messages(ours) == said
        assert came == [b"a", b"", b"d"]
        assert why == ["the other side has closed it"]


async def test_what_the_other_side_does_not_read_is_backlog(autojump_clock):
    """A lockstep stream has no buffer, as a kernel that is full."""
    async with running(lockstep_stream_pair) as (socket, ours, _, calls, _):
        socket.send_nowait([bytes(MARK // 2)])
        await wait_all_tasks_blocked()
        assert socket.backlog == MARK // 2
        socket.send_nowait([bytes(MARK)] * 100)
        await wait_all_tasks_blocked()
        assert socket.backlog == MARK // 2 + 100 * MARK
        assert calls == []
        reader, got = FrameReader(masked=False), []
        while len(got) < 101:
            got += reader.feed_untrusted(await ours.receive_some(10_000))
        await wait_all_tasks_blocked()
        assert calls == [0]
        assert socket.backlog == 0


async def test_what_the_kernel_takes_leaves_at_once():
    """Without a turn of the loop; the rest is backlog, and leaves in order."""
    client, server = await over_sockets()
    server.transport.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
    socket = WebSocket(server, client=False, description="https:test", mark=MARK)
    calls, reader, got, count = [], FrameReader(masked=False), [], 0
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(socket.run, lambda _: None, lambda: calls.append(socket.backlog))
        await wait_all_tasks_blocked()
        while not socket.backlog:
            socket.send_nowait([b"%d" % count])
            count += 1
        for _ in range(100):
            socket.send_nowait([b"%d" % count, bytes(MARK)])
            count += 1
        assert count > 101
        assert socket.backlog > 100 * MARK
        while len(got) < count:
            messages = reader.feed_untrusted(await client.receive_some())
            got += [body for kind, body in messages if body != bytes(MARK)]
        assert got == [b"%d" % each for each in range(count)]
        while not calls:  # noqa: ASYNC110  what a kernel does sets no event
            await trio.sleep(0.01)
        assert calls == [0]
        socket.send_nowait([b"again"])
        assert reader.feed_untrusted(await client.receive_some()) == [(BINARY, b"again")]
        nursery.cancel_scope.cancel()


async def test_who_never_reads_is_given_up(autojump_clock):
    async with running(lockstep_stream_pair) as (socket, _, _, _, why):
        socket.send_nowait([bytes(1000)] * (WAITING_LIMIT // 1000 + 1))
        await wait_all_tasks_blocked()
        assert why == ["the other side does not read"]
        socket.send_nowait([b"dropped"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x01a", "masked where it must not be, or not where it must"),
        (b"\x82\xff" + b"\xff" * 8, "a message that is too long"),
        (b"GET / HTTP/1.1\r\n", "no kind of frame that is spoken here"),
    ],
)
async def test_garbage_ends_it(autojump_clock, data, reason):
    async with running() as (_, ours, came, _, why):
        await ours.send_all(data)
        assert await messages(ours) == [CLOSED]
        assert came == []
        assert why == [reason]


async def test_silence_and_the_end_of_the_connection(autojump_clock):
    async with running(idle=60) as (_, ours, _, _, why):
        began = trio.current_time()
        await messages(ours)
        assert trio.current_time() - began == pytest.approx(60)
        assert why == ["nothing came any more"]
    async with running() as (socket, ours, _, _, why):
        await ours.aclose()
        socket.send_nowait([b"a"])
        await wait_all_tasks_blocked()
        assert why[0].startswith("the connection ")


async def test_what_is_of_nobody_known_is_read_slowly(autojump_clock):
    """And the next word of somebody known at once, though the rest is not."""
    junk = encode_all([b"junk"] * 100, client=True)
    read = []

    async def count(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(junk)
                read.append(len(junk))

    for known in (lambda datagrams: False, lambda datagrams: b"known" in datagrams):
        async with running(lockstep_stream_pair, known) as (_, ours, _, _, _):
            read.clear()
            with trio.move_on_after(20):
                await ours.send_all(encode_all([b"known"], client=True))
                await count(ours)
            assert 8_000 < sum(read) < 8_000 + 22 * 1024
    async with running(lockstep_stream_pair, bool) as (_, ours, _, _, _):
        read.clear()
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count, ours)
                while sum(read) < 10**6:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert sum(read) >= 10**6


class NoEndpoint:
    """Answers all, and has a session of whoever it is told to know."""

    def __init__(self):
        self.answers = False

    def add_pipe(self, pipe):
        self.pipe = pipe
        return ("pipe", 0)

    def pipe_received(self, address, datagrams):
        self.pipe.send_nowait(datagrams)  # be it a cookie
        return self.answers

    def pipe_writable(self, address):
        pass

    def close_pipe(self, address):
        self.pipe = None


@pytest.mark.parametrize("known", [False, True])
async def test_a_stranger_has_so_long(autojump_clock, known):
    """Whatever it sends, and is answered; who has a session there stays."""
    endpoint, proven = NoEndpoint(), []
    endpoint.answers = known
    links = Links(endpoint)
    ours, theirs = memory_stream_pair()
    socket = WebSocket(theirs, client=False, description="https:test")
    request = Request("GET", "/", "", {}, "192.0.2.1", None)

    async def serve():
        await links.serve(LinkRequest(request, socket, lambda: proven.append(True)))
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        began = trio.current_time()
        for _ in range(5):
            await ours.send_all(sent(BINARY, bytes(100)))
            await trio.sleep(1)
        got = await messages(ours)
        took = trio.current_time() - began
        assert len(got) == 6
        if known:
            assert took > 2 * PROOF  # for as long as a link may be silent
            assert links.counters["unproven"] == 0
            assert proven == [True]
        else:
            assert took == pytest.approx(PROOF)
            assert links.counters["unproven"] == 1
            assert proven == []
        assert endpoint.pipe is None
