"""What both ends of an agent's connection use: answers with file descriptors, and the last sweep.

A function that an agent calls returns `WithDescriptors` for what the kernel shall hand over; the
agent closes its own copies.

Error contract: those of the connection, `EOFError` and `OSError`.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import attrs

# More than a dying process needs to be seen as dead; only forks that go on as quickly get so far.
_ROUNDS: Final = 1000


@attrs.frozen
class WithDescriptors:
    """A result and open file descriptors: inside those of the agent, outside those of the caller,
    who closes them.
    """

    value: Any
    fds: tuple[int, ...]


def send_answer(connection: Connection, answer: tuple[bool, Any]) -> None:
    """Send what a function has returned or raised; descriptors by SCM_RIGHTS right behind it."""
    connection.send(answer)
    result = answer[1]
    if isinstance(result, WithDescriptors):
        try:
            with closing(_socket_of(connection)) as sock:
                socket.send_fds(sock, [b"\0"], result.fds)
        finally:
            for fd in result.fds:
                os.close(fd)


def receive_answer(connection: Connection) -> tuple[bool, Any]:
    """The other end of `send_answer`."""
    ok, result = connection.recv()
    if isinstance(result, WithDescriptors):
        with closing(_socket_of(connection)) as sock:
            _, fds, _, _ = socket.recv_fds(sock, 1, len(result.fds), socket.MSG_CMSG_CLOEXEC)
        result = attrs.evolve(result, fds=tuple(fds))
    return ok, result


def _socket_of(connection: Connection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


def kill_all_in(namespace: str) -> None:
    """Kill every process but this one that is in the network namespace, until none is left.

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
    try:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            return False
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), wanted)
    except OSError:  # gone meanwhile, or another user's
        return False
