"""SOCKS5 for one client: who it is, what it wants, and its connection or UDP association.

Invariants: a client is answered nothing but a greeting before it has proven who it is, where users
are asked for; a UDP association ends with its connection, and takes datagrams from the client's
address alone, and from the port that sent the first.

Error contract: that of `listeners.contained`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Final, TypeVar

import trio
from attrs import field, frozen

from vswitch.config.places import LOOPBACK, Place
from vswitch.errors import BadRecord
from vswitch.proxy import socks
from vswitch.proxy.counts import Counts
from vswitch.proxy.listeners import MAX_DATAGRAM, Limits, pass_on
from vswitch.proxy.relay import Silence
from vswitch.proxy.sides import CannotConnect, Side, family_of, host_socket
from vswitch.proxy.socks import Reply

HANDSHAKE: Final = 30.0  # seconds from the first byte to the request
WRONG: Final = 1.0  # seconds until a wrong password is answered
_CODES: Final = {
    "no_name": Reply.HOST_UNREACHABLE,
    "refused": Reply.CONNECTION_REFUSED,
    "unreachable": Reply.NETWORK_UNREACHABLE,
    "timeout": Reply.TTL_EXPIRED,
}

T = TypeVar("T")
Reader = Callable[[bytes], tuple[T, int] | None]


class _Gone(Exception):
    """The client has, in the middle of a message."""


@frozen
class SocksServer:
    """What all clients of a SOCKS listener share."""

    lan: Side
    limits: Limits
    counts: Counts
    users: Mapping[bytes, bytes] | None = field(default=None, repr=False)  # passwords; None: all

    async def serve(self, stream: trio.SocketStream) -> None:
        """One client."""
        client = _Client(stream)
        request = None
        try:
            with trio.move_on_after(HANDSHAKE):
                await self._let_in(client)
                request = await client.read(socks.read_request_untrusted)
        except socks.Refused as refused:
            self.counts.failed["bad_request"] += 1
            await client.say(socks.reply(refused.code))
            return
        except (BadRecord, _Gone):
            self.counts.failed["bad_request"] += 1
            return
        except CannotConnect as error:  # not let in
            self.counts.failed[error.reason] += 1
            return
        if request is None:
            raise CannotConnect("timeout")
        try:
            if request.command == socks.CONNECT:
                await self._connect(client, request)
            else:
                await self._associate(client, request)
        except CannotConnect as error:
            await client.say(socks.reply(_CODES.get(error.reason, Reply.FAILURE)))
            raise

    async def _let_in(self, client: _Client) -> None:
        greeting = await client.read(socks.read_greeting_untrusted)
        wanted = socks.NO_AUTHENTICATION if self.users is None else socks.PASSWORD
        if wanted not in greeting.methods:
            await client.say(socks.method_reply(socks.NO_METHOD))
            raise CannotConnect("not_allowed")
        await client.say(socks.method_reply(wanted))
        if self.users is None:
            return
        said = await client.read(socks.read_credentials_untrusted)
        # A user who is not known takes as long as one who is.
        right = compare_digest(self.users.get(said.user, b""), said.password)
        if not (right and said.user in self.users):
            await trio.sleep(WRONG)
            await client.say(socks.credentials_reply(False))
            raise CannotConnect("not_allowed")
        await client.say(socks.credentials_reply(True))

    async def _connect(self, client: _Client, request: socks.Request) -> None:
        far = await self.lan.connect(Place(request.host, request.port))
        try:
            await client.say(socks.reply(Reply.SUCCEEDED, *_address(far.socket.getsockname())))
        except BaseException:
            await trio.aclose_forcefully(far)
            raise
        await pass_on(client.stream, far, self.limits, self.counts, client.rest())

    async def _associate(self, client: _Client, request: socks.Request) -> None:
        if (reason := self.limits.associations.enter("")) is not None:
            raise CannotConnect(reason)
        try:
            near = client.stream.socket
            unix = near.family == socket.AF_UNIX
            ours = LOOPBACK if unix else _address(near.getsockname())[0]
            theirs = LOOPBACK if unix else _address(near.getpeername())[0]
            with await _bound(ours) as sock:
                await client.say(socks.reply(Reply.SUCCEEDED, *_address(sock.getsockname())))
                with _Association(self, sock, theirs, request.port) as association:
                    await association.run(client.stream)
        finally:
            self.limits.associations.leave("")


async def _bound(host: str) -> trio.socket.SocketType:
    """A UDP socket of this host's network, at a port of the kernel's choice."""
    try:
        sock = await host_socket(family_of(host), socket.SOCK_DGRAM)
        try:
            await sock.bind((host, 0))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise CannotConnect("failed") from error
    return sock


class _Client:
    """The stream of a client while messages are read from it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def read(self, reader: Reader[T]) -> T:
        """The next message. Raises `BadRecord`, and `_Gone`."""
        while (found := reader(self._data)) is None:
            try:
                more = await self.stream.receive_some(socks.MAX_MESSAGE)
            except trio.BrokenResourceError:
                raise _Gone from None
            if not more:
                raise _Gone
            self._data += more
        message, end = found
        self._data = self._data[end:]
        return message

    async def say(self, data: bytes) -> None:
        """Send; a client that has gone is noticed by whoever reads."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    def rest(self) -> bytes:
        """What came behind the messages."""
        data, self._data = self._data, b""
        return data


class _Association:
    """Datagrams of one client: `sock` is on its side, and one socket a family on the LAN."""

    def __init__(
        self, server: SocksServer, sock: trio.socket.SocketType, client: str, port: int
    ) -> None:
        """`client` is its IP address, `port` that of its datagrams, 0 if it did not say."""
        self._server = server
        self._sock = sock
        self._from = (client, port)
        self._client: tuple[str, int] | None = None  # once it has sent something
        self._lan: dict[int, trio.socket.SocketType] = {}  # by family
        self._silence = Silence(server.limits.udp_idle)

    def __enter__(self) -> _Association:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._lan.values():
            sock.close()

    async def run(self, stream: trio.SocketStream) -> None:
        """Until the client's connection ends, or nothing has passed for the idle time."""
        async with trio.open_nursery() as nursery:

            async def follow() -> None:
                try:
                    while await stream.receive_some(socks.MAX_MESSAGE):
                        pass
                except trio.BrokenResourceError:
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(follow)
            nursery.start_soon(self._up, nursery)
            await self._silence.reached()
            nursery.cancel_scope.cancel()

    async def _up(self, nursery: trio.Nursery) -> None:
        drops = self._server.counts.drops
        while True:
            data, address = await self._sock.recvfrom(MAX_DATAGRAM)
            source = _address(address)
            if source != (self._client or (self._from[0], self._from[1] or source[1])):
                drops["stranger"] += 1
                continue
            try:
                datagram = socks.read_datagram_untrusted(data)
            except BadRecord:
                drops["bad_datagram"] += 1
                continue
            self._client = source
            self._silence.broken()
            try:
                (host, *_) = await self._server.lan.addresses(datagram.host)
                sock = await self._towards(host, nursery)
                await sock.sendto(datagram.payload, (host, datagram.port))
            except CannotConnect as error:
                drops[error.reason] += 1
            except OSError:
                drops["send_failed"] += 1
            else:
                self._server.counts.traffic.up += len(datagram.payload)

    async def _towards(self, host: str, nursery: trio.Nursery) -> trio.socket.SocketType:
        family = family_of(host)
        if family not in self._lan:
            sock = await self._server.lan.socket(family, socket.SOCK_DGRAM)
            self._lan[family] = sock
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            await sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
            nursery.start_soon(self._down, sock)
        return self._lan[family]

    async def _down(self, sock: trio.socket.SocketType) -> None:
        counts = self._server.counts
        while True:
            try:
                payload, address = await sock.recvfrom(MAX_DATAGRAM)
                assert self._client is not None  # it has sent, or there were no socket
                await self._sock.sendto(socks.datagram(*_address(address), payload), self._client)
            except OSError:
                counts.drops["send_failed"] += 1
            else:
                self._silence.broken()
                counts.traffic.down += len(payload)


def _address(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> tuple[str, int]:
    """IP address and port of what a socket says, without interface; IPv4 in IPv6 is IPv4."""
    address = ipaddress.ip_address(sockaddr[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), sockaddr[1]
