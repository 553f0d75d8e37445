"""The header of the PROXY protocol, version 2, by which a server behind a relay learns who asks.

The specification is "The PROXY protocol, versions 1 & 2" of HAProxy Technologies, section 2.2:

    12 bytes  signature
     1 byte   version (2) and command: PROXY, as there is somebody behind the connection
     1 byte   address family and transport: TCP over IPv4, or over IPv6
     2 bytes  length of what follows, in network order
    12 or 36  source address, destination address, source port, destination port

Pure. No extensions (TLV) are sent.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_AND_COMMAND: Final = 0x21
_TCP: Final = {4: 0x11, 6: 0x21}  # by version of IP: AF_INET and AF_INET6, with STREAM
_HEAD: Final = struct.Struct("!12sBBH")
_PORTS: Final = struct.Struct("!HH")


def header(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """What goes in front of the stream of a TCP connection.

    Args:
        source: address and port of the client, as `getpeername` of the relay's socket tells them.
        destination: those that it has connected to, as `getsockname` tells them.
    """
    ours, theirs = plain_address(destination[0]), plain_address(source[0])
    addresses = theirs.packed + ours.packed + _PORTS.pack(source[1], destination[1])
    head = _HEAD.pack(SIGNATURE, _VERSION_AND_COMMAND, _TCP[theirs.version], len(addresses))
    return head + addresses


def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address of a socket without the interface of a link-local one; IPv4 in IPv6 is IPv4."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
