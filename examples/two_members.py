"""A switch and two of its members, all in this program, over real UDP on the loopback interface.

    .venv/bin/python examples/two_members.py

It needs no privilege and no TAP: `serve` and `join` are the real ones, with their keys, handshake,
encryption and KCP, but in place of a TAP each `join` gets a `ProgramInterface`, whose other side is
this program. Alice finds Bob by broadcast and sends him a thousand frames, Bob sends each one back,
and Alice checks that all of them return once and in order. The program ends by itself, with exit
code 0 if all of that held.
"""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path

import trio

from vswitch import JoinConfig, ProgramInterface, ServeConfig, join, serve
from vswitch.frames.build import ethernet
from vswitch.frames.ethernet import BROADCAST, format_mac, parse_mac

ETHERTYPE = 0x88B5  # IEEE 802 "local experimental 1"
# A switch has no back-pressure: it drops what a port cannot take. So no more frames are under way
# at once than the smallest queue between the two holds.
BATCH = 50
BATCHES = 20
PATIENCE = 30  # seconds for all of it; it takes about one


class Member:
    """A station on the LAN: an interface that has an address, and a port to send and receive."""

    def __init__(self, interface: ProgramInterface) -> None:
        self.address = interface.address
        self.mac = parse_mac(interface.mac)
        self._port = interface.port

    async def send(self, target: bytes, payload: bytes) -> None:
        await self._port.send(ethernet(target, self.mac, ETHERTYPE, payload))

    async def receive(self) -> tuple[bytes, bytes]:
        """Source and payload of the next frame."""
        frame = await self._port.receive_frame()
        return frame[6:12], frame[14:]


async def start_member(nursery: trio.Nursery, name: str, state: Path) -> Member:
    """Be a member named `name` until the nursery is cancelled.

    With access to the switch's state directory a member needs no invite.
    """
    interface = ProgramInterface()
    config = JoinConfig(name=name, state=state)
    await nursery.start(partial(join, config, open_interface=interface.open))
    return Member(interface)


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
        await nursery.start(serve, ServeConfig(state=state, listen="127.0.0.1:0"))
        alice = await start_member(nursery, "alice", state)
        bob = await start_member(nursery, "bob", state)
        for name, member in ("alice", alice), ("bob", bob):
            print(f"{name}: {member.address}, {format_mac(member.mac)}")
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
