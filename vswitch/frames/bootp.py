"""DHCP for IPv4: the bytes of its messages, read and built.

A message is BOOTP's fixed head (RFC 951), a cookie, and options (RFC 2131, 2132). What is read has
its options put together: parts of one option are joined (RFC 3396), and those that overflow into
the fields `file` and `sname` are found (RFC 2132 9.3). Only Ethernet clients are read.

Error contract: `read_dhcp_untrusted` raises `BadRecord` for what is no such message, and nothing
else; the builders raise `ValueError` for values that have no place in a message. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network

import attrs

from vswitch.errors import BadRecord

SERVER_PORT, CLIENT_PORT = 67, 68  # UDP
NO_ADDRESS = IPv4Address(0)
BROADCAST_FLAG = 0x8000  # the client hears no unicast before it has an address
REQUEST, REPLY = 1, 2  # op
_COOKIE = b"\x63\x82\x53\x63"
_HEAD = struct.Struct(">BBBBIHH4s4s4s4s16s64s128s4s")
_ETHERNET = (1, 6)  # htype, hlen
_LEAST = 300  # bytes; some clients and relays take no less (RFC 1542 2.1)
_MOST_OPTIONS = 4096  # bytes of one option, joined; a frame holds no more
_PAD, _END, _OVERLOAD = 0, 255, 52
_MOST_LABELS = 255  # bytes of a name on the wire (RFC 1035 3.1)


class Kind(IntEnum):
    """What a message says (RFC 2132 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """Options that are read or sent, by their numbers (IANA)."""

    MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    BROADCAST = 28
    ADDRESS = 50
    LEASE_TIME = 51
    KIND = 53
    SERVER = 54
    WANTED = 55
    MESSAGE = 56
    MOST_BYTES = 57
    RENEWAL = 58
    REBINDING = 59
    CLIENT = 61
    SEARCH = 119
    ROUTES = 121
    OLD_ROUTES = 249  # of Windows before Vista, as 121


@attrs.frozen(kw_only=True)
class DhcpMessage:
    """One message. Addresses are IPv4; 0.0.0.0 says nothing."""

    kind: Kind
    transaction: int  # xid
    mac: bytes  # chaddr: the client's
    op: int = REQUEST
    seconds: int = 0  # that the client has been asking
    broadcast: bool = False
    client: IPv4Address = NO_ADDRESS  # ciaddr: the address that the client has
    given: IPv4Address = NO_ADDRESS  # yiaddr: the one that it gets
    relay: IPv4Address = NO_ADDRESS  # giaddr: the relay agent that passed it on
    options: Mapping[int, bytes] = attrs.Factory(dict)  # all but the kind

    def address(self, option: Option) -> IPv4Address | None:
        """The first address in an option; None if there is none."""
        said = self.options.get(option, b"")[:4]
        return IPv4Address(said) if len(said) == 4 else None


def read_dhcp_untrusted(payload: bytes) -> DhcpMessage:
    """The message in the payload of a UDP datagram."""
    if len(payload) < _HEAD.size:
        raise BadRecord(f"DHCP of {len(payload)} bytes")
    op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, _, giaddr, chaddr, sname, file, cookie = (
        _HEAD.unpack_from(payload)
    )
    if cookie != _COOKIE or (htype, hlen) != _ETHERNET or op not in (REQUEST, REPLY):
        raise BadRecord("BOOTP without options, or not for Ethernet")
    options = _options_untrusted(payload[_HEAD.size :], {})
    overload = (options.get(_OVERLOAD) or b"\0")[-1]  # whose body may be empty
    if overload & 1:
        options = _options_untrusted(file, options)
    if overload & 2:
        options = _options_untrusted(sname, options)
    kind = options.pop(Option.KIND, b"")
    mac: bytes = chaddr[:6]
    if len(kind) != 1 or not Kind.DISCOVER <= kind[0] <= Kind.INFORM:
        raise BadRecord("no kind of DHCP that is known")
    if not any(mac) or mac[0] & 1:
        raise BadRecord("DHCP for a MAC address that no client has")
    return DhcpMessage(
        kind=Kind(kind[0]),
        transaction=xid,
        mac=mac,
        op=op,
        seconds=secs,
        broadcast=bool(flags & BROADCAST_FLAG),
        client=IPv4Address(ciaddr),
        given=IPv4Address(yiaddr),
        relay=IPv4Address(giaddr),
        options=options,
    )


def _options_untrusted(data: bytes, found: dict[int, bytes]) -> dict[int, bytes]:
    """Options up to their end; without one, up to the end of the data, as many clients have it."""
    at, size = 0, len(data)
    while at < size and (code := data[at]) != _END:
        if code == _PAD:
            at += 1
            continue
        if at + 2 > size or at + 2 + data[at + 1] > size:
            raise BadRecord("an option of DHCP that goes beyond its end")
        body = found.get(code, b"") + data[at + 2 : at + 2 + data[at + 1]]
        if len(body) > _MOST_OPTIONS:
            raise BadRecord("an option of DHCP that is too long")
        found[code] = body
        at += 2 + data[at + 1]
    return found


def build_dhcp(message: DhcpMessage, most: int = 0xFFFF) -> bytes:
    """The payload of a datagram: options in the order that they have, as far as they fit into
    `most` bytes.
    """
    head = _HEAD.pack(
        *(message.op, *_ETHERNET, 0, message.transaction, message.seconds),
        BROADCAST_FLAG if message.broadcast else 0,
        *(message.client.packed, message.given.packed, bytes(4), message.relay.packed),
        *(message.mac, b"", b"", _COOKIE),
    )
    parts = [head, bytes((Option.KIND, 1, message.kind))]
    left = most - sum(map(len, parts)) - 1
    for code, body in message.options.items():
        coded = b"".join(
            bytes((code, len(piece))) + piece
            for piece in (body[at : at + 255] for at in range(0, len(body) or 1, 255))
        )
        if len(coded) <= left:
            parts.append(coded)
            left -= len(coded)
    return (b"".join(parts) + bytes((_END,))).ljust(_LEAST, b"\0")


def number(value: int, size: int = 4) -> bytes:
    """The body of an option that is a number; seconds end below infinity, which is all ones."""
    return min(value, (1 << 8 * size) - 2).to_bytes(size, "big")


def packed(addresses: Sequence[IPv4Address]) -> bytes:
    """The body of an option that is a list of addresses."""
    return b"".join(address.packed for address in addresses)


def search_list(domains: Sequence[str]) -> bytes:
    """Domains to look for names in, without compression (RFC 3397)."""
    return b"".join(map(wire_name, domains))


def wire_name(domain: str) -> bytes:
    """A domain as DNS has it (RFC 1035 3.1)."""
    labels = [label.encode("ascii") for label in domain.rstrip(".").split(".")]
    coded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    if not all(0 < len(label) < 64 for label in labels) or len(coded) > _MOST_LABELS:
        raise ValueError(f"{domain!r} is no domain")
    return coded


def routes(which: Sequence[tuple[IPv4Network, IPv4Address]]) -> bytes:
    """Routes: a network and the router to it; 0.0.0.0 for what is on the link (RFC 3442)."""
    return b"".join(
        bytes((network.prefixlen,))
        + network.network_address.packed[: (network.prefixlen + 7) // 8]
        + router.packed
        for network, router in which
    )
