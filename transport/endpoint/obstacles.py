"""Why a peer cannot be reached, in words: what the kernel says of a send, and what ICMP says later.

ICMP can be forged by whoever knows both ports, so it is a reason to look elsewhere and something to
tell people, and ends nothing.

Pure. The layouts are those of linux/errqueue.h; what is read is written by the kernel.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

IP_RECVERR: Final = 11  # linux/in.h
IPV6_RECVERR: Final = 25  # linux/in6.h
_MESSAGES: Final = ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))

# struct sock_extended_err: errno, origin, ICMP type, ICMP code, padding, info, data; then the
# sockaddr of who said it.
_EXTENDED: Final = Struct("=IBBBxII")
_FAMILY: Final = Struct("=H")
_BY_ICMP: Final = (2, 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
_OFFENDER: Final = {
    socket.AF_INET: slice(_EXTENDED.size + 4, _EXTENDED.size + 8),
    socket.AF_INET6: slice(_EXTENDED.size + 8, _EXTENDED.size + 24),
}

_OF_SENDS: Final = {
    errno.ENETUNREACH: "no route to {}",
    errno.EHOSTUNREACH: "no route to {}",
    errno.EADDRNOTAVAIL: "no route to {}: this host has no address that could send there",
    errno.EINVAL: "no route to {}: an interface must be named, or a route swallows it",
    errno.EACCES: "a local route or firewall rejects what goes to {}",
    errno.EPERM: "a local firewall rejects what goes to {}",
}
# By origin and type; RFC 792, 1812 and 4443.
_UNREACHABLE: Final = {
    (2, 3): {
        0: "network unreachable",
        1: "host unreachable",
        2: "protocol unreachable",
        3: "port unreachable (nothing listens there, or a firewall rejects it)",
        5: "source route failed",
        6: "network unknown",
        7: "host unknown",
        9: "network administratively prohibited",
        10: "host administratively prohibited",
        13: "administratively prohibited",
    },
    (2, 11): {0: "time exceeded"},
    (3, 1): {
        0: "no route",
        1: "administratively prohibited",
        2: "beyond scope",
        3: "address unreachable",
        4: "port unreachable (nothing listens there, or a firewall rejects it)",
        5: "source address not allowed",
        6: "route rejected",
    },
    (3, 3): {0: "time exceeded"},
}


def of_send(number: int, host: str) -> str:
    """Why nothing can be sent to `host` where `errno` is this; empty: it may pass the next time."""
    return _OF_SENDS.get(number, "").format(host)


def of_notice(ancillary: list[tuple[int, int, bytes]], host: str) -> str | None:
    """What an entry of the error queue says of what was sent to `host`; empty: nothing that hinders
    (such as a size); None: it was not ICMP.
    """
    for level, kind, data in ancillary:
        if (level, kind) not in _MESSAGES or len(data) < _EXTENDED.size:
            continue
        _, origin, icmp, code, _, _ = _EXTENDED.unpack_from(data)
        if origin not in _BY_ICMP:
            continue
        said = _UNREACHABLE.get((origin, icmp), {}).get(code)
        if not said:
            return ""
        offender = _offender(data)
        subject = "" if offender == host else f"{host} "
        return f"{subject}refused by {offender}: ICMP {said}"
    return None


def _offender(data: bytes) -> str:
    """Who has said it."""
    (family,) = _FAMILY.unpack_from(data.ljust(_EXTENDED.size + 28, b"\0"), _EXTENDED.size)
    packed = data[_OFFENDER.get(family, slice(0))]
    if len(packed) == 4:
        return str(IPv4Address(packed))
    if len(packed) == 16:
        address = IPv6Address(packed)
        return str(address.ipv4_mapped or address)
    return "a host on the way"
