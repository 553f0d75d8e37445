"""`join`: a TAP of this host on one side, a session with a switch on the other, for ever.

The TAP is made once and stays, with its address (`host_link.py`), while sessions come and go; one
session is the business of `connection.py`. A lost session is looked for again at once, and then as
`backoff.py` says; the name of the switch is resolved anew each time and all its addresses are
tried. A machine that wakes, or that reaches the switch another way than before, asks at once.

A fault of ours in a session ends that session, and is logged with its traceback.

Error contract: `RefusedError` when the switch said no in a way that time does not mend; other
`VswitchError`s for what has to be mended here. With `config.once` the first failure is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import trio
from attrs import evolve

from transport import Channel, PublicKey
from vswitch.addresses import HostPort, mac_from_key
from vswitch.api.member import member_api
from vswitch.api.socket import refuse_second, serve_control
from vswitch.api.table import Verbs
from vswitch.config.options import JoinConfig
from vswitch.devices import netlink
from vswitch.devices.bridge import OpenInterface
from vswitch.devices.host_interface import Address, Way
from vswitch.devices.notices import watch_network
from vswitch.devices.open_tap import open_tap
from vswitch.errors import (
    ByeCode,
    ConfigError,
    NotReachable,
    RefusedError,
    TimedOut,
    VswitchError,
)
from vswitch.frames.ethernet import format_mac
from vswitch.joining import profiles, proxies
from vswitch.joining.backoff import CAP, FIRST, SOON, Backoff
from vswitch.joining.configuration import MemberConfiguration, check_routes
from vswitch.joining.connection import Connection, Lost, Replaced, Restarting
from vswitch.joining.host_changes import Look, WayWatch, watch_sleep
from vswitch.joining.host_link import HostLink, contain_faults, open_host_link
from vswitch.joining.host_trust import address_of
from vswitch.joining.paths import PathPolicy
from vswitch.joining.pipes import RunPipe, over_https
from vswitch.joining.reach import (
    RESOLVE_PATIENCE,
    NoCommonHandshake,
    Reached,
    ResolvedAddresses,
    Unreachable,
    open_channel,
)
from vswitch.joining.via import join_via
from vswitch.logs import event
from vswitch.management.status import datagram_counts
from vswitch.members.device import MemberDevice, measured
from vswitch.members.handshakes import post_quantum_of
from vswitch.members.protocol import Welcome
from vswitch.proxy.status import ProxyStatus
from vswitch.registry.rules import EnrolRefused
from vswitch.resolver import resolve
from vswitch.runtime import single_error
from vswitch.web.client import Proxy

log = logging.getLogger(__name__)

PATIENCE: Final = 5.0  # seconds of one attempt, three inits; then the name is resolved anew
STABLE: Final = 10.0  # seconds up after which the next loss is looked into at once again


async def join(
    config: JoinConfig,
    *,
    open_interface: OpenInterface = open_tap,
    run_pipe: RunPipe | None = None,
    listeners: Callable[[], list[ProxyStatus]] = list,
    on_state: Callable[[str], object] = str,
    task_status: trio.TaskStatus[Welcome] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a member until cancelled. Started, with the switch's welcome, when first plugged in.

    `open_interface` makes the host's end: a TAP, or whatever else keeps `HostInterface`; `run_pipe`
    carries the HTTPS path: a WebSocket, if nothing is said; `listeners` are what `status` tells of
    a proxy on this membership; `on_state` is told in words how the connection is when it changes.
    """
    await trio.to_thread.run_sync(refuse_second, config.files.join_socket(config.name))
    check_routes(config)
    if config.via is not None:
        await join_via(config, config.via, open_interface, task_status, listeners, on_state)
        return
    if config.bridge is not None and config.address not in ("auto", "none"):
        raise ConfigError("--address and --bridge: a bridge port has no address of its own")
    profile = await trio.to_thread.run_sync(profiles.resolve, config)
    places: list[HostPort] = []
    if run_pipe is None:
        proxy = config.proxy, config.proxy_credentials
        proxy_for = await trio.to_thread.run_sync(proxies.read, *proxy)
        run_pipe = over_https(proxy_for, lambda: member.switch_key)
        places = places_beside(profile, proxy_for)
    mac = format_mac(mac_from_key(profile.private_key.public.raw))
    server = profile.where
    with single_error():
        async with (
            open_host_link(config, server, open_interface, task_status, mac=mac) as link,
            trio.open_nursery() as nursery,
        ):
            link.listeners, link.on_state = listeners, on_state
            member = Member(config, profile, link, partial(_look, config.bind), run_pipe, places)
            path = config.files.join_socket(config.name)
            told: Verbs = {
                "status": member.status,
                "peers": member.peers,
                "events": link.said_events,
            }
            configuration = MemberConfiguration(config, member.go_by)
            api = member_api(config.files, told, configuration)
            await nursery.start(serve_control, path, api)
            nursery.start_soon(watch_sleep, member.woke)
            nursery.start_soon(watch_network, member.network_changed)
            if config.advertise:
                nursery.start_soon(link.routes.keep_gateway)
            await member.run()


def places_beside(
    profile: profiles.Profile, proxy_for: Callable[[str], Proxy | None]
) -> list[HostPort]:
    """Where the switch is reached over HTTPS, or what is on the way there."""
    found = []
    for url in profile.https:
        proxy, parts = proxy_for(url), urlsplit(url)
        if proxy is not None:
            found.append(HostPort(proxy.host, proxy.port))
        elif parts.hostname:
            found.append(HostPort(parts.hostname, parts.port or 443))
    return found


async def _look(bind: str | None, hosts: list[str]) -> dict[str, Way | None]:
    return await trio.to_thread.run_sync(netlink.ways_to, hosts, bind)


def _host(remote: str) -> str:
    """Of `HOST:PORT` as a socket writes it; IPv4 in IPv6 is IPv4."""
    host = remote.rpartition(":")[0].strip("[]")
    return host.removeprefix("::ffff:") if "." in host else host


def _pause_after(error: NotReachable | TimedOut, backoff: Backoff) -> float:
    """Seconds until the next attempt."""
    match error:
        case Replaced():  # two hosts with one key would throw each other out without end: slowly
            return CAP
        case Restarting():
            return backoff.after_restart()
        case TimedOut():
            return backoff.after_silence(trio.current_time())
        case Lost() | Unreachable():
            return backoff.pause(SOON)
        case _:
            return backoff.pause()


class Member:
    """This host as a member, through all its sessions."""

    def __init__(
        self,
        config: JoinConfig,
        profile: profiles.Profile,
        link: HostLink,
        look: Look,
        run_pipe: RunPipe | None = None,
        beside: Sequence[HostPort] = (),
    ) -> None:
        """`look` finds out how this host reaches addresses; `beside`: what pipes lead to."""
        self._config = config
        self._post_quantum = post_quantum_of(config.pq)
        self._profile = profile
        self._link = link
        self._channel: Channel | None = None  # while connected
        self._connection: Connection | None = None  # the same
        self._device: MemberDevice | None = None  # of the session that is or was last
        self._connected_at = 0.0  # on Trio's clock
        self._addresses = ResolvedAddresses()
        self._run_pipe = run_pipe
        self._policy = PathPolicy(config.path, https=run_pipe is not None and bool(profile.https))
        if config.path == "https" and not self._policy.takes_https:
            raise ConfigError(
                "--path https: where the switch is reached by HTTPS is not known: join with an "
                "invite of a switch that has --https"
            )
        self._ways = WayWatch(look)
        self._nudge = trio.Event()  # set: do not wait for the next attempt any longer
        self._keeping = trio.Lock()  # what is written of the profile
        self._beside = beside
        self._beside_at: dict[HostPort, list[Address]] = {}  # where they were found last
        link.routes.find_switch = self._find_switch

    async def run(self) -> NoReturn:
        """Session after session, until one ends in a way that time does not mend."""
        config = self._config
        backoff = Backoff()
        event(log, "connecting", member=config.name, server=self._profile.where)
        while True:
            try:
                await self._session(backoff)
            except EnrolRefused as refusal:
                await trio.to_thread.run_sync(profiles.discard, self._profile, refusal.code)
                raise
            except (NotReachable, TimedOut) as error:
                if config.once:
                    raise
                self._link.lost(str(error))
                if self._channel is not None and self._up_for() >= STABLE:
                    backoff.reset()
                pause = _pause_after(error, backoff)
                # Whether a change on this host may mend it.
                mended = isinstance(error, TimedOut | Lost | Unreachable)
            except BaseExceptionGroup as group:
                # A session that ends while we are being cancelled: how it has ended matters no more
                cancelled = group.subgroup(trio.Cancelled)
                others = group.split((trio.Cancelled, NotReachable, TimedOut))[1]
                if cancelled is None or others is not None:
                    raise
                raise cancelled from None
            finally:
                self._channel = None
            await self._wait(pause, mended=mended)

    async def go_by(self, config: JoinConfig) -> None:
        """Options that hold at once are others; all else is as it was."""
        self._config = config
        await self._link.go_by(config)

    @property
    def switch_key(self) -> PublicKey:
        """By which the switch proves that it is the right one."""
        return self._profile.server_key

    async def _find_switch(self) -> list[Address]:
        """All addresses that the way to the switch may lead to."""
        hosts = [ip_address(host.partition("%")[0]) for host in self._addresses.hosts]
        if self._channel is not None:
            with suppress(ValueError):  # through a proxy
                hosts.append(address_of(self._channel.remote))
        if self._config.exit_node:
            for place in self._beside:
                with suppress(OSError), trio.move_on_after(RESOLVE_PATIENCE):
                    found = await resolve(place.host, place.port)
                    self._beside_at[place] = [ip_address(host) for host, _ in found]
                hosts += self._beside_at.get(place, [])
        return list(dict.fromkeys(hosts))

    async def _session(self, backoff: Backoff) -> NoReturn:
        """One attempt, and what comes of it."""
        if self._link.routes.way_out:
            await self._link.routes.look_again()
        came_by = self._profile.server_key
        try:
            with contain_faults(self._link):
                async with open_channel(
                    self._profile,
                    self._config.bind,
                    self._addresses,
                    self._policy,
                    self._run_pipe,
                    patience=PATIENCE,
                    resolved=self._resolved,
                    post_quantum=self._post_quantum,
                ) as reached:
                    backoff.answered()
                    await self._connected(reached)
        except NoCommonHandshake as error:
            # A member goes on trying: the switch may be updated, or started otherwise.
            if self._profile.invite is None:
                raise
            raise RefusedError(str(error)) from None
        except OSError as error:
            raise Unreachable(f"the network of this host: {error.strerror or error}") from error
        except EnrolRefused as error:
            if error.code != ByeCode.REKEYED or self._profile.server_key == came_by:
                raise
            # Ours is written down, and the switch had not heard of that when the old one ended.
            raise Lost("the old key of the switch is no more, and we have the new one") from error

    async def _wait(self, pause: float, *, mended: bool) -> None:
        """Until the next attempt. A nudge cuts it short, if that may help, but never to nothing."""
        self._nudge = trio.Event()
        await trio.sleep(min(pause, FIRST) if mended else pause)
        if mended and pause > FIRST:
            with trio.move_on_after(pause - FIRST):
                await self._nudge.wait()

    def woke(self, slept: float) -> None:
        """This machine has slept: the switch may have let go of us, whatever our timers say."""
        self._link.tell("woke", member=self._config.name, slept_s=round(slept))
        self._nudge.set()
        if self._channel is not None:
            self._channel.renew()

    async def network_changed(self) -> None:
        """Links, addresses or routes of this host are not what they were; perhaps not those that
        lead to the switch.
        """
        hosts = self._addresses.hosts
        if self._channel is not None and self._channel.path_kind == "udp":
            hosts.append(_host(self._channel.remote))
        await self._link.routes.look_again()
        changed = await self._ways.changed(hosts)
        if changed or not hosts:
            self._nudge.set()
        if self._channel is not None and _host(self._channel.remote) in changed:
            self._channel.probe()
            if self._ways.none_to(_host(self._channel.remote)):
                self._channel.doubt()

    async def _resolved(self) -> None:
        """Where the switch is now is known: the LAN must not stand before it."""
        hosts = self._addresses.hosts
        await self._link.keep_clear(hosts)
        await self._link.routes.look_again()
        await self._ways.changed(hosts)
        behind = self._ways.through(self._link.interface.name)
        if behind and await self._link.is_apart():  # another interface, which has the same name
            return
        for host in behind:
            self._link.tell(
                "switch-behind-lan",
                logging.WARNING,
                address=host,
                dev=self._link.interface.name,
                reason=f"the route to it leads into the LAN itself: see `ip route get {host}`",
            )

    def _up_for(self) -> float:
        return trio.current_time() - self._connected_at

    async def _connected(self, reached: Reached) -> NoReturn:
        channel = reached.channel
        connection = Connection(
            reached,
            self._link,
            self._config,
            self._profile.network,
            partial(self._remember_network, channel),
            partial(self._remember_key, channel),
        )
        self._device, self._connection = connection.device, connection

        async def welcomed(welcome: Welcome) -> None:
            await self._remember(channel)
            self._note_success(channel, connection.device, welcome)

        await connection.run(welcomed)

    async def _remember(self, channel: Channel) -> None:
        """That we are a member: from now on the key alone opens the door."""
        if self._profile.invite is not None:
            async with self._keeping:
                await trio.to_thread.run_sync(profiles.store, self._profile)
            self._profile = evolve(self._profile, invite=None)
            channel.forget_credential()

    async def _remember_network(self, channel: Channel, network: str) -> None:
        """What the LAN has for addresses: from now on another one needs the operator."""
        self._profile = evolve(self._profile, network=network)
        if self._profile.invite is not None or self._profile.local:
            await self._remember(channel)
            return
        try:
            async with self._keeping:
                await trio.to_thread.run_sync(profiles.store, self._profile)
        except VswitchError as error:  # a disk that has become full is no reason to leave
            event(log, "network-not-kept", logging.WARNING, network=network, reason=error)

    async def _remember_key(self, channel: Channel, key: PublicKey) -> bool:
        """The switch, which has proven the key that we know, has a new one: whether we go by that
        from now on. First it is written down, so that no restart goes back.
        """
        before = self._profile.server_key
        if key == before:  # told once more
            return True
        try:
            channel.expect(key)
            async with self._keeping:
                changed = evolve(self._profile, server_key=key)
                await trio.to_thread.run_sync(profiles.store, changed)
        except (VswitchError, ValueError) as error:
            channel.expect(before)
            self._link.tell("switch-key-not-kept", logging.WARNING, reason=error)
            return False
        self._profile = evolve(self._profile, server_key=key)
        was, new = before.fingerprint(), key.fingerprint()
        self._link.tell("switch-key-changed", logging.WARNING, was=was, new=new)
        return True

    def _note_success(self, channel: Channel, device: MemberDevice, welcome: Welcome) -> None:
        self._channel, self._connected_at = channel, trio.current_time()
        self._link.connected(
            device,
            welcome,
            via=channel.remote,
            port=welcome.port,
            offload="on" if welcome.offload and self._link.interface.superframes else "off",
            suite=channel.statistics().suite,
            post_quantum="yes" if channel.statistics().hybrid else "no",
            lane=device.lane_mode,
        )

    async def peers(self, args: dict[str, Any]) -> dict[str, Any]:
        """The answer to `vswitch members`: who else is there."""
        if self._channel is None or self._connection is None:
            raise NotReachable(f"{self._config.name} is not connected: see `vswitch status`")
        keys = ("name", "state", "address", "mac")
        told = [each.split(" ") for each in await self._connection.peers()]
        nothing = {"-": None}
        return {
            "members": [
                {key: nothing.get(value, value) for key, value in zip(keys, each, strict=True)}
                for each in told
            ]
        }

    async def status(self, args: dict[str, Any]) -> dict[str, Any]:
        """The answer to the control socket."""
        channel, device = self._channel, self._device
        key = self._profile.server_key.fingerprint()
        if channel is None or device is None:
            return await self._link.status(args, switch_key=key)
        await measured([channel])
        session = channel.statistics()
        return await self._link.status(
            args,
            switch_key=key,
            silent=channel.silent,
            rtt_ms=None if session.rtt is None else session.rtt * 1000,
            datagram_size=session.datagram_size,
            post_quantum=session.hybrid,
            path=channel.path_kind,
            lane=device.lane,
            lane_mode=device.lane_mode,
            **datagram_counts(
                session.datagram_sent, session.datagram_received, session.datagram_lost
            ),
        )
