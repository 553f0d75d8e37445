"""What whoever asks may do, and how it is refused.

Error contract: `Refused` is the answer to a request, with a status of HTTP.
"""

from __future__ import annotations

from enum import IntEnum

from attrs import frozen

from vswitch.errors import ExitCode, Problem, VswitchError


class Role(IntEnum):
    """Each may do what the one before it may, too."""

    OPEN = 0  # whoever asks
    READ = 1  # see everything
    OPERATE = 2  # change how the switch runs
    ADMIN = 3  # say who may come, and what is kept

    @property
    def text(self) -> str:
        """As it is written."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Role:
        """One of a token. Raises `ValueError`."""
        for role in (cls.READ, cls.OPERATE, cls.ADMIN):
            if role.text == text:
                return role
        raise ValueError("one of read, operate, admin")


@frozen
class Caller:
    """Who asks. `csrf` is what must come along with a change, for a session of the page."""

    name: str
    role: Role
    csrf: str | None = None
    session: str | None = None
    token: str | None = None  # the hash of the one that it has; None for a user of this host


class Refused(Exception):
    """No, with a status, a sentence, a word for it, and the exit code that a command ends with."""

    def __init__(
        self,
        status: int,
        text: str,
        problem: Problem,
        code: int = ExitCode.USAGE,
        headers: tuple[tuple[str, str], ...] = (),
        **about: object,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.error = VswitchError(text).of(problem, **about)
        self.code = code
        self.headers = headers
