"""`open_lan`: a switch with hosts, all in this process, for tests and for trying things out.

async with open_lan(3) as lan:
    a, b, c = lan.hosts
    await a.send_to(b, b"hello")
    frame = await b.receive_frame()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from vswitch.frames.build import ethernet
from vswitch.frames.ethernet import BROADCAST
from vswitch.switch.local import LocalPort
from vswitch.switch.switch import Switch, open_switch

_EXPERIMENTAL = 0x88B5  # EtherType "local experimental 1" of IEEE 802, for payloads of no protocol


@attrs.frozen
class Host:
    """A station on the LAN: an address, and a port to send and receive whole frames."""

    name: str
    mac: bytes
    ip: str  # for frames that want one; nothing here speaks IP by itself
    port: LocalPort

    async def send(self, frame: bytes) -> None:
        """Send one frame as it is."""
        await self.port.send(frame)

    async def send_to(
        self, other: Host | None, payload: bytes, *, ethertype: int = _EXPERIMENTAL
    ) -> bytes:
        """Send a payload to another host, or to all. Gives the frame, to compare with."""
        destination = BROADCAST if other is None else other.mac
        frame = ethernet(destination, self.mac, ethertype, payload)
        await self.port.send(frame)
        return frame

    async def receive(self) -> list[bytes]:
        """All frames that have arrived, at least one."""
        return await self.port.receive()

    async def receive_frame(self) -> bytes:
        """The next frame."""
        return await self.port.receive_frame()


@attrs.frozen
class Lan:
    """A running switch and its hosts; host i has the address 10.0.0.(i + 1)."""

    switch: Switch
    hosts: tuple[Host, ...]


@asynccontextmanager
async def open_lan(hosts: int, *, mtu: int = 1500) -> AsyncIterator[Lan]:
    """A LAN of 1 to 254 hosts, named h1, h2, …, on ports 1, 2, …"""
    if not 1 <= hosts <= 254:
        raise ValueError("a LAN has 1 to 254 hosts here")
    async with open_switch(mtu=mtu) as switch, AsyncExitStack() as stack:
        stations = []
        for index in range(1, hosts + 1):
            port = await stack.enter_async_context(switch.open_port(f"h{index}"))
            mac = bytes([0x02, 0, 0, 0, 0, index])
            stations.append(Host(name=f"h{index}", mac=mac, ip=f"10.0.0.{index}", port=port))
        yield Lan(switch=switch, hosts=tuple(stations))
