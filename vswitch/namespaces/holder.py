"""The caller's end of namespaces: starts the process that holds them, and calls functions in it.

Invariants: one call at a time; the namespaces end with the connection, so with this process.

Errors: what a called function raises is raised here, with the place in a note; `VswitchError` when
the holding process is gone, or could not begin; `TimedOut`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs

from vswitch.errors import TimedOut, VswitchError
from vswitch.namespaces import enter
from vswitch.namespaces.answers import Answers

P = ParamSpec("P")
T = TypeVar("T")

PACKAGES = Path(__file__).resolve().parents[2]  # the directory that holds the vswitch package
START_TIMEOUT = 20  # seconds: a loaded machine starts Python slowly
CALL_TIMEOUT = 60  # seconds
STOP_TIMEOUT = 5  # seconds until it is killed


class CannotStart(VswitchError):
    """The process has ended before it answered: namespaces were refused."""


@attrs.define(eq=False)
class Holder:
    """A process in namespaces; made by `start_holder`."""

    name: str  # for people
    process: subprocess.Popen[bytes]
    _connection: Connection
    _answers: Answers
    _calling: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def begin(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Begin to call an importable function inside; `answer` must be asked for."""
        if self._calling:
            raise RuntimeError(f"{self.name} is busy with another call")
        try:
            self._connection.send((function, args, kwargs))
        except OSError as error:
            raise VswitchError(f"{self.name} is gone") from error
        self._calling = True

    def answer(self, timeout: float = CALL_TIMEOUT) -> Any:
        """What the function has returned, `timeout` seconds after now at most."""
        try:
            if not self._connection.poll(timeout):
                raise TimedOut(f"{self.name} did not answer in {timeout:g} s")
            ok, value = self._answers.receive()
        except (EOFError, ConnectionResetError) as error:
            raise VswitchError(f"{self.name} is gone") from error
        self._calling = False
        if not ok:
            raise value
        return value

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an importable function inside. Blocks."""
        self.begin(function, *args, **kwargs)
        return self.answer()  # type: ignore[no-any-return]

    def hang_up(self) -> None:
        """Tell the process to end."""
        self._connection.close()
        self._answers.close()

    def close(self) -> None:
        """End the process, and wait until it has ended. Blocks."""
        self.hang_up()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_holder(
    name: str,
    directory: Path,
    *,
    new_user: bool,
    join_user: int | None = None,
    ambient: bool = False,
    binds: Mapping[str, str] | None = None,
    hidden: Iterable[str] = (),
    kill: bool = False,
) -> Holder:
    """Make network and mount namespaces with a process in them; see `enter.command`.

    `directory` is removed at its end; with `kill` all that runs in the user namespace ends too.
    """
    ours, theirs = Pipe()
    agent = [sys.executable, "-m", "vswitch.namespaces.agent", *(["--kill"] if kill else [])]
    answers = Answers(ours)
    try:
        process = subprocess.Popen(
            enter.command(
                [*agent, str(theirs.fileno()), str(directory)],
                join_user=join_user,
                new_user=new_user,
                new=True,
                ambient=ambient,
                binds=dict(binds or {}),
                hidden=hidden,
            ),
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(PACKAGES)},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    except BaseException:
        answers.close()
        ours.close()
        raise
    finally:
        theirs.close()
    holder = Holder(name, process, ours, answers)
    try:
        holder.begin(os.getpid)
        holder.answer(START_TIMEOUT)
    except BaseException as error:
        process.kill()
        assert process.stderr is not None
        said = process.stderr.read().decode(errors="replace").strip()
        holder.close()
        if said and isinstance(error, VswitchError):
            raise CannotStart(said.splitlines()[-1]) from error
        raise
    return holder
