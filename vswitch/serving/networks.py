"""The networks of a `serve` that run: begun and ended one by one, and whose a session is.

Each is a task with a registry of its own. One that ends says goodbye to its members first.

Error contract: `VswitchError` for what an operator can mend, of a network that does not begin; what
ran before runs on.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial

import trio
from attrs import define, field

from transport import Channel
from vswitch.addresses import HostPort
from vswitch.config.options import ServeConfig
from vswitch.errors import VswitchError
from vswitch.logs import NETWORK, event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.runtime import single_error
from vswitch.serving.authority import RegistryAuthority
from vswitch.serving.https import public_https
from vswitch.serving.network import Network, open_network, record
from vswitch.serving.plan import NetworkPlan
from vswitch.serving.status import Underlay
from vswitch.serving.switch_keys import SwitchKeys
from vswitch.state import DEFAULT_NETWORK

log = logging.getLogger(__name__)


@define(eq=False)
class Networks:
    """All of one `serve`, in the order in which they began."""

    underlay: Underlay
    authority: RegistryAuthority  # whose registries are those of the networks
    keys: SwitchKeys
    listens: tuple[HostPort, ...]
    nursery: trio.Nursery
    running: dict[str, Network] = field(factory=dict)
    _ends: dict[str, trio.Event] = field(factory=dict)  # set to end it
    _over: dict[str, trio.Event] = field(factory=dict)  # set when it has ended
    _sessions: Counter[str] = field(factory=Counter)
    _left: trio.Event = field(factory=trio.Event)  # a session has ended

    async def begin(self, config: ServeConfig, plan: NetworkPlan) -> None:
        """Have one more. A registry that the authority has is taken, else it is opened."""
        name, known = plan.name, self.authority.registries
        opened = None
        if name not in known:
            opened = await trio.to_thread.run_sync(open_registry, config, plan)
            self.authority.registries = {**known, name: opened}
        try:
            if opened is not None:
                await trio.to_thread.run_sync(self.authority.check_apart)
            self._ends[name], self._over[name] = trio.Event(), trio.Event()
            self.running[name] = await self.nursery.start(self._run, config, plan)
        except BaseException:
            self._forget(name)
            raise
        finally:
            self._tell()

    async def end(self, name: str) -> None:
        """Say goodbye to its members, and have it no more."""
        network = self.running.pop(name)
        self._tell()
        network.say_goodbye()
        while self._sessions[name]:
            self._left = trio.Event()
            await self._left.wait()
        self._ends[name].set()
        await self._over[name].wait()
        self._forget(name)

    def look_soon(self, key: bytes) -> None:
        """That key was found revoked: whoever has a session of it looks."""
        for network in self.running.values():
            network.reception.look_soon(key)

    async def serve_as(self, config: ServeConfig) -> None:
        """What invites and status of all say of where the switch is, and its limits."""
        self._tell()
        for network in self.running.values():
            served = self._served(config, network.plan)
            if served != network.status.served:
                network.status.served = network.controlled.served = served
                await trio.to_thread.run_sync(record, network.registry, served)

    async def go_by(self, keys: SwitchKeys, config: ServeConfig) -> None:
        """Be known by these keys from now on, and tell the members."""
        self.keys = keys
        self.underlay.endpoint.set_identities(keys.identities)
        for network in self.running.values():
            network.reception.go_by_key(keys.public, keys.grace)
        try:
            await self.serve_as(config)
        except VswitchError as error:  # the next start notes it
            effect = "invites may name the key before, and a restart may give it more time"
            event(log, "registry-failed", logging.ERROR, error=error, effect=effect)

    async def receive(self, channel: Channel) -> None:
        """A session, for the network that it is of."""
        said = self.authority.network_of(channel.peer.raw, channel.credential)
        # The default one refuses who is a stranger now.
        name = said if said in self.running else DEFAULT_NETWORK
        network = self.running[name]
        NETWORK.set(network.plan.logged)
        self._sessions[name] += 1
        try:
            await network.reception.receive(channel)
        finally:
            self._sessions[name] -= 1
            self._left.set()

    async def _run(
        self, config: ServeConfig, plan: NetworkPlan, *, task_status: trio.TaskStatus[Network]
    ) -> None:
        name = plan.name
        registry = self.authority.registries[name]
        served = self._served(config, plan)
        try:
            with single_error():
                async with open_network(plan, registry, served, self.underlay) as network:
                    network.reception.enrol = partial(self.authority.enrol, name)
                    network.reception.go_by_key(self.keys.public, self.keys.grace)
                    task_status.started(network)
                    await self._ends[name].wait()
        finally:
            self._over[name].set()

    def _served(self, config: ServeConfig, plan: NetworkPlan) -> LastServed:
        return LastServed(
            self.listens,
            config.public,
            plan.config.subnet,
            tuple(each.name for each in plan.foreign),
            self.keys.public,
            public_https(config),
            plan.name,
            self.keys.origin,
            self.keys.grace,
        )

    def _tell(self) -> None:
        self.underlay.networks = tuple(self.running)
        limit = sum(each.plan.config.max_members for each in self.running.values())
        self.underlay.endpoint.allow_sessions(limit)

    def _forget(self, name: str) -> None:
        rest = dict(self.authority.registries)
        registry = rest.pop(name, None)
        self.authority.registries = rest
        self.underlay.subject.networks.pop(name, None)
        if registry is not None:
            registry.close()


def open_registry(config: ServeConfig, plan: NetworkPlan) -> Registry:
    """That of one network; its directory is made where it is missing."""
    config.files.ensure_network(plan.name)
    return Registry.open(plan.files.registry, max_members=plan.config.max_members)
