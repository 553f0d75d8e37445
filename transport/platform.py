"""Where we run: Linux, or a system of which nothing is asked that POSIX and Python do not promise.

What differs is chosen once, when this is imported, and bound to plain functions: callers have no
branch. What a UDP socket can do is in `endpoint/kernel.py`, chosen by the same `LINUX`.
VSWITCH_TEST_PORTABLE=1 makes Linux such another system, for tests (docs/testing.md).

Errors: OSError as the kernel gave it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from struct import Struct
from typing import Final, Protocol

LINUX: Final[bool] = sys.platform == "linux" and os.environ.get("VSWITCH_TEST_PORTABLE") != "1"

_UCRED: Final = Struct("3i")  # struct ucred of linux/socket.h: pid, uid, gid


class Socket(Protocol):
    """Of Python or of Trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _peer_user(sock: Socket) -> int | None:
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, user, _ = _UCRED.unpack(data)
    return int(user)


def _unknown_user(sock: Socket) -> int | None:
    return None


# Seconds since the system began; with sleep where the kernel counts that.
boot_time: Final[Callable[[], float]] = _boot_clock if LINUX else time.monotonic
# The user at the other end of a UNIX socket; None where Python has no way to ask, and the mode of
# the socket's file alone decides who may connect, as POSIX lets a system do.
peer_user: Final[Callable[[Socket], int | None]] = _peer_user if LINUX else _unknown_user
