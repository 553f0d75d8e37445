"""Host and port texts, the switch's subnet, which of its addresses a member may have, which
networks may be behind one, and the MAC and IPv6 addresses that follow from keys.

Pure: text in, values out. Every text has one canonical spelling (`HostPort.text()`, addresses
as `ipaddress` prints them), so values can be compared and stored as text.

Error contract: `ValueError` with the reason alone ("port 70000 is not in 0..65535"); who calls
knows which option or which part of a join string it was and says so.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from hashlib import blake2s
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Self

from attrs import frozen

DEFAULT_PORT = 7450  # UDP; free of the ports of n2n, tinc, fastd, ZeroTier, WireGuard
_HOST_CHARS = 253  # RFC 1035 section 2.3.4, without the root dot
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# Of the unreserved characters of RFC 3986 section 2.3, and no "." or "..".
_PART = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._~-]+", re.ASCII)
_HTTPS_PORT = 443
_PREFIX_CHARS = 100
_LONGEST_PREFIX = 30  # a /31 has no room for the switch, a member, network and broadcast
_SHORTEST_PREFIX = 8


# Names without a dot that are somebody's already, whatever the host has: RFC 6761, and where
# programs ask for what they shall do. No host of a LAN is found by them.
NEVER_BARE: Final = frozenset(
    ("localhost", "localdomain", "broadcasthost", "ip6-localhost", "ip6-loopback", "wpad", "isatap")
)


def check_name(text: str) -> str:
    """A member name: one DNS label in lower case (RFC 1123 section 2.1). Returns it unchanged."""
    if _NAME.fullmatch(text) is None:
        raise ValueError(
            "a name is 1 to 63 of a-z, 0-9 and '-', and neither starts nor ends with '-'"
        )
    return text


MAX_PLACES = 4  # where members reach one switch: of each, two addresses can be tried at once


@frozen(order=True)
class HostPort:
    """Where a UDP socket is or shall be. `host` has no brackets; "" means every address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, default_port: int | None = None) -> Self:
        """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT`; without a port, `default_port` is taken.

        Raises:
            ValueError: the reason, fit to follow the name of an option.
        """
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError("write an IPv6 address and port as [ADDRESS]:PORT")
            if ":" not in host:
                raise ValueError("only IPv6 addresses stand in brackets")
            port = rest[1:] if rest else None
        elif text.count(":") > 1:
            raise ValueError("write an IPv6 address in brackets: [ADDRESS]:PORT")
        else:
            host, colon, tail = text.partition(":")
            port = tail if colon else None
        # The port first: `7450` alone lacks a port to people; it is no wrong address.
        number = _check_port(port, default_port)
        return cls(_check_host(host), number)

    def text(self) -> str:
        """The canonical spelling, IPv6 hosts in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.text()


def _check_host(host: str) -> str:
    if not host.isascii():
        raise ValueError("write the host in ASCII (xn--...)")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
    if not host:
        return host
    labels = host.removesuffix(".").split(".")
    if len(host) > _HOST_CHARS or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    if labels[-1].isdigit():
        # A name cannot end in digits only (RFC 1123), so this was meant to be an address.
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv4 address") from None
    return host


def _check_port(text: str | None, default: int | None) -> int:
    if text is None:
        if default is None:
            raise ValueError("the port is missing: write HOST:PORT, or :PORT for every address")
        return default
    # isdigit alone accepts digits that int() reads and people do not, such as superscripts.
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a port number")
    if len(text) > 5 or int(text) > 65535:
        raise ValueError(f"port {text} is not in 0..65535")
    return int(text)


def parse_https(text: str) -> str:
    """Where a switch is reached over HTTPS: `https://HOST[:PORT][/PREFIX]`, with the port where it
    is not 443 and no `/` at the end.
    """
    scheme, _, rest = text.partition("://")
    authority, slash, prefix = rest.partition("/")
    if scheme != "https" or not authority:
        raise ValueError("write https://HOST, https://HOST:PORT or https://HOST:PORT/PREFIX")
    where = HostPort.parse(authority, default_port=_HTTPS_PORT)
    if not where.host or not where.port:
        raise ValueError("host and port must be given")
    at = where.text()
    if where.port == _HTTPS_PORT:
        at = at.removesuffix(f":{_HTTPS_PORT}")
    return f"https://{at}{parse_prefix(slash + prefix)}"


def parse_prefix(text: str) -> str:
    """The path below which something is on a web server: `/lan`, or "" for `/`."""
    parts = text.strip("/").split("/")
    if parts == [""]:
        return ""
    if len(text) > _PREFIX_CHARS or not all(map(_PART.fullmatch, parts)):
        raise ValueError(
            f"a prefix is /NAME or /NAME/NAME of letters, digits, '-', '_', '.' and '~', at most "
            f"{_PREFIX_CHARS} characters"
        )
    return "/" + "/".join(parts)


def parse_subnet(text: str) -> IPv4Network:
    """The switch's subnet from `10.77.0.0/24`: IPv4, /8 to /30, no host bits set."""
    if "/" not in text:
        raise ValueError("write it with its prefix length, such as 10.77.0.0/24")
    try:
        loose = IPv4Network(text, strict=False)
    except ValueError:
        raise ValueError("not an IPv4 subnet such as 10.77.0.0/24") from None
    try:
        network = IPv4Network(text)
    except ValueError:
        raise ValueError(f"host bits are set: write {loose}") from None
    if not _SHORTEST_PREFIX <= network.prefixlen <= _LONGEST_PREFIX:
        raise ValueError(f"a subnet is /{_SHORTEST_PREFIX} to /{_LONGEST_PREFIX}")
    if network.is_multicast or network.is_loopback or network.network_address.is_unspecified:
        raise ValueError("no host can have an address of this range")
    return network


def parse_wish(text: str) -> str:
    """What a member asks for: "auto", "none" or an IPv4 address with its prefix length."""
    if text in ("auto", "none"):
        return text
    try:
        if "/" not in text:
            raise ValueError
        return str(ipaddress.IPv4Interface(text))
    except ValueError:
        raise ValueError("write auto, none, or an address such as 10.77.0.9/24") from None


def switch_address(subnet: IPv4Network) -> IPv4Address:
    """The first host address: kept for the switch itself."""
    return subnet.network_address + 1


def reserved_reason(address: IPv4Address, subnet: IPv4Network) -> str | None:
    """Why no member can have this address, or None if one can."""
    if address not in subnet:
        return f"it is outside the switch's subnet {subnet}"
    if address == subnet.network_address:
        return f"it is the network address of {subnet}"
    if address == subnet.broadcast_address:
        return f"it is the broadcast address of {subnet}"
    if address == switch_address(subnet):
        return "it is kept for the switch"
    return None


def lowest_free(subnet: IPv4Network, taken: Container[IPv4Address]) -> IPv4Address | None:
    """The lowest address that a member can have and nobody has; None if the subnet is full.

    Looks at no more than `len(taken) + 1` addresses, however large the subnet is.
    """
    first, last = int(subnet.network_address) + 2, int(subnet.broadcast_address) - 1
    for number in range(first, last + 1):
        if (address := IPv4Address(number)) not in taken:
            return address
    return None


def highest_free(subnet: IPv4Network, taken: Container[IPv4Address]) -> IPv4Address | None:
    """As `lowest_free`, from the other end: for what should be in no member's way."""
    first, last = int(subnet.network_address) + 2, int(subnet.broadcast_address) - 1
    for number in range(last, first - 1, -1):
        if (address := IPv4Address(number)) not in taken:
            return address
    return None


def mac_from_key(key: bytes) -> bytes:
    """The MAC address of whoever owns this public key: stable, unicast, locally administered."""
    digest = blake2s(key, digest_size=6, person=b"vsw mac").digest()
    return bytes((digest[0] & 0xFC | 0x02,)) + digest[1:]


def lan_prefix(key: bytes, name: str) -> IPv6Network:
    """The IPv6 prefix of the LAN of this name at the switch with this public key: a unique local
    one (RFC 4193), whose 40 bits are drawn from both.
    """
    drawn = blake2s(name.encode(), key=key, digest_size=5, person=b"vsw ula").digest()
    return IPv6Network((b"\xfd" + drawn + bytes(10), 64))


def ipv6_from_mac(prefix: IPv6Network, mac: bytes) -> IPv6Address:
    """The address in a /64 that is made of a MAC address (RFC 4291, appendix A)."""
    suffix = bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
    return prefix[int.from_bytes(suffix)]


MAX_OFFERED = 32  # networks behind one member
MAX_GATEWAYS = 64  # networks behind all members of a LAN: 10 KB of the longest texts

PRIVATE: Final = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            "100.64.0.0/10",  # RFC 6598
            "fc00::/7",  # RFC 4193
        ),
    )
)
# All that no other route leads to: the way out.
WAY_OUT: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_WIDEST: Final = {4: 8, 6: 16}  # prefix of a network behind a member: 10.0.0.0/8; a provider's own
_OF_NO_ROUTE: Final = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
            *("::/32", "fe80::/10", "ff00::/8"),
        ),
    )
)


def unroutable(network: IPv4Network | IPv6Network) -> str | None:
    """Why this cannot be a network behind a member; None if it can, as `WAY_OUT` does."""
    if network in WAY_OUT:
        return None
    if network.prefixlen < (widest := _WIDEST[network.version]):
        return f"it is more than a network behind a member: /{widest} at most, or `exit` for all"
    for special in _OF_NO_ROUTE:
        if network.overlaps(special):
            return f"no route leads to {special}"
    return None
