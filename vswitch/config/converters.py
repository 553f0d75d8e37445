"""How text or a value of TOML becomes the value of an option, a setting, or an order.

One function for each kind of value: booleans, whole numbers, MTUs, rates, durations, names,
interfaces, addresses, VLANs. Flags, variables, configuration files, live settings and requests all
use these, so that a spelling which one of them takes is taken by all. Each takes a value that is
already right and returns it unchanged.

Error contract: `ValueError` with the reason alone; who calls adds where the value came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from itertools import permutations
from math import inf
from pathlib import Path
from typing import TypeAlias, TypeVar

from vswitch.addresses import (
    MAX_OFFERED,
    MAX_PLACES,
    PRIVATE,
    WAY_OUT,
    HostPort,
    check_name,
    parse_https,
    parse_prefix,
    parse_subnet,
    parse_wish,
    unroutable,
)
from vswitch.config.places import (
    Forward,
    Listen,
    Place,
    Target,
    parse_forward,
    parse_published,
    parse_socks,
    parse_target,
)
from vswitch.frames.ethernet import (
    MAX_MTU,
    MAX_VLAN,
    MIN_MTU,
    format_mac,
    parse_mac,
    parse_vlans,
)
from vswitch.members.lane_choice import LANES

Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")

LEVELS = ("trace", "debug", "info", "warning", "error")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")  # as useradd(8) takes them, and dots
INTERFACE_CHARS = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
MAX_LISTENERS = 16  # sockets of a switch
_CONNECTIONS_LIMIT = 65536
_PLACES_LIMIT = 64  # listeners of a proxy, of one kind
_MEMBERS_LIMIT = 65536  # far beyond what one process can carry; keeps mistakes out
_NAMES_LIMIT = 64  # ports in one setting
_PORT_CHARS = 128  # NAME-[ADDRESS%INTERFACE]:PORT of a foreign client
_LOG_SIZE_RANGE = (10_000, 10**12)  # bytes
_LOG_DAYS_LIMIT = 3650
_FRAMES_LIMIT = 1_000_000_000  # a second: far beyond any
_RATE_LIMIT = 1e12  # a second
_DURATION_LIMIT = 366 * 86400.0  # s
_MAC_LIMIT_RANGE = (1, 8192)  # up to the capacity of the FDB
_MACS_LIMIT = 256  # addresses of one port
_DOMAINS_LIMIT = 256  # in one setting
_FORWARDERS_LIMIT = 4  # resolvers: more are never asked
_RECORDS_LIMIT = 4096  # of a zone
_DNS_PORT = 53
_BOOLEANS = dict.fromkeys(("on", "yes", "true", "1"), True) | dict.fromkeys(
    ("off", "no", "false", "0"), False
)
_NONE = ("none", "")
EXIT = "exit"  # stands for `WAY_OUT`
ACCEPTED: dict[str, tuple[Network, ...]] = {"off": (), "private": PRIVATE, "all": WAY_OUT}
_WHOLE = re.compile(r"-?[0-9]{1,12}", re.ASCII)
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kmg]?) ?([a-z/]*)", re.ASCII)
_DOMAIN_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12}) ?([kmg]?)b?", re.ASCII)
_THOUSANDS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_BITS = ("", "bit", "bit/s", "bps")
_FRAMES = ("", "/s", "fps", "frames/s")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?) ?(us|ms|s|m|h|d)", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def to_bool(value: bool | int | str) -> bool:
    """`on`, `yes`, `true` or `1`; `off`, `no`, `false` or `0`; in a file with quotes or without."""
    known = _BOOLEANS.get(str(value).lower()) if isinstance(value, str | int) else None
    if known is None:
        raise ValueError("must be on or off, yes or no, true or false, 1 or 0")
    return known


def to_optional_bool(value: bool | int | str | None) -> bool | None:
    """As `to_bool`; None, or `default`, means what holds elsewhere."""
    return None if value is None or value == "default" else to_bool(value)


def whole(value: object, low: int, high: int) -> int:
    """A whole number of this range, both ends included."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    # bool is an int to Python, not to whoever wrote `mtu = true`.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    if not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def to_mtu(value: int | str) -> int:
    """Bytes of payload of the largest Ethernet frame."""
    return whole(value, MIN_MTU, MAX_MTU)


def to_optional_mtu(value: int | str | None) -> int | None:
    """As `to_mtu`; None means what the switch says."""
    return None if value is None else to_mtu(value)


def to_member_limit(value: int | str) -> int:
    """How many members a switch may have."""
    return whole(value, 1, _MEMBERS_LIMIT)


def to_log_days(value: int | str) -> int:
    """How many old log files are kept; 0 keeps all."""
    return whole(value, 0, _LOG_DAYS_LIMIT)


def to_log_size(value: int | str) -> int:
    """Bytes at which a log file is put aside, such as 500k, 10M or 1G; 0 for no limit."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.lower())
        if match is None:
            raise ValueError("write a size such as 500k, 10M or 1G, or 0")
        value = int(match[1]) * int(_THOUSANDS[match[2]])
    return value if value == 0 else whole(value, *_LOG_SIZE_RANGE)


def _per_second(
    value: object, low: float, high: float, units: tuple[str, ...], example: str
) -> float | None:
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    if isinstance(value, str):
        match = _RATE.fullmatch(value.lower())
        if match is None or match[3] not in units:
            raise ValueError(f"write a rate such as {example}, or off")
        value = float(match[1]) * _THOUSANDS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, or text such as {example}")
    if not low <= value <= high:
        raise ValueError(f"must be {low:g} to {high / 1e9:g}G")
    return float(value)


def to_rate(value: int | float | str | None) -> float | None:
    """Bits a second: a number, or text such as 500k, 50M, 1.5 Gbit/s; `off` for no limit."""
    return _per_second(value, 1, _RATE_LIMIT, _BITS, "500k, 50M or 1.5 Gbit/s")


def to_frame_rate(value: int | float | str | None) -> float | None:
    """Frames a second: a number, or text such as 10k; `off` for no limit."""
    return _per_second(value, 1, _RATE_LIMIT, _FRAMES, "500 or 10k")


def to_frame_limit(value: int | float | str | None) -> int | None:
    """Whole frames or copies a second, `off` for no limit; 0 lets nothing through."""
    rate = _per_second(value, 0, _FRAMES_LIMIT, _FRAMES, "500 or 10k")
    if rate is not None and not rate.is_integer():
        raise ValueError("must be a whole number, or off")
    return None if rate is None else int(rate)


def to_seconds(value: str | float) -> float:
    """Seconds, of `250us`, `40ms`, `30s`, `10m`, `24h` or `7d`, or as a number."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(_text(value))
    if match is None:
        raise ValueError("write a duration such as 30s, 10m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def to_duration(value: str | float) -> float:
    """As `to_seconds`, from one second to 366 days."""
    seconds = to_seconds(value)
    if not 1 <= seconds <= _DURATION_LIMIT:
        raise ValueError("must be 1s to 366d")
    return seconds


def to_optional_duration(value: str | float | None) -> float | None:
    """As `to_duration`; `off` for None."""
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    return to_duration(value)


def to_duration_or_off(value: str | float) -> float:
    """As `to_duration`; `off` for what is infinite."""
    seconds = None if value == inf else to_optional_duration(value)
    return inf if seconds is None else seconds


def _listed(value: str | Sequence[str]) -> list[str]:
    """Words of a list, or of text with spaces or commas between them."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if not isinstance(value, Sequence):
        raise ValueError("must be text, or a list of it")
    return [_text(word) for word in value]


def to_addresses(value: str | Sequence[str]) -> tuple[str, ...]:
    """IP addresses and prefixes."""
    try:
        return tuple(str(ipaddress.ip_network(word)) for word in _listed(value))
    except ValueError as error:
        raise ValueError(f"not addresses and prefixes: {error}") from None


def to_networks(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Networks: a list, or text with commas or spaces; nothing, or `none`, for none."""
    if isinstance(value, str):
        value = [] if value.lower() in _NONE else _listed(value)
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of networks such as 10.77.0.0/24")
    return tuple(map(_network, value))


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        if "/" not in _text(value) or "%" in _text(value):
            raise ValueError
        return ipaddress.ip_network(_text(value))
    except ValueError:
        raise ValueError("write networks such as 10.77.0.0/24, no host bits set") from None


def to_routes(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Networks behind a member, each once; `exit` is the way out, of IPv4 and of IPv6."""
    if isinstance(value, str):
        value = [] if value.lower() in _NONE else _listed(value)
    if not isinstance(value, list | tuple):
        raise ValueError("write a list of networks such as 192.168.1.0/24, or exit")
    found = dict.fromkeys(
        network for each in value for network in (WAY_OUT if each == EXIT else (_network(each),))
    )
    for network in found:
        if (reason := unroutable(network)) is not None:
            raise ValueError(f"{network}: {reason}")
    if len(found) > MAX_OFFERED:
        raise ValueError(f"at most {MAX_OFFERED} networks")
    return tuple(found)


def to_accepted(value: str | Sequence[str | Network]) -> tuple[Network, ...]:
    """Which routes are taken: `off`, `private`, `all`, or those in these networks."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    wish = given[0] if len(given) == 1 else None
    if isinstance(wish, str) and wish.lower() in ACCEPTED:
        return ACCEPTED[wish.lower()]
    try:
        return to_networks(value)
    except ValueError:
        raise ValueError("write off, private, all, or networks such as 192.168.0.0/16") from None


def to_resolvers(value: str | Sequence[str]) -> tuple[str, ...]:
    """IP addresses: a list, or text with commas or spaces."""
    try:
        return tuple(str(ipaddress.ip_address(_text(each))) for each in to_texts(value))
    except ValueError:
        raise ValueError("write addresses such as 10.77.0.1") from None


def to_domain(value: str) -> str:
    """A domain in lower case, without the dot at its end."""
    domain = _text(value).lower().removesuffix(".")
    if len(domain) > 253 or not all(map(_DOMAIN_LABEL.fullmatch, domain.split("."))):
        raise ValueError(f"{value!r} is no domain: write it as example.com, in ASCII (xn--...)")
    return domain


def to_domains(value: str | Sequence[str]) -> tuple[str, ...]:
    """Domains: a list, or text with commas; nothing, or `none`, for none."""
    domains = tuple(to_domain(each.removeprefix("*.")) for each in to_texts(value))
    if len(domains) > _DOMAINS_LIMIT:
        raise ValueError(f"more than {_DOMAINS_LIMIT} domains")
    return domains


def to_optional_domains(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The same; None, or `any`, for all."""
    return None if value is None or value == "any" else to_domains(value)


def to_lan_domain(value: str) -> str:
    """A domain that can be a LAN's own."""
    domain = to_domain(value)
    taken = domain.endswith((".arpa", ".local", ".localhost")) or domain in ("local", "localhost")
    if taken and not f".{domain}".endswith(".home.arpa"):
        raise ValueError(f"{domain} has another meaning (mDNS, this host, or an address)")
    return domain


def to_name_servers(value: str | Sequence[str]) -> tuple[str, ...]:
    """Resolvers as ADDRESS or ADDRESS:PORT, or `system` alone; nothing, or `none`, for none."""
    said = to_texts(value)
    if len(said) > _FORWARDERS_LIMIT:
        raise ValueError(f"at most {_FORWARDERS_LIMIT} resolvers")
    return said if said == ("system",) else tuple(str(to_name_server(each)) for each in said)


def to_name_server(text: str) -> HostPort:
    """Where one is: an address, since a name would need one."""
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    try:
        where = HostPort.parse(bare, default_port=_DNS_PORT)
        ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError(
            f"{text!r} is no resolver: write its address, such as 9.9.9.9, or system"
        ) from None
    return where


def to_records(value: Sequence[str]) -> tuple[str, ...]:
    """Lines of a zone file; what they mean is seen when the zone is made."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError('write a list of lines, such as ["www CNAME pc1"]')
    if len(value) > _RECORDS_LIMIT:
        raise ValueError(f"at most {_RECORDS_LIMIT} records")
    return tuple(value)


def to_path(value: str | Path) -> Path:
    """A path; `~` is the home directory."""
    if isinstance(value, Path):
        return value
    if not _text(value) or not value.isprintable():
        raise ValueError("must be a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such user") from None


def to_optional_path(value: str | Path | None) -> Path | None:
    """As `to_path`; None means none."""
    return None if value is None else to_path(value)


def to_lane(value: str) -> str:
    """The lane that a member wishes for."""
    if _text(value).lower() not in LANES:
        raise ValueError(f"must be one of {', '.join(LANES)}")
    return value.lower()


def to_accept_ra(value: str) -> str:
    """What of router advertisements the interface takes."""
    if _text(value).lower() not in ("off", "addresses", "on"):
        raise ValueError("must be off, addresses (no way out of the LAN), or on")
    return value.lower()


def to_level(value: str) -> str:
    """A log level by name."""
    if _text(value).lower() not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return value.lower()


def to_listen(value: str | HostPort | Sequence[str | HostPort]) -> tuple[HostPort, ...]:
    """Local UDP addresses: one, a list, or text with commas or spaces."""
    if isinstance(value, str):
        value = _listed(value)
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
    where = value if isinstance(value, HostPort) else HostPort.parse(_text(value))
    if not where.host:
        return HostPort("::", where.port)
    try:
        address = ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError("listen on an IP address of this host, or on [::]") from None
    if address.is_link_local and address.version == 6 and "%" not in where.host:
        raise ValueError(f"say on which interface {address} is: [{address}%IFNAME]:PORT")
    return where


def _takes(one: str, other: str) -> bool:
    """Whether a socket at one address takes what comes to the other."""
    return one in ("::", other) or (one == "0.0.0.0" and ":" not in other)


def to_connection_limit(value: int | str) -> int:
    """How many connections or UDP associations a proxy has at once."""
    return whole(value, 1, _CONNECTIONS_LIMIT)


def to_optional_connection_limit(value: int | str | None) -> int | None:
    """As `to_connection_limit`; `off` for None."""
    return None if value is None or value == "off" else to_connection_limit(value)


class Share(Enum):
    """What one of many has where nobody says how much."""

    FAIR = "fair"


def to_share(value: str | int | Share | None) -> int | Share | None:
    """As `to_optional_connection_limit`."""
    return value if isinstance(value, Share) else to_optional_connection_limit(value)


def to_published(value: str | Listen) -> Listen:
    """Where a service is published."""
    return value if isinstance(value, Listen) else parse_published(_text(value))


def to_target(value: str | Target) -> Target:
    """Where a published service is on the LAN."""
    return value if isinstance(value, Target) else parse_target(_text(value))


def to_connection_rate(value: int | float | str | None) -> float | None:
    """New connections or UDP clients a second; `off` for no limit."""
    return _per_second(value, 0.01, _FRAMES_LIMIT, _FRAMES, "5 or 0.5")


def to_socks(value: str | Sequence[str | Place]) -> tuple[Place, ...]:
    """Where a proxy listens for SOCKS clients: a list, or text with spaces or commas."""
    return tuple(each if isinstance(each, Place) else parse_socks(each) for each in _places(value))


def to_forwards(value: str | Sequence[str | Forward]) -> tuple[Forward, ...]:
    """What a proxy listens at, and where that goes: a list, or text with spaces or commas."""
    return tuple(
        each if isinstance(each, Forward) else parse_forward(each) for each in _places(value)
    )


def _places(value: str | Sequence[T]) -> Sequence[str | T]:
    if isinstance(value, str):
        value = [] if value.lower() in _NONE else _listed(value)  # type: ignore[assignment]
    if not isinstance(value, list | tuple) or len(value) > _PLACES_LIMIT:
        raise ValueError(f"must be a list of {_PLACES_LIMIT} at most")
    for each in value:
        if not isinstance(each, Place | Forward):
            _text(each)
    return value


def to_public(value: str | HostPort | None) -> HostPort | None:
    """`HOST[:PORT]`; port 0 stands for the port that the switch listens on."""
    if value is None or isinstance(value, HostPort):
        return value
    where = HostPort.parse(_text(value), default_port=0)
    if not where.host:
        raise ValueError("the host is missing: write HOST or HOST:PORT")
    return where


def to_publics(value: str | HostPort | Sequence[str | HostPort]) -> tuple[HostPort, ...]:
    """As `to_public`: one, a list, or text with commas or spaces; each once."""
    if isinstance(value, str):
        value = _listed(value)
    places = map(to_public, value if isinstance(value, list | tuple) else [value])
    found = tuple(dict.fromkeys(each for each in places if each is not None))
    if len(found) > MAX_PLACES:
        raise ValueError(f"members try {MAX_PLACES} places at most")
    return found


def to_proxy(value: str | HostPort | None) -> HostPort | None:
    """An HTTP proxy, `http://HOST[:PORT]` or `HOST[:PORT]`; port 0 stands for the usual one."""
    if value is None or isinstance(value, HostPort):
        return value
    text = _text(value).removeprefix("http://").removesuffix("/")
    if "@" in text:
        raise ValueError("a password is for a file: see --proxy-credentials")
    return to_public(text)


def to_path_wish(value: str) -> str:
    """Which paths to a switch a member takes."""
    if _text(value).lower() not in ("auto", "udp", "https"):
        raise ValueError("must be auto, udp or https")
    return value.lower()


def to_post_quantum(value: str) -> str:
    """Whether handshakes are to have ML-KEM-768 in them."""
    if _text(value).lower() not in ("auto", "require", "off"):
        raise ValueError("must be auto, require or off")
    return value.lower()


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


def to_https_public(value: str | None) -> str | None:
    """Where members reach a switch over HTTPS, as `parse_https` has it."""
    return None if value is None else parse_https(_text(value))


def to_prefix(value: str) -> str:
    """The path below which the HTTPS side of a switch is."""
    return parse_prefix(_text(value))


def to_via(value: str | None) -> str | None:
    """A switch that is reached in plain text: `udp://HOST:PORT`, `tcp:` or `kcp:`."""
    if value is None:
        return None
    scheme, _, rest = _text(value).partition("://")
    if scheme not in ("udp", "tcp", "kcp"):
        raise ValueError("write udp://HOST:PORT, tcp://HOST:PORT or kcp://HOST:PORT")
    where = HostPort.parse(rest)
    if not where.host or not where.port:
        raise ValueError(f"write {scheme}://HOST:PORT")
    return f"{scheme}://{where}"


def to_subnet(value: str | IPv4Network) -> IPv4Network:
    """The subnet of a switch."""
    return value if isinstance(value, IPv4Network) else parse_subnet(_text(value))


def to_name(value: str) -> str:
    """A member name."""
    return check_name(_text(value))


def to_user(value: str | None) -> str | None:
    """A user by name; None for staying who one is. Whether there is one is asked later."""
    if value is None:
        return None
    name = _text(value)
    if not _USER.fullmatch(name):
        raise ValueError("must be the name of a user: letters, digits, '-', '_' and '.'")
    return name


def to_optional_name(value: str) -> str:
    """As `to_name`; empty text means none."""
    return value if value == "" else to_name(value)


def to_port_name(value: str) -> str:
    """A name that a port can have, of a member or of a foreign client; `*` stands for all ports."""
    if not 1 <= len(_text(value)) <= _PORT_CHARS or not all(
        "!" <= letter <= "~" and letter != "/" for letter in value
    ):
        raise ValueError(
            f"no port can be called so: write 1 to {_PORT_CHARS} visible characters of ASCII "
            "without '/', or * for all ports"
        )
    return value


def to_port_names(value: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Names of ports: `pc1,pc2`, or a list; `none` and nothing at all are none."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple):
        raise ValueError("write names of ports, as pc1,pc2, or none")
    kept = tuple(dict.fromkeys(_text(name).strip() for name in names))
    if kept in ((), ("",), ("none",)):
        return ()
    if len(kept) > _NAMES_LIMIT or not all(name.isprintable() and name for name in kept):
        raise ValueError(f"write 1 to {_NAMES_LIMIT} names of ports, as pc1,pc2, or none")
    return kept


def to_interface(value: str) -> str:
    """A name that Linux takes for an interface (dev_valid_name in net/core/dev.c)."""
    bad = _text(value) in ("", ".", "..") or any(
        letter in "/:%" or not "!" <= letter <= "~" for letter in value
    )
    if bad or len(value) > INTERFACE_CHARS:
        raise ValueError(
            f"an interface name is 1 to {INTERFACE_CHARS} letters without '/', ':', '%'"
        )
    return value


def to_optional_interface(value: str | None) -> str | None:
    """As `to_interface`; None means none."""
    return None if value is None else to_interface(value)


def to_bind(value: str | None) -> str | None:
    """A local IP address or an interface; None leaves the choice to the routing table."""
    if value is None:
        return None
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError:
        return to_interface(value)


def to_wish(value: str) -> str:
    """The address that a member asks for: auto, none, or ADDRESS/PREFIX."""
    return parse_wish(_text(value))


def to_vlan(value: int | str | None) -> int | None:
    """A VLAN id; None and `none` mean none."""
    if value is None or (isinstance(value, str) and value.lower() in _NONE):
        return None
    try:
        return whole(value, 1, MAX_VLAN)
    except ValueError:
        raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none") from None


def to_vlans(value: int | str | None) -> str | None:
    """Several VLANs as text, `10,20-30` or `all`; None and `none` mean none."""
    if value is None or (isinstance(value, str) and value.lower() in _NONE):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("write VLANs as text: 10,20-30, or all")
    parse_vlans(value)
    return value.replace(" ", "").lower()


def parse_station(text: str) -> tuple[bytes, int | None]:
    """Address and VLAN of `02:00:5e:10:00:01`, or `02:00:5e:10:00:01@10`; `ValueError` if none."""
    address, at, vlan = text.partition("@")
    mac = parse_mac(address.strip())
    if mac[0] & 1 or not any(mac):
        raise ValueError(f"not the address of a station: {address}")
    return mac, to_vlan(vlan) if at else None


def to_texts(value: str | Sequence[str]) -> tuple[str, ...]:
    """Texts without blanks: a list, or one text with commas; nothing, or `none`, for none."""
    if isinstance(value, str) and value.lower() in _NONE:
        return ()
    each = value.split(",") if isinstance(value, str) else value
    if not isinstance(each, list | tuple) or not all(isinstance(text, str) for text in each):
        raise ValueError("write text, or a list of texts")
    return tuple(text.strip() for text in each if text.strip())


def to_mac_limit(value: int | str | None) -> int | None:
    """How many stations a port may have; None for what is usual for a port of its kind."""
    return None if value is None else whole(value, *_MAC_LIMIT_RANGE)


def to_macs(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses: a list, or text with commas; nothing, or `none`, for none."""
    return _each(value, lambda text: format_mac(parse_station(text.partition("@")[0])[0]))


def to_stations(value: str | Sequence[str]) -> tuple[str, ...]:
    """MAC addresses, each with `@VLAN` where it is not the port's own; see `parse_station`."""
    return _each(value, _station)


def _station(text: str) -> str:
    mac, vlan = parse_station(text)
    return format_mac(mac) if vlan is None else f"{format_mac(mac)}@{vlan}"


def _each(value: str | Sequence[str], read: Callable[[str], str]) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [] if value.lower() in _NONE else value.split(",")
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise ValueError("write MAC addresses as text in a list")
    if len(value) > _MACS_LIMIT:
        raise ValueError(f"at most {_MACS_LIMIT} addresses")
    return tuple(read(each) for each in value)
