"""What a service manager is told of this program, by the protocol of sd_notify(3).

A manager that wants to know, such as systemd with `Type=notify`, names a socket in `NOTIFY_SOCKET`;
without that nothing here does anything. Nothing here raises: a manager that does not listen is a
line in the log.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

import trio

from vswitch.logs import event

_log = logging.getLogger(__name__)

READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the manager, if there is one: `READY` or `STOPPING`."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path  # an abstract name, unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send(state.encode())
    except OSError as error:
        event(_log, "notify-failed", logging.WARNING, path=path, error=error.strerror)


class Readiness:
    """A `trio.TaskStatus` that tells the manager, once, that a service has started."""

    def __init__(self) -> None:
        self._told = False

    def started(self, value: object = None) -> None:
        """It has; `value` is for others."""
        if not self._told:
            self._told = True
            notify(READY)

    async def started_after(self, seconds: float) -> None:
        """At the latest then: it goes on trying, and what waits for it need not wait so long."""
        await trio.sleep(seconds)
        self.started()
