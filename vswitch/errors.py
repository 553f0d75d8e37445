"""What can go wrong in the switch and its programs, and the exit code that each leads to.

Error contract of the package: input from the network raises `BadRecord` inside the core and is
counted and dropped there; everything that an operator caused or can mend raises a
`VswitchError` whose message says where, what, and what to do, and whose `exit_code` is the
documented one (docs/operations.md); its `problem` is a word for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import ClassVar, Self


class ExitCode:
    """Exit codes of the `vswitch` command; stable, scripts rely on them."""

    OK = 0
    FAILED = 1  # it failed, or the answer is "no"
    USAGE = 2  # wrong flag, value or configuration file
    NOT_REACHABLE = 3  # the running switch or member could not be reached
    REFUSED = 4  # the other side refused: bad invite, revoked, name or address taken
    NOT_FOUND = 5  # no such port, member or network
    TIMEOUT = 6  # waited as long as was asked for
    PRIVILEGE = 7  # root, a capability or /dev/net/tun is missing
    INTERRUPTED = 130  # Ctrl-C


class ByeCode(IntEnum):
    """Why a session ends, told to the other side. 0 to 4 are the transport's close codes, too."""

    NORMAL = 0
    SHUTDOWN = 1
    REPLACED = 2  # the same member connected again
    PROTOCOL = 3  # the peer sent what makes no sense
    TIMEOUT = 4
    REVOKED = 5
    NAME_TAKEN = 6
    ADDRESS_TAKEN = 7
    INVITE_USED = 8
    INVITE_EXPIRED = 9
    FULL = 10
    SERVER_ERROR = 11
    UNKNOWN = 12
    DISABLED = 13  # to older members it is UNKNOWN, and they try again
    REKEYED = 14  # the switch has another key now; to older members as above

    @classmethod
    def _missing_(cls, value: object) -> ByeCode:
        return cls.UNKNOWN  # a newer peer may have more reasons than we know


class Problem(StrEnum):
    """What a refusal is about, as a word for programs and pages that say it in words of their own,
    with the names of the facts that come along. Stable; later versions have more. What has none of
    its own has that of its exception.

        raise NotFound("no member is named pc9: ...").of(Problem.NO_MEMBER, name="pc9")
    """

    facts: tuple[str, ...]

    def __new__(cls, word: str, *facts: str) -> Problem:
        made = str.__new__(cls, word)
        made._value_ = word
        made.facts = facts
        return made

    # Of an exception as a whole.
    FAILED = "failed"
    WRONG = "wrong"  # a value, a body, a query
    REFUSED = "refused"
    NOT_FOUND = "not_found"
    NOT_READY = "not_ready"
    TIMED_OUT = "timed_out"
    NO_PRIVILEGE = "no_privilege"
    # Who asks
    NO_TOKEN = "no_token"
    TRIES = "tries"
    LESSER_ROLE = "lesser_role", "wanted", "role"
    NO_CSRF = "no_csrf"
    ELSEWHERE = "elsewhere"
    # How it is asked
    NO_PATH = "no_path"
    BUSY = "busy"
    WATCHERS = "watchers", "most"
    CHANGED = "changed"
    FAULT = "fault", "reference"
    NO_NETWORK = "no_network", "name"
    # Members and invites
    NO_MEMBER = "no_member", "name"
    NAME_TAKEN = "name_taken", "name"
    NAME_RESERVED = "name_reserved", "name"
    INVITES = "invites", "most"
    EXPIRES = "expires", "most"
    BEHIND = "behind", "network", "name", "reason"
    GATEWAYS = "gateways", "most"
    # Ports and stations
    NO_PORT = "no_port", "name"
    # Services
    NO_DHCP = "no_dhcp"
    NO_LEASE = "no_lease", "who"
    NOT_PUBLISHED = "not_published", "listen"
    IN_USE = "in_use", "place"
    LOW_PORT = "low_port", "place"
    NO_ADDRESS = "no_address", "place"
    # Configuration
    NO_CONFIGURATION = "no_configuration"
    RESTART = "restart", "keys"
    # Captures and questions
    FILTER = "filter", "reason"
    QUESTION = "question", "reason"
    # Tokens
    NO_SUCH_TOKEN = "no_such_token", "name"
    TOKEN_TAKEN = "token_taken", "name"
    TOKENS = "tokens", "most"


class BadRecord(Exception):
    """Bytes of a record stream that are no records; the stream cannot be continued."""


class VswitchError(Exception):
    """Base of errors that end a command with a message for the operator."""

    exit_code: ClassVar[int] = ExitCode.FAILED
    problem: Problem = Problem.FAILED
    about: Mapping[str, str] = MappingProxyType({})

    def of(self, problem: Problem, **about: object) -> Self:
        """The same, with a word for it and its facts."""
        assert set(about) == set(problem.facts), f"{problem} is about {problem.facts}"
        self.problem = problem
        self.about = {key: str(value) for key, value in about.items()}
        return self


class ConfigError(VswitchError):
    """A flag, an environment variable or a configuration file is wrong."""

    exit_code = ExitCode.USAGE
    problem = Problem.WRONG


class NotReachable(VswitchError):
    """No running switch or member answers on the control socket."""

    exit_code = ExitCode.NOT_REACHABLE
    problem = Problem.NOT_READY


class NotRunning(NotReachable):
    """Nobody listens there: it does not run, or with other files."""


class RefusedError(VswitchError):
    """The switch refused: used invite, revoked key, name or address taken, wrong server key."""

    exit_code = ExitCode.REFUSED
    problem = Problem.REFUSED


class NotFound(VswitchError):
    """There is no such member, port or profile."""

    exit_code = ExitCode.NOT_FOUND
    problem = Problem.NOT_FOUND


class TimedOut(VswitchError):
    """It did not happen within the time that was allowed."""

    exit_code = ExitCode.TIMEOUT
    problem = Problem.TIMED_OUT


class PrivilegeError(VswitchError):
    """A privilege or a device is missing; the message says how to get it."""

    exit_code = ExitCode.PRIVILEGE
    problem = Problem.NO_PRIVILEGE
