"""Changes of this host that a session has to hear of: its machine has slept, its network changed.

Sleep: while a machine is suspended its monotonic clock stands still, and so do all our timers; a
session that is hours old looks as if it had just been used, though the switch has let go of it. So
the clock that counts sleep is compared with the one that does not, twice a second.

Network: the kernel gives notice of each change of links, addresses and routes. What exactly changed
is not read. Which address a datagram leaves from is the kernel's choice, made anew for each; so all
there is to do is to send something, from which the peer sees where we are now. Changes of our own
interface do no harm.

Error contract: nothing is raised. A system without such a clock, or without notices, gives none.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

import trio

NOTICEABLE: Final = 5.0  # seconds: less is survived by the session's own timers
INTERVAL: Final = 0.5  # seconds between two looks; a waking machine has to be back in two


class SleepDetector:
    """Pure; both clocks in seconds."""

    def __init__(self, boottime: float, monotonic: float) -> None:
        self._gap = boottime - monotonic

    def slept(self, boottime: float, monotonic: float) -> float:
        """Seconds slept since this last said so; 0 for what is too short to matter."""
        gap = boottime - monotonic
        slept = gap - self._gap
        if 0 <= slept < NOTICEABLE:
            return 0.0  # kept: many short ones make a long one
        self._gap = gap
        return max(0.0, slept)


def read_clocks() -> tuple[float, float]:
    """Boot time and monotonic time."""
    monotonic = time.clock_gettime(time.CLOCK_MONOTONIC)
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME), monotonic
    except (AttributeError, OSError):  # a system without
        return monotonic, monotonic


async def watch_sleep(
    woke: Callable[[float], None],
    clocks: Callable[[], tuple[float, float]] = read_clocks,
) -> None:
    """Call `woke(seconds)` after each sleep; for ever."""
    detector = SleepDetector(*clocks())
    while True:
        await trio.sleep(INTERVAL)
        slept = detector.slept(*clocks())
        if slept:
            woke(slept)


# From linux/rtnetlink.h: links, addresses and routes of both families.
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
_NOTICE: Final = 65536  # bytes; one that is longer is cut off, and not read anyway
SETTLE: Final = 0.1  # seconds: a change is a volley of notices


async def watch_network(changed: Callable[[], None]) -> None:
    """Call `changed()` after each volley of changes; for ever, or until that is impossible."""
    try:
        sock = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except (AttributeError, OSError):  # no Linux, or not allowed here
        return
    with sock:
        try:
            await sock.bind((0, _GROUPS))
        except OSError:
            return
        while True:
            await _notice(sock)
            changed()  # at once, for what has gone
            with trio.move_on_after(SETTLE):
                while True:
                    await _notice(sock)
            changed()  # and for what has come instead


async def _notice(sock: trio.socket.SocketType) -> None:
    try:
        await sock.recv(_NOTICE)
    except OSError:  # ENOBUFS: there were more than the socket holds
        await trio.sleep(SETTLE)
