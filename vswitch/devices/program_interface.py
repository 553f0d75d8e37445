"""A member without an interface of the kernel: the program itself is the host that takes part.

    interface = ProgramInterface()
    await nursery.start(partial(join, config, open_interface=interface.open))
    await interface.port.send(frame)
    async for frame in interface.port: ...

No privilege is needed. `port` speaks of plain Ethernet frames, and waits while `join` has not taken
what was sent. Nothing here speaks IP: the address that the switch gives is only kept.

Errors: those of `LocalPort`. At the end of `join` the port is broken, which ends `async for`; a
port that the program closes ends `join` with a `VswitchError`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from vswitch.addresses import mac_from_key
from vswitch.config.options import DEFAULT_MTU
from vswitch.devices.host_interface import HostFacts
from vswitch.devices.tap import TapConfig
from vswitch.frames.ethernet import format_mac
from vswitch.switch.local import local_pair


class ProgramInterface:
    """A host's end for one `join`. Implements `vswitch.devices.host_interface.HostInterface`.

    `port` is the program's; `mac`, `mtu` and `address` are what it has on the LAN, as soon as
    `join` has started.
    """

    superframes = False
    persistent = False

    def __init__(self) -> None:
        device, self.port = local_pair("program", mtu=DEFAULT_MTU)
        self.name, self.mtu = device.name, device.mtu
        self.mac = format_mac(mac_from_key(os.urandom(32)))
        self.address: str | None = None
        self.dropped: Counter[str] = Counter()
        self.wait_readable, self.read_nowait = device.wait_readable, device.read_nowait
        self.wait_writable, self.write_nowait = device.wait_writable, device.write_nowait
        self.close, self.aclose = device.close, device.aclose

    @asynccontextmanager
    async def open(self, config: TapConfig) -> AsyncIterator[ProgramInterface]:
        """For `join`, in place of `open_tap`."""
        self.name, self.mac, self.address = config.name, config.mac or self.mac, config.address
        try:
            await self.set_mtu(config.mtu)
            yield self
        finally:
            self.close()

    async def facts(self) -> HostFacts:
        """Nothing: whatever the switch says goes no further than this program."""
        await trio.lowlevel.checkpoint()
        return HostFacts()

    async def set_mtu(self, mtu: int) -> None:
        """Frames of the program may be so long from now on."""
        await trio.lowlevel.checkpoint()
        self.mtu = self.port.mtu = mtu

    async def set_address(self, address: str | None) -> None:
        """Keep the address, for the program to look at."""
        await trio.lowlevel.checkpoint()
        self.address = address
