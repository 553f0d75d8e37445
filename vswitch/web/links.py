"""Links: WebSockets as pipes of the switch's endpoint.

    await serve_https(endpoint, keys, host, port, certificate)

Where they are follows from the switch's public key, so that nobody finds them who does not have it;
while it has two, they are at both places.
Who may come is decided by the handshake inside, as with UDP: all WebSockets are accepted alike, and
one that no session uses within `PROOF` seconds is closed.

Error contract: nothing is raised for what a client does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2s
from typing import Any, Final

import trio

from transport import Endpoint
from transport.constants import PIPE_BACKLOG
from vswitch.logs import event
from vswitch.runtime import single_error
from vswitch.web.certificates import Certificate
from vswitch.web.client import Proxy, open_websocket
from vswitch.web.requests import Link, LinkRequest, Routes
from vswitch.web.server import Limits, WebServer
from vswitch.web.websocket import WebSocket, keep_small

PROOF: Final = 10.0  # seconds
_IDLE = 60.0  # seconds without a byte; sessions say something every 15

_log = logging.getLogger(__name__)


def link_path(key: bytes) -> str:
    """The path of the links to a switch with this public key (raw)."""
    return f"/{blake2s(b'vswitch link v1', key=key, digest_size=16).hexdigest()}"


def _find(keys: Callable[[], Iterable[bytes]], link: Link, path: str) -> Link | None:
    return link if path in map(link_path, keys()) else None


class Links:
    """The server's side."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.counters: Counter[str] = Counter()
        self._endpoint = endpoint

    async def serve(self, link: LinkRequest) -> None:
        """One WebSocket, until it ends."""
        socket = link.socket
        proven = trio.Event()

        def used() -> None:
            if not proven.is_set():
                link.proven()
                proven.set()

        async with trio.open_nursery() as nursery:

            async def wait_for_proof() -> None:
                with trio.move_on_after(PROOF):
                    await proven.wait()
                if not proven.is_set():
                    self.counters["unproven"] += 1
                    socket.abort()

            nursery.start_soon(wait_for_proof)
            why = await run_link(self._endpoint, socket, used)
            nursery.cancel_scope.cancel()
        if proven.is_set():
            event(_log, "link-closed", logging.DEBUG, link=socket.description, reason=why)


async def run_link(
    endpoint: Endpoint,
    socket: WebSocket,
    used: Callable[[], None] = lambda: None,
    *,
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> str:
    """Carry datagrams between an endpoint and a WebSocket until either ends; why.

    Started with the address that the endpoint has for it. `used` is called when something has come
    of a session that is there.
    """
    address = endpoint.add_pipe(socket)

    def receive(datagrams: list[bytes | bytearray]) -> bool:
        known = endpoint.pipe_received(address, datagrams)
        if known:
            used()
        return known

    try:
        task_status.started(address)
        return await socket.run(
            receive,
            lambda: endpoint.pipe_writable(address),
            idle=_IDLE,
        )
    finally:
        endpoint.close_pipe(address)


async def serve_https(
    endpoint: Endpoint,
    keys: Callable[[], Iterable[bytes]],
    host: str | None,
    port: int,
    certificate: Certificate,
    *,
    prefix: str = "",
    routes: Routes | None = None,
    limits: Limits | None = None,
    task_status: trio.TaskStatus[WebServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen for members that come by HTTPS, until cancelled.

    Args:
        endpoint: of the switch.
        keys: its public keys as they are then, raw.
        host: the address to listen at, None for all.
        port: 0 for any.
        certificate: what clients are shown.
        prefix: in front of all paths, as a reverse proxy has it.
        routes: what else is answered; links are added to them.
        limits: of the server.
        task_status: started when it listens.

    Raises:
        OSError: it cannot listen there.
    """
    routes = routes or Routes()
    links = Links(endpoint)
    routes.add_websockets(partial(_find, keys, links.serve))
    server = WebServer(routes, limits, prefix=prefix)
    links.counters = server.counters
    listeners = await trio.open_tcp_listeners(port, host=host)
    for listener in listeners:
        keep_small(listener)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, listeners, certificate.context)
        task_status.started(server)


@asynccontextmanager
async def open_link(
    endpoint: Endpoint, url: str, *, proxy: Proxy | None = None, verify: bool = False
) -> AsyncIterator[tuple[Any, trio.Event]]:
    """The member's side: the address of a link to `url`, and an event that is set when it is over.

    Args:
        endpoint: whose datagrams it carries.
        url: with the path, such as `https://switch.example/office` and `link_path`.
        proxy: to go through.
        verify: check the certificate.

    Raises:
        OSError: there is no link to be had; says where and why.
    """
    async with open_websocket(url, proxy=proxy, verify=verify, mark=PIPE_BACKLOG) as socket:
        over = trio.Event()

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            try:
                await run_link(endpoint, socket, task_status=task_status)
            finally:
                over.set()

        with single_error():
            async with trio.open_nursery() as nursery:
                yield await nursery.start(run), over
                nursery.cancel_scope.cancel()
