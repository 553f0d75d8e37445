"""The lane is agreed on, or not: what a join wishes for, and what it makes of the answer."""

import contextlib

import attrs
import pytest
import trio

from vswitch.frames.records import frame_record, split_whole_untrusted
from vswitch.members.lane_choice import LANES
from vswitch.members.protocol import Bye, ByeCode, Hello, Welcome, encode_control
from vswitch.testing import ethernet

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
FRAME = frame_record(ethernet(b"\xff" * 6, b"\x02" * 6, 0x88B5, bytes(60)))


@pytest.mark.parametrize("lane", LANES)
async def test_hello_says_what_is_wished_for(autojump_clock, stage, lane):
    said = []

    async def script(device):
        device.on_control = said.append
        with contextlib.suppress(trio.WouldBlock):
            await device.wait_readable()
            device.read_nowait(64)
        device.send_control(Bye(ByeCode.REVOKED, "enough"))
        await device.channel.aclose(ByeCode.REVOKED, "enough")

    async with stage.serving(script):
        membership = stage.member(lane=lane, once=True)
        with trio.fail_after(1000), pytest.raises(Exception, match="enough"):
            await membership.run()
    (hello,) = said
    assert isinstance(hello, Hello)
    assert hello.lane == lane


@pytest.mark.parametrize(
    ("wish", "answer", "mode"),
    [
        ("datagram", "datagram", "datagram"),
        ("auto", "auto", "auto"),
        ("datagram", "kcp", "kcp"),  # an older switch says nothing, which is that
        ("kcp", "datagram", "kcp"),
        ("kcp", "a lane of the future", "kcp"),
        ("datagram", "auto", "kcp"),
    ],
)
async def test_only_what_was_wished_for_and_granted_is_used(
    autojump_clock, stage, nursery, wish, answer, mode
):
    got = []

    async def script(device):
        device.channel.open_datagrams()
        device.channel.bulk.send_nowait([encode_control(attrs.evolve(WELCOME, lane=answer))])
        await trio.sleep(1)
        device.channel.datagrams.send_nowait([FRAME])
        while True:
            await device.channel.wait_readable()
            with contextlib.suppress(trio.WouldBlock):
                device.channel.bulk.receive_nowait()
            with contextlib.suppress(trio.WouldBlock):
                got.extend(split_whole_untrusted(device.channel.datagrams.receive_nowait()))

    async with stage.serving(script):
        membership = stage.member(lane=wish)
        nursery.start_soon(membership.run)
        await trio.sleep(2)
        stage.interface.feed_records([FRAME])
        await trio.sleep(1)
        status = await membership.status({})
        assert status["lane_mode"] == mode
        assert status["lane"] == ("datagram" if mode == "datagram" else "kcp")
        assert got == ([FRAME] if mode == "datagram" else [])
        assert stage.interface.written == ([] if mode == "kcp" else [FRAME])
        nursery.cancel_scope.cancel()
