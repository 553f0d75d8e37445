"""`serve`: its UDP sockets, one switch, its members, and the socket that answers questions.

    async with trio.open_nursery() as nursery:
        running = await nursery.start(serve, ServeConfig(state=Path("/var/lib/vswitch")))
        async with running.switch.open_port("bot") as port: ...

Everything lives in one nursery; cancelling it tells the members and leaves nothing behind.
Error contract: what an operator can mend is a `VswitchError`; nothing from the network raises.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
from contextlib import ExitStack, closing

import trio
from attrs import frozen

from transport import (
    Endpoint,
    KeyFileError,
    PrivateKey,
    UdpSocket,
    listen_at,
    load_or_create_key_file,
    open_endpoint,
    open_udp,
)
from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.errors import ConfigError, PrivilegeError, VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.features.settings import load_settings
from vswitch.foreign.kinds import load_foreign
from vswitch.logs import event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.runtime import single_error
from vswitch.serving.authority import RegistryAuthority
from vswitch.serving.https import certificate_of, public_https, serve_members_over_https
from vswitch.serving.network import Network, open_network
from vswitch.serving.services import load_services
from vswitch.state import StateDir
from vswitch.switch.switch import Switch

log = logging.getLogger(__name__)


@frozen(eq=False)
class Serving:
    """A switch that serves: the value of `serve`'s `task_status`."""

    network: Network
    endpoint: Endpoint
    listens: tuple[HostPort, ...]

    @property
    def listen(self) -> HostPort:
        """The first of `listens`."""
        return self.listens[0]

    @property
    def switch(self) -> Switch:
        """Of the network."""
        return self.network.switch

    @property
    def managed(self) -> FeatureManager:
        """The features of that switch."""
        return self.network.managed

    @property
    def registry(self) -> Registry:
        """The members of the network."""
        return self.network.registry


async def serve(
    config: ServeConfig, *, task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a switch until cancelled. Started when members can connect."""
    files = config.files
    if config.bridge is not None and not config.local_port:
        raise ConfigError("--bridge of serve is for its local port: give --local-port, too")
    settings = await trio.to_thread.run_sync(load_settings, config.config)
    foreign = await trio.to_thread.run_sync(load_foreign, config.config, config.foreign)
    services = await trio.to_thread.run_sync(load_services, config.config)
    services.check(config.subnet)
    certificate = await trio.to_thread.run_sync(certificate_of, config)
    await trio.to_thread.run_sync(files.ensure)
    identity = await trio.to_thread.run_sync(_identity, files)
    registry = await trio.to_thread.run_sync(
        lambda: Registry.open(files.registry, max_members=config.max_members)
    )
    with single_error(), closing(registry):
        sockets = _open_sockets(config.listen)
        listens = tuple(
            HostPort(place.host, sock.local_address[1])
            for place, sock in zip(config.listen, sockets, strict=True)
        )
        names = tuple(each.name for each in foreign)
        served = LastServed(
            listens, config.public, config.subnet, names, identity.public, public_https(config)
        )
        authority = RegistryAuthority(registry)
        async with (
            open_endpoint(
                listen_at(sockets),
                identity,
                authority=authority,
                max_sessions=config.max_members,
                silent=config.silent,
            ) as endpoint,
            open_network(
                files,
                config,
                registry,
                served,
                endpoint,
                settings=settings,
                foreign=foreign,
                services=services,
            ) as network,
            trio.open_nursery() as nursery,
        ):
            authority.on_revoked = network.reception.look_soon
            await nursery.start(endpoint.serve, network.reception.receive)
            if certificate is not None:
                status = network.status
                await nursery.start(serve_members_over_https, endpoint, config, certificate, status)
            if (swallowed := _swallowed(config)) is not None:
                event(
                    log,
                    "subnet-collides",
                    logging.WARNING,
                    subnet=config.subnet,
                    reason=f"it holds the switch's own address, {swallowed}: members with "
                    "--address auto will not take theirs; serve with another --subnet",
                )
            event(
                log,
                "serving",
                listen=" ".join(map(str, listens)),
                key=identity.public.fingerprint(),
                subnet=config.subnet,
                mtu=config.mtu,
                state=files.path,
            )
            task_status.started(Serving(network, endpoint, listens))


def _swallowed(config: ServeConfig) -> str | None:
    """The address of the switch, as far as options say it, that its members could not reach any
    more once they had one of the subnet.
    """
    for where in (*config.public, *config.listen):
        try:
            if ipaddress.ip_address(where.host) in config.subnet:
                return where.host
        except ValueError:  # a name, or every address
            continue
    return None


def _identity(files: StateDir) -> PrivateKey:
    try:
        return load_or_create_key_file(files.server_key)
    except KeyFileError as error:
        raise ConfigError(str(error)) from None


def _open_sockets(places: tuple[HostPort, ...]) -> list[UdpSocket]:
    """All of them, or none."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(closing(_open_socket(each))) for each in places]
        opened.pop_all()
        return sockets


def _open_socket(listen: HostPort) -> UdpSocket:
    try:
        return open_udp(listen.host, listen.port, listens=True)
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
