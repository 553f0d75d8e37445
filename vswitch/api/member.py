"""The routes of a member: what it tells of itself, on its own socket, and what it goes by."""

from __future__ import annotations

from functools import partial
from typing import Any

from vswitch.api.common import COMMON
from vswitch.api.events import answer_events
from vswitch.api.gate import Gate
from vswitch.api.http import Api
from vswitch.api.roles import Role
from vswitch.api.table import EVENT_STREAM, Call, Route, Subject, Table, Verbs
from vswitch.api.tokens import TokenStore
from vswitch.errors import NotFound
from vswitch.management.answers import Events, EventsAsked
from vswitch.management.handlers.common import Configurable
from vswitch.management.status import JoinStatus, Peers
from vswitch.state import StateDir


async def _asked(name: str, call: Call) -> Any:
    if (verb := call.subject.verbs.get(name)) is None:
        raise NotFound("with --via there is no session, and no switch that says who is there")
    return await verb({})


async def _events(call: Call) -> Any:
    return await answer_events(call, call.subject.verbs["events"])


_READ = Role.READ
_status, _peers = partial(_asked, "status"), partial(_asked, "peers")

MEMBER = Table(
    (
        *COMMON,
        Route("GET", "/v1/status", _READ, JoinStatus, "of this member", _status),
        Route("GET", "/v1/peers", _READ, Peers, "who else is there", _peers),
        Route(
            "GET",
            "/v1/events",
            _READ,
            Events,
            "what has happened to it, or happens",
            _events,
            query=EventsAsked,
            media=EVENT_STREAM,
        ),
    ),
    networks=False,
)


def member_api(files: StateDir, verbs: Verbs, configuration: Configurable) -> Api:
    """`verbs` has `status` and `events`, and `peers` where there is a switch of ours."""
    gate = Gate(TokenStore(files.tokens))
    subject = Subject(gate, table=MEMBER, configuration=configuration, verbs=verbs)
    return Api(subject, MEMBER)
