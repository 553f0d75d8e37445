"""Two members of one switch, all in this program, over real UDP on the loopback interface.

    .venv/bin/python examples/two_members.py

It needs no privilege and no TAP: what a member plugs into the far switch is here a small switch
of its own, whose other port is Python. Everything between is the real thing: keys, handshake,
encryption, KCP, hello and welcome. Alice finds Bob by broadcast and sends him a thousand frames,
Bob sends each one back, and Alice checks that all of them return once and in order. The program
ends by itself, with exit code 0 if all of that held.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from transport import Peer, PrivateKey, load_key_file, open_endpoint, open_udp
from vswitch import LocalPort, ServeConfig, Serving, open_switch, serve
from vswitch.core.control import ControlMessage, Hello, Welcome
from vswitch.core.frame import BROADCAST, format_mac, mac_from_key
from vswitch.ports.member import MemberDevice
from vswitch.testing import ethernet

ETHERTYPE = 0x88B5  # IEEE 802 "local experimental 1"
# A switch has no back-pressure: it drops what a port cannot take. So no more frames are under way
# at once than the smallest queue between the two holds.
BATCH = 50
BATCHES = 20
PATIENCE = 30  # seconds for all of it; it takes about one


class Member:
    """A station on the LAN: an address and a port to send and receive frames."""

    def __init__(self, welcome: Welcome, mac: bytes, port: LocalPort) -> None:
        self.welcome = welcome
        self.mac = mac
        self.port = port

    async def send(self, target: bytes, payload: bytes) -> None:
        await self.port.send(ethernet(target, self.mac, ETHERTYPE, payload))

    async def receive(self) -> tuple[bytes, bytes]:
        """Source and payload of the next frame."""
        frame = await self.port.receive_frame()
        return frame[6:12], frame[14:]


@asynccontextmanager
async def open_member(name: str, state: Path, running: Serving) -> AsyncIterator[Member]:
    """Be a member named `name` for as long as the context lasts."""
    key = PrivateKey.generate()
    mac = mac_from_key(key.public.raw)
    # Who has access to the switch's registry needs no invite.
    await trio.to_thread.run_sync(running.registry.enrol_local, key.public.raw, name, time.time())
    server = Peer(load_key_file(state / "server.key").public)
    where = (running.listen.host, running.listen.port)
    async with open_endpoint(open_udp("127.0.0.1"), key) as endpoint:
        channel = await endpoint.connect(server, [where])
        heard: list[ControlMessage] = []
        device = MemberDevice(channel, name="uplink", on_control=heard.append)
        device.send_control(Hello(mtu=1500, mac=format_mac(mac), name=name))
        welcome = await wait_for_welcome(device, heard)
        async with open_switch(mtu=welcome.mtu) as switch, switch.open_port(name) as port:
            switch.attach(device, name="uplink")
            yield Member(welcome, mac, port)


async def wait_for_welcome(device: MemberDevice, heard: list[ControlMessage]) -> Welcome:
    """The switch's answer. Frames that come before it are not for us yet."""
    while not heard:
        await device.wait_readable()
        try:
            device.read_nowait(1)
        except trio.WouldBlock:
            pass
    assert isinstance(heard[0], Welcome), heard[0]
    return heard[0]


async def send_back(member: Member) -> None:
    """Return every frame to its sender; for ever."""
    while True:
        source, payload = await member.receive()
        await member.send(source, payload)


async def check_numbers(member: Member, target: bytes) -> int:
    """Send numbered frames to `target` and see each of them come back; how many."""
    count = 0
    for _ in range(BATCHES):
        numbers = range(count, count + BATCH)
        for number in numbers:
            await member.send(target, number.to_bytes(4, "big") + bytes(1000))
        for number in numbers:
            source, payload = await member.receive()
            if (source, payload[:4]) != (target, number.to_bytes(4, "big")):
                raise RuntimeError(f"frame {number} did not come back in its turn")
        count += BATCH
    return count


async def run(state: Path) -> None:
    async with trio.open_nursery() as nursery:
        config = ServeConfig(state=state, listen="127.0.0.1:0")
        running: Serving = await nursery.start(serve, config)
        async with (
            open_member("alice", state, running) as alice,
            open_member("bob", state, running) as bob,
        ):
            for member in (alice, bob):
                welcome = member.welcome
                print(f"{welcome.name}: {welcome.address}, {format_mac(member.mac)}")
            nursery.start_soon(send_back, bob)
            await alice.send(BROADCAST, b"who is there?")
            found, payload = await alice.receive()
            print(f"alice asked all {payload.decode()!r}; {format_mac(found)} sent it back")
            count = await check_numbers(alice, found)
            print(f"{count} frames there and back, each once and in order")
            nursery.cancel_scope.cancel()


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory, trio.fail_after(PATIENCE):
        await run(Path(directory))


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # that ports go down at the end is in order
    trio.run(main)
