"""Names to addresses, asked of the system's resolver. Raises `OSError`; nothing is kept."""

from __future__ import annotations

import socket

import trio


async def resolve(
    host: str, port: int, kind: socket.SocketKind = socket.SOCK_DGRAM
) -> list[tuple[str, int]]:
    """All addresses of `host`, in the system's order of preference."""
    found = await trio.socket.getaddrinfo(host, port, type=kind)
    # An IPv6 scope is part of the text ("fe80::1%eth0") as getaddrinfo gives it.
    return list(dict.fromkeys((str(sockaddr[0]), int(sockaddr[1])) for *_, sockaddr in found))
