"""`join`: a TAP of this host on one side, a session with a switch on the other, for ever.

The TAP is made once and stays, with its address, while the session comes and goes. A lost
session is looked for again at once, then with a growing pause of at most 30 s; the name of the
switch is resolved anew each time and all its addresses are tried.

Error contract: `RefusedError` when the switch said no in a way that time does not mend; other
`VswitchError`s for what has to be mended here. With `config.once` the first failure is raised.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import trio

from transport import Channel, ChannelBroken
from vswitch import profiles
from vswitch.backoff import CAP, Backoff
from vswitch.config import JoinConfig
from vswitch.core.control import MAX_MTU, Bye, ByeCode, ControlMessage, Hello, Update, Welcome
from vswitch.core.frame import format_mac, mac_from_key
from vswitch.errors import BadRecord, NotReachable, PrivilegeError, TimedOut, VswitchError
from vswitch.logs import event
from vswitch.management.control import serve_control
from vswitch.management.status import JoinStatus, to_json
from vswitch.membership import EnrolRefused
from vswitch.ports.member import MemberDevice
from vswitch.ports.pump import BATCH, Pump
from vswitch.ports.tap import TapConfig, TapDevice, open_tap
from vswitch.underlay import open_channel
from vswitch.version import SOFTWARE

__all__ = ["join"]

log = logging.getLogger(__name__)

WELCOME_TIMEOUT: Final = 10.0  # seconds from hello to welcome: a disk sync at worst
PATIENCE: Final = 5.0  # seconds of one attempt, three inits; then the name is resolved anew
STABLE: Final = 10.0  # seconds up after which the next loss is looked into at once again

# What time does not mend. Everything else (full, shutting down, timeout) is tried again.
FINAL: Final = frozenset(
    {
        ByeCode.REVOKED,
        ByeCode.NAME_TAKEN,
        ByeCode.ADDRESS_TAKEN,
        ByeCode.INVITE_USED,
        ByeCode.INVITE_EXPIRED,
        ByeCode.UNKNOWN,
    }
)


async def join(
    config: JoinConfig, *, task_status: trio.TaskStatus[Welcome] = trio.TASK_STATUS_IGNORED
) -> None:
    """Be a member until cancelled. Started, with the switch's welcome, when first plugged in."""
    profile = await trio.to_thread.run_sync(profiles.resolve, config)
    mac = format_mac(mac_from_key(profile.private_key.public.raw))
    tap_config = TapConfig(name=config.dev, mac=mac, mtu=config.mtu or 1500)
    async with open_tap(tap_config) as tap, trio.open_nursery() as nursery:
        membership = _Membership(config, profile, tap, task_status)
        path = config.files.join_socket(config.name)
        await nursery.start(serve_control, path, {"status": membership.status})
        try:
            await membership.run()
        finally:
            nursery.cancel_scope.cancel()


class _Membership:
    """One member with its TAP, through all its sessions."""

    def __init__(
        self,
        config: JoinConfig,
        profile: profiles.Profile,
        tap: TapDevice,
        task_status: trio.TaskStatus[Welcome],
    ) -> None:
        self._config = config
        self._profile = profile
        self._tap = tap
        self._task_status: trio.TaskStatus[Welcome] | None = task_status
        self._channel: Channel | None = None  # while plugged in
        self._welcome: Welcome | None = None
        self._bye: Bye | None = None
        self._since = time.time()
        self._error: str | None = None
        self._received, self._sent = _Total(), _Total()

    async def run(self) -> None:
        """Session after session."""
        backoff = Backoff()
        event(log, "connecting", member=self._config.name, server=self._profile.server)
        began = trio.current_time()
        while True:
            try:
                async with open_channel(
                    self._profile, self._config.bind, patience=PATIENCE
                ) as channel:
                    began = trio.current_time()
                    await self._session(channel)
            except EnrolRefused as refusal:
                await trio.to_thread.run_sync(profiles.discard, self._profile, refusal.code)
                raise
            except (NotReachable, TimedOut) as error:
                if self._config.once:
                    raise
                self._note_loss(str(error))
                if self._channel is not None and trio.current_time() - began >= STABLE:
                    backoff.reset()
                self._channel = None
            pause = CAP if self._bye and self._bye.code == ByeCode.REPLACED else backoff.pause()
            self._bye = None
            await trio.sleep(pause)

    def _note_loss(self, reason: str) -> None:
        if reason != self._error:  # once for each new reason, however often it is tried
            level = logging.WARNING
            event(log, "disconnected", level, member=self._config.name, reason=reason)
        if self._error is None:
            self._since = time.time()
        self._error = reason

    # --- One session ----------------------------------------------------------------------------

    async def _session(self, channel: Channel) -> None:
        """From hello to the end, which is raised."""
        self._welcome = None
        updates, waiting = trio.open_memory_channel[Update](16)

        def hear(message: ControlMessage) -> None:
            match message:
                case Welcome():
                    self._welcome = message
                case Update():
                    try:
                        updates.send_nowait(message)
                    except trio.WouldBlock:
                        raise BadRecord("more updates than can be followed") from None
                case Bye():
                    self._bye = message
                case _:
                    event(log, "notice", text=getattr(message, "text", None))

        device = MemberDevice(channel, name=str(self._profile.server), mtu=MAX_MTU, on_control=hear)
        try:
            early = await self._introduce(device)
            await self._plug_in(channel)
            await self._carry(device, early, waiting)
        except ChannelBroken as broken:
            bye = self._bye or Bye(min(broken.code, 0xFF), broken.reason)
            self._bye = bye
            if ByeCode(bye.code) in FINAL:
                raise EnrolRefused(ByeCode(bye.code), bye.reason) from None
            raise NotReachable(str(broken)) from None
        except BadRecord as error:
            raise NotReachable(f"the switch sent what makes no sense: {error}") from None

    async def _introduce(self, device: MemberDevice) -> list[bytes]:
        """Say hello and wait for the welcome; the frames that came with it."""
        config = self._config
        device.send_control(
            Hello(
                name=config.name,
                mtu=config.mtu or MAX_MTU,
                mac=self._tap.mac,
                software=SOFTWARE,
                address=config.address,
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
                    return records
        raise TimedOut("the switch did not welcome us in time")

    async def _plug_in(self, channel: Channel) -> None:
        """Configure the TAP as the welcome says, and remember that we are a member."""
        welcome = self._welcome
        assert welcome is not None
        await self._configure(welcome.mtu, welcome.address)
        if self._profile.invite is not None:
            self._profile = await trio.to_thread.run_sync(profiles.store, self._profile)
            channel.forget_credential()
        self._channel, self._error, self._since = channel, None, time.time()
        event(
            log,
            "connected",
            member=welcome.name,
            server=self._profile.server,
            via=channel.remote,
            port=welcome.port,
            dev=self._tap.name,
            mac=self._tap.mac,
            address=welcome.address,
            mtu=self._tap.mtu,
            suite=channel.statistics().suite,
        )
        if self._task_status is not None:
            self._task_status.started(welcome)
            self._task_status = None

    async def _configure(self, mtu: int | None, address: str | None) -> None:
        tap, wanted = self._tap, self._config.mtu
        if mtu is not None:
            if wanted is not None and wanted > mtu:
                event(log, "mtu-lowered", logging.WARNING, wanted=wanted, switch=mtu)
            mtu = min(mtu, wanted or mtu)
            if mtu != tap.mtu:
                try:
                    await tap.set_mtu(mtu)
                except PrivilegeError as error:
                    if not tap.persistent:
                        raise
                    event(log, "tap-unconfigured", logging.WARNING, dev=tap.name, reason=error)
        await tap.set_address(address)

    async def _carry(
        self,
        device: MemberDevice,
        early: list[bytes],
        updates: trio.MemoryReceiveChannel[Update],
    ) -> None:
        """Both directions until the session ends; its end is raised as it is."""
        down, up = Pump(device, self._tap), Pump(self._tap, device)
        end: list[Exception] = []

        async with trio.open_nursery() as nursery:

            async def run(direction: Pump) -> None:
                try:
                    await direction.run()
                except (
                    OSError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                    BadRecord,
                ) as e:
                    end.append(e)
                    nursery.cancel_scope.cancel()

            self._received.follow(down)
            self._sent.follow(up)
            await down.give(early)
            nursery.start_soon(run, down)
            nursery.start_soon(run, up)
            async for update in updates:
                address = self._tap.address if update.address is None else update.address
                await self._configure(update.mtu, address)
        for error in end:
            if isinstance(error, ChannelBroken | BadRecord):
                raise error
        raise VswitchError(f"{end[0]}; start join again to make it anew")

    # --- Looking in -----------------------------------------------------------------------------

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """The answer to the control socket."""
        await trio.lowlevel.checkpoint()
        up = self._channel is not None
        rtt = self._channel.statistics().rtt if self._channel is not None else None
        return to_json(
            JoinStatus(
                name=self._config.name,
                state="up" if up else "connecting",
                server=self._profile.server.text(),
                dev=self._tap.name,
                mac=self._tap.mac,
                address=self._tap.address,
                mtu=self._tap.mtu,
                rtt_ms=None if rtt is None else rtt * 1000,
                rx_frames=self._received.frames,
                rx_bytes=self._received.bytes,
                tx_frames=self._sent.frames,
                tx_bytes=self._sent.bytes,
                drops=dict(self._tap.dropped),
                since=self._since,
                error=self._error,
            )
        )


class _Total:
    """What one direction has carried in all sessions."""

    def __init__(self) -> None:
        self._before = [0, 0]
        self._pump: Pump | None = None

    def follow(self, pump: Pump) -> None:
        """Add what this pump carries from now on."""
        self._before = [self.frames, self.bytes]
        self._pump = pump

    @property
    def frames(self) -> int:
        return self._before[0] + (0 if self._pump is None else self._pump.frames)

    @property
    def bytes(self) -> int:
        return self._before[1] + (0 if self._pump is None else self._pump.bytes)
