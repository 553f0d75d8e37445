"""How IPv6 routers and hosts find each other: solicitations are read, advertisements built.

Layouts: RFC 4861 4.1, 4.2, 4.6 (the messages, link-layer address, prefix, MTU), RFC 8106 (name
servers and search list).

Error contract: `read_solicitation_untrusted` gives None for any other frame, and raises only
`BadRecord` for a solicitation that a router has to ignore (RFC 4861 6.1.1). Pure.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network

import attrs

from vswitch.errors import BadRecord
from vswitch.frames.bootp import search_list
from vswitch.frames.build import ethernet
from vswitch.frames.checksum import word_sum
from vswitch.frames.headers import (
    ICMPV6,
    IPV6,
    IPV6_SIZE,
    network_untrusted,
    upper_ipv6_untrusted,
)

ALL_NODES, ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
_SOLICITATION, _ADVERTISEMENT = 133, 134
_SOURCE_MAC, _PREFIX, _MTU, _SERVERS, _SEARCH = 1, 3, 5, 25, 31  # options
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_HOP_LIMIT = 255  # nothing that a router has passed on has that
_HOPS = 64  # that hosts are to use themselves


@attrs.frozen(kw_only=True)
class Advert:
    """What a router tells. Times are in seconds."""

    prefix: IPv6Network  # a /64, in which hosts give themselves addresses
    valid: int
    preferred: int
    mtu: int
    servers: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    names_for: int = 0  # how long name servers and search list are good
    router_for: int = 0  # how long it is a way out; 0: it is none


def read_solicitation_untrusted(frame: bytes) -> IPv6Address | None:
    """Who asks for routers: the source of a solicitation, `::` for a host without an address."""
    kind, at = network_untrusted(frame, 0)
    if kind != IPV6:
        return None
    protocol, upper = upper_ipv6_untrusted(frame, at)
    if protocol != ICMPV6 or frame[upper : upper + 1] != bytes((_SOLICITATION,)):
        return None
    end = at + IPV6_SIZE + int.from_bytes(frame[at + 4 : at + 6], "big")
    packet, body = frame[at : at + IPV6_SIZE], frame[upper:end]
    pseudo = packet[8:40] + struct.pack(">II", len(body), ICMPV6)
    if len(frame) < end or len(body) < 8 or word_sum(pseudo + body) % 0xFFFF:
        raise BadRecord("a router solicitation that is short, or has a wrong checksum")
    if packet[7] != _HOP_LIMIT or body[1]:
        raise BadRecord("a router solicitation from another network")
    source, option = IPv6Address(packet[8:24]), 8
    while option < len(body):
        size = body[option + 1] * 8 if option + 1 < len(body) else 0
        if not size or option + size > len(body):
            raise BadRecord("a router solicitation with an option of no length")
        if body[option] == _SOURCE_MAC and source.is_unspecified:
            raise BadRecord("a router solicitation from nobody that says where nobody is")
        option += size
    return source


def router_advert(
    mac: bytes, source: IPv6Address, target: IPv6Address, target_mac: bytes, advert: Advert
) -> bytes:
    """The frame that tells it, from the link-local address of the router."""
    prefix = struct.pack(
        ">BBBBIII16s",
        *(_PREFIX, 4, advert.prefix.prefixlen, _ON_LINK | _AUTONOMOUS),
        *(advert.valid, advert.preferred, 0, advert.prefix.network_address.packed),
    )
    body = struct.pack(">BBHBBHII", _ADVERTISEMENT, 0, 0, _HOPS, 0, advert.router_for, 0, 0)
    body += bytes((_SOURCE_MAC, 1)) + mac + prefix + struct.pack(">BBHI", _MTU, 1, 0, advert.mtu)
    servers = b"".join(server.packed for server in advert.servers)
    for option, said in ((_SERVERS, servers), (_SEARCH, search_list(advert.search))):
        if said:
            said += bytes(-len(said) % 8)
            body += struct.pack(">BBHI", option, 1 + len(said) // 8, 0, advert.names_for) + said
    ends = source.packed + target.packed
    check = -word_sum(ends + struct.pack(">II", len(body), ICMPV6) + body) % 0xFFFF
    body = body[:2] + check.to_bytes(2, "big") + body[4:]
    head = struct.pack(">IHBB", 6 << 28, len(body), ICMPV6, _HOP_LIMIT)
    return ethernet(target_mac, mac, IPV6, head + ends + body)
