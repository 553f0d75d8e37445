"""Control sockets for tests: of a switch that is there, or of handlers that a test has."""

from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from vswitch.api import socket
from vswitch.api.gate import Gate
from vswitch.api.http import Api
from vswitch.api.roles import Role
from vswitch.api.routes import SWITCH
from vswitch.api.table import Route, Subject, Table
from vswitch.api.tokens import TokenStore
from vswitch.management.client import VERBS


def switch_api(controlled, **options):
    """All of the API, about one switch."""
    return Api(_subject({"default": controlled}), SWITCH, **options)


def verbs_api(handlers, **options):
    """`handlers` by verb, each of the arguments that came in the body or the path."""

    def asked(handler):
        async def run(call):
            return await handler({**call.params, **(call.body or {})})

        return run

    rows = []
    for verb, handler in handlers.items():
        method, path, _ = VERBS[verb]
        body = None if method in ("GET", "DELETE") else dict[str, Any]
        rows.append(Route(method, path, Role.READ, object, verb, asked(handler), body=body))
    return Api(_subject({}), Table(rows), **options)


def _subject(networks):
    return Subject(Gate(TokenStore(Path("no-tokens.json"))), networks, table=SWITCH)


@asynccontextmanager
async def a_member(site, monkeypatch, **options):
    """A join that is plugged in, and where its control socket is over TCP, for clients that know
    nothing else. The socket has patience with those of a slow machine.
    """
    patient = attrs.evolve(socket._LIMITS, header=60.0, body=60.0, idle=60.0)
    monkeypatch.setattr(socket, "_LIMITS", patient)

    async def carry(come, go):
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for piece in come:
                await go.send_all(piece)
        await trio.aclose_forcefully(go)

    async with (
        site.serving() as running,
        site.joined("pc1", running, **options) as member,
        trio.open_nursery() as nursery,
    ):
        path = member.config.files.join_socket("pc1")

        async def lead(stream):
            async with await trio.open_unix_socket(path) as there, trio.open_nursery() as both:
                both.start_soon(carry, stream, there)
                both.start_soon(carry, there, stream)

        (listener,) = await nursery.start(partial(trio.serve_tcp, lead, 0, host="127.0.0.1"))
        host, port = listener.socket.getsockname()
        yield f"{host}:{port}", member
        nursery.cancel_scope.cancel()
