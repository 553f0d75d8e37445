"""The kernel's notices of changes of its links, addresses, routes and rules.

What exactly changed is not read: whoever hears of it looks at what concerns him.

Error contract: nothing is raised. A system without such notices gives none.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from transport.platform import LINUX

# From linux/rtnetlink.h: links, addresses, routes and rules of both families.
_GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
_NOTICE: Final = 65536  # bytes; one that is longer is cut off, and not read anyway
SETTLE: Final = 0.1  # seconds: a change is a volley of notices
REST: Final = 0.4  # seconds without a look after two: so that they cost next to nothing


async def watch_network(changed: Callable[[], Awaitable[None]]) -> None:
    """Await `changed()` after each volley of changes; for ever, or until that is impossible."""
    if not LINUX:
        return
    try:
        sock = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError:  # not allowed here
        return
    with sock:
        try:
            await sock.bind((0, _GROUPS))
        except OSError:
            return
        while True:
            await _notice(sock)
            await changed()  # at once, for what has gone
            with trio.move_on_after(SETTLE):
                while True:
                    await _notice(sock)
            await changed()  # and for what has come instead
            await trio.sleep(REST)


async def _notice(sock: trio.socket.SocketType) -> None:
    try:
        await sock.recv(_NOTICE)
    except OSError:  # ENOBUFS: there were more than the socket holds
        await trio.sleep(SETTLE)
