"""Sockets towards a foreign port of somebody else's switch.

Error contract: `OSError`, or `NotReachable` for a name that is not known just now.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

import trio

from vswitch.addresses import HostPort
from vswitch.errors import NotReachable
from vswitch.foreign.streams import tune

__all__ = ["connect", "find", "make_socket"]

CONNECT_PATIENCE: Final = 10.0  # seconds for one address
FoundAddress = tuple[socket.AddressFamily, tuple[str, int]]


async def connect(where: HostPort, bind: str | None) -> socket.socket:
    """A connected, non-blocking socket, to the first address that answers."""
    failure: OSError | None = None
    for family, address in await find(where, socket.SOCK_STREAM):
        sock = make_socket(family, socket.SOCK_STREAM, bind)
        try:
            with trio.fail_after(CONNECT_PATIENCE):
                code = sock.connect_ex(address)
                if code == errno.EINPROGRESS:
                    await trio.lowlevel.wait_writable(sock)
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            tune(sock)
            return sock
        except trio.TooSlowError:
            failure = TimeoutError(errno.ETIMEDOUT, "no answer")
            sock.close()
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    assert failure is not None
    raise failure


async def find(where: HostPort, kind: socket.SocketKind) -> list[FoundAddress]:
    """The addresses of a switch."""
    try:
        found = await trio.socket.getaddrinfo(where.host, where.port, type=kind)
    except OSError as error:
        raise NotReachable(f"cannot resolve {where.host}: {error.strerror or error}") from None
    return [(family, (str(address[0]), int(address[1]))) for family, *_, address in found]


def make_socket(
    family: socket.AddressFamily, kind: socket.SocketKind, bind: str | None
) -> socket.socket:
    """A non-blocking socket, bound to an address or an interface if one is given."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if bind is not None:
            try:
                sock.bind((bind, 0))
            except OSError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bind.encode())
    except BaseException:
        sock.close()
        raise
    return sock
