"""The converters of options: text or a TOML value in, the option's value out.

Each takes a value that is already right and returns it unchanged, so that a configuration class
can be filled from text, from TOML and from Python alike.

Error contract: `ValueError` with the reason alone; options.py adds where the value came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from vswitch.addresses import HostPort, check_name, parse_subnet, parse_wish
from vswitch.frames.ethernet import MAX_VLAN, format_mac, parse_mac, parse_vlans
from vswitch.members.lane_choice import LANES

LEVELS = ("debug", "info", "warning", "error")
MTU_RANGE = (576, 9000)  # bytes: what any IPv4 host takes (RFC 791), and common jumbo frames
_MEMBERS_LIMIT = 65536  # far beyond what one process can carry; keeps mistakes out
_NAMES_LIMIT = 64  # ports in one setting
_LOG_DAYS_LIMIT = 3650
_FRAMES_LIMIT = 1_000_000_000  # a second: far beyond any
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([kKmMgG]?)", re.ASCII)
_THOUSANDS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}
_RATE_LIMIT = 1e12  # a second
_EXPIRY_LIMIT = 366 * 86400.0  # s
_IFNAME_CHARS = 15  # IFNAMSIZ - 1, include/uapi/linux/if.h
_DURATION = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_FLAGS = {"yes": True, "on": True, "true": True, "1": True} | dict.fromkeys(
    ("no", "off", "false", "0"), False
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    return value


def _whole(value: object, low: int, high: int) -> int:
    # bool is an int to Python, not to whoever wrote `mtu = true`.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")
    if not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def to_mtu(value: int) -> int:
    """Bytes of payload of the largest Ethernet frame."""
    return _whole(value, *MTU_RANGE)


def to_optional_mtu(value: int | None) -> int | None:
    """As `to_mtu`; None means what the switch says."""
    return None if value is None else to_mtu(value)


def to_member_limit(value: int) -> int:
    """How many members a switch may have."""
    return _whole(value, 1, _MEMBERS_LIMIT)


def to_log_days(value: int) -> int:
    """How many old log files are kept; 0 keeps all."""
    return _whole(value, 0, _LOG_DAYS_LIMIT)


def to_yes_no(value: bool) -> bool:
    """A switch that is on or off."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def to_on_off(value: str | bool) -> bool:
    """`on` or `off`; true or false in a file."""
    if isinstance(value, bool):
        return value
    if _text(value).lower() not in ("on", "off"):
        raise ValueError("must be on or off")
    return value.lower() == "on"


def to_flag(value: str | bool) -> bool:
    """`yes` or `no`, `on` or `off`, true or false."""
    if isinstance(value, bool):
        return value
    if _text(value).lower() not in _FLAGS:
        raise ValueError("must be yes or no")
    return _FLAGS[value.lower()]


def to_optional_flag(value: str | bool | None) -> bool | None:
    """As `to_flag`; None, or `default`, means what holds elsewhere."""
    return None if value is None or value == "default" else to_flag(value)


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


def to_frame_limit(value: int | str | None) -> int | None:
    """Frames or copies a second, `off` for no limit; 0 lets nothing through."""
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    if isinstance(value, str):
        if not value.isascii() or not value.isdigit():
            raise ValueError("must be a whole number, or off")
        value = int(value[:12])
    return _whole(value, 0, _FRAMES_LIMIT)


def to_rate(value: int | float | str | None) -> float | None:
    """Bits or frames a second: a number, or text such as 500k, 50M, 1.5G; `off` for no limit."""
    if value is None or (isinstance(value, str) and value.lower() == "off"):
        return None
    if isinstance(value, str):
        match = _RATE.fullmatch(value)
        if match is None:
            raise ValueError("write a rate such as 500k, 50M or 1.5G, or off")
        value = float(match[1]) * _THOUSANDS[match[2].lower()]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("must be a number, or text such as 50M")
    if not 1 <= value <= _RATE_LIMIT:
        raise ValueError("must be 1 to 1000G")
    return float(value)


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


def to_level(value: str) -> str:
    """A log level by name."""
    if _text(value).lower() not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return value.lower()


def to_listen(value: str | HostPort) -> HostPort:
    """A local UDP address; without a host it is `::`, which takes IPv4 as well."""
    where = value if isinstance(value, HostPort) else HostPort.parse(_text(value))
    if not where.host:
        return HostPort("::", where.port)
    try:
        ipaddress.ip_address(where.host)
    except ValueError:
        raise ValueError("listen on an IP address of this host, or on [::]") from None
    return where


def to_public(value: str | HostPort | None) -> HostPort | None:
    """`HOST[:PORT]`; port 0 stands for the port that the switch listens on."""
    if value is None or isinstance(value, HostPort):
        return value
    where = HostPort.parse(_text(value), default_port=0)
    if not where.host:
        raise ValueError("the host is missing: write HOST or HOST:PORT")
    return where


def to_via(value: str | None) -> str | None:
    """A switch that is reached in plain text: `udp://HOST:PORT` or `tcp://HOST:PORT`."""
    if value is None:
        return None
    scheme, _, rest = _text(value).partition("://")
    if scheme not in ("udp", "tcp"):
        raise ValueError("write udp://HOST:PORT or tcp://HOST:PORT")
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
    if bad or len(value) > _IFNAME_CHARS:
        raise ValueError(f"an interface name is 1 to {_IFNAME_CHARS} letters without '/', ':', '%'")
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


def to_duration(value: str | float) -> float:
    """Seconds from `30s`, `10m`, `24h` or `7d`: one second to 366 days."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        seconds = float(value)
    elif match := _DURATION.fullmatch(_text(value)):
        seconds = int(match[1]) * _SECONDS[match[2]]
    else:
        raise ValueError("write a duration such as 30s, 10m, 24h or 7d")
    if not 1 <= seconds <= _EXPIRY_LIMIT:
        raise ValueError("must be 1s to 366d")
    return seconds


# -------------------------------------------------------------------------------------------------
# The converters of settings about VLANs and MAC addresses, by the rules of `config/converters.py`.

_MAC_LIMIT_RANGE = (1, 8192)  # up to the capacity of the FDB
_MAX_LISTED = 256  # addresses of one port
_NONE = ("none", "")


def to_vlan(value: int | str | None) -> int | None:
    """A VLAN id; None and `none` mean none."""
    if isinstance(value, str):
        if value.lower() in _NONE:
            return None
        if not value.isdecimal() or not value.isascii():
            raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none")
        value = int(value[:8])
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_VLAN:
        raise ValueError(f"must be a VLAN, 1 to {MAX_VLAN}, or none")
    return value


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


def to_mac_limit(value: int | None) -> int | None:
    """How many stations a port may have; None for what is usual for a port of its kind."""
    if value is None:
        return None
    low, high = _MAC_LIMIT_RANGE
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


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
    if len(value) > _MAX_LISTED:
        raise ValueError(f"at most {_MAX_LISTED} addresses")
    return tuple(read(each) for each in value)
