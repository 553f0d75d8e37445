"""The DHCP server at work: datagrams of the LAN host to `Dhcp`, and what it decides done.

    async with trio.open_nursery() as nursery:
        server = DhcpServer(host, switch, registry, settings)
        await nursery.start(server.run)

One thing is done at a time, in order; a lease is on the disk before its client hears of it, so that
it outlives this program, whatever ends it. Moments are those of the boot clock, which nobody sets;
in the registry they are those of the wall clock, and a lease that was read there lasts no longer
than one that is new.

Error contract: a registry that fails is logged, and costs clients that are new their answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, ip_network
from typing import Any

import attrs
import trio

from vswitch.clocks import uptime
from vswitch.errors import NotFound, Problem, VswitchError
from vswitch.frames.bootp import CLIENT_PORT, SERVER_PORT
from vswitch.frames.build import IpAddress, ethernet, ip, upper
from vswitch.frames.ethernet import format_mac, parse_mac
from vswitch.frames.headers import ETHERTYPE_AT, IPV4
from vswitch.frames.virtio import UDP
from vswitch.logs import event
from vswitch.registry.registry import Registry
from vswitch.registry.rules import Lease
from vswitch.services.dhcp import (
    PROBE,
    Answer,
    Asker,
    Dhcp,
    DhcpDrop,
    Free,
    Keep,
    Look,
    Probe,
    Step,
)
from vswitch.services.host import Inbox, ServiceHost
from vswitch.services.leases import Client
from vswitch.services.station import Datagram
from vswitch.services.terms import DhcpSettings, Terms
from vswitch.switch.port import Port
from vswitch.switch.switch import Switch

PORT_GRACE = 60.0  # seconds that a port may be away before its leases end, where they do
EVERYBODY = IPv4Address("255.255.255.255")

log = logging.getLogger(__name__)


class DhcpServer:
    """The DHCP server of one LAN."""

    def __init__(
        self,
        host: ServiceHost,
        switch: Switch,
        registry: Registry,
        settings: DhcpSettings,
        terms: Terms,
        *,
        clock: Callable[[], float] = uptime,
    ) -> None:
        """`ConfigError` where the settings do not fit the LAN."""
        # Addresses that settings of ports name, with those names.
        self.said: Callable[[], dict[IPv4Address, str]] = dict
        # Whether what is behind the port of that name may not know of others, nor they of it.
        self.separated: Callable[[str], bool] = lambda _: False
        # In which VLAN the host's port has what it has untagged.
        self.untagged: Callable[[], int] = lambda: 0
        self.core = Dhcp(settings.pool(host.interface.network), terms, host.mac)
        self.core.drops = host.station.drops
        self._host = host
        self._switch = switch
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._turn = trio.Lock()
        self._changed = trio.Event()
        self._version: object = None  # of the registry, as members were read last
        self._was_quiet = False
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[bool] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started when clients are heard."""
        self._registry.promised = {
            address: whom for whom, address in self._settings.reservations.items()
        }
        await self._look_at_members()
        await self._restore()
        self._switch.add_watcher(self._watch)
        with self._host.open_udp(SERVER_PORT) as asks, self._host.open_udp(CLIENT_PORT) as answers:
            try:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    for inbox in (asks, answers):
                        nursery.start_soon(self._hear, inbox)
                    nursery.start_soon(self._tick)
                    await self._do(self.core.look(self._clock()))
                    task_status.started(True)
            finally:
                self._nursery = None
                self._switch.remove_watcher(self._watch)
                self._registry.promised = {}

    def leases(self) -> list[dict[str, Any]]:
        """All of them, by address."""
        now, found = self._clock(), self.core.pool.leases.values()
        return [
            {
                "address": lease.address,
                "mac": format_mac(lease.mac),
                "name": lease.hostname,
                "port": lease.port,
                "expires_s": round(lease.expires - now, 1),
            }
            for lease in sorted(found, key=lambda each: IPv4Address(each.address))
        ]

    def status(self) -> dict[str, Any]:
        """Counters, and whether it speaks."""
        core = self.core
        quiet = core.quiet_until > self._clock()
        return {
            "quiet": str(core.other) if quiet else None,
            "heard": dict(core.heard),
            "said": dict(core.said),
            "drops": {reason: core.drops[reason] for reason in DhcpDrop if core.drops[reason]},
        }

    async def release(self, mac: str) -> list[str]:
        """End the lease of a machine: its address. `NotFound` where it has none."""
        async with self._turn:
            lease = self.core.pool.leases.get(parse_mac(mac))
            if lease is None:
                said = f"no lease is {mac}'s: see `vswitch leases`"
                raise NotFound(said).of(Problem.NO_LEASE, who=mac)
            await self._do_each(self.core.free([lease.mac]))
        return [lease.address]

    # Which names machines say they have: implements `vswitch.services.zone.HostNames`.

    def addresses(self, label: str, asker: str) -> tuple[IPv4Address, ...] | None:
        """Of the machine of that name; None if the port `asker` may not know of it."""
        lease = self.core.pool.named(label)
        if lease is None or self._hidden(lease, asker):
            return None
        return (IPv4Address(lease.address),)

    def label(self, address: IpAddress, asker: str) -> str | None:
        """The name of the machine that has this address; None as above, or if it is a member's."""
        pool = self.core.pool
        lease = pool.at(address) if isinstance(address, IPv4Address) else None
        if lease is None or pool.named(lease.hostname) is not lease or self._hidden(lease, asker):
            return None
        return None if lease.hostname in pool.held.values() else lease.hostname

    def mac(self, label: str, asker: str) -> bytes | None:
        """Of the machine of that name; None as above."""
        lease = self.core.pool.named(label)
        return None if lease is None or self._hidden(lease, asker) else lease.mac

    def label_of_mac(self, mac: bytes, asker: str) -> str | None:
        """The name of the machine that has it; None as above."""
        lease = self.core.pool.leases.get(mac)
        return None if lease is None else self.label(IPv4Address(lease.address), asker)

    def _hidden(self, lease: Lease, asker: str) -> bool:
        apart = self.separated(asker) or self.separated(lease.port)
        return asker != lease.port and apart

    async def _hear(self, inbox: Inbox) -> None:
        async for datagram in inbox:
            async with self._turn:
                await self._look_at_members()
                asker = self._asker(datagram)
                if asker is not None:
                    steps = self.core.receive_untrusted(datagram.payload, asker, self._clock())
                    await self._do_each(steps)
                    self._tell_quiet(datagram.port)
            self._changed.set()

    async def _tick(self) -> None:
        while True:
            with trio.move_on_after(max(0.0, self.core.deadline() - self._clock())):
                await self._changed.wait()
            self._changed = trio.Event()
            await self._do(self.core.tick(self._clock()))

    async def _do(self, steps: list[Step]) -> None:
        async with self._turn:
            await self._do_each(steps)

    async def _do_each(self, steps: list[Step]) -> None:
        for step in steps:
            match step:
                case Answer():
                    self._send(step)
                case Probe():
                    if self._nursery is not None:
                        self._nursery.start_soon(self._probe, step.address)
                case Keep():
                    await self._keep(step)
                case Free():
                    await self._end([step.lease.mac])
                    self._event(step.lease, "lease-freed")
                case Look():
                    self._host.send(EVERYBODY, SERVER_PORT, CLIENT_PORT, step.payload)

    async def _keep(self, step: Keep) -> None:
        shift = time.time() - self._clock()
        lease = step.lease
        written = attrs.evolve(lease, granted=lease.granted + shift, expires=lease.expires + shift)
        answer = step.answer
        try:
            if not await trio.to_thread.run_sync(self._registry.keep_lease, written):
                self.core.lost(lease)
                answer = step.refusal
            elif not step.renewed:
                self._event(lease, "lease")
        except VswitchError as error:
            self._log_failure(error)
            if not step.renewed:
                self.core.lost(lease)
                return
        self._send(answer)

    async def _end(self, macs: list[bytes]) -> None:
        try:
            await trio.to_thread.run_sync(self._registry.end_leases, macs)
        except VswitchError as error:  # it ends by itself: its time is written there
            self._log_failure(error)

    async def _probe(self, address: IPv4Address) -> None:
        mac = await self._host.probe(address, PROBE)
        if mac is None:
            return
        number = self._switch.look_up(self.untagged(), mac, self._switch.now())
        port = None if number is None else self._switch.port(number)
        name = "" if port is None else port.name
        steps = self.core.heard_arp(address, mac, name, self._clock())
        facts = {"address": str(address), "mac": format_mac(mac)}
        self._switch.events.add("lease-conflict", name, now=self._switch.now(), **facts)
        await self._do(steps)
        self._changed.set()

    def _send(self, answer: Answer) -> None:
        ends = (self._host.interface.ip, answer.address)
        datagram = upper(UDP, SERVER_PORT, CLIENT_PORT, answer.payload, ends)
        frame = ethernet(answer.mac, self._host.mac, IPV4, ip(*ends, UDP, datagram))
        self._host.send_frame(frame[:ETHERTYPE_AT] + answer.tags + frame[ETHERTYPE_AT:])
        self.core.sent(answer)

    def _asker(self, datagram: Datagram) -> Asker | None:
        """Who sent it, and whether it is a member that has an address already."""
        if not isinstance(datagram.source, IPv4Address):
            return None
        port = next((each for each in self._switch.ports if each.name == datagram.port), None)
        bound = None if port is None else port.bound
        own = None
        if bound is not None and bound.mac == datagram.mac and bound.address is not None:
            own = IPv4Address(bound.address)
        return Asker(Client(datagram.mac, datagram.port, own, datagram.tags), datagram.source)

    async def _look_at_members(self) -> None:
        """Which addresses members hold, whenever the registry has changed."""
        try:
            version = (self._registry.version(), self._registry.held)
            if version == self._version:
                return
            members = await trio.to_thread.run_sync(self._registry.current)
        except VswitchError as error:
            self._log_failure(error)
            return
        held = {IPv4Address(each.address): each.name for each in members if each.address}
        self.core.pool.held = {**self.said(), **self._registry.held, **held}
        self._version = version

    async def _restore(self) -> None:
        """The leases that were written down, but those that are over, or were of other settings."""
        try:
            known = await trio.to_thread.run_sync(self._registry.leases)
        except VswitchError as error:
            self._log_failure(error)
            return
        now, wall, over = self._clock(), time.time(), []
        for lease in known:
            left = min(lease.expires - wall, self._settings.lease_time)
            client, address = Client(lease.mac, lease.port), IPv4Address(lease.address)
            if left > 0 and self.core.pool.usable(address, client, now):
                self.core.pool.keep(attrs.evolve(lease, granted=now, expires=now + left))
            else:
                over.append(lease.mac)
        if over:
            await self._end(over)

    def _watch(self, port: Port) -> None:
        if not port.attached and self._nursery is not None:
            self.core.port_down(port.name, free=False)
            if self._settings.free_with_port:
                self._nursery.start_soon(self._free_port, port.name)

    async def _free_port(self, name: str) -> None:
        await trio.sleep(PORT_GRACE)
        if all(port.name != name for port in self._switch.ports):
            await self._do(self.core.port_down(name, free=True))

    def _event(self, lease: Lease, kind: str) -> None:
        """For `vswitch events`, and for the log as far as it is not too often for those."""
        address, mac = lease.address, format_mac(lease.mac)
        now = self._switch.now()
        kept = self._switch.events.add(kind, lease.port, now=now, address=address, mac=mac)
        if kept is not None:
            name, port = lease.hostname or None, lease.port or None
            missing = kept.facts.get("suppressed")
            event(log, kind, address=address, mac=mac, name=name, port=port, suppressed=missing)

    def _tell_quiet(self, port: str) -> None:
        """Say once that another server is there, or is no more."""
        quiet, server = self.core.quiet_until > self._clock(), str(self.core.other)
        if quiet == self._was_quiet:
            return
        self._was_quiet = quiet
        if quiet:
            event(log, "dhcp-quiet", logging.WARNING, server=server, port=port or None)
        else:
            event(log, "dhcp-speaks", logging.WARNING, server=server)
        kind = "dhcp-quiet" if quiet else "dhcp-speaks"
        self._switch.events.add(kind, port if quiet else "", now=self._switch.now(), server=server)

    def _log_failure(self, error: VswitchError) -> None:
        event(log, "registry-failed", logging.ERROR, error=error)


def said_by_ports(addresses: dict[str, tuple[str, ...]]) -> dict[IPv4Address, str]:
    """The single IPv4 addresses that `addresses` of ports name, with the names of the ports."""
    found = {}
    for name, texts in addresses.items():
        for text in texts:
            network = ip_network(text)
            if network.version == 4 and network.num_addresses == 1:
                found[IPv4Address(network.network_address.packed)] = name
    return found
