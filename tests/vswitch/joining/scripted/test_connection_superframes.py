"""Superframes are agreed on, or not: what a join announces, and what it makes of the answer."""

import contextlib

import attrs
import pytest
import trio

from vswitch.errors import NotReachable
from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.records import frame_of
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import stands_for
from vswitch.members.protocol import Bye, ByeCode, Hello, Welcome, encode_control
from vswitch.testing import FakeInterface
from vswitch.testing.superframes import Flow, superframe

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
AGREED = attrs.evolve(WELCOME, offload=True)
BIG = superframe(Flow(destination=BROADCAST), bytes(20_000), 1448)
BAD = superframe(Flow(destination=BROADCAST), bytes(200), 20)


def frames(*records):
    return [frame_of(each) for record in records for each in cut_untrusted(record, 1500)]


def able(stage):
    stage.interface = FakeInterface(superframes=True)


async def read(device, count):
    records = []
    while len(records) < count:
        await device.wait_readable()
        with contextlib.suppress(trio.WouldBlock):
            records += device.read_nowait(64)
    return records


@pytest.mark.parametrize("offload", [True, False])
async def test_hello_says_what_the_interface_can(autojump_clock, stage, offload):
    stage.interface = FakeInterface(superframes=offload)
    said = []

    async def script(device):
        device.on_control = said.append
        with contextlib.suppress(trio.WouldBlock):
            await device.wait_readable()
            device.read_nowait(64)
        device.send_control(Bye(ByeCode.REVOKED, "enough"))
        await device.channel.aclose(ByeCode.REVOKED, "enough")

    async with stage.serving(script):
        await stage.run_once()
    (hello,) = said
    assert isinstance(hello, Hello)
    assert hello.offload is offload


async def test_superframes_may_come_right_behind_the_welcome(autojump_clock, stage, nursery):
    able(stage)

    async def script(device):
        device.channel.bulk.send_nowait([encode_control(AGREED) + BIG])
        await trio.sleep_forever()

    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        await trio.sleep(1)
        assert stage.interface.written == [BIG]


async def test_superframes_go_out_whole_where_they_were_agreed(autojump_clock, stage, nursery):
    able(stage)
    got = []

    async def script(device):
        device.send_control(AGREED)
        device.superframes = True
        got.extend(await read(device, 2))
        await trio.sleep_forever()

    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        stage.interface.feed_records([BIG, BAD])
        await trio.sleep(1)
        assert got == [BIG, BAD]


async def test_a_switch_that_takes_none_gets_them_cut(autojump_clock, stage, nursery):
    able(stage)
    got = []

    async def script(device):
        device.send_control(WELCOME)  # as of an older switch: it does not speak of offloads
        got.extend(await read(device, 14))
        await trio.sleep_forever()

    member = stage.member()
    async with stage.serving(script):
        nursery.start_soon(member.run)
        stage.interface.feed_records([BAD, BIG])
        await trio.sleep(1)
        assert [frame_of(each) for each in got] == frames(BIG)
        status = await member.status({})
        assert status["tx_frames"] == 14
        assert status["drops"] == {"bad_superframe": stands_for(BAD)}


@pytest.mark.parametrize(("offload", "welcome"), [(True, WELCOME), (False, AGREED)])
async def test_superframes_that_were_not_agreed_end_the_session(
    autojump_clock, stage, offload, welcome
):
    stage.interface = FakeInterface(superframes=offload)

    async def script(device):
        device.channel.bulk.send_nowait([encode_control(welcome) + BIG])
        await trio.sleep_forever()

    async with stage.serving(script):
        error = await stage.run_once()
    assert isinstance(error, NotReachable)
    assert "a superframe, which was not agreed" in str(error)


async def test_able_and_unable_members_of_one_switch(site, until):
    async with site.serving() as running:
        one, two = FakeInterface(superframes=True), FakeInterface(superframes=True)
        async with (
            site.joined("pc1", running, interface=one) as first,
            site.joined("pc2", running, interface=two) as second,
            site.joined("pc3", running) as third,
        ):
            welcomes = [each.welcome.offload for each in (first, second, third)]
            assert welcomes == [True, True, False]
            one.feed_records([BIG])
            await until(lambda: two.written and len(third.interface.written) == 14)
            assert two.written == [BIG]
            assert third.interface.take() == frames(BIG)
            status = await first.status()
            assert (status.tx_frames, status.tx_bytes) == (14, len(BIG) - 14)
            totals = running.switch.statistics().totals
            assert (totals.rx_frames, totals.tx_frames, totals.dropped) == (14, 28, 0)
            assert (await second.status()).rx_frames == (await third.status()).rx_frames == 14
