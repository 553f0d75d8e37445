"""One LAN of a `serve`: its switch and members, what is plugged in here, and what speaks on it.

    async with open_network(plan, registry, served, underlay) as network:
        await endpoint.serve(network.reception.receive)

Sockets, sessions and the switch's key are not its own, but of `server.py`. Everything that it
starts ends with the context. A service is a coroutine that speaks on the LAN as an ordinary port;
a fault in one ends that service alone, is logged, and is named in `status` (`ended`) until it runs
again, which is tried after pauses from `AGAIN` to `AGAIN_CAP`. The LAN host, on which the others
stand, and what publishes are not begun again.

What its tasks log names it, unless it is the default one.

Error contract: `VswitchError` for what an operator can mend, before the context begins.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from attrs import define

from vswitch.api.http import Api
from vswitch.api.routes import SWITCH
from vswitch.api.socket import STREAMS, serve_control
from vswitch.errors import ByeCode, VswitchError
from vswitch.features.manager import FeatureManager
from vswitch.foreign.serve import ForeignPorts
from vswitch.logs import NETWORK, event
from vswitch.management.handlers.common import Controlled
from vswitch.registry.database import NoSpace
from vswitch.registry.registry import Registry
from vswitch.registry.rules import LastServed
from vswitch.runtime import single_error
from vswitch.services.host import HostBeside
from vswitch.services.publish import Publisher
from vswitch.serving.frame_log import log_frames
from vswitch.serving.local_port import serve_local_port
from vswitch.serving.plan import NetworkPlan
from vswitch.serving.publishing import make_publisher
from vswitch.serving.reception import Reception
from vswitch.serving.services import LanServices, Service, first_address
from vswitch.serving.status import ServeStatus, Underlay
from vswitch.switch.switch import Switch, open_switch

log = logging.getLogger(__name__)

AGAIN, AGAIN_CAP = (
    1.0,
    60.0,
)  # seconds until a service that had a fault is begun again: 1, 2, 4, ...


@define(eq=False)
class Network:
    """A LAN that is served."""

    plan: NetworkPlan  # that it goes by
    switch: Switch
    managed: FeatureManager
    registry: Registry
    reception: Reception
    status: ServeStatus
    controlled: Controlled
    _publisher: Publisher
    _foreign: ForeignPorts
    _nursery: trio.Nursery
    services: LanServices | None = None

    async def go_by(self, plan: NetworkPlan) -> None:
        """Be as that plan says, which differs in nothing that needs a restart (`reload.py`). What
        is the same in both is left alone.

        Raises:
            VswitchError: it cannot be; some of it is in force, and `go_by` of the plan before takes
                that back.
        """
        logged = NETWORK.set(plan.logged)  # what begins here has it, too
        try:
            await self._go_by(plan)
        finally:
            NETWORK.reset(logged)

    async def _go_by(self, plan: NetworkPlan) -> None:
        self.registry.max_members = plan.config.max_members
        self.switch.max_ports = _max_ports(plan)
        self.managed.go_by(plan.settings)
        await self._foreign.apply(plan.foreign)
        self.status.listeners = self._foreign.listeners
        await self._publisher.apply(plan.published, plan.live)
        assert self.services is not None
        await self.services.apply(plan.services)
        self.reception.tell_names()
        self.plan = plan

    async def release(self, plan: NetworkPlan | None) -> None:
        """Give up the places on this host that this plan does not have, None for none, for another
        network to take them. `go_by` of the plan before has them back.
        """
        await self._publisher.release(() if plan is None else plan.published)
        await self._foreign.release(() if plan is None else plan.foreign)

    def say_goodbye(self) -> None:
        """Tell the members that it is served no more, and unplug them."""
        self.reception.dismiss(ByeCode.UNKNOWN, f"the network {self.plan.name} is served no more")

    async def start_service(
        self,
        name: str,
        run: Callable[..., Awaitable[None]],
        *args: Any,
        service: Service | None = None,
        again: bool = False,
    ) -> Any:
        """Start `run(*args, task_status=...)`, behind a bulkhead; the value of its `started`.

        None where a fault has ended it before. `VswitchError` where an operator can mend why it
        does not start. With `again` it is begun anew whenever a fault ends it later; it ends for
        good with the scope of `service`.
        """
        kept = Service() if service is None else service
        job = partial(_run_service, self.switch, name, run, args, service=kept, again=again)
        return await self._nursery.start(job)


@asynccontextmanager
async def open_network(
    plan: NetworkPlan, registry: Registry, served: LastServed, underlay: Underlay
) -> AsyncIterator[Network]:
    """The network, for as long as the context lasts. It knows its members, and takes them in as
    soon as `network.reception` gets their channels.
    """
    config = plan.config
    logged = NETWORK.set(plan.logged)  # the tasks that begin from here on have it, too
    async with (
        open_switch(mtu=config.mtu, max_ports=_max_ports(plan)) as switch,
        trio.open_nursery() as nursery,
    ):
        managed = FeatureManager(switch, plan.settings)
        nursery.start_soon(managed.run)
        reception = Reception(registry, switch, config.subnet, served.prefix)
        directory = reception.directory
        directory.reserve, directory.renamed = managed.reserve, managed.renamed
        reception.rebound = managed.rebound
        directory.separated = lambda name: managed.settings.separated(name)
        reception.check_revoked()  # before anybody can claim what is theirs
        nursery.start_soon(reception.watch)
        nursery.start_soon(reception.gateways.run)
        status = ServeStatus(plan.name, served, underlay, switch, reception, registry, managed)
        publisher = status.publisher = make_publisher(switch, registry, reception, config, served)
        run = partial(_run_service, switch, "publish", publisher.run, (), service=Service())
        await nursery.start(run)
        foreign = ForeignPorts(switch)
        await nursery.start(foreign.run)
        told = managed, status.read, reception.check_revoked, reception.bar, publisher
        controlled = Controlled(*told, registry=registry, served=served)
        controlled.network = plan.name
        controlled.configuration = underlay.subject.reloader
        controlled.rekeying = underlay.subject.rekeying
        underlay.subject.networks[plan.name] = controlled
        # First the control socket, which one switch per state directory can have: a second
        # one must not write into the registry where it would have listened.
        face = Api(underlay.subject, SWITCH, network=plan.name, streams=STREAMS)
        count = partial(underlay.web.__setitem__, f"socket:{plan.name}")
        await nursery.start(partial(serve_control, plan.files.control_socket, face, counters=count))
        nursery.start_soon(log_frames, controlled.captures)
        beside: HostBeside | None = None
        if config.local_port:
            beside = await nursery.start(serve_local_port, switch, config)
        network = Network(
            plan,
            switch,
            managed,
            registry,
            reception,
            status,
            controlled,
            publisher,
            foreign,
            nursery,
        )
        interface = first_address(config.subnet)
        services = network.services = LanServices(network, interface, served, beside)
        controlled.dhcp = lambda: services.dhcp
        await publisher.apply(plan.published, plan.live)
        await foreign.apply(plan.foreign)
        status.listeners = foreign.listeners
        await trio.to_thread.run_sync(record, registry, served)
        await services.apply(plan.services)
        NETWORK.reset(logged)
        yield network
        nursery.cancel_scope.cancel()


def _max_ports(plan: NetworkPlan) -> int:
    ports = plan.config.max_members + sum(each.ports for each in plan.foreign)
    # Those of the services, and from which published ones are reached.
    return ports + plan.config.local_port + 2


async def _run_service(
    switch: Switch,
    name: str,
    run: Callable[..., Awaitable[None]],
    args: tuple[Any, ...],
    *,
    service: Service,
    again: bool = False,
    task_status: trio.TaskStatus[Any],
) -> None:
    """A bulkhead: what `run` raises goes no further, but an operator's error before it started."""
    started, pause = False, AGAIN
    try:
        with service.scope:
            while True:
                began = trio.current_time()
                try:
                    with single_error():
                        async with trio.open_nursery() as nursery:
                            value = await nursery.start(run, *args)
                            if not started:
                                started = True
                                task_status.started(value)
                            elif switch.faults.mended(name):
                                event(log, "service-again", logging.WARNING, service=name)
                    return
                except Exception as error:
                    if not started and isinstance(error, VswitchError):
                        raise
                    switch.faults.end(name, error, switch.now())
                    if not started:
                        task_status.started(None)
                        return
                if not again:
                    return
                if trio.current_time() - began > AGAIN_CAP:
                    pause = AGAIN
                await trio.sleep(pause)
                pause = min(AGAIN_CAP, 2 * pause)
    finally:
        service.ended.set()


def record(registry: Registry, served: LastServed) -> None:
    """Note it where that is possible: whoever is a member comes in without."""
    try:
        registry.record_served(served)
    except NoSpace as error:
        event(
            log,
            "registry-failed",
            logging.ERROR,
            error=error,
            effect="known members come in; invites and joins on this host may miss the switch",
        )
        return
    if not registry.writable:
        event(
            log,
            "registry-read-only",
            logging.ERROR,
            effect="known members come in; nobody new does, and no invite or revocation is kept",
        )
