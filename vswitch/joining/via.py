"""`join --via`: a TAP of this host and a foreign port of a switch, with no session between.

    TAP ─▶ QueuedPump: cut to the MTU, fair queue ─▶ datagrams, or a TCP stream ─▶ switch, and back

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
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from vswitch.addresses import HostPort
from vswitch.config.commands import JoinConfig
from vswitch.devices.bridge import OpenInterface, open_host_end
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.pump import Pump, QueuedPump, Tally
from vswitch.devices.tap import TapConfig
from vswitch.errors import NotReachable, VswitchError
from vswitch.foreign.datagrams import DatagramDevice, SharedSocket
from vswitch.foreign.formats import FramedStream
from vswitch.foreign.sockets import enlarge
from vswitch.foreign.streams import StreamDevice, tune
from vswitch.frames.ethernet import parse_mac
from vswitch.frames.records import frame_record
from vswitch.logs import event
from vswitch.management.socket import serve_control
from vswitch.management.status import JoinStatus, to_json
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

DEFAULT_MTU: Final = 1500  # bytes, until a switch has said what it carries
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
    fixed = config.address not in ("auto", "none")
    wanted = TapConfig(
        name=config.dev,
        mtu=config.mtu or DEFAULT_MTU,
        offload=config.offload,
        address=config.address if fixed else None,
    )
    with single_error():
        async with (
            open_host_end(open_interface, wanted, config) as interface,
            trio.open_nursery() as nursery,
        ):
            member = _Member(config, via, interface, task_status)
            path = config.files.join_socket(config.name)
            await nursery.start(serve_control, path, {"status": member.status})
            await member.run()


class _Member:
    """This host, through all its connections."""

    def __init__(
        self,
        config: JoinConfig,
        via: str,
        interface: HostInterface,
        task_status: trio.TaskStatus[Welcome],
    ) -> None:
        scheme, _, where = via.partition("://")
        self._config = config
        self._via = via
        self._where = HostPort.parse(where)
        self._open: _Open = self._open_udp if scheme == "udp" else self._open_tcp
        self._interface = interface
        self._task_status: trio.TaskStatus[Welcome] | None = task_status
        self._received, self._sent = Tally(), Tally()
        self._dropped: Counter[str] = Counter()  # by devices, all connections together
        self._since = time.time()
        self._up = False
        self._error: str | None = None

    async def run(self) -> None:
        """Connection after connection."""
        event(
            log,
            "foreign-connecting",
            logging.WARNING,
            member=self._config.name,
            server=self._via,
            plain_text="not encrypted, not authenticated: whoever is on the path is in the LAN",
        )
        while True:
            try:
                async with self._open() as device:
                    self._note_success()
                    await self._carry(device)
            except (OSError, NotReachable) as error:
                failure = NotReachable(_reason(error))
            self._up, self._since = False, time.time()
            if self._config.once:
                raise failure
            if str(failure) != self._error:
                self._error = str(failure)
                event(
                    log,
                    "disconnected",
                    logging.WARNING,
                    member=self._config.name,
                    reason=self._error,
                )
            await trio.sleep(RETRY * random.uniform(1 - RETRY_SPREAD, 1 + RETRY_SPREAD))

    def _note_success(self) -> None:
        interface = self._interface
        self._up, self._since, self._error = True, time.time(), None
        event(
            log,
            "connected",
            member=self._config.name,
            server=self._via,
            dev=interface.name,
            mac=interface.mac,
            address=self._address(),
            mtu=interface.mtu,
        )
        if self._task_status is not None:
            welcome = Welcome(
                self._config.name, 1, self._address(), mtu=interface.mtu, lane="plain"
            )
            self._task_status.started(welcome)
            self._task_status = None

    def _address(self) -> str | None:
        return self._interface.address

    async def _carry(self, device: DatagramDevice | StreamDevice) -> None:
        """Both directions until one ends: `NotReachable` if that was the other side's end."""
        up = QueuedPump(self._interface, device, self._sent)
        down = Pump(device, self._interface, self._received, given=up.take)
        jobs: list[Callable[[], Awaitable[None]]] = [up.read, up.write, partial(down.run, [])]
        if isinstance(device, StreamDevice):
            device.on_blocked = up.flush_soon
        else:
            jobs.append(partial(self._say_hello, device))
        end: list[Exception] = []
        try:
            async with trio.open_nursery() as nursery:

                async def run(job: Callable[[], Awaitable[None]]) -> None:
                    try:
                        await job()
                    except Exception as error:
                        end.append(error)
                        nursery.cancel_scope.cancel()

                for job in jobs:
                    nursery.start_soon(run, job)
        finally:
            up.close()
            self._dropped.update(device.dropped)
        if isinstance(device, StreamDevice) and device.gone is not None:
            raise NotReachable(device.gone)
        if isinstance(end[0], OSError | trio.BrokenResourceError | trio.ClosedResourceError):
            raise VswitchError(f"{end[0]}; start join again to make it anew") from end[0]
        raise end[0]

    async def _say_hello(self, device: DatagramDevice) -> None:
        """Let a UDP switch know that we are there."""
        mac = parse_mac(self._interface.mac)
        hello = frame_record(NEAREST_BRIDGE + mac + LOCAL_EXPERIMENTAL + bytes(46))
        before = -1
        while True:
            if self._sent.frames == before or before < 0:
                device.write_nowait([hello])
            before = self._sent.frames
            await trio.sleep(SAY_HELLO)

    @asynccontextmanager
    async def _open_udp(self) -> AsyncIterator[DatagramDevice]:
        family, address = (await find(self._where, socket.SOCK_DGRAM))[0]
        with make_socket(family, socket.SOCK_DGRAM, self._config.bind) as sock:
            enlarge(sock)
            shared = SharedSocket(sock, self._interface.mtu)
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
        mtu, dropped = self._interface.mtu, Counter[str]()
        device = StreamDevice(sock, f"tcp:{self._where}", FramedStream(mtu, dropped), mtu, dropped)
        try:
            yield device
        finally:
            device.close()

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """The answer to the control socket."""
        await trio.lowlevel.checkpoint()
        interface, received, sent = self._interface, self._received, self._sent
        drops = Counter(interface.dropped) + self._dropped
        drops["queue_full"] += sent.dropped
        drops["queue_delay"] += sent.delayed
        drops["disconnected"] += received.lost + sent.lost
        drops["bad_superframe"] += received.refused + sent.refused
        return to_json(
            JoinStatus(
                name=self._config.name,
                state="up" if self._up else "connecting",
                server=self._via,
                dev=interface.name,
                mac=interface.mac,
                address=interface.address,
                mtu=interface.mtu,
                rx_frames=received.frames,
                rx_bytes=received.bytes,
                tx_frames=sent.frames,
                tx_bytes=sent.bytes,
                drops=dict(+drops),
                since=self._since,
                error=self._error,
            )
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        return f"cannot reach the switch: {os.strerror(error.errno)}"
    return str(error)
