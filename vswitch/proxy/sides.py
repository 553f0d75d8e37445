"""The two networks of the proxy, the host's and the LAN: sockets, and what names mean there.

Error contract: `CannotConnect` with the reason, which is also a name that is counted; `listen`
raises `VswitchError` for a place that the operator has to change.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final, Protocol

import trio
from attrs import frozen

from vswitch.config.places import Place, is_address
from vswitch.errors import PrivilegeError, Problem, VswitchError
from vswitch.proxy.relay import of_socket
from vswitch.resolver import resolve

ATTEMPT: Final = 10.0  # seconds for one address of a name: four SYNs
PATIENCE: Final = 30.0  # seconds for all of them, and the name
BACKLOG: Final = 1024  # connections that wait to be taken; the kernel may have a lower limit
_MOST_ADDRESSES: Final = 8
_IP_PKTINFO: Final = 8  # linux/in.h
_FREEBIND: Final = 15  # IP_FREEBIND of linux/in.h: the member may not have its address yet
REASONS: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ENOENT: "refused",  # of a Unix socket
}


class SocketFactory(Protocol):
    """Makes sockets of one network; raises `OSError`."""

    async def __call__(
        self, family: int, kind: int, protocol: int = 0
    ) -> trio.socket.SocketType: ...


class CannotConnect(Exception):
    """Nothing answers there. `reason`: no_name, refused, unreachable, timeout or failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class Side:
    """One network. `lookup` gives the addresses of a name, none where it is not known."""

    socket: SocketFactory
    lookup: Callable[[str], Awaitable[Sequence[str]]]
    may_be_absent: bool = False  # whether to listen at addresses that are not there yet

    async def addresses(self, host: str) -> list[str]:
        """The IP addresses of a host, at least one."""
        if is_address(host):
            return [host]
        try:
            found = list(await self.lookup(host))[:_MOST_ADDRESSES]
        except OSError as error:  # of asking, such as for want of descriptors
            raise CannotConnect("failed") from error
        if not found:
            raise CannotConnect("no_name")
        return found

    async def connect(self, place: Place) -> trio.SocketStream:
        """A connection to a place, at the first of its addresses that takes it."""
        return of_socket(await self._connected(place, socket.SOCK_STREAM))

    @asynccontextmanager
    async def connect_datagrams(self, place: Place) -> AsyncIterator[trio.socket.SocketType]:
        """A UDP socket that sends to a place, and hears of it alone."""
        with await self._connected(place, socket.SOCK_DGRAM) as sock:
            yield sock

    async def _connected(self, place: Place, kind: int) -> trio.socket.SocketType:
        with trio.move_on_after(PATIENCE):
            if place.path:
                return await self._attempt(socket.AF_UNIX, kind, place.path)
            failure = CannotConnect("no_name")
            for host in await self.addresses(place.host):
                try:
                    return await self._attempt(family_of(host), kind, (host, place.port))
                except CannotConnect as error:
                    failure = error
            raise failure
        raise CannotConnect("timeout")

    async def _attempt(
        self, family: int, kind: int, address: str | tuple[str, int]
    ) -> trio.socket.SocketType:
        try:
            # A Unix socket belongs to no network, so any side can have it made here.
            make = host_socket if family == socket.AF_UNIX else self.socket
            sock = await make(family, kind)
            try:
                with trio.fail_after(ATTEMPT):
                    await sock.connect(address)
            except BaseException:
                sock.close()
                raise
        except trio.TooSlowError:
            raise CannotConnect("timeout") from None
        except OSError as error:
            raise CannotConnect(REASONS.get(error.errno or 0, "failed")) from error
        return sock

    async def listen(self, place: Place) -> trio.socket.SocketType:
        """A bound socket; one of streams listens. `host` "" is every address of the network."""
        if place.path:
            return await trio.to_thread.run_sync(_listen_unix, place.path)
        kind = socket.SOCK_DGRAM if place.udp else socket.SOCK_STREAM
        with _told(place):
            sock = await self.socket(family_of(place.host), kind)
            try:
                if not place.udp:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                elif sock.family == socket.AF_INET6:  # which address a datagram came to
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                if sock.family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(place.host))
                if self.may_be_absent:
                    sock.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
                await sock.bind((place.host or "::", place.port))
                if not place.udp:
                    sock.listen(BACKLOG)
            except BaseException:
                sock.close()
                raise
        return sock


async def host_socket(family: int, kind: int, protocol: int = 0) -> trio.socket.SocketType:
    """A socket of this process's own network: a `SocketFactory`."""
    await trio.lowlevel.checkpoint()
    return trio.socket.socket(family, kind, protocol)


async def host_names(name: str) -> list[str]:
    """What the resolver of this host says: the `lookup` of its side."""
    try:
        return [host for host, _ in await resolve(name, 0)]
    except OSError:
        return []


def family_of(host: str) -> int:
    """Of an IP address; "" is every address, of both families."""
    return socket.AF_INET if "." in host and ":" not in host else socket.AF_INET6


@contextmanager
def _told(place: Place) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise VswitchError(
                f"{place} is in use by another program: stop it, or choose another port"
            ).of(Problem.IN_USE, place=place) from None
        if error.errno == errno.EACCES and place.port:
            raise PrivilegeError(
                f"{place}: users have no ports below the sysctl "
                "net.ipv4.ip_unprivileged_port_start (1024): choose a higher one"
            ).of(Problem.LOW_PORT, place=place) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise VswitchError(
                f"{place}: this host does not have that address now: choose one that "
                "`ip address` shows"
            ).of(Problem.NO_ADDRESS, place=place) from None
        if error.errno == errno.EMFILE:
            raise VswitchError(
                f"{place}: this program may have no more descriptors: listen at fewer ports, or "
                "raise its limit (ulimit -n, LimitNOFILE= of systemd)"
            ) from None
        raise VswitchError(f"cannot listen at {place}: {error.strerror}") from None


def _listen_unix(path: str) -> trio.socket.SocketType:
    """For this user alone. A file that nobody listens at any more is replaced."""
    with _told(Place(path=path)):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if _is_left_over(path):
                os.unlink(path)
            sock.bind(path)
            os.chmod(path, 0o600)  # before it listens, so nobody else has connected
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
    return trio.socket.from_stdlib_socket(sock)


def _is_left_over(path: str) -> bool:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                return probe.connect_ex(path) == errno.ECONNREFUSED
    return False
