"""What both ends of an agent's connection use: answers with file descriptors, and the last sweep.

A function that an agent calls returns `WithDescriptors` for what the kernel shall hand over; the
agent closes its own copies.

Error contract: those of the connection, `EOFError` and `OSError`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import attrs

# More than a dying process needs to be seen as dead; only forks that go on as quickly get so far.
_ROUNDS: Final = 1000
_NS_GET_PARENT: Final = 0xB702  # of linux/nsfs.h: a descriptor of the namespace above


@attrs.frozen
class WithDescriptors:
    """A result and open file descriptors: inside those of the agent, outside those of the caller,
    who closes them.
    """

    value: Any
    fds: tuple[int, ...]


class Answers:
    """Answers on one connection, with their descriptors, which go by SCM_RIGHTS right behind them.

    A process that has no descriptors left refuses those of one answer; the next one is whole.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # Now, and not when a descriptor may be what is missing.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def send(self, ok: bool, result: Any) -> None:
        """Send what a function has returned or raised, and close the descriptors in it."""
        self._connection.send((ok, result))
        if isinstance(result, WithDescriptors):
            try:
                socket.send_fds(self._socket, [b"\0"], result.fds)
            finally:
                _close(result.fds)

    def receive(self) -> tuple[bool, Any]:
        """The other end of `send`; the exception is `OSError` where descriptors got lost."""
        ok, result = self._connection.recv()
        if isinstance(result, WithDescriptors):
            count = len(result.fds)
            _, fds, _, _ = socket.recv_fds(self._socket, 1, count, socket.MSG_CMSG_CLOEXEC)
            if len(fds) < count:
                _close(fds)
                return False, OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            result = attrs.evolve(result, fds=tuple(fds))
        return ok, result

    def close(self) -> None:
        """Together with the connection."""
        self._socket.close()


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def kill_all_in(namespace: str) -> None:
    """Kill every process but this one that is in the user namespace, or in one that was made in it,
    until none is left.

    The caller keeps `namespace`, such as /proc/self/fd/9, alive meanwhile: its number is taken
    again once it has gone.
    """
    wanted = os.stat(namespace)
    for _ in range(_ROUNDS):
        found = [pid for pid in _processes() if _is_in(pid, wanted)]
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _processes() -> list[int]:
    others = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    return [pid for pid in others if pid != os.getpid()]


def _is_in(pid: int, wanted: os.stat_result) -> bool:
    with ExitStack() as opened, suppress(OSError):  # gone meanwhile, another user's, or none above
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            return False
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        while True:
            opened.callback(os.close, fd)
            if os.path.samestat(os.fstat(fd), wanted):
                return True
            fd = fcntl.ioctl(fd, _NS_GET_PARENT)
    return False
