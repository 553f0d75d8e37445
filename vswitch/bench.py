"""How good a link is, as its user sees it: round trips and throughput of TCP between two members.

One side serves, the other measures: nothing but TCP sockets, so it needs no privilege and says
what any program would get, TAP and kernel included. What a client wants is the first byte that
it sends: `ECHO` returns what comes, `TAKE` counts to the end and answers with the number of bytes
(u64 BE), `GIVE` sends until the client has gone.

Invariants: a server is bound to one interface, serves `CLIENTS` at once and none for longer than
`LONGEST`; nothing of what a client sends is kept.

Error contract: `NotFound` if there is no such interface, `NotReachable` if nobody answers,
`TimedOut` if the link falls silent; a bad client is dropped, and the server goes on.
"""

from __future__ import annotations

import errno
import os
import socket
import statistics
import struct
from collections.abc import Awaitable, Callable, Sequence

import trio
from attrs import frozen

from vswitch.errors import NotFound, NotReachable, TimedOut, VswitchError

DEFAULT_PORT = 7451  # TCP; the switch has 7450 of UDP
ECHO, TAKE, GIVE = b"e", b"t", b"g"
PROBE = bytes(64)  # bytes of a round trip: as a small packet of a game
INTERVAL = 0.01  # s between round trips: cold enough, and 100 in a second
IDLE_SECONDS = 1.0
CHUNK = 262144  # bytes a call: few calls, and less than a socket buffer
CLIENTS = 8  # connections: two measurements at once, and some to spare
LONGEST = 60.0  # s that one phase may last
CONNECT_TIMEOUT = 10.0  # s
SILENCE = 15.0  # s beyond the phase after which the link counts as dead


@frozen
class RoundTrips:
    """Round trips of 64 bytes, in milliseconds."""

    minimum: float
    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> RoundTrips:
        """Sum up at least one round trip."""
        times = sorted(1000 * each for each in seconds)
        high = times[min(len(times) - 1, len(times) * 99 // 100)]
        return cls(round(times[0], 3), round(statistics.median(times), 3), round(high, 3))


@frozen
class Figures:
    """What a link does. Rates in Mbit/s of payload, to the other side and from it."""

    idle: RoundTrips
    up_mbit: float
    up: RoundTrips  # beside the stream to the other side
    down_mbit: float
    down: RoundTrips


def open_listener(dev: str, port: int = DEFAULT_PORT) -> socket.socket:
    """A socket that takes connections from one interface alone, IPv4 and IPv6."""
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode() + b"\0")
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", port))
        listener.listen(CLIENTS)
    except OSError as error:
        listener.close()
        if error.errno == errno.ENODEV:
            raise NotFound(f"there is no interface {dev}: join first, or give --dev") from error
        reason = os.strerror(error.errno or 0)
        raise VswitchError(f"cannot listen on {dev}, TCP port {port}: {reason}") from error
    return listener


async def serve(listener: socket.socket) -> None:
    """Answer those who measure, until cancelled; the listener is closed then."""
    free = trio.CapacityLimiter(CLIENTS)

    async def client(stream: trio.SocketStream) -> None:
        try:
            free.acquire_nowait()
        except trio.WouldBlock:
            await trio.aclose_forcefully(stream)
            return
        try:
            async with stream:
                with trio.move_on_after(LONGEST + SILENCE):
                    await _answer_untrusted(stream)
        except trio.BrokenResourceError:
            pass  # it has gone, as clients do
        finally:
            free.release()

    wrapped = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(client, [wrapped])


async def _answer_untrusted(stream: trio.SocketStream) -> None:
    wish = await stream.receive_some(1)
    if wish == ECHO:
        while data := await stream.receive_some(CHUNK):
            await stream.send_all(data)
    elif wish == TAKE:
        total = 0
        while data := await stream.receive_some(CHUNK):
            total += len(data)
        await stream.send_all(struct.pack("!Q", total))
    elif wish == GIVE:
        data = os.urandom(CHUNK)  # what does not shrink where something compresses
        while True:
            await stream.send_all(data)


async def measure(host: str, port: int = DEFAULT_PORT, *, seconds: float = 3.0) -> Figures:
    """Measure the link to a member that serves: round trips, then a stream each way."""
    broken = silent = False
    async with await _connect(host, port, ECHO) as probe:
        try:
            with trio.fail_after(IDLE_SECONDS + 2 * (seconds + SILENCE)):
                idle = await _round_trips(probe, IDLE_SECONDS)
                async with await _connect(host, port, TAKE) as stream:
                    up_mbit, up = await _beside(probe, stream, _send, seconds)
                async with await _connect(host, port, GIVE) as stream:
                    down_mbit, down = await _beside(probe, stream, _receive, seconds)
        except* trio.TooSlowError:
            silent = True
        except* trio.BrokenResourceError:
            broken = True
    if silent:
        raise TimedOut(f"the link to {host} fell silent")
    if broken:
        raise NotReachable(f"{host} ended the connection")
    return Figures(idle=idle, up_mbit=up_mbit, up=up, down_mbit=down_mbit, down=down)


async def _connect(host: str, port: int, wish: bytes) -> trio.SocketStream:
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            await trio.socket.getaddrinfo(host, port)
    except (OSError, trio.TooSlowError) as error:
        why = getattr(error, "strerror", None) or "no name server answers"
        raise NotFound(
            f"{host} is not known here: {why}; give its address, which `vswitch members` shows"
        ) from error
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            stream = await trio.open_tcp_stream(host, port)
            await stream.send_all(wish)
    except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
        raise NotReachable(
            f"nobody answers at {host}, TCP port {port}: run `vswitch bench --serve` there"
        ) from error
    return stream


async def _beside(
    probe: trio.SocketStream,
    stream: trio.SocketStream,
    flow: Callable[[trio.SocketStream, float], Awaitable[float]],
    seconds: float,
) -> tuple[float, RoundTrips]:
    """Run a flow, and round trips at the same time."""
    found: list[RoundTrips] = []

    async def look() -> None:
        found.append(await _round_trips(probe, seconds))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        mbit = await flow(stream, seconds)
    return round(mbit, 1), found[0]


async def _round_trips(probe: trio.SocketStream, seconds: float) -> RoundTrips:
    times: list[float] = []
    end = trio.current_time() + seconds
    while not times or trio.current_time() < end:
        began = trio.current_time()
        await probe.send_all(PROBE)
        missing = len(PROBE)
        while missing:
            missing -= len(await _some(probe, missing))
        times.append(trio.current_time() - began)
        await trio.sleep(INTERVAL)
    return RoundTrips.of(times)


async def _send(stream: trio.SocketStream, seconds: float) -> float:
    """Mbit/s until the other side had all of it."""
    data = os.urandom(CHUNK)
    began = trio.current_time()
    while trio.current_time() < began + seconds:
        await stream.send_all(data)
    await stream.send_eof()
    answer = b""
    while len(answer) < 8:
        answer += await _some(stream, 8 - len(answer))
    total: int = struct.unpack("!Q", answer)[0]
    return total * 8 / 1e6 / (trio.current_time() - began)


async def _receive(stream: trio.SocketStream, seconds: float) -> float:
    """Mbit/s of what arrived in that time."""
    total = 0
    began = trio.current_time()
    while trio.current_time() < began + seconds:
        total += len(await _some(stream, CHUNK))
    return total * 8 / 1e6 / (trio.current_time() - began)


async def _some(stream: trio.SocketStream, limit: int) -> bytes:
    """At least one byte; the end of the stream is an error here."""
    data = await stream.receive_some(limit)
    if not data:
        raise trio.BrokenResourceError("the other side ended the connection")
    return bytes(data)
