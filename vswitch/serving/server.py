"""`serve`: its UDP sockets and sessions, its networks, and which of them a session belongs to.

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
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from ipaddress import IPv4Network
from typing import Any

import trio
from attrs import frozen

from transport import (
    Endpoint,
    PublicKey,
    UdpSocket,
    listen_at,
    open_endpoint,
    open_udp,
)
from vswitch.addresses import HostPort
from vswitch.api.gate import Gate
from vswitch.api.routes import SWITCH
from vswitch.api.table import Subject
from vswitch.api.tokens import TokenStore
from vswitch.config.options import ServeConfig
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.logs import event
from vswitch.members.handshakes import post_quantum_of
from vswitch.registry.archive import finish_restore
from vswitch.registry.registry import Registry
from vswitch.runtime import single_error
from vswitch.serving import switch_keys
from vswitch.serving.api import serve_api
from vswitch.serving.authority import RegistryAuthority
from vswitch.serving.configuration import Configuration
from vswitch.serving.https import certificate_of, serve_members_over_https
from vswitch.serving.network import Network
from vswitch.serving.networks import Networks, open_registry
from vswitch.serving.plan import NetworkPlan
from vswitch.serving.rekeying import Rekeying
from vswitch.serving.reload import Reloader
from vswitch.serving.status import Underlay
from vswitch.state import DEFAULT_NETWORK
from vswitch.switch.switch import Switch

log = logging.getLogger(__name__)


@frozen(eq=False)
class Serving:
    """A switch that serves: the value of `serve`'s `task_status`."""

    networks: Mapping[str, Network]  # by name
    endpoint: Endpoint
    listens: tuple[HostPort, ...]
    underlay: Underlay
    reloader: Reloader

    @property
    def listen(self) -> HostPort:
        """The first of `listens`."""
        return self.listens[0]

    @property
    def network(self) -> Network:
        """The default one, as its three parts below."""
        return self.networks[DEFAULT_NETWORK]

    @property
    def switch(self) -> Switch:
        """Its switch."""
        return self.network.switch

    @property
    def managed(self) -> FeatureManager:
        """The features of its switch."""
        return self.network.managed

    @property
    def registry(self) -> Registry:
        """Its members."""
        return self.network.registry


async def serve(
    config: ServeConfig,
    *,
    given: Mapping[str, Any] | None = None,
    task_status: trio.TaskStatus[Serving] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a switch until cancelled. Started when members can connect.

    Args:
        given: the options that flags and variables have said, by field name: all others are read
            from the file, also when that is read again. None: the file is not asked for options.
    """
    await trio.to_thread.run_sync(finish_restore, config.files)
    configuration = await trio.to_thread.run_sync(Configuration.read, config, given)
    config, plans = configuration.config, configuration.plans
    certificate = await trio.to_thread.run_sync(certificate_of, config)
    await trio.to_thread.run_sync(config.files.ensure)
    post_quantum = post_quantum_of(config.pq)
    with single_error(), ExitStack() as opened:
        authority = RegistryAuthority({})
        opened.callback(_close, authority)
        for plan in plans.values():
            registry = await trio.to_thread.run_sync(open_registry, config, plan)
            authority.registries = {**authority.registries, plan.name: registry}
        await trio.to_thread.run_sync(authority.check_apart)
        # With the registry open, no restore gives the switch another key behind its back.
        keys = await trio.to_thread.run_sync(switch_keys.load, config.files)
        home = authority.registries[DEFAULT_NETWORK]
        others = [each for each in authority.registries.values() if each is not home]
        keys = await trio.to_thread.run_sync(
            switch_keys.settle, keys, config.files, home, time.time(), others
        )
        sockets = _open_sockets(config.listen)
        listens = tuple(
            HostPort(place.host, sock.local_address[1])
            for place, sock in zip(config.listen, sockets, strict=True)
        )
        async with (
            open_endpoint(
                listen_at(sockets),
                keys.key,
                authority=authority,
                max_sessions=sum(plan.config.max_members for plan in plans.values()),
                silent=config.silent,
                post_quantum=post_quantum,
            ) as endpoint,
            trio.open_nursery() as lans,
        ):
            endpoint.set_identities(keys.identities)
            subject = Subject(Gate(TokenStore(config.files.tokens)), table=SWITCH)
            underlay = Underlay(endpoint, tuple(plans), subject=subject)
            underlay.web["gate"] = subject.gate.counters
            networks = Networks(underlay, authority, keys, listens, lans)
            reloader = Reloader(configuration, networks)
            subject.configuration = subject.reloader = reloader
            rekeying = subject.rekeying = Rekeying(config.files, networks, reloader)
            async with reloader.changing:
                for plan in plans.values():
                    await networks.begin(config, plan)
            authority.on_revoked = networks.look_soon
            async with trio.open_nursery() as nursery:
                await nursery.start(endpoint.serve, networks.receive)
                nursery.start_soon(rekeying.run)
                if certificate is not None:
                    known, api = partial(_raw_keys, networks), configuration.api_over_https
                    listen = partial(serve_members_over_https, underlay, known, config, certificate)
                    await nursery.start(partial(listen, api=api))
                if config.api is not None:
                    await nursery.start(serve_api, underlay, config.api)
                for plan in plans.values():
                    _say(config, plan, listens, keys.public)
                task_status.started(
                    Serving(networks.running, endpoint, listens, underlay, reloader)
                )


def _close(authority: RegistryAuthority) -> None:
    for registry in authority.registries.values():
        registry.close()


def _say(
    config: ServeConfig, plan: NetworkPlan, listens: tuple[HostPort, ...], key: PublicKey
) -> None:
    """In the log: what is served, and what will not work about it."""
    if (swallowed := _swallowed(config, plan.config.subnet)) is not None:
        event(
            log,
            "subnet-collides",
            logging.WARNING,
            subnet=plan.config.subnet,
            reason=f"it holds the switch's own address, {swallowed}: members with "
            "--address auto will not take theirs; serve with another --subnet",
            network=plan.logged,
        )
    event(
        log,
        "serving",
        listen=" ".join(map(str, listens)),
        key=key.fingerprint(),
        subnet=plan.config.subnet,
        mtu=plan.config.mtu,
        state=plan.files.path,
        network=plan.logged,
    )


def _swallowed(config: ServeConfig, subnet: IPv4Network) -> str | None:
    """The address of the switch, as far as options say it, that its members could not reach any
    more once they had one of the subnet.
    """
    for where in (*config.public, *config.listen):
        try:
            if ipaddress.ip_address(where.host) in subnet:
                return where.host
        except ValueError:  # a name, or every address
            continue
    return None


def _raw_keys(networks: Networks) -> list[bytes]:
    """By which members may look for the switch now."""
    return [each.public.raw for each in networks.keys.identities]


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
