"""The bytes of SOCKS5: RFC 1928, with user and password of RFC 1929. Pure.

    greeting      05, number of methods, methods                -> 05, method
    credentials   01, user, password, each behind its length    -> 01, 0 for right
    request       05, command, 0, address, port                 -> 05, code, 0, address, port
    datagram      0, 0, fragment, address, port, payload
    address       01 and 4 bytes, 03 and a name behind its length, or 04 and 16 bytes

The three messages of a stream are read from what has arrived so far: None means that more has to
come, else the message and how many bytes it was. None is longer than `MAX_MESSAGE`.

Error contract: `BadRecord`; `Refused`, which is one, has the code of the reply that it deserves.
"""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum
from typing import Final

from attrs import frozen

from vswitch.addresses import HostPort
from vswitch.errors import BadRecord

VERSION: Final = 5
MAX_MESSAGE: Final = 513  # bytes: the credentials
NO_AUTHENTICATION: Final = 0
PASSWORD: Final = 2
NO_METHOD: Final = 0xFF
CONNECT: Final = 1
UDP_ASSOCIATE: Final = 3

_IPV4, _NAME, _IPV6 = 1, 3, 4
_SIZES: Final = {_IPV4: 4, _IPV6: 16}  # bytes of an address by its type
_PORT: Final = struct.Struct("!H")


class Reply(IntEnum):
    """Codes of RFC 1928, section 6."""

    SUCCEEDED = 0
    FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TTL_EXPIRED = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class Refused(BadRecord):
    """A message that can be understood, and not followed."""

    def __init__(self, code: Reply, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@frozen
class Greeting:
    """What ways to authenticate the client knows."""

    methods: bytes


@frozen
class Credentials:
    """User and password, as the client has sent them."""

    user: bytes
    password: bytes


@frozen
class Request:
    """What the client wants: CONNECT to an address, or UDP_ASSOCIATE from one."""

    command: int
    host: str  # a name or an IP address
    port: int


@frozen
class Datagram:
    """A payload, and where it goes or comes from."""

    host: str
    port: int
    payload: bytes


def read_greeting_untrusted(data: bytes) -> tuple[Greeting, int] | None:
    """The first message of a client."""
    if data and data[0] != VERSION:
        raise BadRecord(f"version {data[0]} of SOCKS, not 5")
    if len(data) < 2 or len(data) < (end := 2 + data[1]):
        return None
    return Greeting(data[2:end]), end


def read_credentials_untrusted(data: bytes) -> tuple[Credentials, int] | None:
    """User and password, where the server has chosen that method."""
    if data and data[0] != 1:
        raise BadRecord(f"version {data[0]} of credentials, not 1")
    if len(data) < 2 or len(data) < (middle := 2 + data[1]) + 1:
        return None
    if len(data) < (end := middle + 1 + data[middle]):
        return None
    return Credentials(data[2:middle], data[middle + 1 : end]), end


def read_request_untrusted(data: bytes) -> tuple[Request, int] | None:
    """What the client asks for, once it is let in."""
    if data and data[0] != VERSION:
        raise BadRecord(f"version {data[0]} of a request, not 5")
    if len(data) < 5:
        return None
    command, kind = data[1], data[3]
    if command not in (CONNECT, UDP_ASSOCIATE):
        raise Refused(Reply.COMMAND_NOT_SUPPORTED, f"command {command}")
    if (found := _address(data, 3, kind)) is None:
        return None
    host, port, end = found
    return Request(command, host, port), end


def read_datagram_untrusted(data: bytes) -> Datagram:
    """A datagram of a client, as it comes to its association."""
    if len(data) < 5 or data[:2] != b"\0\0":
        raise BadRecord("no header of a SOCKS datagram")
    if data[2]:
        raise BadRecord("a fragment, which a server need not take")
    if (found := _address(data, 3, data[3])) is None:
        raise BadRecord("the header of a SOCKS datagram is cut off")
    host, port, end = found
    return Datagram(host, port, data[end:])


def _address(data: bytes, start: int, kind: int) -> tuple[str, int, int] | None:
    """Host, port, and where they end; `data` has at least one byte behind the type."""
    start += 1
    if kind == _NAME:
        size = data[start]
        start += 1
    elif kind in _SIZES:
        size = _SIZES[kind]
    else:
        raise Refused(Reply.ADDRESS_TYPE_NOT_SUPPORTED, f"type {kind} of address")
    middle, end = start + size, start + size + _PORT.size
    if len(data) < end:
        return None
    raw = data[start:middle]
    (port,) = _PORT.unpack_from(data, middle)
    if kind != _NAME:
        return str(ipaddress.ip_address(raw)), port, end
    try:
        text = raw.decode("ascii")
        # An IPv6 address as a name is one that a client did not look at.
        host = HostPort.parse(f"[{text}]:0" if ":" in text else f"{text}:0").host
        if not host:
            raise ValueError("an empty name")
    except ValueError as error:
        raise Refused(Reply.HOST_UNREACHABLE, f"no name of a host: {error}") from None
    return host, port, end


def method_reply(method: int) -> bytes:
    """Answers a greeting; the client closes after `NO_METHOD`."""
    return bytes((VERSION, method))


def credentials_reply(right: bool) -> bytes:
    """Answers credentials; the server closes where they were wrong."""
    return bytes((1, not right))


def reply(code: Reply, host: str = "0.0.0.0", port: int = 0) -> bytes:
    """Answers a request, with an IP address of the server's own."""
    return bytes((VERSION, code, 0)) + _encoded(host, port)


def datagram(host: str, port: int, payload: bytes) -> bytes:
    """A datagram for a client, from this IP address."""
    return bytes(3) + _encoded(host, port) + payload


def _encoded(host: str, port: int) -> bytes:
    address = ipaddress.ip_address(host)
    kind = _IPV4 if address.version == 4 else _IPV6
    return bytes((kind,)) + address.packed + _PORT.pack(port)
