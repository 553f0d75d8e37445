"""What can go wrong in the switch and its programs, and the exit code that each leads to.

Error contract of the package: input from the network raises `BadRecord` inside the core and is
counted and dropped there; everything that an operator caused or can mend raises a
`VswitchError` whose message says where, what, and what to do, and whose `exit_code` is the
documented one (docs/operations.md).
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


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


class BadRecord(Exception):
    """Bytes of a record stream that are no records; the stream cannot be continued."""


class VswitchError(Exception):
    """Base of errors that end a command with a message for the operator."""

    exit_code: ClassVar[int] = ExitCode.FAILED


class ConfigError(VswitchError):
    """A flag, an environment variable or a configuration file is wrong."""

    exit_code = ExitCode.USAGE


class NotReachable(VswitchError):
    """No running switch or member answers on the control socket."""

    exit_code = ExitCode.NOT_REACHABLE


class NotRunning(NotReachable):
    """Nobody listens there: it does not run, or with other files."""


class RefusedError(VswitchError):
    """The switch refused: used invite, revoked key, name or address taken, wrong server key."""

    exit_code = ExitCode.REFUSED


class NotFound(VswitchError):
    """There is no such member, port or profile."""

    exit_code = ExitCode.NOT_FOUND


class TimedOut(VswitchError):
    """It did not happen within the time that was allowed."""

    exit_code = ExitCode.TIMEOUT


class PrivilegeError(VswitchError):
    """A privilege or a device is missing; the message says how to get it."""

    exit_code = ExitCode.PRIVILEGE
