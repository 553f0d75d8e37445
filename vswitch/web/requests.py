"""What is asked over HTTP and what is answered, and the table of who answers what.

    routes.add("GET", "/v1/status", handler)
    routes.add_websocket("/v1/link", link)

What is asked for and not there, or asked for in another way than it is there, is the same page for
all.

Error contract: a handler answers what is wrong by `HttpError`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final, TypeAlias

import attrs
import h11
import trio

from vswitch.web.websocket import WebSocket

_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    "<body><h1>{title}</h1><p>{text}</p></body></html>\n"
)
WELCOME: Final = _PAGE.format(title="Hello", text="There is nothing to see here.")
MISSING: Final = _PAGE.format(title="Not found", text="There is no such page.")
HTML: Final = ("Content-Type", "text/html; charset=utf-8")


class HttpError(Exception):
    """What a handler cannot do, as a status and a sentence for whoever asked."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.define
class Request:
    """What a client asks for. `path` is without the prefix; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    client: str  # the address of the connection
    _body: Callable[[int], Awaitable[bytes]] = attrs.field(repr=False)
    secure: bool = False  # by TLS
    prefix: str = ""  # what stands before `path`
    # As `LinkRequest.proven`.
    proven: Callable[[], None] = attrs.field(default=lambda: None, repr=False)

    async def body(self, limit: int | None = None) -> bytes:
        """All of it, once. Raises `HttpError` for one that is larger than the limit."""
        return await self._body(limit or 0)


Send: TypeAlias = Callable[[bytes], Awaitable[None]]


@attrs.frozen
class Pour:
    """A body that is sent as it comes: `run(send, ended)` sends until there is no more to say, or
    soon after `ended` is set, when its client has closed its writing half and still gets what
    belongs to it. It is cancelled when the client is gone. `done` is called once in any case.
    """

    run: Callable[[Send, trio.Event], Awaitable[None]]
    done: Callable[[], None] = lambda: None


@attrs.frozen
class Response:
    """An answer. A body that is a generator is sent piece by piece, and closed in any case."""

    status: int = 200
    body: bytes | AsyncGenerator[bytes, None] | Pour = b""
    headers: Sequence[tuple[str, str]] = ()


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Link: TypeAlias = Callable[["LinkRequest"], Awaitable[None]]
Table: TypeAlias = Callable[[Request], Handler | None]


@attrs.frozen
class LinkRequest:
    """A WebSocket that has been asked for and accepted.

    `proven` is called when its client has shown that it belongs here: from then on it keeps its
    place, whoever comes.
    """

    request: Request
    socket: WebSocket
    proven: Callable[[], None]


class Routes:
    """Who answers what."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._links: dict[str, Link] = {}
        self._finders: list[Callable[[str], Link | None]] = []
        self._tables: list[Table] = []

    def add(self, method: str, path: str, handler: Handler) -> None:
        """`path` is compared as a whole; HEAD is answered by the handler of GET."""
        self._handlers[method, path] = handler

    def add_websocket(self, path: str, link: Link) -> None:
        """`link` gets each WebSocket that is asked for there; when it returns, that ends."""
        self._links[path] = link

    def add_websockets(self, find: Callable[[str], Link | None]) -> None:
        """`find` says what is at a path now, where no other row does."""
        self._finders.append(find)

    def add_table(self, table: Table) -> None:
        """`table` says who answers what no other row does, or None."""
        self._tables.append(table)

    def handler(self, request: Request) -> Handler:
        """Never none: what is not there has its page, too."""
        method = "GET" if request.method == "HEAD" else request.method
        found = self._handlers.get((method, request.path))
        if found is not None:
            return found
        for table in self._tables:
            if (found := table(request)) is not None:
                return found
        return _welcome if (method, request.path) == ("GET", "/") else _missing

    def link(self, request: Request) -> Link | None:
        found = self._links.get(request.path)
        for find in self._finders:
            found = found or find(request.path)
        return found


async def _welcome(request: Request) -> Response:
    return Response(200, WELCOME.encode(), [HTML])


async def _missing(request: Request) -> Response:
    return Response(404, MISSING.encode(), [HTML])


def answer_head(status: int, headers: Sequence[tuple[str, str]]) -> h11.Response:
    """With the time of this host, as RFC 9110 section 6.6.1 wants; `vswitch doctor` reads it."""
    return h11.Response(
        status_code=status,
        headers=[("Date", _date(int(time.time()))), *headers],
        reason=HTTPStatus(status).phrase.encode(),
    )


@lru_cache(1)
def _date(second: int) -> str:
    """Of the epoch, as HTTP has it: RFC 9110 section 5.6.7."""
    return formatdate(second, usegmt=True)
