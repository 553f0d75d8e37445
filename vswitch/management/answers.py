"""What the handlers of the API answer, and what they are asked, beside the classes of `status.py`.

The same rules hold: keys are only ever added; times are wall-clock seconds since the epoch,
durations seconds, sizes bytes.
"""

from __future__ import annotations

from typing import Any

from attrs import Factory, frozen

from vswitch.management.status import SCHEMA, PortStatus


@frozen(kw_only=True)
class Ports:
    """The ports of a switch."""

    ports: list[PortStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class Networks:
    """The networks of a switch."""

    networks: list[str]
    schema: int = SCHEMA


@frozen(kw_only=True)
class Session:
    """Who asks. `csrf` is for the header X-CSRF-Token of changes; None where none is needed."""

    name: str
    role: str
    csrf: str | None = None
    schema: int = SCHEMA


@frozen(kw_only=True)
class Login:
    """The body of a log-in."""

    token: str


@frozen(kw_only=True)
class TokenStatus:
    """One token."""

    name: str
    role: str
    created: float
    used: float | None = None


@frozen(kw_only=True)
class Tokens:
    """All tokens."""

    tokens: list[TokenStatus]
    schema: int = SCHEMA


@frozen(kw_only=True)
class NewToken:
    """Which token to make."""

    name: str
    role: str = "read"


@frozen(kw_only=True)
class MadeToken:
    """A token that has been made. `token` is shown this once."""

    name: str
    role: str
    token: str
    schema: int = SCHEMA


@frozen(kw_only=True)
class Named:
    """Which one, by its name."""

    name: str


@frozen(kw_only=True)
class Document:
    """A document of OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
    security: list[Any] = Factory(list)


@frozen(kw_only=True)
class ConfigSetting:
    """A value of the configuration; `source` is file, saved, live or option."""

    key: list[str]
    value: Any
    source: str


@frozen(kw_only=True)
class ConfigState:
    """All that is said."""

    file: str | None
    saved_file: str
    settings: list[ConfigSetting]


@frozen(kw_only=True)
class ConfigChange:
    """A key that has another value; null for none."""

    key: str
    before: Any
    after: Any


@frozen(kw_only=True)
class Configured:
    """What has changed, or would; what was changed live and is not saved; and what is saved."""

    changes: list[ConfigChange]
    unsaved: list[ConfigChange]
    saved: list[ConfigChange]
    problem: str | None = None  # why a reload would be refused
