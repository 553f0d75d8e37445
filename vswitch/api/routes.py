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

from vswitch.api.common import COMMON
from vswitch.api.events import answer_events, as_events
from vswitch.api.gate import COOKIE, SESSION_LIFE
from vswitch.api.roles import Role
from vswitch.api.table import EVENT_STREAM, Call, Route, RouteHandler, Table
from vswitch.config.sources import shortened
from vswitch.errors import ConfigError
from vswitch.management import answers
from vswitch.management.answers import (
    Configured,
    Login,
    MadeToken,
    Networks,
    NewToken,
    Ports,
    QrImage,
    QrText,
    Session,
    Tokens,
    TokenStatus,
)
from vswitch.management.handlers import HANDLERS
from vswitch.management.handlers import members as handlers
from vswitch.management.handlers.common import Controlled
from vswitch.management.handlers.rules import rules_check
from vswitch.management.metrics import exposition
from vswitch.management.status import (
    MemberStatus,
    PublishStatus,
    RekeyStatus,
    SwitchStatus,
    to_json,
)
from vswitch.management.workers import run_sync
from vswitch.page.qr import qr_svg
from vswitch.web.requests import Response

_Object = dict[str, Any]


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


async def _status(call: Call) -> SwitchStatus:
    return await _status_of(call, call.network, call.controlled)


async def _status_of(call: Call, network: str, controlled: Controlled) -> SwitchStatus:
    """What several routes make something of."""
    subject = call.subject
    look = ("look", network)
    found: SwitchStatus = await subject.recent.get(look, subject.events, controlled.status)
    return found


async def _ports(call: Call) -> Ports:
    return Ports(ports=(await _status(call)).ports)


async def _networks(call: Call) -> Networks:
    return Networks(networks=list(call.subject.networks))


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


def _with_cookie(call: Call, said: Session, value: str, seconds: int) -> Response:
    secure = "; Secure" if call.request.secure else ""
    path = call.request.prefix or "/"
    cookie = f"{COOKIE}={value}; Max-Age={seconds}; Path={path}; HttpOnly; SameSite=Strict{secure}"
    body = json.dumps(to_json(said)).encode() + b"\n"
    return Response(200, body, [("Content-Type", "application/json"), ("Set-Cookie", cookie)])


async def _tokens(call: Call) -> Tokens:
    found = await run_sync(call.subject.gate.tokens.all)
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
        raise ConfigError(f"role {shortened(call.body.role)}: {error}") from None
    create = partial(call.subject.gate.tokens.create, call.body.name, role)
    secret = await run_sync(create)
    return MadeToken(name=call.body.name, role=role.text, token=secret)


async def _revoke_token(call: Call) -> None:
    await run_sync(call.subject.gate.tokens.revoke, call.params["name"])


async def _qr(call: Call) -> QrImage:
    return QrImage(svg=await run_sync(qr_svg, call.body.text))


_SESSION = (
    Route("GET", "/v1/session", Role.READ, Session, "who asks", _session),
    Route("POST", "/v1/login", Role.OPEN, Session, "begin a session", _login, body=Login),
    Route("POST", "/v1/logout", Role.READ, Session, "end the session", _logout),
    Route("POST", "/v1/qr", Role.ADMIN, QrImage, "a QR code", _qr, body=QrText),
    Route("GET", "/v1/tokens", Role.ADMIN, Tokens, "the tokens", _tokens),
    Route("POST", "/v1/tokens", Role.ADMIN, MadeToken, "make one", _create_token, body=NewToken),
    Route("DELETE", "/v1/tokens/{name}", Role.ADMIN, None, "revoke one", _revoke_token),
)


async def _counters(call: Call) -> answers.Counters:
    said = await _status(call)
    return answers.Counters(totals=said.totals, ports=said.ports)


async def _port_set(call: Call) -> Any:
    args = {"name": call.params["name"], "changes": call.body or {}, "save": _saved(call)}
    return await HANDLERS["port-set"](call.controlled, args)


async def _switch_set(call: Call) -> Any:
    return await HANDLERS["switch-set"](
        call.controlled, {"changes": call.body or {}, "save": _saved(call)}
    )


async def _publish(call: Call) -> Any:
    return await HANDLERS["publish"](call.controlled, {"rule": call.body, "save": _saved(call)})


def _saved(call: Call) -> bool:
    return call.query is not None and call.query.save


async def _member_set(call: Call) -> Any:
    args = {"name": call.params["name"], "to": call.body.name, "routes": call.body.routes}
    return await handlers.member_set(call.controlled, args)


async def _lease_release(call: Call) -> Any:
    args = {"mac": call.params["address"]}
    return await HANDLERS["lease-release"](call.controlled, args)


async def _events(call: Call) -> Any:
    return await answer_events(call, partial(HANDLERS["events"], call.controlled))


def _capture(**fixed: Any) -> RouteHandler:
    async def run(call: Call) -> Any:
        asked = call.query
        args = {**to_json(asked), "ports": asked.port, "all": asked.all or not asked.port, **fixed}
        return await HANDLERS["capture"](call.controlled, args)

    return run


async def _frames(call: Call) -> Any:
    return as_events(await _capture(format="json")(call))


def _rules_in_force(said: dict[str, Any]) -> Any:
    rules = [rule["rule"] for rule in said["rules"]]
    return [said["default"], rules, said["tests"], said["groups"]]


async def _metrics(call: Call) -> Response:
    """Of all networks: a scrape is of the program."""
    networks = list(call.subject.networks.items())
    statuses = [await _status_of(call, name, network) for name, network in networks]
    body, media = await run_sync(exposition, statuses)
    return Response(200, body, [("Content-Type", media)])


async def _healthy(call: Call) -> Response:
    await trio.lowlevel.checkpoint()
    return Response(200, b"ok\n", [_TEXT])


async def _ready(call: Call) -> Response:
    """Anybody may ask, so it tells nothing of networks and costs no look into files."""
    await trio.lowlevel.checkpoint()
    if not call.subject.networks:
        return Response(503, b"no network is served\n", [_TEXT])
    return Response(200, b"ready\n", [_TEXT])


def _asked(name: str, **fixed: Any) -> RouteHandler:
    return verb(HANDLERS[name], **fixed)


def _settings(path: str, kind: Any, summary: str, handler: RouteHandler) -> tuple[Route, Route]:
    return (
        Route("GET", path, Role.READ, kind, summary, handler),
        Route(
            "PATCH",
            path,
            Role.OPERATE,
            kind,
            f"change {summary}",
            handler,
            body=_Object,
            query=answers.Save,
        ),
    )


_READ, _OPERATE, _ADMIN = Role.READ, Role.OPERATE, Role.ADMIN
_LINES = "application/x-ndjson"
_TEXT = ("Content-Type", "text/plain; charset=utf-8")

SWITCH = Table(
    (
        *_SESSION,
        *COMMON,
        Route(
            "GET",
            "/metrics",
            _READ,
            None,
            "for Prometheus",
            _metrics,
            media="text/plain",
            shared=True,
        ),
        Route("GET", "/healthz", Role.OPEN, None, "it lives", _healthy, media="text/plain"),
        Route("GET", "/readyz", Role.OPEN, None, "it serves", _ready, media="text/plain"),
        Route(
            "GET",
            "/v1/status",
            _READ,
            SwitchStatus,
            "all of a network",
            _status,
            shared=True,
        ),
        Route("GET", "/v1/networks", _READ, Networks, "the networks", _networks),
        Route("GET", "/v1/config/diff", _READ, Configured, "what differs", _asked("config-diff")),
        Route(
            "POST",
            "/v1/config/reload",
            _ADMIN,
            Configured,
            "read the files again",
            _asked("config-reload"),
            query=answers.Reload,
        ),
        Route(
            "POST",
            "/v1/config/save",
            _ADMIN,
            Configured,
            "keep what is live",
            _asked("config-save"),
        ),
        Route(
            "GET",
            "/v1/counters",
            _READ,
            answers.Counters,
            "all counters",
            _counters,
            shared=True,
        ),
        Route("GET", "/v1/ports", _READ, Ports, "the ports", _ports, shared=True),
        *_settings(
            "/v1/ports/{name}",
            answers.PortSettings,
            "settings of a port, there or to come",
            _port_set,
        ),
        Route(
            "POST",
            "/v1/ports/{name}/copy",
            _OPERATE,
            answers.Copied,
            "have the settings of a port for another name, too",
            _asked("port-copy"),
            body=answers.NewName,
        ),
        *_settings(
            "/v1/switch", answers.SwitchSettings, "settings of the whole switch", _switch_set
        ),
        Route(
            "GET",
            "/v1/macs",
            _READ,
            answers.Macs,
            "the MAC table",
            _asked("mac-list"),
            query=answers.MacsAsked,
            shared=True,
        ),
        Route(
            "POST",
            "/v1/macs",
            _OPERATE,
            answers.MadeMac,
            "add an entry that stays",
            _asked("mac-add"),
            body=answers.NewMac,
        ),
        Route(
            "DELETE",
            "/v1/macs",
            _OPERATE,
            answers.Flushed,
            "forget what was learned",
            _asked("mac-flush"),
            query=answers.MacsAsked,
        ),
        Route(
            "DELETE",
            "/v1/macs/{mac}",
            _OPERATE,
            answers.Removed,
            "undo an entry that stays",
            _asked("mac-del"),
            query=answers.VlanAsked,
        ),
        Route(
            "GET",
            "/v1/macs/changes",
            _READ,
            None,
            "each station that is there, comes, moves or goes",
            _asked("mac-watch"),
            query=answers.MacsAsked,
            media=_LINES,
        ),
        Route("GET", "/v1/members", _READ, answers.Members, "the members", verb(handlers.members)),
        Route(
            "GET", "/v1/members/{name}", _READ, MemberStatus, "one member", verb(handlers.member)
        ),
        Route(
            "PATCH",
            "/v1/members/{name}",
            _ADMIN,
            MemberStatus,
            "rename a member, or approve networks behind it",
            _member_set,
            body=answers.MemberChanges,
        ),
        Route(
            "DELETE",
            "/v1/members/{name}",
            _ADMIN,
            answers.Disconnected,
            "revoke a member, or end the invites of a name",
            verb(handlers.member_revoke),
        ),
        Route(
            "POST",
            "/v1/members/{name}/disable",
            _ADMIN,
            MemberStatus,
            "keep a member out for a while",
            verb(handlers.member_disable, disabled=True),
        ),
        Route(
            "POST",
            "/v1/members/{name}/enable",
            _ADMIN,
            MemberStatus,
            "let it in again",
            verb(handlers.member_disable, disabled=False),
        ),
        Route(
            "POST",
            "/v1/members/{name}/bar",
            _ADMIN,
            answers.Disconnected,
            "keep a member out until the switch ends, where it cannot be written down",
            _asked("bar"),
        ),
        Route(
            "POST",
            "/v1/recheck",
            _OPERATE,
            answers.Disconnected,
            "look into the registry, which has changed",
            _asked("revoked"),
        ),
        Route(
            "POST",
            "/v1/invites",
            _ADMIN,
            answers.MadeInvite,
            "make a join string",
            verb(handlers.invite),
            body=answers.NewInvite,
        ),
        Route(
            "GET",
            "/v1/rekey",
            _READ,
            RekeyStatus,
            "the key of the switch, and who has not moved to it",
            _asked("rekey-status"),
        ),
        Route(
            "POST",
            "/v1/rekey",
            _ADMIN,
            RekeyStatus,
            "give the switch a new key",
            _asked("rekey"),
            body=answers.NewKey,
        ),
        Route(
            "DELETE",
            "/v1/rekey",
            _ADMIN,
            RekeyStatus,
            "delete the old key now",
            _asked("rekey-finish"),
            query=answers.Force,
        ),
        Route("GET", "/v1/leases", _READ, answers.Leases, "leases by DHCP", _asked("leases")),
        Route(
            "DELETE",
            "/v1/leases/{address}",
            _OPERATE,
            answers.Released,
            "end a lease, by address or MAC",
            _lease_release,
        ),
        Route(
            "GET",
            "/v1/published",
            _READ,
            answers.PublishedList,
            "the published services",
            _asked("published"),
        ),
        Route(
            "POST",
            "/v1/published",
            _OPERATE,
            PublishStatus,
            "publish one: the keys of [[publish]]",
            _publish,
            body=_Object,
            query=answers.Save,
        ),
        Route(
            "DELETE",
            "/v1/published",
            _OPERATE,
            answers.Unpublished,
            "end that",
            _asked("unpublish"),
            query=answers.Listen,
        ),
        Route(
            "GET",
            "/v1/rules",
            _READ,
            answers.Rules,
            "the rules in force",
            _asked("rules"),
            etag=_rules_in_force,
        ),
        Route(
            "PUT",
            "/v1/rules",
            _ADMIN,
            answers.Rules,
            "go by others, if all are right and their tests hold",
            _asked("rules-load"),
            body=answers.NewRules,
            query=answers.Save,
        ),
        Route(
            "POST",
            "/v1/rules/check",
            _ADMIN,  # as for what it prepares: many rules with many tests cost time
            answers.RulesChecked,
            "whether others are right, and what they would say",
            verb(rules_check),
            body=answers.RulesAsked,
        ),
        Route(
            "POST",
            "/v1/trace",
            _READ,
            answers.Trace,
            "what would happen to a frame",
            _asked("trace"),
            body=answers.FrameAsked,
        ),
        Route(
            "GET",
            "/v1/events",
            _READ,
            answers.Events,
            "what has happened, or happens",
            _events,
            query=answers.EventsAsked,
            media=EVENT_STREAM,
        ),
        Route(
            "GET",
            "/v1/capture",
            _OPERATE,
            None,
            "frames, as pcapng or text",
            _capture(),
            query=answers.CaptureAsked,
            media="application/x-pcapng",
        ),
        Route(
            "GET",
            "/v1/frames",
            _OPERATE,
            None,
            "an event for each frame, with what becomes of it",
            _frames,
            query=answers.CaptureAsked,
            media=EVENT_STREAM,
        ),
        Route(
            "POST",
            "/v1/impair",
            _OPERATE,
            answers.Impaired,
            "delay, lose or repeat frames of a port: what `vswitch impair` takes",
            _asked("impair"),
            body=_Object,
        ),
    )
)
