"""Tokens of the API: secrets of 256 random bits, of which the state directory has the hashes.

    tokens = TokenStore(files.tokens)
    secret = tokens.create("grafana", Role.READ)   # shown once, kept nowhere
    token = tokens.find(secret)

A running switch and the command share the file: each change of one is seen by the other with the
next look. Invariants: the file is mode 0600 and replaced whole; it holds no secret; at most
`TOKEN_LIMIT` tokens; names are unique. What a secret is compared with does not show in the time
that takes.

Error contract: `ConfigError` for a name or a file that is wrong, `NotFound` for a name that no
token has, `RefusedError` for one that is taken, `VswitchError` where the file cannot be used.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import attrs

from vswitch.addresses import check_name
from vswitch.api.roles import Role
from vswitch.config.sources import shortened
from vswitch.errors import ConfigError, NotFound, Problem, RefusedError
from vswitch.state import directory_lock, file_error, write_file

TOKEN_LIMIT: Final = 256  # each is compared with what a stranger says
PREFIX: Final = "vsw_"  # by which a secret that lies about is known for what it is
_USE_KEPT = 60.0  # seconds between two notes that a token was used
_FILE_BYTES = 256 * 1024
_END_OF_TIME = 1e12  # seconds


def _moment(_: object, attribute: object, value: Any) -> None:
    if not isinstance(value, int | float) or not 0 <= value < _END_OF_TIME:
        raise ValueError(f"no time: {value!r}")


@attrs.frozen(kw_only=True)
class Token:
    """What is kept of one. Times are seconds since the epoch. `ValueError` or `TypeError` for what
    none can be, since whoever edits the file may write anything.
    """

    name: str = attrs.field(validator=lambda *a: check_name(a[2]) and None)
    role: str = attrs.field(validator=lambda *a: Role.parse(a[2]) and None)
    created: float = attrs.field(validator=_moment)
    # BLAKE2b-256 of the secret, in hexadecimal digits.
    hash: str = attrs.field(repr=False, validator=attrs.validators.matches_re("[0-9a-f]{64}"))
    used: float | None = attrs.field(default=None, validator=attrs.validators.optional(_moment))

    @property
    def may(self) -> Role:
        """Its role."""
        return Role.parse(self.role)


def _digest(secret: str) -> str:
    # The secret has 256 random bits: nobody finds it by trying, whatever that costs him.
    return blake2b(secret.encode("utf-8", "replace"), digest_size=32).hexdigest()


class TokenStore:
    """The tokens of one state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()
        self._tried: dict[str, float] = {}  # when a use was noted last, or could not be

    def all(self) -> tuple[Token, ...]:
        """In the order in which they were made."""
        self._look()
        return self._tokens

    def find(self, secret: str) -> Token | None:
        """The token with this secret, if there is one. Each is compared, however early one fits."""
        asked, found = _digest(secret), None
        for token in self.all():
            if hmac.compare_digest(token.hash, asked):
                found = token
        return found

    def create(self, name: str, role: Role) -> str:
        """Make one, and give its secret, which nobody can read again."""
        try:
            check_name(name)
        except ValueError as error:
            raise ConfigError(f"name of a token {shortened(name)}: {error}") from None
        secret = PREFIX + secrets.token_urlsafe(32)

        def add(tokens: list[Token]) -> None:
            if any(token.name == name for token in tokens):
                raise RefusedError(
                    f"there is a token {name}: revoke it first, or take another name"
                ).of(Problem.TOKEN_TAKEN, name=name)
            if len(tokens) >= TOKEN_LIMIT:
                said = f"there are {TOKEN_LIMIT} tokens: revoke one first"
                raise RefusedError(said).of(Problem.TOKENS, most=TOKEN_LIMIT)
            digest = _digest(secret)
            tokens.append(Token(name=name, role=role.text, created=time.time(), hash=digest))

        self._change(add)
        return secret

    def revoke(self, name: str) -> Token:
        """It is none any more, at once."""
        gone: list[Token] = []

        def remove(tokens: list[Token]) -> None:
            gone.extend(token for token in tokens if token.name == name)
            if not gone:
                said = f"there is no token {shortened(name)}: see `vswitch token list`"
                raise NotFound(said).of(Problem.NO_SUCH_TOKEN, name=shortened(name))
            tokens.remove(gone[0])

        self._change(remove)
        return gone[0]

    def due(self, token: Token) -> bool:
        """Whether `note_use` has something to write."""
        last = max(token.used or 0.0, self._tried.get(token.name, 0.0))
        return abs(time.time() - last) > _USE_KEPT

    def note_use(self, name: str) -> None:
        """It is used now. May wait for the disk."""
        if len(self._tried) >= TOKEN_LIMIT:
            self._tried.clear()
        self._tried[name] = time.time()

        def note(tokens: list[Token]) -> None:
            now = time.time()
            tokens[:] = [
                attrs.evolve(token, used=now) if token.name == name else token for token in tokens
            ]

        self._change(note)

    def _change(self, change: Callable[[list[Token]], None]) -> None:
        with directory_lock(self._path.parent):
            tokens = list(self.all())
            change(tokens)
            written = json.dumps({"tokens": [attrs.asdict(token) for token in tokens]}, indent=1)
            write_file(self._path, written.encode())

    def _look(self) -> None:
        """Read the file if it is another one than before."""
        try:
            status = self._path.stat()
            seen = status.st_mtime_ns, status.st_ino, status.st_size
            if seen == self._seen:
                return
            with self._path.open("rb") as file:
                data = file.read(_FILE_BYTES + 1)
        except FileNotFoundError:
            self._seen, self._tokens = None, ()
            return
        except OSError as error:
            raise file_error("tokens", self._path, error) from None
        try:
            if len(data) > _FILE_BYTES:
                raise ValueError
            tokens = tuple(Token(**each) for each in json.loads(data)["tokens"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ConfigError(
                f"{self._path}: not a file of tokens: remove it, and make new ones"
            ) from None
        self._seen, self._tokens = seen, tokens
