"""Where a host listens and connects, as an operator writes it.

    [udp:][ADDR:]PORT        where it listens; without ADDR at loopback, or at every LAN address
    [udp:]NAME:PORT          where it connects
    /PATH, ./PATH            a Unix stream socket, in place of either
    LISTEN=TARGET            a forward; `udp:` in front is for both ends

And where services are published, and where on the LAN they are:

    tcp://[ADDR]:PORT        or udp://; without ADDR at every address, IPv4 and IPv6
    NAME:PORT                a member, or an address
    tcp://:FIRST-LAST        a range of ports, in either

And where a switch listens, where it is reached, and by which proxy: `HOST:PORT`.

Pure. Error contract: `ValueError` with the reason alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from itertools import permutations
from typing import Final, TypeVar

from attrs import evolve, frozen

from vswitch.addresses import MAX_PLACES, HostPort, check_name, parse_https, parse_prefix
from vswitch.config.words import NONE, listed, to_interface, to_text

T = TypeVar("T")

LOOPBACK: Final = "127.0.0.1"
_UDP: Final = "udp:"
MAX_LISTENERS: Final = 16  # sockets of a switch
_PLACES_LIMIT: Final = 64  # listeners of a proxy, of one kind
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


def to_socks(value: str | Sequence[str | Place]) -> tuple[Place, ...]:
    """Where a proxy listens for SOCKS clients: a list, or text with spaces or commas."""
    return tuple(each if isinstance(each, Place) else parse_socks(each) for each in _several(value))


def to_forwards(value: str | Sequence[str | Forward]) -> tuple[Forward, ...]:
    """What a proxy listens at, and where that goes: a list, or text with spaces or commas."""
    return tuple(
        each if isinstance(each, Forward) else parse_forward(each) for each in _several(value)
    )


def _several(value: str | Sequence[T]) -> Sequence[str | T]:
    if isinstance(value, str):
        value = [] if value.lower() in NONE else listed(value)  # type: ignore[assignment]
    if not isinstance(value, list | tuple) or len(value) > _PLACES_LIMIT:
        raise ValueError(f"must be a list of {_PLACES_LIMIT} at most")
    for each in value:
        if not isinstance(each, Place | Forward):
            to_text(each)
    return value


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
    """Whether a socket at one address takes what comes to the other."""
    return one in ("", "::", other) or (one == "0.0.0.0" and ":" not in other)


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


def to_published(value: str | Listen) -> Listen:
    """Where a service is published."""
    return value if isinstance(value, Listen) else parse_published(to_text(value))


def to_target(value: str | Target) -> Target:
    """Where a published service is on the LAN."""
    return value if isinstance(value, Target) else parse_target(to_text(value))


def to_listen(value: str | HostPort | Sequence[str | HostPort]) -> tuple[HostPort, ...]:
    """Local UDP addresses: one, a list, or text with commas or spaces."""
    if isinstance(value, str):
        value = listed(value)
    places = tuple(map(_listener, value if isinstance(value, list | tuple) else [value]))
    if not 0 < len(places) <= MAX_LISTENERS:
        raise ValueError(f"listen at one place, and at {MAX_LISTENERS} at most")
    for one, other in permutations(places, 2):
        if one.port == other.port != 0 and _takes(one.host, other.host):
            # The kernel would say that the port is in use, and not by whom.
            raise ValueError(f"{one} takes what comes to {other}, too: leave one out")
    return places


def _listener(value: object) -> HostPort:
    """Without a host it is `::`, which takes IPv4 as well."""
    where = value if isinstance(value, HostPort) else HostPort.parse(to_text(value))
    if not where.host:
        return HostPort("::", where.port)
    try:
        address = ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError("listen on an IP address of this host, or on [::]") from None
    if address.is_link_local and address.version == 6 and "%" not in where.host:
        raise ValueError(f"say on which interface {address} is: [{address}%IFNAME]:PORT")
    return where


def to_https_listen(value: str | HostPort | None) -> HostPort | None:
    """Where a switch listens for HTTPS: one TCP address of this host; None for nowhere."""
    return None if value is None else _listener(value)


def to_api_listen(value: str | HostPort | None) -> HostPort | None:
    """Where the API is in plain text: an address of this host that nobody else can reach."""
    if value is None:
        return None
    where = _listener(value)
    try:
        loopback = ipaddress.ip_address(where.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            "plain HTTP is for this host alone: write 127.0.0.1:PORT or [::1]:PORT; others come "
            "by [https], which has the API where there is a table [api]"
        )
    return where


def to_bind(value: str | None) -> str | None:
    """A local IP address or an interface; None leaves the choice to the routing table."""
    if value is None:
        return None
    try:
        return str(ipaddress.ip_address(to_text(value)))
    except ValueError:
        return to_interface(value)


def to_public(value: str | HostPort | None) -> HostPort | None:
    """`HOST[:PORT]`; port 0 stands for the port that the switch listens on."""
    if value is None or isinstance(value, HostPort):
        return value
    where = HostPort.parse(to_text(value), default_port=0)
    if not where.host:
        raise ValueError("the host is missing: write HOST or HOST:PORT")
    return where


def to_publics(value: str | HostPort | Sequence[str | HostPort]) -> tuple[HostPort, ...]:
    """As `to_public`: one, a list, or text with commas or spaces; each once."""
    if isinstance(value, str):
        value = listed(value)
    places = map(to_public, value if isinstance(value, list | tuple) else [value])
    found = tuple(dict.fromkeys(each for each in places if each is not None))
    if len(found) > MAX_PLACES:
        raise ValueError(f"members try {MAX_PLACES} places at most")
    return found


def to_https_public(value: str | None) -> str | None:
    """Where members reach a switch over HTTPS, as `parse_https` has it."""
    return None if value is None else parse_https(to_text(value))


def to_prefix(value: str) -> str:
    """The path below which the HTTPS side of a switch is."""
    return parse_prefix(to_text(value))


def to_via(value: str | None) -> str | None:
    """A switch that is reached in plain text: `udp://HOST:PORT`, `tcp:` or `kcp:`."""
    if value is None:
        return None
    scheme, _, rest = to_text(value).partition("://")
    if scheme not in ("udp", "tcp", "kcp"):
        raise ValueError("write udp://HOST:PORT, tcp://HOST:PORT or kcp://HOST:PORT")
    where = HostPort.parse(rest)
    if not where.host or not where.port:
        raise ValueError(f"write {scheme}://HOST:PORT")
    return f"{scheme}://{where}"


def to_proxy(value: str | HostPort | None) -> HostPort | None:
    """An HTTP proxy, `http://HOST[:PORT]` or `HOST[:PORT]`; port 0 stands for the usual one."""
    if value is None or isinstance(value, HostPort):
        return value
    text = to_text(value).removeprefix("http://").removesuffix("/")
    if "@" in text:
        raise ValueError("a password is for a file: see --proxy-credentials")
    return to_public(text)
