"""The routes of a switch. A row has the role that it needs, the types of what is asked and
answered, and who answers; all else of HTTP is in `http.py`.

A verb of `management/handlers` is the one that does it, whoever asks: `verb` makes a handler of it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from vswitch.api.gate import COOKIE, SESSION_LIFE
from vswitch.api.openapi import document
from vswitch.api.roles import Role
from vswitch.api.table import Call, Route, RouteHandler, Table
from vswitch.errors import ConfigError, NotFound
from vswitch.management.answers import (
    Configured,
    Document,
    Login,
    MadeToken,
    Networks,
    NewToken,
    Ports,
    Session,
    Tokens,
    TokenStatus,
)
from vswitch.management.handlers.common import Configurable, Controlled
from vswitch.management.handlers.status import status
from vswitch.management.status import SwitchStatus, to_json
from vswitch.web.server import Response

Tables = dict[str, Any]  # of a configuration, as its file has them


def verb(
    handler: Callable[[Controlled, dict[str, Any]], Awaitable[Any]], **fixed: Any
) -> RouteHandler:
    """Ask a handler of the management; what path, query and body say are its arguments."""

    async def run(call: Call) -> Any:
        query = {} if call.query is None else to_json(call.query)
        body = {} if call.body is None else to_json(call.body)
        args = {**query, **body, **call.params, **fixed}
        return await handler(call.controlled, args)

    return run


async def _ports(call: Call) -> Ports:
    return Ports(ports=(await call.controlled.status()).ports)


async def _networks(call: Call) -> Networks:
    return Networks(networks=list(call.subject.networks))


async def _openapi(call: Call) -> dict[str, Any]:
    assert call.subject.table is not None
    return document(call.subject.table)


async def _session(call: Call) -> Session:
    caller = call.caller
    return Session(name=caller.name, role=caller.role.text, csrf=caller.csrf)


async def _login(call: Call) -> Response:
    caller = await call.subject.gate.log_in(call.body.token, call.request)
    said = Session(name=caller.name, role=caller.role.text, csrf=caller.csrf)
    return _with_cookie(call, said, caller.session or "", int(SESSION_LIFE))


async def _logout(call: Call) -> Response:
    call.subject.gate.log_out(call.caller.session)
    return _with_cookie(call, Session(name="", role=Role.OPEN.text), "", 0)


async def _config(call: Call) -> dict[str, Any]:
    return _configuration(call).whole()


async def _put_config(call: Call) -> Configured:
    return await _configuration(call).replace(call.body)


async def _reload_config(call: Call) -> Configured:
    return await _configuration(call).reload()


def _configuration(call: Call) -> Configurable:
    if (found := call.subject.configuration) is None:
        raise NotFound("there is no configuration here")
    return found


def _with_cookie(call: Call, said: Session, value: str, seconds: int) -> Response:
    secure = "; Secure" if call.request.secure else ""
    cookie = f"{COOKIE}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}"
    body = json.dumps(to_json(said)).encode() + b"\n"
    return Response(200, body, [("Content-Type", "application/json"), ("Set-Cookie", cookie)])


async def _tokens(call: Call) -> Tokens:
    found = await trio.to_thread.run_sync(call.subject.gate.tokens.all)
    return Tokens(
        tokens=[
            TokenStatus(name=each.name, role=each.role, created=each.created, used=each.used)
            for each in found
        ]
    )


async def _create_token(call: Call) -> MadeToken:
    try:
        role = Role.parse(call.body.role)
    except ValueError as error:
        raise ConfigError(f"role {call.body.role!r}: {error}") from None
    create = partial(call.subject.gate.tokens.create, call.body.name, role)
    secret = await trio.to_thread.run_sync(create)
    return MadeToken(name=call.body.name, role=role.text, token=secret)


async def _revoke_token(call: Call) -> None:
    await trio.to_thread.run_sync(call.subject.gate.tokens.revoke, call.params["name"])


_SESSION = (
    Route("GET", "/v1/session", Role.READ, Session, "who asks", _session),
    Route("POST", "/v1/login", Role.OPEN, Session, "begin a session", _login, body=Login),
    Route("POST", "/v1/logout", Role.READ, Session, "end the session", _logout),
    Route("GET", "/v1/openapi.json", Role.READ, Document, "this document", _openapi),
    Route("GET", "/v1/tokens", Role.ADMIN, Tokens, "the tokens", _tokens),
    Route("POST", "/v1/tokens", Role.ADMIN, MadeToken, "make one", _create_token, body=NewToken),
    Route("DELETE", "/v1/tokens/{name}", Role.ADMIN, None, "revoke one", _revoke_token),
)

SWITCH = Table(
    (
        *_SESSION,
        Route("GET", "/v1/status", Role.READ, SwitchStatus, "all of a network", verb(status)),
        Route("GET", "/v1/networks", Role.READ, Networks, "the networks", _networks),
        Route("GET", "/v1/ports", Role.READ, Ports, "the ports", _ports),
        Route("GET", "/v1/config", Role.READ, Tables, "all tables", _config, etag=True),
        Route("PUT", "/v1/config", Role.ADMIN, Configured, "go by these", _put_config, body=Tables),
        Route("POST", "/v1/config/reload", Role.ADMIN, Configured, "read files", _reload_config),
    )
)
