"""One session of a member with its switch: hello, welcome, frames both ways, and how it ends.

    hello ─▶ welcome ─▶ interface configured ─▶ `welcomed` ─▶ frames until the end

Error contract of `Connection.run`, which never returns: `EnrolRefused` when the switch says no in
a way that time does not mend; `Replaced`, `NotReachable` and `TimedOut` when another attempt may
do better; other `VswitchError`s for what has to be mended on this host.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from transport import Channel, ChannelBroken
from vswitch.config.options import JoinConfig
from vswitch.devices.pump import BATCH
from vswitch.errors import BadRecord, NotReachable, PrivilegeError, TimedOut, VswitchError
from vswitch.frames.ethernet import MAX_MTU
from vswitch.joining.host_link import HostLink
from vswitch.logs import event
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import (
    FROM_SWITCH,
    Bye,
    ByeCode,
    ControlMessage,
    Hello,
    Notice,
    Update,
    Welcome,
)
from vswitch.registry.rules import EnrolRefused, refusal
from vswitch.version import SOFTWARE

log = logging.getLogger(__name__)

WELCOME_TIMEOUT: Final = 10.0  # seconds from hello to welcome: a disk sync at worst
UPDATES: Final = 16  # that may wait while an earlier one is carried out


class Replaced(NotReachable):
    """Another host has connected with the key of this member."""


class Restarting(NotReachable):
    """The switch has said that it stops."""


class Lost(NotReachable):
    """The switch has fallen silent, or does not know the session any more."""


class Connection:
    """What a member does with one channel."""

    def __init__(self, channel: Channel, link: HostLink, config: JoinConfig) -> None:
        self.device = MemberDevice(
            channel, name="switch", mtu=MAX_MTU, hears=FROM_SWITCH, on_control=self._hear
        )
        self._link = link
        self._interface = link.interface
        self._config = config
        self._welcome: Welcome | None = None
        self._bye: Bye | None = None
        self._updates, self._waiting = trio.open_memory_channel[Update](UPDATES)

    async def run(self, welcomed: Callable[[Welcome], Awaitable[None]]) -> NoReturn:
        """From hello to the end. `welcomed` is awaited before the first frame is carried."""
        try:
            welcome, early = await self._introduce()
            await self._configure(welcome.mtu, welcome.address)
            await welcomed(welcome)
            await self._link.carry(self.device, self._follow_updates, early=early)
        except ChannelBroken as broken:
            raise self._verdict(broken) from None
        except BadRecord as error:
            self.device.close(ByeCode.PROTOCOL, str(error))
            raise NotReachable(f"the switch sent what makes no sense: {error}") from None

    def _verdict(self, broken: ChannelBroken) -> VswitchError:
        """What the end of the session means. A goodbye says more than the transport can."""
        code, reason = broken.code, str(broken)
        if self._bye is not None:
            code, reason = self._bye.code, self._bye.reason or reason
        if refusal(code).final:
            return EnrolRefused(ByeCode(code), reason)
        if code == ByeCode.REPLACED:
            return Replaced(
                "another host has connected with the key of this member: are two joins using "
                "copies of one state directory?"
            )
        if code == ByeCode.SHUTDOWN:
            return Restarting(reason)
        if code == ByeCode.TIMEOUT:
            return Lost(reason)
        return NotReachable(reason)

    def _hear(self, message: ControlMessage) -> None:
        match message:
            case Welcome():
                if self._welcome is None:
                    self._welcome = message
                    # At once: superframes may come right behind this, in the same message.
                    self.device.superframes = message.offload and self._interface.superframes
                    if message.lane == self._config.lane:  # else it is kcp: no other was wished for
                        self.device.use_lane(message.lane)
            case Update():
                try:
                    self._updates.send_nowait(message)
                except trio.WouldBlock:
                    raise BadRecord("more updates than can be followed") from None
            case Bye():
                self._bye = message
            case Notice(text):
                event(log, "notice", text=text)

    async def _introduce(self) -> tuple[Welcome, list[bytes]]:
        """Say hello and wait for the welcome; it, and the frames that came with it."""
        device, config = self.device, self._config
        device.send_control(
            Hello(
                name=config.name,
                mtu=config.mtu or MAX_MTU,
                mac=self._interface.mac,
                offload=self._interface.superframes,
                software=SOFTWARE,
                address=config.address if config.bridge is None else "none",
                bridge=config.bridge is not None,
                lane=config.lane,
            )
        )
        with trio.move_on_after(WELCOME_TIMEOUT):
            while True:
                await device.wait_readable()
                try:
                    records = device.read_nowait(BATCH)
                except trio.WouldBlock:
                    records = []
                if self._welcome is not None:
                    return self._welcome, records
                if records:
                    raise BadRecord("frames before the welcome")
        raise TimedOut("the switch did not welcome us in time")

    async def _configure(self, mtu: int | None, address: str | None) -> None:
        interface, wanted = self._interface, self._config.mtu
        agreed = None if mtu is None else min(mtu, wanted or mtu)
        if agreed is not None and agreed != interface.mtu:
            if wanted is not None and agreed < wanted:
                event(log, "mtu-lowered", logging.WARNING, wanted=wanted, switch=mtu)
            try:
                await interface.set_mtu(agreed)
            except PrivilegeError as error:
                if not interface.persistent:
                    raise
                event(log, "tap-unconfigured", logging.WARNING, dev=interface.name, reason=error)
        await interface.set_address(address)

    async def _follow_updates(self) -> None:
        async for update in self._waiting:
            address = self._interface.address if update.address is None else update.address
            await self._configure(update.mtu, address)
