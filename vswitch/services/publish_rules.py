"""What of the LAN is published, as an operator writes it: one rule each.

    [[publish]]
    listen = "tcp://:8080"
    to = "pc1:80"

Pure. Error contract: `ConfigError`, one line for each thing that is wrong, with its place.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from attrs import field, frozen

from vswitch.addresses import switch_address
from vswitch.config.addressing import Network, to_networks
from vswitch.config.networks import below, tables_of
from vswitch.config.places import Listen, Target, is_address, to_published, to_target
from vswitch.config.quantities import (
    Share,
    to_connection_limit,
    to_connection_rate,
    to_duration_or_off,
    to_share,
)
from vswitch.config.sources import Source, option, rare, structure
from vswitch.config.words import to_bool
from vswitch.errors import ConfigError
from vswitch.state import DEFAULT_NETWORK

MAX_PUBLISHED: Final = 256
_UNIQUE_LOCAL: Final = IPv6Network("fc00::/7")  # RFC 4193: of the LAN, or of nobody


@frozen(kw_only=True)
class PublishLimits:
    """Who may use what is published, and how much of it. Times are in seconds."""

    max_connections: int = field(
        default=1024,
        converter=to_connection_limit,
        metadata=rare("connections or UDP clients at once; more are refused (1024)", "N"),
    )
    max_per_client: int | Share | None = field(
        default=Share.FAIR,
        converter=to_share,
        metadata=rare(
            "the same of one address, of IPv6 one /64; or off (TCP: three quarters)",
            "N",
        ),
    )
    rate: float | None = field(
        default=None,
        converter=to_connection_rate,
        metadata=rare("new ones in a second, in the long run; or off (off)", "N"),
    )
    rate_per_client: float | None = field(
        default=None,
        converter=to_connection_rate,
        metadata=rare("the same of one address; or off (off)", "N"),
    )
    idle: float = field(
        default=3 * 3600.0,
        converter=to_duration_or_off,
        metadata=rare("end a connection that has been silent for so long; or off (3h)", "TIME"),
    )
    udp_idle: float = field(
        default=120.0,
        converter=to_duration_or_off,
        metadata=rare("forget a UDP client that has been silent for so long (2m)", "TIME"),
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

    @property
    def per_client(self) -> int | None:
        """What one client may have at once; None for no limit. Where nobody says it, one alone
        keeps nobody out, and a proxy, through which all come as one, has most.
        """
        said = self.max_per_client
        return max(1, self.max_connections * 3 // 4) if isinstance(said, Share) else said


@frozen(kw_only=True)
class PublishRule(PublishLimits):
    """One rule."""

    listen: Listen = field(
        converter=to_published, metadata=option("where: tcp://[ADDR]:PORT, udp://[ADDR]:PORT")
    )
    to: Target = field(converter=to_target, metadata=option("which service: NAME:PORT"))

    @property
    def per_client(self) -> int | None:
        """As above; of UDP, whose sources are easily forged, a new client takes a place instead."""
        forged = self.listen.udp and self.max_per_client is Share.FAIR
        return None if forged else super().per_client

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
    if is_address(rule.to.host):
        address = ip_address(rule.to.host)
        if address not in subnet and address not in _UNIQUE_LOCAL:
            raise ConfigError(f"{place}: {address} is no address of the LAN, which is {subnet}")
    return rule


def load_published(
    path: Source | None, subnet: IPv4Network, network: str = DEFAULT_NETWORK
) -> tuple[PublishRule, ...]:
    """The rules of a network in a configuration file, if there is one."""
    before, document = tables_of(path, network)
    tables = document.get("publish", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        name = f"{below(network)}publish"
        raise ConfigError(f"{before}publish: write [[{name}]], with two brackets")
    rules: list[PublishRule] = []
    problems: list[str] = []
    for number, table in enumerate(tables, 1):
        place = f"{before}publish[{number}]"
        try:
            rule = read_rule(table, place, subnet)
            check_room(rule, rules, place, subnet)
        except ConfigError as error:
            problems.append(str(error))
        else:
            rules.append(rule)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(rules)


def check_room(
    rule: PublishRule, others: list[PublishRule], place: str, subnet: IPv4Network
) -> None:
    """Whether there can be this rule beside others; `ConfigError` if not."""
    if len(others) >= MAX_PUBLISHED:
        raise ConfigError(f"{place}: there are {MAX_PUBLISHED} rules already")
    for other in others:
        if rule.listen.overlaps(other.listen):
            raise ConfigError(f"{place}: {rule.listen} takes what comes to {other.listen}")
    own = str(switch_address(subnet))  # which this host has with a local port
    for other in (rule, *others):
        for leads, listens in ((rule, other), (other, rule)):
            to = Listen(leads.listen.udp, leads.to.host, leads.to.first, leads.to.last)
            if to.host == own and to.overlaps(listens.listen):
                raise ConfigError(
                    f"{place}: {leads.listen} would lead back to this switch's own "
                    f"{listens.listen}, without end: name the member that has the service"
                )
