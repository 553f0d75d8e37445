"""`join`: a TAP of this host on one side, a session with a switch on the other, for ever.

The TAP is made once and stays, with its address, while the session comes and goes. A lost
session is looked for again at once, and then as `backoff.py` says; the name of the switch is
resolved anew each time and all its addresses are tried. A machine that wakes, or whose network has
changed, asks at once. One session is the business of
`connection.py`.

Error contract: `RefusedError` when the switch said no in a way that time does not mend; other
`VswitchError`s for what has to be mended here. With `config.once` the first failure is raised.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any, Final, NoReturn

import trio

from transport import Channel
from vswitch.config.commands import JoinConfig
from vswitch.devices.bridge import OpenInterface, open_host_end
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.open_tap import open_tap
from vswitch.devices.pump import Tally
from vswitch.devices.tap import TapConfig
from vswitch.errors import ConfigError, NotReachable, TimedOut
from vswitch.frames.ethernet import format_mac, mac_from_key
from vswitch.joining import profiles
from vswitch.joining.backoff import CAP, FIRST, SOON, Backoff
from vswitch.joining.connection import Connection, Lost, Replaced, Restarting
from vswitch.joining.host_changes import watch_network, watch_sleep
from vswitch.joining.reach import NoWay, Whereabouts, open_channel
from vswitch.joining.via import DEFAULT_MTU, join_via
from vswitch.logs import event
from vswitch.management.socket import serve_control
from vswitch.management.status import JoinStatus, datagram_counts, to_json
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Welcome
from vswitch.registry.rules import EnrolRefused
from vswitch.runtime import single_error

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0  # seconds of one attempt, three inits; then the name is resolved anew
STABLE: Final = 10.0  # seconds up after which the next loss is looked into at once again


async def join(
    config: JoinConfig,
    *,
    open_interface: OpenInterface = open_tap,
    task_status: trio.TaskStatus[Welcome] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a member until cancelled. Started, with the switch's welcome, when first plugged in.

    `open_interface` makes the host's end: a TAP, or whatever else keeps `HostInterface`.
    """
    if config.via is not None:
        await join_via(config, config.via, open_interface, task_status)
        return
    if config.bridge is not None and config.address not in ("auto", "none"):
        raise ConfigError("--address and --bridge: a bridge port has no address of its own")
    profile = await trio.to_thread.run_sync(profiles.resolve, config)
    mac = format_mac(mac_from_key(profile.private_key.public.raw))
    wanted = TapConfig(
        name=config.dev, mac=mac, mtu=config.mtu or DEFAULT_MTU, offload=config.offload
    )
    with single_error():
        async with (
            open_host_end(open_interface, wanted, config) as interface,
            trio.open_nursery() as nursery,
        ):
            membership = Membership(config, profile, interface, task_status=task_status)
            path = config.files.join_socket(config.name)
            await nursery.start(serve_control, path, {"status": membership.status})
            nursery.start_soon(watch_sleep, membership.woke)
            nursery.start_soon(watch_network, membership.network_changed)
            await membership.run()


def _pause_after(error: NotReachable | TimedOut, backoff: Backoff) -> float:
    """Seconds until the next attempt."""
    match error:
        case Replaced():  # two hosts with one key would throw each other out without end: slowly
            return CAP
        case Restarting():
            return backoff.after_restart()
        case TimedOut():
            return backoff.after_silence(trio.current_time())
        case Lost() | NoWay():
            return backoff.pause(SOON)
        case _:
            return backoff.pause()


class Membership:
    """One member with its interface, through all its sessions."""

    def __init__(
        self,
        config: JoinConfig,
        profile: profiles.Profile,
        interface: HostInterface,
        *,
        task_status: trio.TaskStatus[Welcome] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._config = config
        self._profile = profile
        self._interface = interface
        self._task_status: trio.TaskStatus[Welcome] | None = task_status
        self._channel: Channel | None = None  # while plugged in
        self._device: MemberDevice | None = None  # of the session that is or was last
        self._plugged_at = 0.0  # on Trio's clock
        self._since = time.time()
        self._error: str | None = None
        self._received, self._sent = Tally(), Tally()
        self._whereabouts = Whereabouts()
        self._nudge = trio.Event()  # set: do not wait for the next attempt any longer

    async def run(self) -> NoReturn:
        """Session after session, until one ends in a way that time does not mend."""
        config = self._config
        backoff = Backoff()
        event(log, "connecting", member=config.name, server=self._profile.server)
        while True:
            try:
                async with open_channel(
                    self._profile, config.bind, self._whereabouts, patience=PATIENCE
                ) as channel:
                    backoff.answered()
                    await self._connected(channel)
            except EnrolRefused as refusal:
                await trio.to_thread.run_sync(profiles.discard, self._profile, refusal.code)
                raise
            except (NotReachable, TimedOut) as error:
                if config.once:
                    raise
                self._note_loss(str(error))
                if self._channel is not None and self._up_for() >= STABLE:
                    backoff.reset()
                pause = _pause_after(error, backoff)
                mended = isinstance(error, TimedOut | Lost | NoWay)  # by a change on this host
            finally:
                self._channel = None
            await self._wait(pause, mended=mended)

    async def _wait(self, pause: float, *, mended: bool) -> None:
        """Until the next attempt. A nudge cuts it short, if that may help, but never to nothing."""
        self._nudge = trio.Event()
        await trio.sleep(min(pause, FIRST) if mended else pause)
        if mended and pause > FIRST:
            with trio.move_on_after(pause - FIRST):
                await self._nudge.wait()

    def woke(self, slept: float) -> None:
        """This machine has slept: the switch may have let go of us, whatever our timers say."""
        event(log, "woke", member=self._config.name, slept_s=round(slept))
        self._nudge.set()
        if self._channel is not None:
            self._channel.renew()

    def network_changed(self) -> None:
        """Addresses or routes of this host are not what they were."""
        self._nudge.set()
        if self._channel is not None:
            self._channel.probe()

    def _up_for(self) -> float:
        return trio.current_time() - self._plugged_at

    def _note_loss(self, reason: str) -> None:
        if reason != self._error:  # once for each new reason, however often it is tried
            level = logging.WARNING
            event(log, "disconnected", level, member=self._config.name, reason=reason)
        if self._error is None:
            self._since = time.time()
        self._error = reason

    async def _connected(self, channel: Channel) -> NoReturn:
        connection = Connection(
            channel, self._interface, self._config, received=self._received, sent=self._sent
        )
        self._device = connection.device

        async def plugged_in(welcome: Welcome) -> None:
            await self._remember(channel)
            self._note_success(channel, welcome)

        await connection.run(plugged_in)

    async def _remember(self, channel: Channel) -> None:
        """That we are a member: from now on the key alone opens the door."""
        if self._profile.invite is not None:
            self._profile = await trio.to_thread.run_sync(profiles.store, self._profile)
            channel.forget_credential()

    def _note_success(self, channel: Channel, welcome: Welcome) -> None:
        self._channel, self._plugged_at = channel, trio.current_time()
        self._error, self._since = None, time.time()
        event(
            log,
            "connected",
            member=welcome.name,
            server=self._profile.server,
            via=channel.remote,
            port=welcome.port,
            dev=self._interface.name,
            mac=self._interface.mac,
            address=welcome.address,
            mtu=self._interface.mtu,
            offload="on" if welcome.offload and self._interface.superframes else "off",
            suite=channel.statistics().suite,
            lane="" if self._device is None else self._device.lane_mode,
        )
        if self._task_status is not None:
            self._task_status.started(welcome)
            self._task_status = None

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        """The answer to the control socket."""
        await trio.lowlevel.checkpoint()
        interface, received, sent = self._interface, self._received, self._sent
        up = self._channel is not None
        session = self._channel.statistics() if self._channel is not None else None
        rtt = None if session is None else session.rtt
        lanes: dict[str, Any] = {}
        if session is not None:
            lanes = datagram_counts(
                session.datagram_sent, session.datagram_received, session.datagram_lost
            )
        device = self._device if up else None
        drops = Counter(interface.dropped)
        if device is not None:
            drops.update(device.dropped)
        drops["queue_full"] += sent.dropped
        drops["queue_delay"] += sent.delayed
        drops["disconnected"] += received.lost + sent.lost
        drops["bad_superframe"] += received.refused + sent.refused
        return to_json(
            JoinStatus(
                name=self._config.name,
                state="up" if up else "connecting",
                server=self._profile.server.text(),
                dev=interface.name,
                mac=interface.mac,
                address=interface.address,
                mtu=interface.mtu,
                rtt_ms=None if rtt is None else rtt * 1000,
                datagram_size=None if session is None else session.datagram_size,
                lane=None if device is None else device.lane,
                lane_mode=None if device is None else device.lane_mode,
                **lanes,
                rx_frames=received.frames,
                rx_bytes=received.bytes,
                tx_frames=sent.frames,
                tx_bytes=sent.bytes,
                drops=dict(+drops),
                since=self._since,
                error=self._error,
            )
        )
