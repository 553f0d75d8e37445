"""Names to addresses, asked of the system's resolver. Raises `OSError`; nothing is kept."""

from __future__ import annotations

import socket
from typing import Any

import trio


async def resolve(
    host: str, port: int, kind: socket.SocketKind = socket.SOCK_DGRAM
) -> list[tuple[str, int]]:
    """All addresses of `host`, in the system's order of preference."""
    found = await trio.socket.getaddrinfo(host, port, type=kind)
    return list(dict.fromkeys((_text(sockaddr), int(sockaddr[1])) for *_, sockaddr in found))


def _text(sockaddr: tuple[Any, ...]) -> str:
    """The address, with the interface of a link-local one behind a `%`."""
    host, scope = str(sockaddr[0]), sockaddr[3] if len(sockaddr) == 4 else 0
    return f"{host}%{socket.if_indextoname(scope)}" if scope and "%" not in host else host
