"""How IPv6 routers and hosts find each other: solicitations are read, advertisements built.

Layouts: RFC 4861 4.1, 4.2, 4.6 (the messages, link-layer address, prefix, MTU), RFC 8106 (name
servers and search list).

Error contract: `check_solicitation_untrusted` raises only `BadRecord`, for what a router has to
ignore (RFC 4861 6.1.1). Pure.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, IPv6Network

import attrs

from vswitch.errors import BadRecord
from vswitch.frames.bootp import search_list
from vswitch.frames.build import ethernet, icmpv6, ip
from vswitch.frames.headers import ICMPV6, IPV6

ALL_NODES, ALL_ROUTERS = IPv6Address("ff02::1"), IPv6Address("ff02::2")
ALL_NODES_MAC = b"\x33\x33\0\0\0\1"
SOLICITATION, _ADVERTISEMENT = 133, 134
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


def check_solicitation_untrusted(body: bytes, source: IPv6Address) -> None:
    """Whether a message of ICMPv6 of type 133 is one that a router answers; its checksum and hop
    limit were found right.
    """
    if len(body) < 8 or body[0] != SOLICITATION or body[1]:
        raise BadRecord("no router solicitation")
    at = 8
    while at < len(body):
        size = body[at + 1] * 8 if at + 1 < len(body) else 0
        if not size or at + size > len(body):
            raise BadRecord("a router solicitation with an option of a wrong length")
        if body[at] == _SOURCE_MAC and source.is_unspecified:
            raise BadRecord("a router solicitation from nobody that says where nobody is")
        at += size


def router_advert(
    mac: bytes, source: IPv6Address, target: IPv6Address, target_mac: bytes, advert: Advert
) -> bytes:
    """The frame that tells it, from the link-local address of the router."""
    prefix = struct.pack(
        ">BBBBIII16s",
        *(_PREFIX, 4, advert.prefix.prefixlen, _ON_LINK | _AUTONOMOUS),
        *(advert.valid, advert.preferred, 0, advert.prefix.network_address.packed),
    )
    body = struct.pack(">BBHII", _HOPS, 0, advert.router_for, 0, 0)
    body += bytes((_SOURCE_MAC, 1)) + mac + prefix + struct.pack(">BBHI", _MTU, 1, 0, advert.mtu)
    servers = b"".join(server.packed for server in advert.servers)
    for option, said in ((_SERVERS, servers), (_SEARCH, search_list(advert.search))):
        if said:
            said += bytes(-len(said) % 8)
            body += struct.pack(">BBHI", option, 1 + len(said) // 8, 0, advert.names_for) + said
    ends = source, target
    packet = ip(*ends, ICMPV6, icmpv6(ends, _ADVERTISEMENT, 0, body), hops=_HOP_LIMIT)
    return ethernet(target_mac, mac, IPV6, packet)
