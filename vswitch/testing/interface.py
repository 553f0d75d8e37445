"""`FakeInterface`: a host's end for `join`, whose kernel is the test.

    interface = FakeInterface()
    await nursery.start(partial(join, config, open_interface=interface.open))
    interface.feed(frame)          # the host sends
    interface.take()               # what the host has received

A program that just wants to take part has `vswitch.ProgramInterface`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from vswitch.devices.host_interface import HostFacts
from vswitch.devices.routing import NOTHING, Routing
from vswitch.devices.tap import TapConfig
from vswitch.testing.devices import FakeDevice


class FakeInterface(FakeDevice):
    """A `FakeDevice` with an address. Implements `vswitch.devices.host_interface.HostInterface`.

    `history` has what was set, in order, such as `("mtu", 1400)`. `refuse` is raised instead of
    setting anything, once. `host` is what the host has besides; `routing` what leads through it.
    """

    private = True  # nothing of this host's own is changed for it

    def __init__(
        self,
        *,
        capacity: int | None = None,
        persistent: bool = False,
        superframes: bool = False,
    ) -> None:
        super().__init__("vsw0", capacity=capacity, superframes=superframes)
        self.mac = "02:00:00:00:00:01"
        self.address: str | None = None
        self.persistent = persistent
        self.dropped: Counter[str] = Counter()
        self.history: list[tuple[str, object]] = []
        self.refuse: Exception | None = None
        self.opened = 0  # times
        self.host = HostFacts()
        self.routing = NOTHING

    @asynccontextmanager
    async def open(self, config: TapConfig) -> AsyncIterator[FakeInterface]:
        """In the place of `open_tap`."""
        await trio.lowlevel.checkpoint()
        self.name, self.mtu = config.name, config.mtu
        self.mac = config.mac or (not self.persistent and config.new_mac) or self.mac
        self.opened += 1
        self.closed = False
        try:
            yield self
        finally:
            self.close()

    async def facts(self) -> HostFacts:
        await trio.lowlevel.checkpoint()
        return self.host

    async def set_mtu(self, mtu: int) -> None:
        await self._set("mtu", mtu)
        self.mtu = mtu

    async def set_address(self, address: str | None) -> None:
        if address != self.address:
            await self._set("address", address)
            self.address = address

    async def set_routing(self, wanted: Routing) -> None:
        """Implements `vswitch.devices.routing.Routed`."""
        if wanted != self.routing:
            await self._set("routing", wanted)
            self.routing = wanted

    async def _set(self, what: str, value: object) -> None:
        await trio.lowlevel.checkpoint()
        refuse, self.refuse = self.refuse, None
        if refuse is not None:
            raise refuse
        self.history.append((what, value))
