"""The LAN host: where the switch's own services are on its LAN, at the subnet's first address.

    with host.open_udp(53) as inbox:
        async for datagram in inbox:
            host.reply(datagram, payload)

`LanHost` is a device of its own, on the port `services`. Where the kernel of the switch's host has
that address already (`serve --local-port`), `HostBeside` stands before its TAP: it takes the
datagrams of the ports that are open out of what the kernel would get, and sends as the kernel
would. So a service sees the same everywhere, MAC and port of the switch of whoever asks included,
needs no privilege for its port, and no other program of the host is in its way.

Error contract: a service is told nothing of what was dropped, which `station.HostDrop` names; a
port that is open already is a `VswitchError`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Interface

import trio

from vswitch.errors import VswitchError
from vswitch.frames.build import IpAddress
from vswitch.frames.headers import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    frame_at,
    network_untrusted,
    upper_ipv4_untrusted,
    upper_ipv6_untrusted,
)
from vswitch.frames.records import frame_of, frame_record
from vswitch.frames.segment import without_superframes_untrusted
from vswitch.frames.virtio import UDP
from vswitch.registry.rules import SERVICES_PORT
from vswitch.services.station import Datagram, HostDrop, Station
from vswitch.switch.device import Description, Device, Waiter, description_of
from vswitch.switch.port import Bound, Port
from vswitch.switch.switch import Switch

INBOX = 64  # datagrams that wait for one service: one batch of the switch
MAX_OUTGOING = 1024  # frames that wait to leave
TICK = 1.0  # seconds

Inbox = trio.MemoryReceiveChannel[Datagram]


class ServiceHost:
    """What a service has of the host that it is on."""

    def __init__(self, station: Station, clock: Callable[[], float] = trio.current_time) -> None:
        self.station = station
        self._clock = clock
        self._inboxes: dict[tuple[int, int], trio.MemorySendChannel[Datagram]] = {}
        self._probes: dict[IpAddress, trio.Event] = {}
        self._outgoing: deque[bytes] = deque()  # records
        self._leaves = Waiter()

    @property
    def mac(self) -> bytes:
        """Of what it sends."""
        return self.station.mac

    @property
    def interface(self) -> IPv4Interface:
        """Its IPv4 address, and the network of the LAN."""
        return self.station.interface

    @contextmanager
    def open_udp(self, port: int) -> Iterator[Inbox]:
        """The datagrams that come to that port, for as long as the context lasts."""
        with self._open(UDP, port, self.station.udp) as inbox:
            yield inbox

    @contextmanager
    def open_icmpv6(self, kind: int) -> Iterator[Inbox]:
        """The messages of ICMPv6 of that type; those of a group that is in `station.groups` too."""
        with self._open(ICMPV6, kind, self.station.icmpv6) as inbox:
            yield inbox

    @contextmanager
    def _open(self, protocol: int, number: int, known: set[int]) -> Iterator[Inbox]:
        if number in known:
            raise VswitchError(f"another service listens to {number} of {self.interface.ip}")
        sender, inbox = trio.open_memory_channel[Datagram](INBOX)
        known.add(number)
        self._inboxes[protocol, number] = sender
        try:
            with inbox:
                yield inbox
        finally:
            known.discard(number)
            del self._inboxes[protocol, number]
            sender.close()

    def reply(self, to: Datagram, payload: bytes) -> None:
        """Answer a datagram of UDP; it goes to where that one came from."""
        self.station.reply(to, payload)
        self._send_all()

    def send(
        self,
        destination: IpAddress,
        destination_port: int,
        source_port: int,
        payload: bytes,
        *,
        mac: bytes | None = None,
    ) -> None:
        """Send a datagram of UDP: to a station whose MAC is given, or asked for. `ValueError` for
        an address that is not on the LAN.
        """
        to = destination, destination_port, source_port, payload
        self.station.send(*to, self._clock(), mac=mac)
        self._send_all()

    def send_frame(self, frame: bytes) -> None:
        """Send an Ethernet frame as it is."""
        self.station.outgoing.append(frame)
        self._send_all()

    async def probe(self, address: IpAddress, patience: float = TICK) -> bytes | None:
        """The MAC address of whoever has this address on the LAN now; None after `patience` seconds
        without an answer. `ValueError` for an address that is not on the LAN.
        """
        self.station.ask(address, self._clock())
        self._send_all()
        answered = self._probes.setdefault(address, trio.Event())
        with trio.move_on_after(patience):
            await answered.wait()
        if self._probes.get(address) is answered:
            del self._probes[address]
        return self.station.neighbour(address, self._clock()) if answered.is_set() else None

    async def tick(self) -> None:
        """Ask again for stations that have not answered; until cancelled."""
        while True:
            await trio.sleep(TICK)
            self.station.tick(self._clock())
            self._send_all()

    def _receive(self, frames: list[bytes]) -> None:
        station, now = self.station, self._clock()
        for frame in frames:
            datagram = station.receive_untrusted(frame, now)
            if datagram is None:
                continue
            inbox = self._inboxes.get((datagram.protocol, datagram.destination_port))
            try:
                if inbox is not None:
                    inbox.send_nowait(datagram)
            except trio.WouldBlock:
                station.drops[HostDrop.HOST_BUSY] += 1
        for address in [each for each in self._probes if station.neighbour(each, now)]:
            self._probes.pop(address).set()
        self._send_all()

    def _send_all(self) -> None:
        station = self.station
        for frame in station.outgoing:
            if len(self._outgoing) < MAX_OUTGOING:
                self._outgoing.append(frame_record(frame))
            else:
                station.drops[HostDrop.HOST_BUSY] += 1
        station.outgoing.clear()
        if self._outgoing:
            self._leaves.wake()

    def _take(self, limit: int) -> list[bytes]:
        return [self._outgoing.popleft() for _ in range(min(limit, len(self._outgoing)))]


class LanHost(ServiceHost):
    """One that is on a port of its own. Implements `vswitch.switch.device.Device`."""

    superframes = False

    def __init__(
        self, station: Station, mtu: int, clock: Callable[[], float] = trio.current_time
    ) -> None:
        super().__init__(station, clock)
        self.name = SERVICES_PORT
        self.mtu = mtu
        self._closed = False

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        return Description(f"local:{self.name}", dict(self.station.drops))

    async def wait_readable(self) -> None:
        await self._leaves.wait(self._can_read)

    def read_nowait(self, limit: int) -> list[bytes]:
        if not self._can_read():
            raise trio.WouldBlock
        return self._take(limit)

    async def wait_writable(self) -> None:
        self._can_read()
        await trio.lowlevel.checkpoint()

    def write_nowait(self, records: list[bytes]) -> int:
        self._can_read()
        self._receive([frame_of(record) for record in records])
        return len(records)

    def close(self) -> None:
        self._closed = True
        self._outgoing.clear()
        self._leaves.wake()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def _can_read(self) -> bool:
        if self._closed:
            raise trio.ClosedResourceError("this device was closed")
        return bool(self._outgoing)


class HostBeside(ServiceHost):
    """One that shares MAC and address with the kernel behind a device. Implements
    `vswitch.switch.device.Device`.
    """

    def __init__(
        self, device: Device, station: Station, clock: Callable[[], float] = trio.current_time
    ) -> None:
        super().__init__(station, clock)
        self._device = device

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def mtu(self) -> int:
        return self._device.mtu

    @property
    def superframes(self) -> bool:
        return self._device.superframes

    def describe(self) -> Description:
        """Implements `vswitch.switch.device.Describing`."""
        about = description_of(self._device)
        return Description(about.via, {**about.dropped, **self.station.drops})

    async def wait_readable(self) -> None:
        await self._device.wait_readable()

    def read_nowait(self, limit: int) -> list[bytes]:
        return self._device.read_nowait(limit)

    async def wait_writable(self) -> None:
        await self._device.wait_writable()

    def write_nowait(self, records: list[bytes]) -> int:
        # HOT PATH
        ours = [self._is_ours_untrusted(record) for record in records]
        if not any(ours):
            return self._device.write_nowait(records)
        rest = [record for record, is_ours in zip(records, ours, strict=True) if is_ours < _ALONE]
        taken, done = self._device.write_nowait(rest), 0
        heard: list[bytes] = []
        for record, is_ours in zip(records, ours, strict=True):
            if is_ours < _ALONE:
                if not taken:
                    break
                taken -= 1
            if is_ours:
                heard.append(record)
            done += 1
        frames, refused = without_superframes_untrusted(heard, self.mtu, {})
        if refused:
            self.station.drops[HostDrop.HOST_MALFORMED] += refused
        self._receive([frame_of(frame) for frame in frames])
        return done

    def close(self) -> None:
        self._device.close()

    async def aclose(self) -> None:
        await self._device.aclose()

    async def speak(self, switch: Switch, port: Port) -> None:
        """Send through the port of the kernel what services have to say; until cancelled."""
        while True:
            await self._leaves.wait(lambda: bool(self._outgoing))
            switch.ingress(port, self._take(INBOX))

    def _is_ours_untrusted(self, record: bytes) -> int:
        """Whether a service listens to it, and so the kernel gets it not, or as well."""
        station, at = self.station, frame_at(record)
        kind, header = network_untrusted(record, at)
        if kind == IPV4:
            if record[header + 9 : header + 10] != _UDP:  # nearly all frames get no further
                return 0
            protocol, above = upper_ipv4_untrusted(record, header)
        elif kind == IPV6:
            if record[header + 6 : header + 7] == _TCP:
                return 0
            protocol, above = upper_ipv6_untrusted(record, header)
            if protocol == ICMPV6:
                return _TOO if record[above : above + 1] else 0
        else:
            return _TOO if kind == ARP and station.asks else 0
        wanted = protocol == UDP and int.from_bytes(record[above + 2 : above + 4]) in station.udp
        return _ALONE if wanted else 0


_UDP, _TCP = b"\x11", b"\x06"
_TOO, _ALONE = 1, 2  # whose a frame is: the kernel's as well, or that of the services alone


def station_of(
    switch: Switch,
    mac: bytes,
    interface: IPv4Interface,
    *,
    untagged: Callable[[], int] = lambda: 0,
    answers: bool = True,
) -> Station:
    """The LAN host of a switch. `untagged`: in which VLAN its port has what it has untagged; the
    rest is as `Station` says.
    """

    def place(vlan: int, mac: bytes) -> str:
        number = switch.look_up(vlan or untagged(), mac, switch.now())
        port = None if number is None else switch.port(number)
        return "" if port is None else port.name

    return Station(mac, interface, place=place, answers=answers)


@asynccontextmanager
async def open_host(switch: Switch, station: Station) -> AsyncIterator[LanHost]:
    """The host on its own port, for as long as the context lasts; guards keep MAC and address."""
    host = LanHost(station, switch.mtu, switch.now)
    bound = Bound(station.mac, str(station.interface.ip), vouched=True)
    # The last one: members are numbered as if it were not there.
    port = switch.attach(host, name=SERVICES_PORT, bound=bound, number=switch.max_ports)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.tick)
            yield host
            nursery.cancel_scope.cancel()
    finally:
        switch.detach(port)


@asynccontextmanager
async def open_host_beside(
    switch: Switch, host: HostBeside, port: Port
) -> AsyncIterator[HostBeside]:
    """The host at a port whose device it is, for as long as the context lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.tick)
        nursery.start_soon(host.speak, switch, port)
        yield host
        nursery.cancel_scope.cancel()
