"""Have addresses or routes of this host changed? The kernel's notices, without what they say.

Which address a datagram leaves from is the kernel's choice, made anew for each; so all there is to
do after any change is to send something, from which the peer sees where we are now. What exactly
changed does not matter, and our own interface's changes do no harm.

Error contract: nothing is raised. Where the kernel gives no notices nothing is ever noticed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import trio

__all__ = ["watch_network"]

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
