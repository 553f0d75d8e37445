"""`join --via`: a TAP of this host and a foreign port of a switch, with no session between.

    TAP ─▶ Uplink: cut to the MTU, fair queue ─▶ datagrams, or a TCP stream ─▶ switch, and back

A UDP switch learns of us from our first frame and may forget us when we are silent, so one that
goes no further than the next bridge (to 01-80-C2-00-00-0E) is sent at the start and every minute
without another. A TCP connection that ends or cannot be made is tried again after 10 s ± 10 %.

Error contract: `VswitchError` for what has to be mended on this host; with `config.once` the first
failure is raised.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, NoReturn

import trio

from vswitch.addresses import HostPort
from vswitch.config.commands import JoinConfig
from vswitch.devices.bridge import OpenInterface
from vswitch.errors import NotReachable
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import FramedStream
from vswitch.foreign.sockets import enlarge
from vswitch.foreign.streams import ConnectionEnded, StreamDevice, tune
from vswitch.frames.ethernet import parse_mac
from vswitch.frames.records import frame_record
from vswitch.joining.host_link import HostLink, Remote, open_host_link
from vswitch.logs import event
from vswitch.management.socket import serve_control
from vswitch.members.protocol import Welcome
from vswitch.runtime import single_error

# -------------------------------------------------------------------------------------------------
# Sockets towards a foreign port of somebody else's switch.
#
# Error contract: `OSError`, or `NotReachable` for a name that is not known just now.

CONNECT_PATIENCE: Final = 10.0  # seconds for one address
FoundAddress = tuple[socket.AddressFamily, tuple[str, int]]


async def connect(where: HostPort, bind: str | None) -> socket.socket:
    """A connected, non-blocking socket, to the first address that answers."""
    failure: OSError | None = None
    for family, address in await find(where, socket.SOCK_STREAM):
        sock = make_socket(family, socket.SOCK_STREAM, bind)
        try:
            with trio.fail_after(CONNECT_PATIENCE):
                code = sock.connect_ex(address)
                if code == errno.EINPROGRESS:
                    await trio.lowlevel.wait_writable(sock)
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            tune(sock)
            return sock
        except trio.TooSlowError:
            failure = TimeoutError(errno.ETIMEDOUT, "no answer")
            sock.close()
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    assert failure is not None
    raise failure


async def find(where: HostPort, kind: socket.SocketKind) -> list[FoundAddress]:
    """The addresses of a switch."""
    try:
        found = await trio.socket.getaddrinfo(where.host, where.port, type=kind)
    except OSError as error:
        raise NotReachable(f"cannot resolve {where.host}: {error.strerror or error}") from None
    return [(family, (str(address[0]), int(address[1]))) for family, *_, address in found]


def make_socket(
    family: socket.AddressFamily, kind: socket.SocketKind, bind: str | None
) -> socket.socket:
    """A non-blocking socket, bound to an address or an interface if one is given."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if bind is not None:
            try:
                sock.bind((bind, 0))
            except OSError:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bind.encode())
    except BaseException:
        sock.close()
        raise
    return sock


# -------------------------------------------------------------------------------------------------

log = logging.getLogger(__name__)

RETRY: Final = 10.0  # seconds until a connection is tried again
RETRY_SPREAD: Final = 0.1  # ± share, so that the clients of a switch that restarts come one by one
SAY_HELLO: Final = 60.0  # seconds without a frame: well below the 300 of a switch
NEAREST_BRIDGE: Final = bytes.fromhex("0180c200000e")
LOCAL_EXPERIMENTAL: Final = b"\x88\xb5"  # EtherType of IEEE 802

_Open = Callable[[], AbstractAsyncContextManager["DatagramDevice | StreamDevice"]]


async def join_via(
    config: JoinConfig,
    via: str,
    open_interface: OpenInterface,
    task_status: trio.TaskStatus[Welcome],
) -> None:
    """Be plugged into a foreign port until cancelled. Started when frames can pass."""
    await trio.to_thread.run_sync(config.files.ensure)
    address = None if config.address in ("auto", "none") else config.address
    with single_error():
        async with (
            open_host_link(config, via, open_interface, task_status, address=address) as link,
            trio.open_nursery() as nursery,
        ):
            path = config.files.join_socket(config.name)
            await nursery.start(serve_control, path, {"status": link.status})
            await _PlainMember(config, via, link).run()


class _PlainMember:
    """This host, through all its connections."""

    def __init__(self, config: JoinConfig, via: str, link: HostLink) -> None:
        scheme, _, where = via.partition("://")
        self._config = config
        self._where = HostPort.parse(where)
        self._open: _Open = self._open_udp if scheme == "udp" else self._open_tcp
        self._link = link

    async def run(self) -> None:
        """Connection after connection."""
        event(
            log,
            "foreign-connecting",
            logging.WARNING,
            member=self._config.name,
            server=self._link.server,
            plain_text="not encrypted, not authenticated: whoever is on the path is in the LAN",
        )
        while True:
            try:
                async with self._open() as device:
                    self._note_success(device)
                    await self._carry(device)
            except (OSError, NotReachable, ConnectionEnded) as error:
                failure = NotReachable(_reason(error))
            if self._config.once:
                raise failure
            self._link.lost(str(failure))
            await trio.sleep(RETRY * random.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD))

    def _note_success(self, device: Remote) -> None:
        """Nobody welcomes us: what a switch would say is what we have set."""
        interface = self._link.interface
        name, address, mtu = self._config.name, interface.address, interface.mtu
        self._link.connected(device, Welcome(name, 1, address, mtu=mtu, lane="plain"))

    async def _carry(self, device: DatagramDevice | StreamDevice) -> NoReturn:
        if isinstance(device, DatagramDevice):
            await self._link.carry(device, partial(self._say_hello, device))
        await self._link.carry(device)

    async def _say_hello(self, device: DatagramDevice) -> None:
        """Let a UDP switch know that we are there."""
        mac = parse_mac(self._link.interface.mac)
        hello = frame_record(NEAREST_BRIDGE + mac + LOCAL_EXPERIMENTAL + bytes(46))
        before = -1
        while True:
            if self._link.sent.frames == before or before < 0:
                device.write_nowait([hello])
            before = self._link.sent.frames
            await trio.sleep(SAY_HELLO)

    @asynccontextmanager
    async def _open_udp(self) -> AsyncIterator[DatagramDevice]:
        family, address = (await find(self._where, socket.SOCK_DGRAM))[0]
        with make_socket(family, socket.SOCK_DGRAM, self._config.bind) as sock:
            enlarge(sock)
            shared = SharedSocket(sock, self._link.interface.mtu)
            device = DatagramDevice(shared, address, f"udp:{self._where}")

            def judge(datagram: bytes, source: object) -> tuple[DatagramDevice, bytes] | None:
                return (device, datagram) if source == address else None

            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(shared.run, judge)
                    try:
                        yield device
                    finally:
                        nursery.cancel_scope.cancel()
            finally:
                device.close()

    @asynccontextmanager
    async def _open_tcp(self) -> AsyncIterator[StreamDevice]:
        sock = await connect(self._where, self._config.bind)
        mtu, dropped = self._link.interface.mtu, Counter[str]()
        device = StreamDevice(sock, f"tcp:{self._where}", FramedStream(mtu, dropped), mtu, dropped)
        try:
            yield device
        finally:
            device.close()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"cannot reach the switch: {os.strerror(error.errno)}"
    return str(error)
