"""One session of a member with its switch: hello, welcome, frames both ways, and how it ends.

    hello ─▶ welcome ─▶ interface configured ─▶ `welcomed` ─▶ frames until the end

What the switch says of address and MTU, in the welcome or an update, is judged first
(`host_trust.py`). What is refused, there or by the kernel, is logged and in the status, and the
session goes on without it.

Error contract of `Connection.run`, which never returns: `EnrolRefused` when the switch says no in
a way that time does not mend; `Replaced`, `NotReachable` and `TimedOut` when another attempt may
do better; other `VswitchError`s for what has to be mended on this host.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn

import trio
from attrs import evolve

from transport import ChannelBroken, PublicKey
from vswitch.config.options import JoinConfig
from vswitch.devices.host_interface import HostFacts
from vswitch.devices.pump import BATCH
from vswitch.errors import BadRecord, NotReachable, TimedOut, VswitchError
from vswitch.frames.ethernet import MAX_MTU
from vswitch.joining.host_link import HostLink
from vswitch.joining.host_trust import refuse_address, refuse_mtu
from vswitch.joining.reach import Reached
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import (
    FROM_SWITCH,
    Bye,
    ByeCode,
    ControlMessage,
    Hello,
    Moved,
    Notice,
    Peers,
    Rekey,
    Roster,
    Update,
    Welcome,
    Who,
)
from vswitch.registry.rules import EnrolRefused, refusal
from vswitch.version import SOFTWARE

WELCOME_TIMEOUT: Final = 10.0  # seconds from hello to welcome: a disk sync at worst
PEERS_TIMEOUT: Final = 3.0  # seconds for one answer
PEERS_PAGES: Final = 8  # answers: as many members as a switch has
KEY_INTERVAL: Final = 1.0  # seconds between two new keys of the switch
KEY_RETRY: Final = 600.0  # seconds until one that could not be written down is tried again
SILENCE_LOOK: Final = 0.2  # seconds until a silent switch is looked at again
UPDATES: Final = 16  # that may wait while an earlier one is carried out


class Replaced(NotReachable):
    """Another host has connected with the key of this member."""


class Restarting(NotReachable):
    """The switch has said that it stops."""


class Lost(NotReachable):
    """The switch has fallen silent, or does not know the session any more."""


class Connection:
    """What a member does with one channel, for as long as the switch is found."""

    def __init__(
        self,
        reached: Reached,
        link: HostLink,
        config: JoinConfig,
        known: str,
        remember: Callable[[str], Awaitable[None]],
        remember_key: Callable[[PublicKey], Awaitable[bool]],
    ) -> None:
        """`known` is the network that the LAN had before; `remember` is told of another.
        `remember_key` is told of a new key of the switch, and whether it is kept.
        """
        self.device = MemberDevice(
            reached.channel,
            name="switch",
            mtu=MAX_MTU,
            hears=FROM_SWITCH,
            floods_end=False,
            on_control=self._hear,
        )
        self._link = link
        self._interface = link.interface
        self._config = config
        self._known, self._remember = known, remember
        self._remember_key = remember_key
        self._network = ""  # that the welcome states
        self._reached = reached
        self._welcome: Welcome | None = None
        self._bye: Bye | None = None
        self._peers = Peers(())
        self._told = trio.Event()
        self._asking = trio.Lock()
        self._names: tuple[str, ...] = ()  # name servers that the switch states
        self._domain = ""
        self._updates, self._waiting = trio.open_memory_channel[Update](UPDATES)
        self._rekeys, self._new_keys = trio.open_memory_channel[Rekey](UPDATES)

    async def run(self, welcomed: Callable[[Welcome], Awaitable[None]]) -> NoReturn:
        """From hello to the end. `welcomed` is awaited before the first frame is carried."""
        try:
            welcome, early = await self._introduce()
            self._network = welcome.network
            self._names, self._domain = welcome.names, welcome.domain
            try:
                await self._configure(welcome.mtu, welcome.address)
                await self._link.routes.told(welcome.gateways, welcome.address6)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise VswitchError(f"{error}; start join again to make it anew") from error
            await welcomed(welcome)
            await self._say_reached(True)
            try:
                await self._link.carry(
                    self.device,
                    self._follow_updates,
                    self._follow_keys,
                    self._reached.follow,
                    self._reached.prefer_udp,
                    self._follow_names,
                    self._follow_silence,
                    early=early,
                )
            finally:
                await self._say_reached(False)
        except ChannelBroken as broken:
            raise self._verdict(broken) from None
        except BadRecord as error:
            self.device.close(ByeCode.PROTOCOL, str(error))
            raise NotReachable(f"the switch sent what makes no sense: {error}") from None

    async def peers(self) -> list[str]:
        """Who the members are, as in `Peers`; `NotReachable` if the switch does not say."""
        told: list[str] = []
        async with self._asking:
            for _ in range(PEERS_PAGES):
                self._told = trio.Event()
                self.device.send_control(Who(told[-1].partition(" ")[0] if told else ""))
                with trio.move_on_after(PEERS_TIMEOUT) as waiting:
                    await self._told.wait()
                if waiting.cancelled_caught:
                    raise NotReachable("the switch cannot say who is there: an older one cannot")
                told += self._peers.members
                if not (self._peers.more and self._peers.members):
                    break
        return told

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
            case Update() | Rekey():
                try:
                    if isinstance(message, Update):
                        self._updates.send_nowait(message)
                    else:
                        self._rekeys.send_nowait(message)
                except trio.WouldBlock:
                    raise BadRecord("more updates than can be followed") from None
            case Bye():
                self._bye = message
            case Peers():
                self._peers = message
                self._told.set()
            case Roster():
                if self._link.resolver is not None:
                    self._link.resolver.look_again()
            case Notice(text):
                self._link.tell("notice", text=text)

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
                advertise=tuple(map(str, config.advertise)),
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
        """Do what the switch says as far as this host trusts it, and go on without the rest."""
        try:
            host = await self._interface.facts()
        except VswitchError as error:  # nothing can be judged
            self._link.refuse("address", address, error)
            self._link.refuse("mtu", mtu, error)
            return
        resolver = self._link.resolver
        if resolver is not None:  # what it has from the LAN is not what the LAN may not take over
            host = evolve(host, resolvers=host.resolvers - resolver.servers)
        if mtu is not None:
            await self._set_mtu(mtu, host)
        await self._set_address(address, host)
        if resolver is not None:
            await resolver.offer(self._names, self._domain, self._interface.address)

    async def _set_mtu(self, mtu: int, host: HostFacts) -> None:
        interface, wanted = self._interface, self._config.mtu
        agreed = min(mtu, wanted or mtu)
        reason: object = None if agreed == wanted else refuse_mtu(agreed, host)
        if reason is None and agreed != interface.mtu:
            if wanted is not None and agreed < wanted:
                self._link.tell("mtu-lowered", logging.WARNING, wanted=wanted, switch=mtu)
            try:
                await interface.set_mtu(agreed)
            except VswitchError as error:
                reason = error
        self._link.refuse("mtu", agreed, reason)

    async def _set_address(self, offered: str | None, host: HostFacts) -> None:
        interface, link = self._interface, self._link
        judge = partial(
            refuse_address,
            stated=self._network,
            config=self._config,
            host=host,
            remote=self._reached.channel.remote,
            known=self._known,
        )
        reason: object = None if offered is None else judge(offered)
        kept = offered
        if reason is not None:  # what is there may stay, unless the host has changed meanwhile
            current = interface.address
            kept = current if current is not None and judge(current) is None else None
        try:
            await interface.set_address(kept)
        except VswitchError as error:
            reason = reason or error
        link.refuse("address", offered, reason)
        if offered is not None and reason is None and self._config.address == "auto":
            network = str(ipaddress.ip_interface(offered).network)
            if network != self._known:
                self._known = network
                await self._remember(network)

    async def _follow_names(self) -> None:
        if self._link.resolver is None:
            await trio.sleep_forever()
        else:
            await self._link.resolver.follow(self.peers)

    async def _follow_silence(self) -> None:
        """A switch that says nothing answers no look-up."""
        channel = self._reached.channel
        while True:
            await channel.wait_silent()
            await self._say_reached(not channel.silent)
            while channel.silent:  # noqa: ASYNC110  what ends it is a datagram, no event of ours
                await trio.sleep(SILENCE_LOOK)
            await self._say_reached(True)

    async def _say_reached(self, there: bool) -> None:
        if self._link.resolver is not None:
            await self._link.resolver.reached(there)

    async def _follow_keys(self) -> None:
        async for rekey in self._new_keys:
            # The switch does not say it again in this session, which may be as long as its grace.
            key = PublicKey.from_text(rekey.key)
            while not await self._remember_key(key):  # noqa: ASYNC110  a disk sets no event
                await trio.sleep(KEY_RETRY)
            self.device.send_control(Moved(rekey.key))
            await trio.sleep(KEY_INTERVAL)  # each is written down: no switch may wear out the disk

    async def _follow_updates(self) -> None:
        async for update in self._waiting:
            if update.names is not None:
                self._names = update.names
            if update.domain is not None:
                self._domain = update.domain
            address = self._interface.address if update.address is None else update.address
            await self._configure(update.mtu, address)
            if update.gateways is None:
                await self._link.routes.look_again()
            else:
                await self._link.routes.told(update.gateways, None)
