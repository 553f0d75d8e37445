"""A table of routes: what is asked for, by whom, with what, and what comes back.

Error contract: `ValueError` for two rows that are the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote

import attrs
import trio

from vswitch.api.recent import Recent
from vswitch.api.roles import Caller, Role
from vswitch.api.share import STRANGERS_RATE, Share
from vswitch.config.sources import shortened
from vswitch.errors import NotFound, Problem
from vswitch.management.answers import Save
from vswitch.management.handlers.common import Configurable, Controlled, Rekeyable, Reloadable
from vswitch.management.stream import Stream
from vswitch.state import DEFAULT_NETWORK
from vswitch.web.requests import Request

if TYPE_CHECKING:
    from vswitch.api.gate import Gate
    from vswitch.management.handlers.common import Controlled

EVENT_STREAM: Final = "text/event-stream"
Verbs: TypeAlias = Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]]


@attrs.define(eq=False)
class Subject:
    """What an API is about: the networks of a switch, by name; none for a member."""

    gate: Gate
    networks: dict[str, Controlled] = attrs.Factory(dict)
    share: Share = attrs.Factory(Share)
    strangers: Share = attrs.Factory(lambda: Share(STRANGERS_RATE))
    recent: Recent = attrs.Factory(Recent)
    changing: trio.Lock = attrs.Factory(trio.Lock)  # what has an ETag; one for all faces
    table: Table | None = None  # for `/v1/openapi.json`
    configuration: Configurable | None = None
    reloader: Reloadable | None = None  # the same for a switch, None for a member
    rekeying: Rekeyable | None = None  # as that
    verbs: Verbs = attrs.Factory(dict)  # what a member answers; the networks do for a switch

    def events(self) -> list[int]:
        """The number of the latest event of each network."""
        return [each.managed.switch.events.last for each in self.networks.values()]


@attrs.frozen(kw_only=True)
class Call:
    """What a handler gets. `query` and `body` are of the types that its row names."""

    subject: Subject
    request: Request
    caller: Caller
    params: dict[str, str]  # the parts of the path in braces
    query: Any = None
    body: Any = None
    network: str = DEFAULT_NETWORK

    @property
    def controlled(self) -> Controlled:
        """The network that is asked about."""
        found = self.subject.networks.get(self.network)
        if found is None:
            name = shortened(self.network)
            raise NotFound(f"there is no network {name}: see /v1/networks").of(
                Problem.NO_NETWORK, name=name
            )
        return found


# Gives a value of the row's `answer`, its JSON, a `Stream` or a whole `Response`.
RouteHandler: TypeAlias = Callable[[Call], Awaitable[Any]]


@attrs.frozen
class Route:
    """One row. `media` is that of an answer that is no JSON, or of one that may be no JSON."""

    method: str
    path: str
    role: Role
    answer: Any  # its type; None for no content or what `media` says
    summary: str
    handler: RouteHandler = attrs.field(repr=False)
    body: Any = attrs.field(default=None, kw_only=True)
    query: type[Any] | None = attrs.field(default=None, kw_only=True)
    media: str | None = attrs.field(default=None, kw_only=True)
    # GET has an ETag; a change that names one in If-Match is refused where it is not that now.
    # It is of the whole answer, or of what this gives of its JSON.
    etag: Callable[[Any], Any] | bool = attrs.field(default=False, kw_only=True)
    # All who may ask get the same, which may be a moment old: see `recent.py`.
    shared: bool = attrs.field(default=False, kw_only=True)

    @property
    def keeps(self) -> bool:
        """Whether it keeps a change if it is asked to."""
        return self.query is not None and issubclass(self.query, Save)

    def needs(self, query: Any) -> Role:
        """The role for what is asked: what is kept is more than how the switch runs now."""
        return Role.ADMIN if self.keeps and query.save else self.role

    @property
    def operation(self) -> str:
        """A name for it: `GET /v1/ports/{name}` is `get_ports_name`."""
        words = self.path.removeprefix("/v1").translate(str.maketrans("/.-", "___", "{}"))
        return f"{self.method.lower()}{words}"


class Table:
    """Rows, found by method and path. `networks`: whether the query may choose one."""

    def __init__(self, rows: Iterable[Route], *, networks: bool = True) -> None:
        self.rows = tuple(rows)
        self.networks = networks
        self._paths: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[list[str], str]] = []
        for row in self.rows:
            methods = self._paths.setdefault(row.path, {})
            if row.method in methods:
                raise ValueError(f"{row.method} {row.path} is there twice")
            methods[row.method] = row
            if "{" in row.path and len(methods) == 1:
                self._patterns.append((row.path.split("/"), row.path))

    def at(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        """The rows at this path by method, and what stands there for the parts in braces."""
        if path in self._paths and "{" not in path:
            return self._paths[path], {}
        parts = path.split("/")
        for pattern, name in self._patterns:
            params = _match(pattern, parts)
            if params is not None:
                return self._paths[name], params
        return {}, {}


def _match(pattern: list[str], parts: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    found = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            if not part:
                return None
            found[wanted.strip("{}")] = unquote(part)
        elif wanted != part:
            return None
    return found
