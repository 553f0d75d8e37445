"""Where the proxy listens and connects, as an operator writes it.

    [udp:][ADDR:]PORT        where it listens; without ADDR at loopback, or at every LAN address
    [udp:]NAME:PORT          where it connects
    /PATH, ./PATH            a Unix stream socket, in place of either
    LISTEN=TARGET            a forward; `udp:` in front is for both ends

Pure. Error contract: `ValueError` with the reason alone.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from attrs import evolve, frozen

from vswitch.addresses import HostPort

LOOPBACK: Final = "127.0.0.1"
_UDP: Final = "udp:"
_PATH_BYTES: Final = 107  # sun_path of unix(7), without the final zero


@frozen
class Place:
    """A TCP or UDP socket, or a Unix stream socket at `path`. `host` "" is not said."""

    host: str = ""
    port: int = 0
    udp: bool = False
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether only this host reaches what listens there."""
        return bool(self.path) or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return self.path or _UDP * self.udp + HostPort(self.host, self.port).text()


@frozen
class Forward:
    """What comes to `listen` goes on to `target`."""

    listen: Place
    target: Place

    def __str__(self) -> str:
        return f"{self.listen}={str(self.target).removeprefix(_UDP)}"


def parse_listen(text: str) -> Place:
    """Where to listen."""
    udp, text = text.startswith(_UDP), text.removeprefix(_UDP)
    if "/" in text:
        return _path(text, udp)
    where = HostPort.parse(f":{text}" if text.isdigit() else text)
    if where.host:
        try:
            ipaddress.ip_address(where.host)
        except ValueError:
            raise ValueError("listen at an IP address: [ADDR:]PORT") from None
    return Place(where.host, where.port, udp)


def parse_forward(text: str) -> Forward:
    """`LISTEN=TARGET`."""
    first, equals, second = text.rpartition("=")
    if not equals:
        raise ValueError("write LISTEN=TARGET, such as 8080=pc1:80 or udp:5353=pc1:53")
    listen = parse_listen(first)
    if second.startswith(_UDP):
        raise ValueError("write udp: once, in front")
    if "/" in second:
        return Forward(listen, _path(second, listen.udp))
    where = HostPort.parse(second)
    if not where.host or not where.port:
        raise ValueError("the target needs a host and a port: NAME:PORT")
    return Forward(listen, Place(where.host, where.port, listen.udp))


def parse_socks(text: str) -> Place:
    """Where a SOCKS server listens."""
    place = parse_listen(text)
    if place.udp:
        raise ValueError("SOCKS listens on TCP; UDP is what its clients ask for")
    return place


def on_loopback(place: Place) -> Place:
    """At loopback, where nothing else was said."""
    return place if place.path or place.host else evolve(place, host=LOOPBACK)


def _path(text: str, udp: bool) -> Place:
    if udp:
        raise ValueError("a Unix socket here is one of streams: leave udp: out")
    if not text.isprintable() or len(text.encode()) > _PATH_BYTES:
        raise ValueError(f"the path of a Unix socket has {_PATH_BYTES} printable bytes at most")
    return Place(path=text)
