"""The routes of a member: what it reaches through others, and what others reach through it.

    gateways, as the switch tells them ─▶ `route_trust.py` ─▶ kernel: routes, the way out
                                      └▶ those of this member ─▶ kernel: forwarding, masquerade

What is in force follows what the switch says, and what this host is in at the time: all is judged
anew whenever either changes. While the switch is away all stays as it was. A way out that goes away
leaves this host without one, as does one that the kernel does not change as it should: what was to
leave through that member leaves no other way.

A gateway whose table somebody has removed, as by `nft flush ruleset`, would forward whatever comes:
it is put back, or nothing is forwarded.

Everything is undone at the end. What outlives the interface, so what `kill -9` would leave, is in
files (`undo.py`) before it is done, and undone by the next start.

Error contract: nothing of the kernel's refusals is raised. Each is in the status and once in the
log, and the session goes on without.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, Final

import attrs
import trio

from vswitch.config.options import JoinConfig
from vswitch.devices import masquerade, routing
from vswitch.devices.host_interface import Address, HostFacts, HostInterface, Network
from vswitch.devices.routing import NOTHING, Route, Routed, Routing, WayOut
from vswitch.errors import PrivilegeError, VswitchError
from vswitch.joining import undo
from vswitch.joining.host_trust import NEAR
from vswitch.joining.route_trust import Judged, judge_routes, refuse_address6, source_for
from vswitch.logs import event
from vswitch.members.protocol import Gateway
from vswitch.registry.approvals import in_force
from vswitch.state import StateDir

log = logging.getLogger(__name__)

Tell = Callable[..., None]
LOOK: Final = 5.0  # seconds between two looks whether the table of the gateway is as it was made
_ROUTES, _GATEWAY = "routes", "gateway"  # subjects of undo files
_NONE: Final = Judged((), (), {})


def undo_left_behind(files: StateDir, name: str) -> None:
    """Undo what a join of that member has left that was killed. Blocking. Who may not, because it
    has no privilege, has not been the one either.
    """
    for subject in (_ROUTES, _GATEWAY):
        path = files.undo(name, subject)
        changes = undo.left_behind(path)
        if changes is not None:
            try:
                if subject == _ROUTES:
                    routing.remove_way_out()
                else:
                    masquerade.restore(name, masquerade.known_settings(changes))
            except PrivilegeError as error:
                event(log, "routes-left-behind", logging.ERROR, member=name, reason=error)
                continue
            event(log, "routes-put-back", member=name, subject=subject)
        undo.forget(path)


class Routes:
    """Those of one member, through all its sessions."""

    def __init__(self, config: JoinConfig, interface: HostInterface, tell: Tell) -> None:
        """`tell` logs what a switch can cause as often as it likes."""
        # Where the switch is reached: what must not lead through the LAN.
        self.find_switch: Callable[[], Awaitable[list[Address]]] = _nowhere
        self.config = config  # another one holds from the next `look_again` on
        self._interface = interface
        self.tell = tell
        self._told: tuple[Gateway, ...] = ()
        self._address6: str | None = None  # that the switch gives, in CIDR form
        self._judged = _NONE
        self._done = NOTHING  # of `Routing`
        self._failed: str | None = None  # why the kernel has not done it
        self._forwards: tuple[Network, ...] = ()  # as a gateway
        self._apart: frozenset[Network] = frozenset()  # networks to which that is no way out
        self._before: dict[str, str] | None = None  # settings of the host, while it is one
        self._not_gateway: str | None = None  # why it is none
        self._table = ""  # of the gateway, as it was made
        self._changing = trio.Lock()
        self._closed = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Undo what a killed process has left; and all at the end."""
        if isinstance(self._interface, Routed) and not self._interface.private:
            config = self.config
            await trio.to_thread.run_sync(undo_left_behind, config.files, config.name)
        try:
            yield
        finally:
            self._closed = True
            with trio.CancelScope(shield=True):
                async with self._changing:
                    await self._close()

    async def told(self, gateways: tuple[str, ...], address6: str | None) -> None:
        """What the switch says; of the address it says nothing new by None."""
        self._told = tuple(map(Gateway.parse, gateways))
        self._address6 = address6 or self._address6
        await self.look_again()

    async def look_again(self) -> None:
        """This host is in other networks than before, or the switch is elsewhere."""
        if not self._told and self._done == NOTHING and not self._forwards:
            return
        async with self._changing:
            if self._closed:
                return
            if not isinstance(self._interface, Routed):
                self._failed = "this interface takes no routes"
                return
            try:
                host, switch = await self._interface.facts(), await self.find_switch()
            except VswitchError as error:  # nothing can be judged: all stays as it is
                self._fail("_failed", error)
                return
            await self._be_gateway(host)
            await self._take(self._interface, host, switch)

    @property
    def way_out(self) -> bool:
        """Whether this host's way out is through a member."""
        return self._done.out is not None

    # --- What this host uses ---

    async def _take(self, interface: Routed, host: HostFacts, switch: list[Address]) -> None:
        config, before = self.config, self._judged
        given6, reason = self._address6, None
        if given6 is not None:
            reason = refuse_address6(given6, host=host, switch=switch)
            reason = reason if host.ipv6 else "IPv6 is off at the interface"
        given6 = None if reason else given6
        own = [each for each in (self._interface.address, given6) if each is not None]
        judged = self._judged = judge_routes(
            self._told,
            name=config.name,
            accepted=config.accept_routes,
            exit_node=config.exit_node,
            own=own,
            host=host,
            switch=switch,
        )
        if reason:
            for network in [each for each in judged.refused if ":" in each]:
                judged.refused[network] = f"this host takes no IPv6 address for it: {reason}"
        wanted = self._routing(judged, own, given6, host, switch)
        had = self._done.out
        try:
            if wanted.out is not None and had is None and not interface.private:
                await trio.to_thread.run_sync(self._begin_way_out)
            self._done = wanted  # or a part
            await interface.set_routing(wanted)
            if had is not None and wanted.out is None and not interface.private:
                await trio.to_thread.run_sync(undo.forget, self._undo(_ROUTES))
            self._failed = None
        except VswitchError as error:
            self._fail("_failed", error)
            with suppress(VswitchError):
                rest = NOTHING
                if had is not None:
                    rest = Routing(out=attrs.evolve(wanted.out or had, routes=frozenset()))
                await interface.set_routing(rest)
                self._done = rest
        if (judged.routes, judged.way_out) != (before.routes, before.way_out):
            through = " ".join(f"{each.network}={each.name}" for each in judged.routes)
            out = ",".join(each.address for each in judged.way_out) or None
            self.tell("routes-changed", member=config.name, through=through or "none", way_out=out)
        for network, why in judged.refused.items():
            if config.accept_routes and before.refused.get(network) != why:
                self.tell(
                    "route-refused",
                    logging.WARNING,
                    member=config.name,
                    network=network,
                    reason=why,
                )

    def _routing(
        self,
        judged: Judged,
        own: list[str],
        address6: str | None,
        host: HostFacts,
        switch: list[Address],
    ) -> Routing:
        """What the kernel is to do."""

        def route(gateway: Gateway) -> Route:
            return Route(gateway.network, gateway.address, source_for(gateway, own))

        routes = frozenset(map(route, judged.routes))
        out = None
        if judged.way_out or (self.config.exit_node and self.way_out):
            pinned = [] if host.apart else [*switch, *host.resolvers]
            sources = () if host.apart else host.addresses
            out = WayOut(frozenset(map(route, judged.way_out)), _far(pinned), _far(sources))
        ways = [*routes, *(() if out is None else out.routes)]
        six = any(":" in each.network for each in ways) or any(
            each.version == 6 for each in self._forwards
        )
        return Routing(address6 if six else None, routes, out)

    def _begin_way_out(self) -> None:
        """In a thread, before anything is changed."""
        if routing.others_way_out():
            raise VswitchError(
                "another member of this host has the way out already, or has been killed: see "
                f"`ip rule`; `ip rule flush protocol {routing.PROTOCOL}` if nothing runs"
            )
        undo.keep(self._undo(_ROUTES), {"way_out": True})

    # --- What others use ---

    async def keep_gateway(self) -> None:
        """Put the table of the gateway back when somebody has changed it; until cancelled. A thread
        asks for it every `LOOK` seconds while this host is one.
        """
        while True:
            await trio.sleep(LOOK)
            if not self._forwards:
                continue
            async with self._changing:
                if self._closed or not self._forwards:
                    continue
                name = self.config.name
                if await trio.to_thread.run_sync(masquerade.shown, name) == self._table:
                    continue
                self.tell("gateway-table-changed", logging.WARNING, member=name)
                await self._set_gateway(self._forwards, self._apart)

    async def _be_gateway(self, host: HostFacts) -> None:
        """Forward what is in force of what this member offers, and nothing when that is nothing."""
        approved = [ip_network(each.network) for each in self._told_of_us()]
        networks = in_force(self.config.advertise, approved)
        apart = frozenset(each for each in host.networks if each.prefixlen >= NEAR)
        if (networks, apart) == (self._forwards, self._apart) or not (networks or self._forwards):
            return
        if host.apart:
            self._not_gateway = "there is nothing behind a network of this program's own"
            return
        await self._set_gateway(networks, apart)

    async def _set_gateway(self, networks: tuple[Network, ...], apart: frozenset[Network]) -> None:
        """Forward these, as far as the kernel lets us, and nothing else."""
        before, self._apart = self._forwards, apart
        try:
            if networks:
                await trio.to_thread.run_sync(self._forward, networks, apart)
            else:
                await trio.to_thread.run_sync(self._stop_forwarding)
            self._forwards, self._not_gateway = networks, None
        except VswitchError as error:
            self._fail("_not_gateway", error)
            with suppress(VswitchError):
                await trio.to_thread.run_sync(self._stop_forwarding)
            self._forwards = ()
        if self._forwards != before:
            said = " ".join(map(str, self._forwards)) or "none"
            self.tell("gateway-changed", member=self.config.name, networks=said)

    def _told_of_us(self) -> list[Gateway]:
        return [each for each in self._told if each.name == self.config.name]

    def _forward(self, networks: tuple[Network, ...], apart: frozenset[Network]) -> None:
        """In a thread."""
        name = self.config.name
        if self._before is None:
            masquerade.refuse_second(name)
            self._before = masquerade.prepare((4, 6))
            undo.keep(self._undo(_GATEWAY), {"settings": self._before})
        masquerade.open_gateway(name, self._interface.name, networks, apart, self._before)
        self._table = masquerade.shown(name)

    def _stop_forwarding(self) -> None:
        """In a thread."""
        if self._before is not None:
            masquerade.restore(self.config.name, self._before)
            undo.forget(self._undo(_GATEWAY))
            self._before = None

    # --- The end ---

    async def _close(self) -> None:
        for leave in (self._leave_way_out, partial(trio.to_thread.run_sync, self._stop_forwarding)):
            try:
                await leave()
            except VswitchError as error:
                name = self.config.name
                event(log, "routes-left-behind", logging.ERROR, member=name, reason=error)

    async def _leave_way_out(self) -> None:
        if not isinstance(self._interface, Routed) or self._done == NOTHING:
            return
        await self._interface.set_routing(NOTHING)
        if self.way_out and not self._interface.private:
            await trio.to_thread.run_sync(undo.forget, self._undo(_ROUTES))
        self._done = NOTHING

    def _undo(self, subject: str) -> Any:
        return self.config.files.undo(self.config.name, subject)

    def _fail(self, which: str, error: VswitchError) -> None:
        if getattr(self, which) != str(error):
            name = self.config.name
            event(log, "routes-failed", logging.WARNING, member=name, reason=error)
        setattr(self, which, str(error))

    def status(self) -> dict[str, Any]:
        """What `vswitch.management.status.JoinStatus` has of it."""
        config, judged = self.config, self._judged
        refused = dict(judged.refused)
        routes = {} if self._failed else {each.network: _through(each) for each in judged.routes}
        if self._failed:
            refused |= {each.network: self._failed for each in (*judged.routes, *judged.way_out)}
        return {
            "routes": routes,
            "routes_refused": refused,
            "advertised": {str(each): self._advertised(each) for each in config.advertise},
            "exit_node": self._exit_node() if config.exit_node or self.way_out else None,
        }

    def _advertised(self, network: Network) -> str:
        if self._not_gateway is not None:
            return self._not_gateway
        return "in use" if network in self._forwards else "not approved"

    def _exit_node(self) -> str:
        name, ways = self.config.exit_node or "none", self._judged.way_out
        if self._failed is not None:
            return f"{name}: {self._failed}{': nothing leaves' if self.way_out else ''}"
        if ways:
            return f"{name} via {', '.join(each.address for each in ways)}"
        absent = f"{name} is not there, or not approved as one"
        return f"{absent}: nothing leaves" if self.way_out else f"{absent}: all leaves as before"


def _through(gateway: Gateway) -> str:
    return f"{gateway.name} via {gateway.address}"


def _far(addresses: Any) -> frozenset[str]:
    """Those for which the kernel asks a rule at all."""
    found = map(ip_address, map(str, addresses))
    return frozenset(str(each) for each in found if not (each.is_loopback or each.is_link_local))


async def _nowhere() -> list[Address]:
    await trio.lowlevel.checkpoint()
    return []
