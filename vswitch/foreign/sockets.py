"""Where foreign ports listen, and the sockets for it: an address and port, or `unix:/PATH`; and the
sockets of `join --via`, towards somebody's foreign port.

Sockets are non-blocking and close on exec. A socket for every address takes IPv4 and IPv6; then
IPv4 addresses are mapped on the inside (`::ffff:192.0.2.1`) and plain wherever people see them.
Error contract: `ValueError` for a text that is no place; `VswitchError` for a socket that cannot
be had, with what to do. Of a client's socket: `OSError`, and `NotReachable` for its name.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias, TypeGuard

from transport.platform import LINUX
from vswitch.addresses import HostPort
from vswitch.errors import NotReachable, PrivilegeError, VswitchError
from vswitch.logs import clean
from vswitch.resolver import resolve

Place: TypeAlias = HostPort | Path
# Of a peer, as the kernel gives it and takes it back: host and port, for IPv6 with flow and scope;
# the path of its socket, or bytes for an abstract name.
Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int] | str | bytes
Sender: TypeAlias = Address | None  # None, or empty: a UNIX socket without a name
Ancillary: TypeAlias = list[tuple[int, int, bytes]]  # control messages of a datagram

UNIX = "unix:"
# From linux/in.h and linux/in6.h.
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO = 49
_IPV6_PKTINFO = 50
_BUFFER = 4 << 20  # bytes that a datagram socket asks for; the kernel gives what it allows
ANCILLARY_ROOM = 64  # bytes: one message of packet information
_LONGEST_PATH = 107  # bytes: sun_path of linux/un.h
_BACKLOG = 64  # connections that wait to be accepted


def to_place(value: object) -> Place:
    """`HOST:PORT`, `:PORT`, or `unix:/PATH`."""
    if isinstance(value, HostPort | Path):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    if value.startswith(UNIX):
        path = value.removeprefix(UNIX)
        if not path.startswith("/") or not path.isprintable():
            raise ValueError("write unix:/PATH")
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise ValueError(f"a path of a socket has at most {_LONGEST_PATH} bytes")
        return Path(path)
    where = HostPort.parse(value)
    return where if where.host else HostPort("::", where.port)


def can_answer(address: Sender) -> TypeGuard[Address]:
    """Whether anything can be sent there: not to a socket without a name, nor to port 0."""
    return bool(address[1] if isinstance(address, tuple) else address)


def holder_of(address: Sender) -> str:
    """With whom a client shares its places: who has its IPv4 address, or its /64 of IPv6, or where
    that is link-local its address; all at one UNIX socket are one.
    """
    if not isinstance(address, tuple):
        return UNIX
    found = ip_address(address[0].partition("%")[0])
    if isinstance(found, IPv6Address):
        if found.is_link_local:
            return f"{found}%{address[2:]}"
        found = found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64)
    return str(found)


def shown(address: Address | HostPort | Path) -> str:
    """An address for people: IPv4 plain, IPv6 in brackets, with its scope if it has one, the path
    of a UNIX socket, an abstract name behind an `@`.
    """
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        if len(address) > 2 and address[3] and "%" not in host:
            host = f"{host}%{address[3]}"
        return HostPort(host.removeprefix("::ffff:") if "." in host else host, port).text()
    if isinstance(address, HostPort):
        return address.text()
    return UNIX + clean(os.fsdecode(address or b"").replace("\0", "@", 1))


def native(sock: socket.socket, host: str, port: int) -> tuple[str, int]:
    """An address as this socket takes it."""
    if sock.family == socket.AF_INET6 and ":" not in host:
        return f"::ffff:{host}", port
    return host, port


def answering(ancillary: Ancillary) -> Ancillary:
    """What makes a datagram leave from the address that another came to with `ancillary`; nothing
    where the socket is bound to one. The interface is left to the routes, but for a link-local
    address, which is good on one alone.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
            interface = data[16:] if IPv6Address(data[:16]).is_link_local else bytes(4)
            return [(level, kind, data[:16] + interface)]
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
    return []


def reaches(sock: socket.socket, host: str) -> bool:
    """Whether a socket for the Internet can send to an address of that family."""
    if sock.family == socket.AF_INET:
        return ":" not in host
    return ":" in host or not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


@contextmanager
def open_place(place: Place, *, stream: bool) -> Iterator[socket.socket]:
    """A bound socket, listening if it is for streams. A UNIX socket's file goes with it."""
    sock = _bound(place, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    try:
        if stream:
            sock.listen(_BACKLOG)
        yield sock
    finally:
        sock.close()
        if isinstance(place, Path):
            place.unlink(missing_ok=True)


def _bound(place: Place, kind: socket.SocketKind) -> socket.socket:
    if isinstance(place, Path):
        return _bound_path(place, kind)
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    host = place.host
    if host == "::" and not _has_ipv6():
        family, host = socket.AF_INET, "0.0.0.0"  # every address of a host without IPv6
    what = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            enlarge(sock)
            if LINUX and host == "::":
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            elif LINUX and host == "0.0.0.0":
                sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        sock.bind((host, place.port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise VswitchError(f"{what} port {place} is in use by another program") from None
        if error.errno == errno.EACCES:
            raise PrivilegeError(f"{what} port {place} needs a privilege: run as root") from None
        raise VswitchError(f"cannot listen on {place}: {error.strerror}") from None
    return sock


async def find(where: HostPort, kind: socket.SocketKind, bind: str | None) -> list[tuple[str, int]]:
    """The addresses of somebody's listener, at least one: of the family of `bind` if that is an
    address. `NotReachable` if its name is not known just now, or has none of those.
    """
    try:
        found = await resolve(where.host, where.port, kind)
    except OSError as error:
        raise NotReachable(f"cannot resolve {where.host}: {error.strerror or error}") from None
    try:
        version = None if bind is None else ip_address(bind).version
    except ValueError:
        version = None  # an interface, which may have both
    fitting = [each for each in found if version in (None, 6 if ":" in each[0] else 4)]
    if not fitting:
        raise NotReachable(f"{where.host} has no address that {bind or 'this host'} can reach")
    return fitting


def client_socket(
    address: tuple[str, int], kind: socket.SocketKind, bind: str | None
) -> socket.socket:
    """A non-blocking socket for that address, bound to one of ours or to an interface if given."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    try:
        if bind is not None:
            try:
                sock.bind((bind, 0))
            except OSError:
                if not LINUX:
                    raise
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bind.encode())
    except BaseException:
        sock.close()
        raise
    return sock


def enlarge(sock: socket.socket) -> None:
    """Room for bursts of datagrams."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _bound_path(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.setblocking(False)
    try:
        _remove_stale(path, kind)
        old = os.umask(0o177)  # from the first moment: mode 0600
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(old)
    except OSError as error:
        sock.close()
        raise VswitchError(f"cannot listen on {UNIX}{path}: {error.strerror}") from None
    except VswitchError:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path, kind: socket.SocketKind) -> None:
    """Remove the file of a socket that nobody has open any more."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise VswitchError(f"{path} is there already and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise VswitchError(f"{path} is in use by another program")
