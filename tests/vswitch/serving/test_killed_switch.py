"""R1: a switch process is killed with fifty members on it, and started again."""

import signal
import subprocess
import sys
from contextlib import AsyncExitStack

import trio

from vswitch.errors import VswitchError
from vswitch.frames.ethernet import parse_mac
from vswitch.management.client import request
from vswitch.testing import ethernet

MEMBERS = 50
# Seconds until all ports are up again: one and a half on an idle machine, where three are asked
# for (tests/transport/endpoint/test_mass_return_sim.py), and many times that where others take
# its processors.
BACK = 30.0


class Process:
    """`vswitch serve` as a process of its own."""

    def __init__(self, site, listen):
        self.socket = site.files.control_socket
        self.command = [sys.executable, "-m", "vswitch", "serve", "--state", str(site.files.path)]
        self.command += ["--listen", listen.text(), "--log-level", "warning"]
        self.process = None

    async def start(self):
        self.process = await trio.to_thread.run_sync(subprocess.Popen, self.command)
        while await self.ports() is None:  # noqa: ASYNC110 (another process sets no event)
            await trio.sleep(0.01)

    async def ports(self):
        try:
            status = await trio.to_thread.run_sync(request, self.socket, "status")
        except VswitchError:
            return None
        ports = {port["name"]: port for port in status["ports"] if port["state"] == "up"}
        return {name: port for name, port in ports.items() if name != "services"}

    async def wait_for(self, count):
        with trio.fail_after(120):
            while len(ports := await self.ports()) < count:  # noqa: ASYNC110 (the same)
                await trio.sleep(0.05)
        return ports

    def stop(self, number):
        self.process.send_signal(number)
        self.process.wait(20)


async def talk(members):
    """Each says something to the next, five times a second."""
    macs = [parse_mac(member.interface.mac) for member in members]
    while True:
        for member, source, target in zip(members, macs, macs[1:] + macs[:1], strict=True):
            member.interface.feed(ethernet(target, source, 0x88B5, bytes(50)))
        await trio.sleep(0.2)


async def test_all_members_of_a_killed_switch_are_back_at_once(site, nursery):
    async with site.serving() as running:
        listen = running.listen
        invites = {f"m{n}": site.invite(f"m{n}", listen) for n in range(MEMBERS)}
    switch = Process(site, listen)
    await switch.start()
    try:
        async with AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(site.joined(name, None, invite=text))
                for name, text in invites.items()
            ]
            before = await switch.wait_for(MEMBERS)
            nursery.start_soon(talk, members)
            await trio.sleep(1)
            switch.stop(signal.SIGKILL)
            await trio.sleep(1)
            await switch.start()
            begun = trio.current_time()
            after = await switch.wait_for(MEMBERS)
            spent = trio.current_time() - begun
            print(f"all {MEMBERS} members were back after {spent:.2f} s")
            assert {name: port["address"] for name, port in before.items()} == {
                name: port["address"] for name, port in after.items()
            }
            assert all(member.error is None for member in members)
            assert all(member.interface.opened == 1 for member in members)
            assert spent <= BACK
            nursery.cancel_scope.cancel()
    finally:
        switch.stop(signal.SIGTERM)
