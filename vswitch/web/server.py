"""A small HTTP/1.1 server on h11: answers at once or bit by bit, and WebSockets.

    server = WebServer(routes, limits, prefix="/office")
    await server.serve(listeners, context)

With a prefix the routes answer below it alone. What a reverse proxy says of its clients
(X-Forwarded-For) is not believed.

Invariants: connections in all and of one address, header, body, time for a TLS handshake, for a
header, for a body, for taking an answer, and between requests are bounded (`Limits`), and so is the
dear work of a second, in turns that addresses share fairly. Where all places are taken, of the
address that keeps most of them waiting the one goes that does so for longest. A connection that
fails, whatever a handler or a client does, ends alone. No task and no socket outlives its
connection.

Error contract: `serve` raises `OSError` of its listeners; clients never make it raise. A handler
answers what is wrong by `HttpError`; any other exception is logged and answered with 500.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import random
import re
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import attrs
import h11
import trio

from transport.ratelimit import FairBucket
from vswitch.runtime import single_error
from vswitch.web.requests import (
    Handler,
    HttpError,
    Link,
    LinkRequest,
    Pour,
    Request,
    Response,
    Routes,
    Send,
    answer_head,
)
from vswitch.web.tls import TlsStream
from vswitch.web.websocket import WebSocket, accept, tune

_READ = 16 * 1024  # bytes of one read
_LINGER = 1.0  # seconds to hear the end of what a refused client says, so that it hears us
_LINGER_BYTES = 256 * 1024
_HEADER_LINES = 128  # h11 takes 5 µs for each
_HEAD_END = re.compile(rb"\n\r?\n")  # where h11 sees it
_FOLD = re.compile(rb"\n[ \t]")  # obs-fold, which others may read otherwise (RFC 9112 5.2)
_PIECE = 256  # bytes; a header in smaller ones is read slowly, since each costs a turn of Trio
_PIECE_PAUSE = 0.05  # seconds
_TURN_MEMORY = 2.5  # seconds until an address that has had turns is as good as another
_TURN_LOOK = 0.5  # seconds at most between two looks whether there is one
_KNOWN = 1024  # clients whose network is remembered
_LOOPBACK = frozenset(("127.0.0.0/8", "::1"))  # as `network_of` says it
_BODILESS = frozenset((204, 304))  # RFC 9110 section 6.4.1

_log = logging.getLogger(__name__)


@attrs.frozen
class Limits:
    """What clients may take. Seconds and bytes."""

    connections: int = 1024
    per_address: int = 64  # and per /64; loopback, where reverse proxies are, has no such limit
    tls: float = 10.0  # for a handshake
    turns: float = 100.0  # TLS handshakes and requests a second, and at once: some 0.1 s of CPU
    turn: float = 3.0  # for one to come
    header: float = 10.0  # for a header to be whole
    header_size: int = 16 * 1024
    body: float = 30.0  # for a body to be whole
    body_size: int = 1024 * 1024
    answer: float = 30.0  # for a piece of an answer to be taken
    idle: float = 30.0  # between two requests


class WebServer:
    """The connections of one or more listeners."""

    def __init__(self, routes: Routes, limits: Limits | None = None, *, prefix: str = "") -> None:
        self.counters: Counter[str] = Counter()  # why connections were ended or refused
        self._routes = routes
        self._limits = limits or Limits()
        self.prefix = prefix.rstrip("/")
        self._open: Counter[str] = Counter()  # by network
        self._turns = FairBucket(self._limits.turns, self._limits.turns, _TURN_MEMORY, now=0.0)
        # By network, in the order in which they came.
        self._waiting: dict[str, dict[trio.CancelScope, None]] = {}

    @property
    def connections(self) -> int:
        return self._open.total()

    async def serve(
        self,
        listeners: list[trio.SocketListener],
        context: Callable[[], ssl.SSLContext] | None,
        *,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer until cancelled. `context` is asked for each connection; None is without TLS."""

        async def handle(stream: trio.SocketStream) -> None:
            try:
                peer = str(stream.socket.getpeername()[0])
            except OSError:
                await trio.aclose_forcefully(stream)
                return
            await self.serve_connection(stream, peer, context and context())

        await trio.serve_listeners(handle, listeners, task_status=task_status)

    async def serve_connection(
        self, stream: trio.abc.Stream, client: str, context: ssl.SSLContext | None
    ) -> None:
        """Answer what comes on one connection, and close it. Raises nothing but `Cancelled`."""
        network = network_of(client)
        over = self._open[network] >= self._limits.per_address and network not in _LOOPBACK
        if over or not self._make_room():
            self.counters["address_full" if over else "full"] += 1
            await trio.aclose_forcefully(stream)
            return
        self._open[network] += 1
        try:
            with trio.CancelScope() as scope:
                self.wait(network, scope)
                try:
                    await self._serve(stream, client, context, scope)
                finally:
                    self.keep(network, scope)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self.counters["broken"] += 1
        except Exception:
            # A mistake of ours. It costs this connection, and nobody else anything.
            self.counters["failed"] += 1
            _log.exception("web-failed client=%s", client)
        finally:
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]

    def _make_room(self) -> bool:
        if self.connections >= self._limits.connections:
            if not self._waiting:
                return False
            network = max(self._waiting, key=lambda each: len(self._waiting[each]))
            longest = next(iter(self._waiting[network]))
            self.keep(network, longest)
            longest.cancel()
            self.counters["displaced"] += 1
        return True

    async def _serve(
        self,
        stream: trio.abc.Stream,
        client: str,
        context: ssl.SSLContext | None,
        scope: trio.CancelScope,
    ) -> None:
        try:
            if not await self.turn(client):
                return
            tune(stream)
            if context is not None:
                stream = secured = TlsStream(stream, context, server_side=True)
                with trio.move_on_after(self._limits.tls) as patience:
                    await secured.do_handshake()
                if patience.cancelled_caught:
                    self.counters["slow"] += 1
                    return
            secure = context is not None
            await _Connection(self, self._routes, self._limits, stream, client, secure, scope).run()
        finally:
            await trio.aclose_forcefully(stream)

    async def turn(self, client: str) -> bool:
        """Wait for it; whether it comes in time. Else strangers would take the members' CPU, and
        one who wants many all the turns.
        """
        network = network_of(client)
        if network in _LOOPBACK:  # whom a reverse proxy has there is not known
            network = f"{network} {random.random()}"
        key = network.encode()
        if self._turns.allow(trio.current_time(), key):
            return True
        with trio.move_on_after(self._limits.turn):
            while not self._turns.allow(trio.current_time(), key):  # noqa: ASYNC110
                await trio.sleep(random.uniform(0, _TURN_LOOK))
            return True
        self.counters["turnless"] += 1
        return False

    def strip(self, path: str) -> str:
        """The path below the prefix; "", which is nowhere, for any other."""
        below = path.removeprefix(self.prefix)
        return below if path.startswith(f"{self.prefix}/") else ""

    def wait(self, network: str, scope: trio.CancelScope) -> None:
        """From now on this connection keeps us waiting."""
        self._waiting.setdefault(network, {})[scope] = None

    def keep(self, network: str, scope: trio.CancelScope) -> None:
        """It is at work, or has proven who it is, and gives way to nobody. Idempotent."""
        waiting = self._waiting.get(network, {})
        waiting.pop(scope, None)
        if not waiting:
            self._waiting.pop(network, None)


@lru_cache(_KNOWN)
def network_of(client: str) -> str:
    """Whose limit it is: an IPv4 address, a /64; one word for loopback."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "127.0.0.0/8" if address.version == 4 else "::1"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))


class _Connection:
    """One connection, request after request."""

    def __init__(
        self,
        server: WebServer,
        routes: Routes,
        limits: Limits,
        stream: trio.abc.Stream,
        client: str,
        secure: bool,
        scope: trio.CancelScope,
    ) -> None:
        self._server = server
        self._routes = routes
        self._limits = limits
        self._stream = stream
        self._client = client
        self._secure = secure
        self._scope = scope
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_size)
        self._is_proven = False
        self._first = True  # request, whose turn was that of the connection

    async def run(self) -> None:
        wait = self._limits.header
        try:
            while await self._one(wait):
                if self._http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    break  # the last one, by either side's wish
                self._http.start_next_cycle()
                wait = self._limits.idle
                self._first = False
        except h11.RemoteProtocolError as error:
            self._server.counters["malformed"] += 1
            await self._refuse(error.error_status_hint)
        except trio.TooSlowError:
            self._server.counters["slow"] += 1

    async def _one(self, wait: float) -> bool:
        """A request and its answer; whether there was one."""
        with trio.fail_after(wait):
            found = await self._next()
        if not isinstance(found, h11.Request):
            return False
        if not self._first and not await self._server.turn(self._client):
            return False
        request = self._request(found)
        link = self._routes.link(request)
        if link is not None:
            answer = accept(found.target, found.headers.raw_items())
            if answer is not None:
                await self._upgrade(request, link, answer)
                return False
        await self._answer(request, self._routes.handler(request))
        return True

    async def _next(self) -> Any:
        """The next event of h11. Bounded: it refuses a header that does not end."""
        piecemeal = False
        while (found := self._event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(
                    h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                )
            if piecemeal:
                await trio.sleep(_PIECE_PAUSE)
            data = await self._stream.receive_some(_READ)
            piecemeal = 0 < len(data) < _PIECE
            self._http.receive_data(bytes(data))
        return found

    def _event(self) -> Any:
        if self._http.their_state is h11.IDLE:
            head = _HEAD_END.split(self._http.trailing_data[0], 1)[0]
            if head.count(b"\n") > _HEADER_LINES:
                raise h11.RemoteProtocolError("too many lines", error_status_hint=431)
            if _FOLD.search(head):
                raise h11.RemoteProtocolError("a header of several lines", error_status_hint=400)
        return self._http.next_event()

    def _request(self, found: h11.Request) -> Request:
        names = [name for name, _ in found.headers]
        if b"transfer-encoding" in names and (
            b"content-length" in names or found.http_version < b"1.1"
        ):  # whoever is before us may see the end of the body elsewhere (RFC 9112 section 6.1)
            raise h11.RemoteProtocolError("whose length is not told", error_status_hint=400)
        try:
            parts = urlsplit(found.target.decode("ascii"))
        except ValueError:
            raise h11.RemoteProtocolError("no target") from None
        return Request(
            method=found.method.decode("ascii"),
            path=self._server.strip(parts.path),
            query=parts.query,
            headers={
                name.decode("ascii"): value.decode("latin-1") for name, value in found.headers
            },
            client=self._client,
            body=self._body,
            secure=self._secure,
            prefix=self._server.prefix,
            proven=self._proven,
        )

    def _proven(self) -> None:
        self._is_proven = True
        self._server.keep(network_of(self._client), self._scope)

    async def _body(self, limit: int) -> bytes:
        limit = limit or self._limits.body_size
        whole = bytearray()
        with trio.fail_after(self._limits.body):
            while not isinstance(found := await self._next(), h11.EndOfMessage):
                if not isinstance(found, h11.Data):
                    break
                whole += found.data
                if len(whole) > limit:
                    raise HttpError(413, f"the body has more than {limit} bytes")
        return bytes(whole)

    async def _answer(self, request: Request, handler: Handler) -> None:
        self._server.keep(network_of(self._client), self._scope)
        try:
            response = await handler(request)
        except HttpError as error:
            response = Response(
                error.status, f"{error}\n".encode(), [("Content-Type", "text/plain")]
            )
        except (h11.RemoteProtocolError, trio.TooSlowError, trio.BrokenResourceError):
            raise
        except Exception:
            # A mistake of ours: it costs this answer.
            self._server.counters["failed"] += 1
            _log.exception("web-handler-failed")
            response = Response(500, b"Something went wrong.\n", [("Content-Type", "text/plain")])
        finally:
            if not self._is_proven:
                self._server.wait(network_of(self._client), self._scope)
        body = response.body
        if isinstance(body, bytes):
            await self._answer_whole(request, response, body)
        elif isinstance(body, Pour):
            try:
                await self._answer_in_pieces(request, response, body.run)
            finally:
                body.done()
        else:
            async with contextlib.aclosing(body) as pieces:

                async def pour(send: Send, ended: trio.Event) -> None:
                    async for piece in pieces:
                        await send(piece)

                await self._answer_in_pieces(request, response, pour, patience=0.0)

    async def _answer_whole(self, request: Request, response: Response, body: bytes) -> None:
        headers = [*response.headers]
        if response.status not in _BODILESS:
            headers.append(("Content-Length", str(len(body))))
        # What was not read of a body would be the next request.
        unread = self._http.their_state is h11.SEND_BODY and not await self._drained()
        if unread:
            headers.append(("Connection", "close"))
        sent = (h11.Data(data=body),) if body and request.method != "HEAD" else ()
        await self._send(answer_head(response.status, headers), *sent, h11.EndOfMessage())
        if unread:
            await self._linger()

    async def _drained(self) -> bool:
        """Whether all of a body is here already, which costs nothing to read."""
        while True:
            found = self._http.next_event()
            if isinstance(found, h11.EndOfMessage):
                return True
            if not isinstance(found, h11.Data):
                return False

    async def _answer_in_pieces(
        self,
        request: Request,
        response: Response,
        pour: Callable[[Send, trio.Event], Awaitable[None]],
        patience: float | None = None,
    ) -> None:
        """The connection ends with it, or before: `patience` seconds after its client closes."""
        patience = self._limits.answer if patience is None else patience
        headers = [*response.headers, ("Connection", "close")]
        await self._send(answer_head(response.status, headers))
        ended = trio.Event()

        async def send(piece: bytes) -> None:
            await self._send(h11.Data(data=piece))

        async def watch(scope: trio.CancelScope) -> None:
            """What a client says meanwhile is not heard, but that it has gone."""
            with contextlib.suppress(trio.BrokenResourceError):
                while await self._stream.receive_some(_READ):
                    pass
            ended.set()
            await trio.sleep(patience)
            scope.cancel()

        if request.method != "HEAD":
            with single_error():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch, nursery.cancel_scope)
                    await pour(send, ended)
                    nursery.cancel_scope.cancel()
        if self._http.our_state is h11.SEND_BODY:
            with contextlib.suppress(trio.BrokenResourceError):
                await self._send(h11.EndOfMessage())

    async def _upgrade(self, request: Request, link: Link, answer: bytes) -> None:
        with trio.fail_after(self._limits.answer):
            await self._stream.send_all(answer)
        socket = WebSocket(
            self._stream,
            client=False,
            description=f"https:{self._client}",
            received=bytes(self._http.trailing_data[0]),
        )
        await link(LinkRequest(request, socket, self._proven))

    async def _refuse(self, status: int) -> None:
        """Say so if there is still a way to."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"{HTTPStatus(status).phrase}\n".encode()
        headers = [
            ("Content-Type", "text/plain"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        with contextlib.suppress(trio.TooSlowError, trio.BrokenResourceError):
            await self._send(answer_head(status, headers), h11.Data(data=body), h11.EndOfMessage())
            await self._linger()

    async def _linger(self) -> None:
        """Who closes on what was not read takes back what was sent."""
        left = _LINGER_BYTES
        with trio.move_on_after(_LINGER), contextlib.suppress(trio.BrokenResourceError):
            while left > 0 and (data := await self._stream.receive_some(_READ)):
                left -= len(data)

    async def _send(self, *events: h11.Event) -> None:
        """All of them at once, since each time costs a turn of Trio."""
        data = b"".join(self._http.send(each) or b"" for each in events)
        if data:
            with trio.fail_after(self._limits.answer):
                await self._stream.send_all(data)
