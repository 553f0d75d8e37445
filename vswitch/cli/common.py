"""What the commands share: options from all sources, running a service, errors to exit codes.

Invariants: stdout carries the answer of a command and nothing else; people are told on stderr,
on lines that begin with `vswitch:`. A service ends cleanly on SIGINT, SIGTERM and SIGQUIT.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import os
import stat
import sys
import sysconfig
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from transport.errors import KeyFileError
from vswitch.cli.help import Parser
from vswitch.errors import (
    ConfigError,
    ExitCode,
    NotFound,
    NotReachable,
    PrivilegeError,
    TimedOut,
    VswitchError,
)

if TYPE_CHECKING:
    import trio

    from vswitch.config.options import ServiceConfig

_SHORT = (
    "too many files are open: raise the limit of this process (`ulimit -n 1024`, LimitNOFILE= of "
    "systemd) or of the system (`sysctl fs.file-max`)"
)
SUMMARIES = {  # of every command, in the order of `vswitch help commands`
    "serve": "run the switch",
    "invite": "make a join string for a new member",
    "members": "list the members",
    "member": "show or change what is kept of a member",
    "rename": "give a member another name",
    "disable": "keep a member out for a while",
    "enable": "let it in again",
    "revoke": "shut a member out for good",
    "join": "plug this machine into a switch",
    "exec": "run a program on the LAN, as an ordinary user",
    "proxy": "hand the LAN to programs here, without root",
    "leave": "give a membership of this machine up",
    "config": "check, show or reload the configuration of the switch",
    "status": "show the running switch and joins",
    "wait": "wait until it is connected",
    "ports": "list the ports, or show all that is known of one",
    "ping": "measure the round trip to a member, to the switch and beyond",
    "top": "show who sends how much now, and what is dropped",
    "port": "show or change the settings of a port",
    "publish": "lead a port of the switch's host to a member's service",
    "unpublish": "end that",
    "switch": "show or change the settings of the whole switch",
    "capture": "show or save the frames that pass ports",
    "counters": "show all counters, and what they grow by",
    "events": "list what has happened on the switch",
    "impair": "delay, lose or repeat frames of a port, for tests",
    "rules": "show or change who may open what to whom",
    "trace": "say what would happen to a frame, and why",
    "mac": "list or change the MAC table",
    "token": "make, list or revoke tokens of the API",
    "leases": "list the machines with an address by DHCP, or end a lease",
    "doctor": "say what is wrong here or on the way, and what to do",
    "netcheck": "say how well a switch is reached from here",
    "bench": "measure the link to another member",
    "demo": "see it work: a switch and two members on this machine",
    "rekey": "give the switch a new key, to which its members move",
    "backup": "keep the switch in one file",
    "restore": "put a switch back from that",
    "service": "have systemd run a switch or a member",
    "genkey": "make a key pair ahead of time",
    "pubkey": "print the public key of a private one",
    "completion": "print completions for a shell",
}
GROUPS = {  # the same, by what one wants; a new command stands in one of these, too
    "run": "serve join exec proxy leave demo",
    "members": "invite members member rename disable enable revoke",
    "look": "status ports top ping wait counters events capture trace leases bench doctor netcheck",
    "change": "port switch mac rules publish unpublish impair config",
    "keep": "backup restore rekey service token genkey pubkey completion",
}
_WIDTH = 79  # columns
DISTRIBUTION = "/usr"  # below which its packages have their files
_FOR_DOCTOR = (NotReachable, PrivilegeError, TimedOut)  # errors of which it may know the reason
T = TypeVar("T")
Subparsers = Any  # argparse._SubParsersAction, which typeshed makes generic and private


def add_command(subparsers: Subparsers, name: str, details: str, *examples: str) -> Parser:
    """A parser for one command; its help ends with examples that can be run, one for each action
    where it has several.
    """
    parser: Parser = subparsers.add_parser(
        name,
        help=SUMMARIES[name],
        description="\n\n".join(map(_filled, details.split("\n\n"))),
        examples=examples,
    )
    return parser


def _filled(paragraph: str) -> str:
    """For the 80 columns of a terminal; one with indented lines is a list, and stays as it is."""
    if any(line.startswith(" ") for line in paragraph.split("\n")):
        return paragraph
    return textwrap.fill(paragraph.replace("\n", " "), _WIDTH, break_on_hyphens=False)


def add_save(parser: Parser) -> None:
    """For a command that changes settings live."""
    parser.add_argument("--save", action="store_true", help="keep it when the switch ends, too")


def config_from(
    args: argparse.Namespace, cls: type[T], *, table: str | None = None, **fixed: object
) -> T:
    """The options of a command from flags, environment and file."""
    from vswitch.config.options import TABLES
    from vswitch.config.sources import load

    return load(cls, vars(args), os.environ, table=table, tables=TABLES, **fixed)


def log_as(config: ServiceConfig) -> None:
    """Send the events of this program where its options say; `ConfigError`."""
    from vswitch.logs import set_up

    set_up(
        config.log_level,
        config.log_file,
        config.log_days,
        config.log_size,
        config.log_only_file,
    )


def say(message: str, level: int = logging.INFO) -> None:
    """Tell the person at the terminal, or the journal, something that is not the answer."""
    if "JOURNAL_STREAM" in os.environ:
        from vswitch.logs import is_journal, with_priority

        message = with_priority(message, level) if is_journal(sys.stderr) else message
    print(message, file=sys.stderr)


def installed(*names: str) -> Path:
    """A file that comes with the package, which may have several `names`: below the data of this
    interpreter, of its environment, of this user, or where a distribution has it; `NotFound` says
    what to do.
    """
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    prefixes = dict.fromkeys((sysconfig.get_path("data"), sys.prefix, user, DISTRIBUTION))
    places = [Path(each) / name for each in prefixes for name in names]
    for path in places:
        if path.is_file():
            return path
    raise NotFound(
        f"{places[0]} is not there: such files come with what is built, and this is none that was; "
        "install vswitch from a wheel or a package"
    )


class AnswerLost(VswitchError):
    """Standard output took no more: a full disk, for one."""


def answer(*lines: str) -> None:
    """Write the answer of the command, and see that it has left this program.

    Raises:
        BrokenPipeError: the reader has gone, which is its right.
        AnswerLost: it could not be written.
    """
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AnswerLost(f"cannot write the answer: {error.strerror}") from None


def write_bytes(out: BinaryIO, data: bytes, what: str) -> None:
    """As `answer`, for what is no text, or a piece of it."""
    left = memoryview(data)
    try:
        while left:
            left = left[out.write(left) :]
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise AnswerLost(f"cannot write {what}: {error.strerror}") from None


def warn_of_readers(instead: str) -> None:
    """Where something secret goes to standard output, and that is a file that others can read."""
    with contextlib.suppress(OSError):  # of a library's stdout that is no file
        mode = os.fstat(sys.stdout.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            say(f"vswitch: warning: others can read this file: chmod 600, or `{instead}`")


def drop_stdout() -> None:
    """Keep the interpreter from failing once more when it flushes stdout at exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def print_json(data: object) -> None:
    """Write the answer as indented JSON."""
    answer(json.dumps(data, indent=2))


def run_service(
    service: Callable[[], Awaitable[None]],
    stop: trio.CancelScope | None = None,
    *,
    state: Callable[[], str] | None = None,
    hang_up: Callable[[], Awaitable[None]] | None = None,
) -> int:
    """Run an async service until it returns or a signal ends it; the exit code.

    SIGINT, SIGTERM and SIGQUIT cancel it once, or `stop` for one that has more to do then. A second
    one acts as the system does by itself, so a service that hangs as it stops can still be ended.
    SIGHUP begins `hang_up`, which raises nothing, and does nothing without.
    `state` says what the service is at, for a service manager.
    """
    # Not at the top: most commands are done before Trio is imported.
    import signal

    import trio

    from vswitch.logs import event
    from vswitch.runtime import keep_memory, optimised
    from vswitch.supervision import STOPPING, keep_told, notify

    keep_memory()
    if optimised() is False:
        event(logging.getLogger(__name__), "slow-python", executable=sys.executable)
    received: list[int] = []

    async def stop_on_signal(
        scope: trio.CancelScope,
        nursery: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with trio.open_signal_receiver(
            signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP
        ) as signals:
            task_status.started()
            async for number in signals:
                if number != signal.SIGHUP:
                    received.append(number)
                    break
                if hang_up is not None:
                    nursery.start_soon(hang_up)
        notify(STOPPING)
        scope.cancel()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signal, stop or nursery.cancel_scope, nursery)
            nursery.start_soon(keep_told, state)
            await service()
            nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    except BaseException as error:
        if any(isinstance(leaf, _FOR_DOCTOR) for leaf in _leaves(error)):
            say("vswitch: `vswitch doctor` looks for what is wrong on this host and on the way")
        raise
    return ExitCode.INTERRUPTED if received == [signal.SIGINT] else ExitCode.OK


def exit_code_of(error: BaseException) -> int:
    """Say on stderr what went wrong, and the exit code for it.

    Errors that are meant for the operator are one line each, also out of exception groups;
    anything else is a fault of this program and is shown with its traceback.
    """
    leaves = list(_leaves(error))
    if all(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return ExitCode.INTERRUPTED
    plain = [leaf for leaf in leaves if not isinstance(leaf, KeyboardInterrupt)]
    if _is_short(error):
        say(f"vswitch: error: {_SHORT}", logging.ERROR)
        return ExitCode.FAILED
    if not all(isinstance(leaf, VswitchError | KeyFileError) for leaf in plain):
        import traceback

        say("".join(traceback.format_exception(error)).rstrip(), logging.ERROR)
        fault = "this is a fault of vswitch; please report it with the lines above"
        say(f"vswitch: error: {fault}", logging.ERROR)
        return ExitCode.FAILED
    for message in dict.fromkeys(str(leaf) for leaf in plain):
        for line in message.splitlines():
            say(f"vswitch: error: {line}", logging.ERROR)
    first = plain[0]
    return first.exit_code if isinstance(first, VswitchError) else ConfigError.exit_code


def _is_short(error: BaseException | None) -> bool:
    """Whether it comes of a file that could not be opened beside so many others."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        if isinstance(error, BaseExceptionGroup) and any(map(_is_short, error.exceptions)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for child in error.exceptions:
            yield from _leaves(child)
    else:
        yield error
