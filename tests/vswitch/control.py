"""Control sockets for tests: of a switch that is there, or of handlers that a test has."""

from pathlib import Path
from typing import Any

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
