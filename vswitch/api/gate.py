"""Who asks: a token, a session of the page, or a user of this host at the Unix socket.

A session is a random number in a cookie that scripts cannot read and other sites cannot send; a
change within one needs a second number, in a header, that only a page of ours knows. It lasts as
long as its token, and `SESSION_LIFE` at most.

Invariants: wrong tokens of one address are answered `TRIES` times and one more each second, then
refused unseen, as a number that is right is not: 256 bits are not found by trying, and nobody is
locked out by somebody else's mistakes. Sessions are bounded; the one that was used longest ago
goes first.

Error contract: `Refused`, 401, 403 or 429.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Final

import attrs
import trio

from transport.ratelimit import BucketTable, TokenBucket
from vswitch.api.roles import Caller, Refused, Role
from vswitch.api.tokens import Token, TokenStore
from vswitch.errors import ExitCode, Problem, VswitchError
from vswitch.logs import event
from vswitch.web.requests import Request
from vswitch.web.server import network_of

SESSION_LIFE: Final = 12 * 3600.0  # seconds
SESSION_LIMIT: Final = 256
TRIES: Final = 10.0  # wrong tokens of one address, before one a second
COOKIE: Final = "vswitch_session"
_LINES: Final = 0.1  # of the log, a second, whoever tries
UNIX: Final = "unix:"  # before the user at the other end, in place of a client's address
_SAFE = frozenset(("GET", "HEAD"))

_log = logging.getLogger(__name__)


@attrs.frozen
class _Session:
    token: str  # its hash: a new one of that name is another
    csrf: str
    until: float


class Gate:
    """Lets in who may come. Many faces of an API share one."""

    def __init__(self, tokens: TokenStore) -> None:
        self.tokens = tokens
        self.counters: Counter[str] = Counter()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._wrong = BucketTable(1.0, TRIES)
        self._lines = TokenBucket(_LINES, 10.0, 0.0)

    async def caller(self, request: Request) -> Caller:
        """Who asks; of nobody who is known, one with the role OPEN."""
        if request.client.startswith(UNIX):
            return _local(request.client)
        said = request.headers.get("authorization")
        if said is not None:
            scheme, _, secret = said.partition(" ")
            if scheme.lower() != "bearer":
                raise _nobody("say Authorization: Bearer TOKEN")
            token = await self._token(secret.strip(), request)
            return Caller(token.name, token.may, token=token.hash)
        number = _cookies(request.headers).get(COOKIE)
        if number is None or _from_elsewhere(request):
            return Caller("", Role.OPEN)
        return self._of_session(number)

    async def log_in(self, secret: str, request: Request) -> Caller:
        """Begin a session; its number goes into the cookie."""
        if _from_elsewhere(request):
            said = "log in from the page itself"
            raise Refused(403, said, Problem.ELSEWHERE, ExitCode.PRIVILEGE)
        token = await self._token(secret, request)
        number, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        until = trio.current_time() + SESSION_LIFE
        self._sessions[number] = _Session(token.hash, csrf, until)
        if len(self._sessions) > SESSION_LIMIT:
            self._sessions.popitem(last=False)
        event(_log, "api-login", token=token.name, client=request.client)
        return Caller(token.name, token.may, csrf, number, token.hash)

    def log_out(self, number: str | None) -> None:
        """End it. Idempotent."""
        self._sessions.pop(number or "", None)

    def still_here(self, caller: Caller) -> bool:
        """Whether neither its token nor its session has ended; not where nobody can tell."""
        if caller.token is None:
            return True
        try:
            if caller.session is not None:
                return self._of_session(caller.session).role is not Role.OPEN
            return any(token.hash == caller.token for token in self.tokens.all())
        except VswitchError:
            return False

    def check(self, caller: Caller, role: Role, request: Request) -> None:
        """Whether this caller may do what that role is needed for."""
        if role is Role.OPEN:
            return
        if caller.role is Role.OPEN:
            raise _nobody("log in, or say Authorization: Bearer TOKEN (`vswitch token create`)")
        if caller.role < role:
            self.counters["lesser_role"] += 1
            said = f"this needs the role {role.text}, {caller.name} has {caller.role.text}"
            raise Refused(
                403,
                said,
                Problem.LESSER_ROLE,
                ExitCode.PRIVILEGE,
                wanted=role.text,
                role=caller.role.text,
            )
        if caller.csrf is not None and request.method not in _SAFE:
            said = request.headers.get("x-csrf-token", "")
            if not hmac.compare_digest(said.encode(), caller.csrf.encode()):
                self.counters["no_csrf"] += 1
                said = "a change needs the X-CSRF-Token of the session"
                raise Refused(403, said, Problem.NO_CSRF, ExitCode.PRIVILEGE)

    async def _token(self, secret: str, request: Request) -> Token:
        token = self.tokens.find(secret)
        if token is None:
            key = network_of(request.client).encode()
            if not self._wrong.allow(key, trio.current_time()):
                self.counters["slowed"] += 1
                raise Refused(
                    429,
                    "too many wrong tokens from here: wait a while",
                    Problem.TRIES,
                    ExitCode.REFUSED,
                    (("Retry-After", "10"),),
                )
            self.counters["wrong_token"] += 1
            if self._lines.allow(trio.current_time()):
                event(_log, "api-wrong-token", logging.WARNING, client=request.client)
            raise _nobody("there is no such token")
        if self.tokens.due(token):
            try:
                await trio.to_thread.run_sync(self.tokens.note_use, token.name)
            except VswitchError as error:  # it costs the note alone
                event(_log, "api-token-use-not-noted", logging.WARNING, reason=error)
        return token

    def _of_session(self, number: str) -> Caller:
        session = self._sessions.get(number)
        if session is not None and trio.current_time() < session.until:
            for token in self.tokens.all():
                if token.hash == session.token:
                    self._sessions.move_to_end(number)
                    return Caller(token.name, token.may, session.csrf, number, token.hash)
        self.log_out(number)
        return Caller("", Role.OPEN)


def _local(client: str) -> Caller:
    """Its own user and root may do all; whoever else the mode of the socket lets in, operate."""
    user = client.removeprefix(UNIX)
    if user in ("", "0", str(os.geteuid())):  # "": the system does not say, its mode is for one
        return Caller(f"user {user or 'here'}", Role.ADMIN)
    return Caller(f"user {user}", Role.OPERATE)


def _nobody(text: str) -> Refused:
    return Refused(
        401, text, Problem.NO_TOKEN, ExitCode.PRIVILEGE, (("WWW-Authenticate", "Bearer"),)
    )


def _from_elsewhere(request: Request) -> bool:
    """Whether a browser says that a page of another origin asks: by W3C Fetch Metadata, or where it
    sends none (an old one, or one that came by plain HTTP) by Origin (RFC 6454 section 7). Only
    there, since a proxy may have us see another Host than the browser has.
    """
    headers = request.headers
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    if (origin := headers.get("origin")) is None:
        return False
    scheme, _, place = origin.lower().partition("://")
    ours = ("https",) if request.secure else ("http", "https")  # a proxy may end the TLS
    return scheme not in ours or place != headers.get("host", "").lower()


def _cookies(headers: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        found[name] = value
    return found
