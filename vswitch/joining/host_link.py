"""This host's side of a membership: its interface and what it carries, whatever leads to a switch.

    interface ─▶ QueuedPump: cut to the MTU, fair queue ─▶ device of a connection ─▶ switch
    interface ◀──────────────── Pump ◀──────────────── device

The interface is made once and stays, with its address and its counters, while connections come and
go: sessions (`member.py`), or plain text (`via.py`).

Error contract of `carry`, which never returns: what the device of the connection raises when that
ends (`ENDS`); `VswitchError` for an interface that does not work any more.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import trio

from transport import ChannelBroken
from vswitch.clocks import uptime, wall_time_of
from vswitch.config.options import DEFAULT_MTU, JoinConfig
from vswitch.devices.bridge import OpenInterface, open_host_end
from vswitch.devices.home_filter import HomeFilter
from vswitch.devices.host_interface import HostInterface
from vswitch.devices.pump import Pump, QueuedPump, Tally
from vswitch.devices.tap import TapConfig, TapDevice
from vswitch.devices.upkeep import ADDRESS, MTU, Kept
from vswitch.errors import BadRecord, NotReachable, VswitchError
from vswitch.foreign.streams import ConnectionEnded
from vswitch.joining.echoes import EchoFilter
from vswitch.joining.host_trust import swallows
from vswitch.joining.names import LanResolver
from vswitch.joining.routes import Routes
from vswitch.logs import event
from vswitch.management.handlers.events import said_events
from vswitch.management.status import JoinStatus, to_json
from vswitch.management.stream import Stream
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import Welcome
from vswitch.proxy.status import ProxyStatus
from vswitch.switch.events import EventLog, Fact
from vswitch.version import VERSION

log = logging.getLogger(__name__)

ENDS: Final = (ChannelBroken, ConnectionEnded, BadRecord)  # of a connection, by its device
Remote: TypeAlias = MemberDevice | EchoFilter


class LineLimit:
    """Which lines of one kind are logged: one a second, and a few at once. Pure; `now` in seconds.

    `suppressed` counts those that are not, until whoever logs the next one says so.
    """

    PER_SECOND: Final = 1.0
    BURST: Final = 5  # lines: all that a switch says in earnest

    def __init__(self) -> None:
        self._left = float(self.BURST)
        self._at = 0.0
        self.suppressed = 0

    def passes(self, now: float) -> bool:
        """Whether this line is logged."""
        self._left = min(self.BURST, self._left + (now - self._at) * self.PER_SECOND)
        self._at = now
        if self._left < 1:
            self.suppressed += 1
            return False
        self._left -= 1
        return True


@contextmanager
def contain_faults(link: HostLink) -> Iterator[None]:
    """A fault of ours that something from outside brings about ends the session, not `join`."""
    try:
        yield
    except (VswitchError, OSError, *ENDS):
        raise
    except Exception as fault:
        link.tell("session-fault", logging.ERROR, exc_info=fault)
        raise NotReachable(
            f"a fault of vswitch has ended the session: {type(fault).__name__}"
        ) from fault


class HostLink:
    """The interface of a member and its traffic, through all its connections."""

    def __init__(
        self,
        config: JoinConfig,
        server: str,
        interface: HostInterface,
        task_status: trio.TaskStatus[Welcome] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """`server` is the switch, for people; `task_status` hears of the first connection."""
        self.interface = interface
        self.server = server
        self.resolver: LanResolver | None = None  # that of this host, where it is for us to set
        self.listeners: Callable[[], list[ProxyStatus]] = list  # of what runs on this membership
        self.events = EventLog()  # what `tell` was told
        self.on_state: Callable[[str], object] = str  # told, for people, whenever it changes
        self._config = config
        self._task_status: trio.TaskStatus[Welcome] | None = task_status
        self.received, self.sent = Tally(), Tally()
        self._dropped: Counter[str] = Counter()  # by the devices of earlier connections
        self._device: Remote | None = None  # while connected
        self._since = uptime()
        self._error: str | None = None
        self._software = ""  # of the switch, and where it saw this host; of the last welcome
        self._seen = ""
        self._attempts = 0  # that failed since the last connection
        self._refused: dict[str, str] = {}  # address, mtu: what the switch said, and why not
        self._limits: dict[str, LineLimit] = {}  # by event
        self.routes = Routes(config, interface, self.tell)

    def tell(self, name: str, level: int = logging.INFO, **fields: Any) -> None:
        """Log what a switch can cause as often as it likes: not more than `LineLimit` lets pass."""
        limit = self._limits.setdefault(name, LineLimit())
        if limit.passes(trio.current_time()):
            event(log, name, level, **fields, suppressed=limit.suppressed or None)
            limit.suppressed = 0
            port = fields.pop("port", None)  # of the switch; an event has one of its own
            fields = {**fields, "switch_port": port, "exc_info": None}
            facts: dict[str, Any] = {
                key: _fact(value) for key, value in fields.items() if value is not None
            }
            self.events.add(name, now=trio.current_time(), **facts)

    def refuse(self, what: str, value: object, reason: object) -> None:
        """The host does without what the switch says of address or MTU; None: it does as told."""
        if reason is None or value is None:
            self._refused.pop(what, None)
            return
        self._refused[what] = f"{value}: {reason}"
        self.tell(
            "offer-refused",
            logging.WARNING,
            member=self._config.name,
            dev=self.interface.name,
            what=what,
            offered=value,
            reason=reason,
        )

    async def said_events(self, args: dict[str, Any]) -> dict[str, Any] | Stream:
        """The answer to who asks what has happened."""
        await trio.lowlevel.checkpoint()
        return said_events(self.events, args)

    async def go_by(self, config: JoinConfig) -> None:
        """Other routes are wished for."""
        self.routes.config = config
        await self.routes.look_again()

    async def keep_clear(self, hosts: list[str]) -> None:
        """Take the address from the interface if the switch, sought at these addresses, would be
        behind it: what leads to the switch would wait for the switch.
        """
        address = self.interface.address
        if address is None or (reason := swallows(address, hosts)) is None:
            return
        if await self.is_apart():
            return
        self.refuse("address", address, reason)
        with suppress(VswitchError):  # not ours to take: the attempt will show it
            await self.interface.set_address(None)

    async def is_apart(self) -> bool:
        """Whether none of what leads to the switch is in the network of the interface."""
        with suppress(VswitchError):
            return (await self.interface.facts()).apart
        return False

    def connected(
        self,
        device: Remote,
        welcome: Welcome,
        *,
        via: str | None = None,
        port: int | None = None,
        **session: Any,
    ) -> None:
        """Frames can pass from now on. The rest is for the log."""
        interface = self.interface
        self._device, self._error, self._since = device, None, uptime()
        self._attempts = 0
        self._software, self._seen = welcome.software, welcome.seen
        self.tell(
            "connected",
            member=welcome.name,
            server=self.server,
            via=via,
            port=port,
            dev=interface.name,
            mac=interface.mac,
            address=interface.address,
            mtu=interface.mtu,
            **session,
        )
        if self._task_status is not None:
            self._task_status.started(welcome)
            self._task_status = None
        where = "" if interface.address is None else f", {interface.address} at {interface.name}"
        self.on_state(f"connected to {self.server} as {welcome.name}{where}")

    def lost(self, reason: str) -> None:
        """There is no connection just now. Logged for each new reason, and at each power of ten of
        the attempts that have failed.
        """
        if self._error is None:
            self._since = uptime()
        self._attempts += 1
        often = str(self._attempts).strip("0") == "1"
        if reason != self._error or often:
            facts = {"reason": reason, "attempts": self._attempts, "effect": "trying again"}
            if self._task_status is None:
                self.tell("disconnected", logging.WARNING, member=self._config.name, **facts)
            else:  # it never was
                self.tell("not-connected", logging.WARNING, member=self._config.name, **facts)
        self._error = reason
        self.on_state(f"not connected to {self.server}, trying again: {reason}")

    async def carry(
        self, device: Remote, *jobs: Callable[[], Awaitable[None]], early: Sequence[bytes] = ()
    ) -> NoReturn:
        """Carry `early`, then all frames in both directions, until one of them or a job ends."""
        up = QueuedPump(self.interface, device, self.sent)
        down = Pump(device, self.interface, self.received, given=up.take)
        device.on_blocked = up.flush_soon
        all_jobs: list[Callable[[], Awaitable[None]]] = [
            partial(down.run, list(early)),
            up.read,
            up.write,
            *jobs,
        ]
        end: list[Exception] = []
        try:
            async with trio.open_nursery() as nursery:

                async def run(job: Callable[[], Awaitable[None]]) -> None:
                    try:
                        await job()
                    except Exception as error:
                        end.append(error)
                        nursery.cancel_scope.cancel()

                for job in all_jobs:
                    nursery.start_soon(run, job)
        finally:
            up.close()
            self._dropped.update(device.dropped)
            self._device = None
        # The end of a connection can show as a closed device in the other direction.
        for error in end:
            if isinstance(error, ENDS):
                raise error
        if isinstance(end[0], OSError | trio.BrokenResourceError | trio.ClosedResourceError):
            raise VswitchError(f"{end[0]}; start join again to make it anew") from end[0]
        raise end[0]

    async def _lacking(self) -> dict[str, str]:
        """What the kernel does not have of the interface any more, and what instead."""
        inner = self.interface.inner if isinstance(self.interface, HomeFilter) else self.interface
        if not isinstance(inner, Kept):
            await trio.lowlevel.checkpoint()
            return {}
        try:
            return await inner.lacking()
        except (VswitchError, trio.ClosedResourceError, trio.BrokenResourceError) as error:
            return {"interface": str(error)}

    async def status(
        self, _: dict[str, Any], *, silent: bool = False, **session: Any
    ) -> dict[str, Any]:
        """The answer to the control socket; `silent`: the switch owes answers; `session`: what only
        a session has to tell.
        """
        interface, received, sent = self.interface, self.received, self.sent
        lacks = await self._lacking()
        drops = Counter(interface.dropped) + self._dropped
        if self._device is not None:
            drops.update(self._device.dropped)
        drops["queue_full"] += sent.dropped
        drops["queue_delay"] += sent.delayed
        drops["disconnected"] += received.lost + sent.lost
        drops["bad_superframe"] += received.refused + sent.refused
        return to_json(
            JoinStatus(
                name=self._config.name,
                state="connecting" if self._device is None else "silent" if silent else "up",
                server=self.server,
                dev=interface.name,
                mac=interface.mac,
                address=None if ADDRESS in lacks else interface.address,
                mtu=int(lacks.get(MTU, interface.mtu)),
                rx_frames=received.frames,
                rx_bytes=received.bytes,
                tx_frames=sent.frames,
                tx_bytes=sent.bytes,
                drops=dict(+drops),
                since=wall_time_of(self._since),
                error=self._error,
                attempts=self._attempts,
                version=VERSION,
                switch_software=self._software,
                seen=self._seen,
                refused=dict(self._refused),
                names=None if self.resolver is None else self.resolver.shown,
                lacking=lacks,
                proxy=self.listeners(),
                **self.routes.status(),
                **session,
            )
        )


@asynccontextmanager
async def open_host_link(
    config: JoinConfig,
    server: str,
    open_interface: OpenInterface,
    task_status: trio.TaskStatus[Welcome],
    *,
    mac: str | None = None,
    new_mac: str | None = None,
    address: str | None = None,
) -> AsyncIterator[HostLink]:
    """Make the interface, put it where it belongs, and take it away at the end. `new_mac` is for
    one that was not there before.
    """
    wanted = TapConfig(
        name=config.dev,
        mac=mac,
        new_mac=new_mac,
        mtu=config.mtu or DEFAULT_MTU,
        offload=config.offload,
        address=address,
        accept_ra=config.accept_ra,
    )
    async with open_host_end(open_interface, wanted, config) as interface:
        link = HostLink(config, server, interface, task_status)
        inner = interface.inner if isinstance(interface, HomeFilter) else interface
        async with link.routes.opened():
            if not isinstance(inner, TapDevice) or inner.private:
                yield link
                return
            link.resolver = LanResolver(config, interface.name, link.refuse)
            await link.resolver.recover()
            try:
                yield link
            finally:
                await link.resolver.close()


def _fact(value: Any) -> Fact:
    return value if isinstance(value, int | float) else str(value)
