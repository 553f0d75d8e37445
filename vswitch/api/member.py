"""The API of a running member: what it tells of itself, on its own socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from vswitch.api.events import answer_events
from vswitch.api.gate import Gate
from vswitch.api.http import Api
from vswitch.api.roles import Role
from vswitch.api.table import EVENT_STREAM, Call, Route, RouteHandler, Subject, Table
from vswitch.api.tokens import TokenStore
from vswitch.management.answers import Events, EventsAsked
from vswitch.management.status import JoinStatus, Peers
from vswitch.management.stream import Stream
from vswitch.state import StateDir

Handlers = Mapping[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | Stream]]]


def member_api(files: StateDir, handlers: Handlers) -> Api:
    """`handlers` has `status` and `events`, and `peers` where there is a switch of ours."""

    def asked(name: str) -> RouteHandler:
        async def run(call: Call) -> Any:
            return await handlers[name]({})

        return run

    async def events(call: Call) -> Any:
        return await answer_events(call, handlers["events"])

    rows = {
        "status": Route(
            "GET", "/v1/status", Role.READ, JoinStatus, "of this member", asked("status")
        ),
        "events": Route(
            "GET",
            "/v1/events",
            Role.READ,
            Events,
            "what has happened to it, or happens",
            events,
            query=EventsAsked,
            media=EVENT_STREAM,
        ),
        "peers": Route("GET", "/v1/peers", Role.READ, Peers, "who else is there", asked("peers")),
    }
    table = Table(row for name, row in rows.items() if name in handlers)
    return Api(Subject(Gate(TokenStore(files.tokens)), table=table), table)
