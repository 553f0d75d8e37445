"""What a service manager is told of this program, by the protocol of sd_notify(3).

A manager that wants to know, such as systemd with `Type=notify`, names a socket in `NOTIFY_SOCKET`;
without that nothing here does anything. Nothing here raises: a manager that does not listen is a
line in the log.

    notify(READY, status("serving"))     it has started, and what it does
    with reloading(): ...                around a reload, whether that is refused or not
    notify(STOPPING)
    await keep_told(state)               a task of the loop: its state, and the watchdog

The watchdog is fed from the loop that moves the frames and by nothing else, so that a manager ends
a loop that hangs; Python then writes where all threads were to stderr.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import trio

from vswitch.logs import clean, event

_log = logging.getLogger(__name__)

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
_FED: Final = "WATCHDOG=1"

_LOOK = 5.0  # s between looks whether the state has changed
_STATUS = 200  # characters of a state: one line of `systemctl status`


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the manager, if there is one, these lines at once."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # an abstract name, unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send("\n".join(lines).encode())
    except OSError as error:
        event(_log, "notify-failed", logging.WARNING, path=path, error=error.strerror)


def status(text: str) -> str:
    """The line that says what the program does, for people."""
    return f"STATUS={clean(text)[:_STATUS]}"


@contextmanager
def reloading(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Around a reload. The manager takes the program as ready again afterwards, also where what
    was to be loaded was refused: the old goes on.
    """
    # The time, in microseconds, tells this reload from earlier ones (Type=notify-reload).
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={now}", environ=environ)
    try:
        yield
    finally:
        notify(READY, environ=environ)


def watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the manager wants to hear of process `pid`; None if it does not."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # of a parent, whose variables we have
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return microseconds / 1e6 if microseconds > 0 else None


async def keep_told(
    state: Callable[[], str] | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Feed the watchdog at twice the rate that it asks for, and tell `state` when it has changed.
    Returns where there is nobody to tell.
    """
    patience = watchdog(environ, os.getpid())
    if not environ.get("NOTIFY_SOCKET") or (patience is None and state is None):
        return
    if patience is not None and sys.stderr is not None and not faulthandler.is_enabled():
        faulthandler.enable(sys.stderr)  # SIGABRT is how systemd ends what hangs
    pause = _LOOK if patience is None else min(_LOOK, patience / 2)
    fed = () if patience is None else (_FED,)
    told = None
    while True:
        said = None if state is None else status(state())
        lines = fed if said is None or said == told else (*fed, said)
        if lines:
            notify(*lines, environ=environ)
        told = said
        await trio.sleep(pause)


class Readiness:
    """A `trio.TaskStatus` that tells the manager, once, that a service has started."""

    def __init__(self) -> None:
        self.value: Any = None  # what the service has said of itself as it started
        self._told = False

    def started(self, value: Any = None) -> None:
        """It has."""
        self.value = value
        if not self._told:
            self._told = True
            notify(READY)

    async def started_after(self, seconds: float) -> None:
        """At the latest then: it goes on trying, and what waits for it need not wait so long."""
        await trio.sleep(seconds)
        self.started()
