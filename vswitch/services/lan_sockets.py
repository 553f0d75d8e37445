"""Sockets on the LAN for this program: the kernel's, of whichever network there is a way to have.

 serve_inside    a sandbox, made without privilege: the port `publish` of the switch is its TAP
 serve_beside    this host's own network, which `serve --local-port` has plugged in

Both run until cancelled or until what they stand on is gone; `Standby` opens one of them when a
socket is first wanted, and again when it was lost.

Error contract: `VswitchError` from `open`, with what to do; a socket that cannot be had is
`CannotConnect`, or the `OSError` of the kernel.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Interface
from typing import Final, Protocol

import trio

from transport.platform import LINUX
from vswitch.devices.tap import TapConfig
from vswitch.errors import VswitchError
from vswitch.frames.ethernet import format_mac
from vswitch.logs import event
from vswitch.namespaces.sandbox import open_sandbox
from vswitch.proxy.sides import CannotConnect, SocketFactory, host_socket
from vswitch.registry.rules import PUBLISH_PORT
from vswitch.runtime import single_error
from vswitch.switch.port import Bound
from vswitch.switch.switch import Switch

_DEV: Final = "vsw0"  # nobody else is in there

log = logging.getLogger(__name__)


class ServeNetwork(Protocol):
    """Has a network until cancelled or until it is lost; started with what makes its sockets."""

    async def __call__(self, *, task_status: trio.TaskStatus[SocketFactory]) -> None: ...


async def serve_inside(
    switch: Switch,
    choose: Callable[[], Awaitable[IPv4Interface]],
    mac: bytes,
    *,
    task_status: trio.TaskStatus[SocketFactory] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A port of the switch that is a network without programs.

    Args:
        choose: gives an address of the LAN that nobody else gets.
        mac: of the interface, the same each time, so that nobody has to learn it anew.
    """
    if not LINUX:
        raise VswitchError("to publish services needs Linux, whose namespaces give the sockets")
    async with open_sandbox() as sandbox:
        address = await choose()
        wanted = TapConfig(
            name=_DEV,
            mac=format_mac(mac),
            mtu=switch.mtu,
            address=str(address),
            offload=True,
            accept_ra="addresses",
        )
        async with sandbox.open_interface(wanted) as device:
            bound = Bound(mac, str(address.ip), vouched=True)
            port = switch.attach(device, name=PUBLISH_PORT, bound=bound)
            try:
                task_status.started(sandbox.socket)
                await port.wait_detached()
            finally:
                switch.detach(port)


async def serve_beside(
    dev: str, *, task_status: trio.TaskStatus[SocketFactory] = trio.TASK_STATUS_IGNORED
) -> None:
    """This host's network, by the interface `dev` alone: other routes lead elsewhere."""

    async def make(family: int, kind: int, protocol: int = 0) -> trio.socket.SocketType:
        sock = await host_socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(dev))
        except BaseException:
            sock.close()
            raise
        return sock

    task_status.started(make)
    await trio.sleep_forever()


class Standby:
    """A network that is opened when it is first wanted, in `nursery`, which is set before."""

    nursery: trio.Nursery

    def __init__(self, serve: ServeNetwork) -> None:
        self._serve = serve
        self._factory: SocketFactory | None = None
        self._opening = trio.Lock()
        self._scope, self._gone = trio.CancelScope(), trio.Event()  # of the network that is open

    async def open(self) -> SocketFactory:
        """Have it now; raises `VswitchError`."""
        async with self._opening:
            if self._factory is None:
                self._factory = await self.nursery.start(self._hold)
            return self._factory

    async def close(self) -> None:
        """Have it no more, until it is wanted again. Idempotent."""
        with trio.CancelScope(shield=True):
            async with self._opening:
                if self._factory is not None:
                    self._scope.cancel()
                    await self._gone.wait()

    async def socket(self, family: int, kind: int, protocol: int = 0) -> trio.socket.SocketType:
        """A `SocketFactory`."""
        try:
            factory = await self.open()
            return await factory(family, kind, protocol)
        except VswitchError:
            raise CannotConnect("no_lan") from None

    async def _hold(self, *, task_status: trio.TaskStatus[SocketFactory]) -> None:
        opened, reason = False, "its port is gone"
        self._scope, self._gone = trio.CancelScope(), trio.Event()
        try:
            with self._scope, single_error():
                async with trio.open_nursery() as nursery:
                    factory = await nursery.start(self._serve)
                    opened = True
                    task_status.started(factory)
        except Exception as error:  # it is opened again when a socket is wanted
            if not opened:
                raise
            reason = str(error) or type(error).__name__
        finally:
            self._factory = None
            self._gone.set()
        if self._scope.cancelled_caught:
            return
        event(log, "publish-lan-lost", logging.ERROR, reason=reason)
