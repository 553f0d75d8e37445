"""`serve`: one UDP socket, one switch, its members, and the socket that answers questions.

    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve, ServeConfig(state=Path("/var/lib/vswitch")))
        async with running.switch.open_port("bot") as port: ...

Everything lives in one nursery; cancelling it tells the members and leaves nothing behind.
Error contract: what an operator can mend is a `VswitchError`; nothing from the network raises.
"""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio
from attrs import frozen

from transport import (
    Endpoint,
    KeyFileError,
    PrivateKey,
    UdpSocket,
    load_or_create_key_file,
    open_endpoint,
    open_udp,
)
from vswitch.addresses import HostPort
from vswitch.config.commands import ServeConfig
from vswitch.errors import ConfigError, PrivilegeError, VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import load_settings
from vswitch.foreign.datagrams import DatagramDevice
from vswitch.foreign.kinds import load_foreign
from vswitch.foreign.serve import Listener, serve_foreign
from vswitch.foreign.streams import StreamDevice
from vswitch.logs import event
from vswitch.management.socket import Handler, serve_control
from vswitch.management.status import (
    ForeignStatus,
    PortStatus,
    SwitchStatus,
    datagram_counts,
    to_json,
)
from vswitch.management.verbs import look_handlers, mac_handlers, totals_of
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.runtime import single_error
from vswitch.serving.local_port import serve_local_port
from vswitch.serving.reception import Authorities, Plugged, Reception
from vswitch.state import StateDir
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch, open_switch
from vswitch.version import VERSION

log = logging.getLogger(__name__)


@frozen(eq=False)
class Serving:
    """A switch that serves: the value of `serve`'s `task_status`."""

    switch: Switch
    managed: FeatureManager
    endpoint: Endpoint
    registry: Registry
    listen: HostPort


async def serve(
    config: ServeConfig, *, task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a switch until cancelled. Started when members can connect."""
    files = config.files
    if config.bridge is not None and not config.local_port:
        raise ConfigError("--bridge of serve is for its local port: give --local-port, too")
    settings = await trio.to_thread.run_sync(load_settings, config.config)
    foreign = await trio.to_thread.run_sync(load_foreign, config.config)
    max_ports = config.max_members + sum(each.ports for each in foreign) + config.local_port
    await trio.to_thread.run_sync(files.ensure)
    identity = await trio.to_thread.run_sync(_identity, files)
    registry = await trio.to_thread.run_sync(
        lambda: Registry.open(files.registry, max_members=config.max_members)
    )
    with single_error(), _closing(registry):
        sock = _open_socket(config.listen)
        listen = HostPort(config.listen.host, sock.local_address[1])
        async with (
            open_endpoint(
                sock,
                identity,
                authority=Authorities(registry),
                max_sessions=config.max_members,
                silent=config.silent,
            ) as endpoint,
            open_switch(mtu=config.mtu, max_ports=max_ports) as switch,
            trio.open_nursery() as nursery,
        ):
            managed = FeatureManager(switch, settings)
            nursery.start_soon(managed.run)
            reception = Reception(registry, switch, config.subnet)
            status = _Status(config, listen, endpoint, managed, reception, registry)
            # First the control socket, which one switch per state directory can have: a second
            # one must not write into the registry where it would have listened.
            await nursery.start(serve_control, files.control_socket, status.handlers())
            if config.local_port:
                await nursery.start(serve_local_port, switch, config)
            status.listeners = await nursery.start(serve_foreign, switch, foreign)
            served = LastServed(listen, config.public, config.subnet)
            await trio.to_thread.run_sync(registry.record_served, served)
            await nursery.start(endpoint.serve, reception.receive)
            event(
                log,
                "serving",
                listen=listen,
                key=identity.public.fingerprint(),
                subnet=config.subnet,
                mtu=config.mtu,
                state=files.path,
            )
            task_status.started(Serving(switch, managed, endpoint, registry, listen))


def _identity(files: StateDir) -> PrivateKey:
    try:
        return load_or_create_key_file(files.server_key)
    except KeyFileError as error:
        raise ConfigError(str(error)) from None


def _open_socket(listen: HostPort) -> UdpSocket:
    try:
        return open_udp(listen.host, listen.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise VswitchError(
                f"UDP port {listen} is in use by another program: stop it, or choose another "
                "with --listen"
            ) from None
        if error.errno == errno.EACCES:
            raise PrivilegeError(
                f"UDP port {listen} needs a privilege: run as root, give CAP_NET_BIND_SERVICE, or "
                "choose a port above 1023 with --listen"
            ) from None
        raise VswitchError(f"cannot listen on {listen}: {error.strerror}; see --listen") from None


@contextmanager
def _closing(registry: Registry) -> Iterator[None]:
    try:
        yield
    finally:
        registry.close()


class _Status:
    """What the control socket answers."""

    def __init__(
        self,
        config: ServeConfig,
        listen: HostPort,
        endpoint: Endpoint,
        managed: FeatureManager,
        reception: Reception,
        registry: Registry,
    ) -> None:
        self._config = config
        self._listen = listen
        self._endpoint = endpoint
        self._managed = managed
        self._switch = managed.switch
        self._reception = reception
        self._registry = registry
        self._started = time.time()
        self.listeners: list[Listener] = []

    def handlers(self) -> dict[str, Handler]:
        return {
            "status": self.status,
            "revoked": self.revoked,
            "port-set": self.port_set,
            "switch-set": self.switch_set,
            **mac_handlers(self._managed),
            **look_handlers(self._managed),
        }

    async def switch_set(self, args: dict[str, Any]) -> dict[str, Any]:
        """`vswitch switch set`: change settings of the whole switch."""
        await trio.lowlevel.checkpoint()
        changes = args.get("changes")
        if not isinstance(changes, dict):
            raise ConfigError("switch-set needs changes")
        if changes:
            self._managed.change_switch(changes)
        return {"settings": to_json(self._managed.settings.switch)}

    async def port_set(self, args: dict[str, Any]) -> dict[str, Any]:
        """`vswitch port set`: change settings of a port."""
        await trio.lowlevel.checkpoint()
        name, changes = args.get("name"), args.get("changes")
        if not isinstance(name, str) or not isinstance(changes, dict):
            raise ConfigError("port-set needs the name of a port, and changes")
        self._managed.change_port(name, changes)
        blocked = [port.blocked for port in self._switch.ports if port.name == name]
        return {
            "name": name,
            "settings": to_json(self._managed.settings.of_port(name)),
            "blocked": blocked[0] if blocked else None,
        }

    async def status(self, _: dict[str, Any]) -> dict[str, Any]:
        members = await trio.to_thread.run_sync(self._registry.members)
        plugged = {entry.port: entry for entry in self._reception.plugged.values()}
        return to_json(
            SwitchStatus(
                version=VERSION,
                uptime_s=time.time() - self._started,
                listen=self._listen.text(),
                subnet=str(self._config.subnet),
                mtu=self._switch.mtu,
                members=sum(member.revoked is None for member in members),
                public=self._public(),
                transport_drops=dict(self._endpoint.statistics().drops),
                foreign=[_foreign_status(each) for each in self.listeners],
                ports=[_port_status(port, plugged.get(port)) for port in self._switch.ports],
                totals=totals_of(self._switch.statistics()),
            )
        )

    def _public(self) -> str | None:
        public = self._config.public
        if public is None:
            return None
        return HostPort(public.host, public.port or self._listen.port).text()

    async def revoked(self, _: dict[str, Any]) -> dict[str, Any]:
        """The registry has changed: look again at everybody who is connected."""
        await trio.lowlevel.checkpoint()
        return {"disconnected": self._reception.check_revoked()}


def _foreign_status(listener: Listener) -> ForeignStatus:
    return ForeignStatus(
        name=listener.name,
        kind=listener.kind,
        listen=listener.listen,
        refused=dict(listener.refused),
    )


def _port_status(port: Port, plugged: Plugged | None) -> PortStatus:
    counters = port.counters.snapshot()
    address, via, rtt, since = None, f"local:{port.device.name}", None, None
    if isinstance(port.device, DatagramDevice | StreamDevice):
        via = f"foreign-{port.device.name}"
    lanes: dict[str, Any] = {}
    drops = {reason.value: count for reason, count in counters.drops.items()}
    drops = dict(Counter(drops) + Counter(getattr(port.device, "dropped", {})))
    datagram_size: int | None = None
    transport_drops: dict[str, int] = {}
    if plugged is not None:
        statistics = plugged.channel.statistics()
        address, since = plugged.address, plugged.since
        via = f"udp:{plugged.channel.remote}"
        rtt = None if statistics.rtt is None else statistics.rtt * 1000
        datagram_size = statistics.datagram_size
        transport_drops = dict(statistics.drops)
        lanes = {
            "lane": plugged.device.lane,
            "lane_mode": plugged.device.lane_mode,
            **datagram_counts(
                statistics.datagram_sent, statistics.datagram_received, statistics.datagram_lost
            ),
        }
    return PortStatus(
        port=port.number,
        name=port.name,
        state=("blocked" if port.blocked else "up") if port.attached else "down",
        blocked=port.blocked,
        address=address,
        via=via,
        rtt_ms=rtt,
        datagram_size=datagram_size,
        rx_frames=counters.rx_frames,
        rx_bytes=counters.rx_bytes,
        tx_frames=counters.tx_frames,
        tx_bytes=counters.tx_bytes,
        flood_copies=counters.flood_copies,
        queued_frames=port.statistics().queued_frames,
        queued_bytes=port.statistics().queued_bytes,
        held_frames=port.held_frames,
        drops=drops,
        transport_drops=transport_drops,
        since=since,
        **lanes,
    )
