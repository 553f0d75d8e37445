"""Where a host listens and connects, as an operator writes it.

    [udp:][ADDR:]PORT        where it listens; without ADDR at loopback, or at every LAN address
    [udp:]NAME:PORT          where it connects
    /PATH, ./PATH            a Unix stream socket, in place of either
    LISTEN=TARGET            a forward; `udp:` in front is for both ends

And where services are published, and where on the LAN they are:

    tcp://[ADDR]:PORT        or udp://; without ADDR at every address, IPv4 and IPv6
    NAME:PORT                a member, or an address
    tcp://:FIRST-LAST        a range of ports, in either

Pure. Error contract: `ValueError` with the reason alone.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from attrs import evolve, frozen

from vswitch.addresses import HostPort, check_name

LOOPBACK: Final = "127.0.0.1"
_UDP: Final = "udp:"
MAX_PUBLISHED_PORTS: Final = 1024  # of one rule: each is a socket and a task
_SCHEMES: Final = {"tcp": False, "udp": True}
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


@frozen
class Listen:
    """Where the host listens. `host` is an IP address, "" for all; `first` to `last` are ports."""

    udp: bool
    host: str
    first: int
    last: int

    @property
    def ports(self) -> range:
        """All of them."""
        return range(self.first, self.last + 1)

    def overlaps(self, other: Listen) -> bool:
        """Whether a socket of the one would take what is for the other."""
        ports = self.first <= other.last and other.first <= self.last
        hosts = _takes(self.host, other.host) or _takes(other.host, self.host)
        return self.udp == other.udp and ports and hosts

    def __str__(self) -> str:
        return f"{'udp' if self.udp else 'tcp'}://{_place(self.host, self.first, self.last)}"


@frozen
class Target:
    """Where a rule leads: a name or an IP address, and as many ports as are listened at."""

    host: str
    first: int
    last: int

    def __str__(self) -> str:
        return _place(self.host, self.first, self.last)


def _takes(one: str, other: str) -> bool:
    return one in ("", other) or (one == "0.0.0.0" and ":" not in other)


def _place(host: str, first: int, last: int) -> str:
    text = HostPort(host, first).text()
    return text if first == last else f"{text}-{last}"


def _ranged(text: str) -> tuple[str, int, int]:
    """Host, and the first and the last port."""
    front, dash, end = text.rpartition("-")
    ranged = bool(dash) and end.isdigit() and ":" in front
    where = HostPort.parse(front if ranged else text)
    last = HostPort.parse(f":{end}").port if ranged else where.port
    if not 0 < where.port <= last:
        raise ValueError("ports are 1 to 65535, and a range is FIRST-LAST")
    if last - where.port >= MAX_PUBLISHED_PORTS:
        raise ValueError(f"a rule has {MAX_PUBLISHED_PORTS} ports at most")
    return where.host, where.port, last


def parse_published(text: str) -> Listen:
    """Where the switch's host listens."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("write tcp://[ADDR]:PORT or udp://[ADDR]:PORT, such as tcp://:8080")
    host, first, last = _ranged(rest)
    try:
        # `[::]` is every address, of IPv4 as well, as it is of `serve --listen`.
        host = "" if not host or host == "::" else str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError("listen at an IP address of this host, or at every one: :PORT") from None
    return Listen(_SCHEMES[scheme], host, first, last)


def parse_target(text: str) -> Target:
    """Where on the LAN it leads."""
    host, first, last = _ranged(text)
    if not host:
        raise ValueError("the name of a member is missing: write NAME:PORT, such as pc1:80")
    host = host.lower().removesuffix(".")
    if not is_address(host):
        check_name(host)
    return Target(host, first, last)


def is_address(host: str) -> bool:
    """Whether it is an IP address; a name has no colon, and does not end in digits alone."""
    return ":" in host or host.rpartition(".")[2].isdigit()
