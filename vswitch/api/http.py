"""The API on the HTTP server: who asks, for which row of the table, with what; then the answer.

    routes.add_table(Api(subject, table).find)

Invariants: no handler is called before its caller's role, query and body are known to be right.
Streams are bounded, and keep their place; one ends within `STILL_HERE` of its caller's token or
session. What is asked over TCP has a share of the switch's time (`share.py`), the users of this
host what they need. A change that names an ETag (If-Match) is compared and done with no other such
change between, by whichever face that comes.

Error contract: none; what is wrong is answered with `{"error": text, "code": exit code,
"problem": a word for it, "about": its facts}`.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from functools import partial
from hashlib import blake2b
from typing import Any, Final

import attrs
import h11
import trio

from vswitch.api.gate import UNIX
from vswitch.api.roles import Refused, Role
from vswitch.api.table import Call, Route, Subject, Table
from vswitch.api.values import read_body_untrusted, read_query_untrusted
from vswitch.errors import (
    ConfigError,
    ExitCode,
    NotFound,
    NotReachable,
    PrivilegeError,
    Problem,
    TimedOut,
    VswitchError,
)
from vswitch.management.status import to_json
from vswitch.management.stream import Stream
from vswitch.management.workers import measured
from vswitch.runtime import single_error
from vswitch.state import DEFAULT_NETWORK
from vswitch.web.requests import Handler, HttpError, Pour, Request, Response, Send

PATIENCE: Final = 10.0  # seconds for a turn
_HTTP_COST: Final = 0.0003  # seconds around an answer
STREAM_LIMIT: Final = 32  # at once, on one face of the API
STILL_HERE: Final = 1.0  # seconds between two looks whether the caller of a stream may see it
JSON: Final = ("Content-Type", "application/json")
_ALWAYS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_STATUS: Final[tuple[tuple[type[VswitchError], int], ...]] = (
    (ConfigError, 400),
    (NotFound, 404),
    (PrivilegeError, 409),
    (TimedOut, 504),
    (NotReachable, 503),
    (VswitchError, 409),
)

_log = logging.getLogger(__name__)


class Api:
    """One face of it: a listener, or a socket of one network."""

    def __init__(
        self,
        subject: Subject,
        table: Table,
        *,
        network: str = DEFAULT_NETWORK,
        streams: int = STREAM_LIMIT,
    ) -> None:
        self._subject = subject
        self._table = table
        self._network = network
        self._streams = trio.Semaphore(streams)
        self._most = streams
        # For who is known, and for strangers, who may not use up what the others need.
        self._known = subject.share, trio.Lock()
        self._strangers = subject.strangers, trio.Lock()

    def find(self, request: Request) -> Handler | None:
        """Who answers: nobody, where no row and nothing of /v1 is asked for."""
        rows, params = self._table.at(request.path)
        if rows:
            return partial(self._answer, rows, params)
        return _no_such if request.path.startswith("/v1/") else None

    async def _answer(
        self, rows: dict[str, Route], params: dict[str, str], request: Request
    ) -> Response:
        try:
            method = "GET" if request.method == "HEAD" else request.method
            row = rows.get(method)
            if row is None:
                allowed = ", ".join(sorted(rows))
                said = f"here is only {allowed}"
                raise Refused(405, said, Problem.NO_PATH, headers=(("Allow", allowed),))
            return await self._of_row(row, rows, params, request)
        except Refused as error:
            return _error(error.status, error.error, error.code, error.headers)
        except HttpError as error:
            return _error(error.status, ConfigError(str(error)))
        except VswitchError as error:
            status = next(status for kind, status in _STATUS if isinstance(error, kind))
            return _error(status, error)
        except (h11.RemoteProtocolError, trio.TooSlowError, trio.BrokenResourceError):
            raise
        except Exception:
            reference = secrets.token_hex(4)
            _log.exception("api-failed path=%s reference=%s", request.path, reference)
            said = f"internal error; its log says why, at reference={reference}"
            return _error(500, VswitchError(said).of(Problem.FAULT, reference=reference))

    async def _of_row(
        self, row: Route, rows: dict[str, Route], params: dict[str, str], request: Request
    ) -> Response:
        gate = self._subject.gate
        caller = await gate.caller(request)
        gate.check(caller, row.role, request)
        networks = self._table.networks
        query, network = read_query_untrusted(request.query, row.query, networks=networks)
        gate.check(caller, row.needs(query), request)
        body = None
        if row.body is not None:
            body = read_body_untrusted(await request.body(), row.body)
        call = Call(
            subject=self._subject,
            request=request,
            caller=caller,
            params=params,
            query=query,
            body=body,
            network=self._network if network is None else network,
        )
        return await self._shown(row, call, rows.get("GET"))

    async def _shown(self, row: Route, call: Call, look: Route | None) -> Response:
        """In its turn, if it has come over TCP. `look` shows what `row` changes."""
        if call.request.client.startswith(UNIX):
            return await self._said(row, call, look)
        share, turns = self._strangers if call.caller.role is Role.OPEN else self._known
        with trio.move_on_after(PATIENCE) as waiting:
            async with turns:
                while (seconds := share.wait(trio.current_time())) > 0:  # noqa: ASYNC110
                    await trio.sleep(seconds)
        if waiting.cancelled_caught:
            said = "more is asked than there is time for: try again"
            raise Refused(503, said, Problem.BUSY, ExitCode.NOT_REACHABLE)
        begun = time.thread_time()
        with measured() as work:
            try:
                return await self._said(row, call, look)
            finally:
                cost = _HTTP_COST + time.thread_time() - begun
                share.spend(trio.current_time(), cost, work.seconds)

    async def _said(self, row: Route, call: Call, look: Route | None) -> Response:
        if row.shared:
            kind = row.path, call.network, call.query
            recent, events = self._subject.recent, self._subject.events
            said: Response = await recent.get(kind, events, partial(self._made, row, call))
            return said
        if row.method == "GET":
            return await self._made(row, call)
        try:
            if look is None or not look.etag:
                return await self._made(row, call)
            async with self._subject.changing:
                await _compare(look, call)
                return await self._made(row, call)
        finally:
            self._subject.recent.changed()

    async def _made(self, row: Route, call: Call) -> Response:
        answer = await row.handler(call)
        if isinstance(answer, Response):
            return attrs.evolve(answer, headers=[*answer.headers, *_ALWAYS])
        if isinstance(answer, Stream):
            media = call.request.headers.get("accept") if row.media is None else row.media
            return self._poured(answer, media or "application/octet-stream", call)
        if row.answer is None:
            return Response(204, b"", _ALWAYS)
        said = answer if isinstance(answer, dict) else to_json(answer)
        headers = [JSON, *_ALWAYS]
        look = self._table.at(call.request.path)[0].get("GET")
        if look is not None and look.etag and row.answer is look.answer:
            tag = _etag(look, said)
            headers.append(("ETag", tag))
            if row is look and call.request.headers.get("if-none-match") == tag:
                return Response(304, b"", headers[1:])
        return Response(200, json.dumps(said, allow_nan=False).encode() + b"\n", headers)

    def _poured(self, stream: Stream, media: str, call: Call) -> Response:
        try:
            self._streams.acquire_nowait()
        except trio.WouldBlock:
            said = f"{self._most} others are watching: end one"
            raise Refused(503, said, Problem.WATCHERS, ExitCode.REFUSED, most=self._most) from None
        call.request.proven()

        async def run(send: Send, ended: trio.Event) -> None:
            with single_error():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_gone, call)
                    await stream.run(send, ended)
                    nursery.cancel_scope.cancel()

        return Response(200, Pour(run, self._streams.release), [("Content-Type", media), *_ALWAYS])

    async def _until_gone(self, call: Call) -> None:
        """Cut the stream of a caller that may not ask any more."""
        while self._subject.gate.still_here(call.caller):  # noqa: ASYNC110
            await trio.sleep(STILL_HERE)
        raise trio.BrokenResourceError("its token or its session has ended")


async def _compare(look: Route, call: Call) -> None:
    """Whether what the caller wants to change is what it has seen, if it says what that was."""
    wanted = call.request.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    said = await look.handler(attrs.evolve(call, body=None, query=None))
    if _etag(look, to_json(said)) not in [each.strip() for each in wanted.split(",")]:
        text = "it has changed since: get it again, and say its ETag in If-Match"
        raise Refused(412, text, Problem.CHANGED, ExitCode.REFUSED)


def _etag(row: Route, said: dict[str, Any]) -> str:
    counts = json.dumps(row.etag(said) if callable(row.etag) else said, sort_keys=True).encode()
    return f'"{blake2b(counts, digest_size=16).hexdigest()}"'


def _error(
    status: int,
    error: VswitchError,
    code: int | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    said = {
        "error": str(error),
        "code": error.exit_code if code is None else code,
        "problem": error.problem,
        "about": dict(error.about),
    }
    body = json.dumps(said).encode() + b"\n"
    return Response(status, body, [JSON, *_ALWAYS, *headers])


async def _no_such(request: Request) -> Response:
    error = NotFound("there is no such path: see /v1/openapi.json")
    return _error(404, error.of(Problem.NO_PATH))
