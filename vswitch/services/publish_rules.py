"""What of the LAN is published, as an operator writes it: one rule each.

    tcp://0.0.0.0:8080     where the switch's host listens: tcp or udp, an address, a port
    tcp://:8000-8010       at every address, IPv4 and IPv6; a range of ports
    pc1:80                 where it leads: a member by name, or an address of the LAN, and a port
    pc1:9000-9010          as many ports as are listened at, each to its own

Pure. Error contract: converters raise `ValueError` with the reason alone; the rest `ConfigError`,
one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address
from math import inf
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from vswitch.addresses import HostPort, check_name
from vswitch.config.converters import (
    Network,
    to_bool,
    to_connection_limit,
    to_connection_rate,
    to_duration_or_off,
    to_networks,
)
from vswitch.config.sources import option, read_tables, structure
from vswitch.errors import ConfigError

MAX_RULES: Final = 256
MAX_PORTS: Final = 1024  # of one rule: each is a socket and a task
_TCP_IDLE, _UDP_IDLE = 3 * 3600.0, 120.0  # seconds
_SCHEMES: Final = {"tcp": False, "udp": True}


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


def _parse(text: str) -> tuple[str, int, int]:
    """Host, and the first and the last port."""
    front, dash, end = text.rpartition("-")
    ranged = bool(dash) and end.isdigit() and ":" in front
    where = HostPort.parse(front if ranged else text)
    last = HostPort.parse(f":{end}").port if ranged else where.port
    if not 0 < where.port <= last:
        raise ValueError("ports are 1 to 65535, and a range is FIRST-LAST")
    if last - where.port >= MAX_PORTS:
        raise ValueError(f"a rule has {MAX_PORTS} ports at most")
    return where.host, where.port, last


def to_published(value: str | Listen) -> Listen:
    """Where to listen: `tcp://[ADDR]:PORT[-PORT]`, or `udp://`."""
    if isinstance(value, Listen):
        return value
    scheme, separator, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("write tcp://[ADDR]:PORT or udp://[ADDR]:PORT, such as tcp://:8080")
    host, first, last = _parse(rest)
    try:
        # `[::]` is every address, of IPv4 as well, as it is of `serve --listen`.
        host = "" if not host or host == "::" else str(ip_address(host))
    except ValueError:
        raise ValueError("listen at an IP address of this host, or at every one: :PORT") from None
    return Listen(_SCHEMES[scheme], host, first, last)


def to_target(value: str | Target) -> Target:
    """Where it leads: `NAME:PORT[-PORT]`."""
    if isinstance(value, Target):
        return value
    if not isinstance(value, str):
        raise ValueError("write NAME:PORT, such as pc1:80")
    host, first, last = _parse(value)
    if not host:
        raise ValueError("the name of a member is missing: write NAME:PORT, such as pc1:80")
    host = host.lower().removesuffix(".")
    if not _is_address(host):
        check_name(host)
    return Target(host, first, last)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _to_client_limit(value: object) -> int | None:
    return None if value in (None, "off") else to_connection_limit(value)  # type: ignore[arg-type]


def _to_idle(value: str | float | None) -> float | None:
    return None if value is None else to_duration_or_off(value)


@frozen(kw_only=True)
class PublishLimits:
    """Who may use what is published, and how much of it. Times are in seconds."""

    max_connections: int = field(
        default=1024,
        converter=to_connection_limit,
        metadata=option("connections or UDP clients at once; more are refused (1024)", "N"),
    )
    max_per_client: int | None = field(
        default=None,
        converter=_to_client_limit,
        metadata=option("the same of one address, of IPv6 one /64; or off (off)", "N"),
    )
    rate: float | None = field(
        default=None,
        converter=to_connection_rate,
        metadata=option("new ones in a second, in the long run; or off (off)", "N"),
    )
    rate_per_client: float | None = field(
        default=None,
        converter=to_connection_rate,
        metadata=option("the same of one address; or off (off)", "N"),
    )
    idle: float | None = field(
        default=None,
        converter=_to_idle,
        metadata=option("end what has been silent for so long; or off (3h, of UDP 2m)", "TIME"),
    )
    allow: tuple[Network, ...] = field(
        default=(),
        converter=to_networks,
        metadata=option(
            "clients from this network alone (everybody); may be repeated", "CIDR", kind="list"
        ),
    )
    deny: tuple[Network, ...] = field(
        default=(),
        converter=to_networks,
        metadata=option(
            "none from this network, also of those; may be repeated", "CIDR", kind="list"
        ),
    )
    proxy_protocol: bool = field(
        default=False,
        converter=to_bool,
        metadata=option("tell the server who asks, by PROXY protocol v2", kind="switch"),
    )


@frozen(kw_only=True)
class PublishRule(PublishLimits):
    """One rule."""

    listen: Listen = field(
        converter=to_published, metadata=option("where: tcp://[ADDR]:PORT, udp://[ADDR]:PORT")
    )
    to: Target = field(converter=to_target, metadata=option("which service: NAME:PORT"))

    @property
    def idle_seconds(self) -> float:
        """After which what is silent ends; infinite for never."""
        if self.idle is None:
            return _UDP_IDLE if self.listen.udp else _TCP_IDLE
        return inf if self.idle == inf else self.idle

    def target_port(self, port: int) -> int:
        """Which port on the LAN belongs to one that is listened at."""
        return self.to.first + port - self.listen.first


def read_rule(table: dict[str, Any], place: str, subnet: IPv4Network) -> PublishRule:
    """A rule from a table of a file, or from what somebody has said instead.

    Raises:
        ConfigError: it is wrong in itself, or leads out of the subnet.
    """
    for key in ("listen", "to"):
        if table.get(key) is None:
            raise ConfigError(f'{place}: {key} is missing: listen = "tcp://:8080", to = "pc1:80"')
    rule = structure(PublishRule, table, place)
    ports, wanted = len(rule.listen.ports), rule.to.last - rule.to.first + 1
    if ports != wanted:
        raise ConfigError(
            f"{place}: {ports} ports are listened at, and {wanted} are to be reached: write as "
            f"many behind {rule.to.host}:, each leads to its own"
        )
    if rule.proxy_protocol and rule.listen.udp:
        raise ConfigError(f"{place}: the PROXY protocol is for TCP")
    if _is_address(rule.to.host):
        address = ip_address(rule.to.host)
        inside = address in subnet if isinstance(address, IPv4Address) else address.is_private
        if not inside or address.is_loopback or address.is_link_local:
            raise ConfigError(f"{place}: {address} is no address of the LAN, which is {subnet}")
    return rule


def load_published(path: Path | None, subnet: IPv4Network) -> tuple[PublishRule, ...]:
    """The rules of a configuration file, if there is one."""
    tables = [] if path is None else read_tables(path).get("publish", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise ConfigError(f"{path}: publish: write [[publish]], with two brackets")
    rules: list[PublishRule] = []
    problems: list[str] = []
    for number, table in enumerate(tables, 1):
        place = f"{path}: publish[{number}]"
        try:
            rule = read_rule(table, place, subnet)
            check_room(rule, rules, place)
        except ConfigError as error:
            problems.append(str(error))
        else:
            rules.append(rule)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(rules)


def check_room(rule: PublishRule, others: list[PublishRule], place: str) -> None:
    """Whether there can be this rule beside others; `ConfigError` if not."""
    if len(others) >= MAX_RULES:
        raise ConfigError(f"{place}: there are {MAX_RULES} rules already")
    for other in others:
        if rule.listen.overlaps(other.listen):
            raise ConfigError(f"{place}: {rule.listen} takes what comes to {other.listen}")
