"""A member that is the program itself."""

from contextlib import asynccontextmanager

import pytest
import trio

from vswitch import ProgramInterface, TapConfig, VswitchError
from vswitch.frames.ethernet import BROADCAST, parse_mac
from vswitch.testing import DevicePair, check_device, ethernet

EXPERIMENTAL = 0x88B5


class Program:
    def __init__(self, port):
        self.port = port

    async def put(self, frames):
        await self.port.send_batch(frames)

    async def get(self):
        return await self.port.receive()

    def close(self):
        self.port.close()


async def test_it_keeps_the_rules_of_devices():
    @asynccontextmanager
    async def pair():
        async with ProgramInterface().open(TapConfig(name="vsw0", mtu=1500)) as interface:
            yield DevicePair(interface, Program(interface.port))

    await check_device(pair)


async def test_the_port_takes_frames_of_the_mtu_that_was_set_last():
    async with ProgramInterface().open(TapConfig(name="vsw0", mtu=1400)) as interface:
        with pytest.raises(ValueError, match="exceeds the MTU of 1400"):
            await interface.port.send(bytes(1500))
        await interface.set_mtu(1500)
        await interface.port.send(bytes(1500))
        assert interface.mtu == 1500


async def test_without_a_key_each_has_a_unicast_address_of_its_own():
    one, two = parse_mac(ProgramInterface().mac), parse_mac(ProgramInterface().mac)
    assert one != two
    assert one[0] & 0b11 == two[0] & 0b11 == 0b10


async def test_two_programs_on_one_lan(site):
    one, two = ProgramInterface(), ProgramInterface()
    async with site.serving(mtu=1400) as running, trio.open_nursery() as nursery:
        async with (
            site.joined("one", running, interface=one) as member,
            site.joined("two", running, interface=two),
        ):
            assert member.welcome.address == one.address == "10.77.0.2/24"
            assert (one.name, one.mtu, one.port.mtu) == ("vsw0", 1400, 1400)
            ours, theirs = parse_mac(one.mac), parse_mac(two.mac)
            hello = ethernet(BROADCAST, ours, EXPERIMENTAL, b"who is there?")
            answer = ethernet(ours, theirs, EXPERIMENTAL, b"two")
            await one.port.send(hello)
            with trio.fail_after(20):
                assert await two.port.receive_frame() == hello
                await two.port.send(answer)
                assert await one.port.receive_frame() == answer
        assert [frame async for frame in one.port] == []
        nursery.cancel_scope.cancel()


async def test_a_program_that_closes_its_port_ends_the_join(site):
    interface = ProgramInterface()
    async with site.serving() as running:
        async with site.joined("one", running, interface=interface) as member:
            interface.port.close()
            error = await member.wait_ended()
    assert isinstance(error, VswitchError)
    assert "start join again" in str(error)
