"""What a switch may say to a join, sense and nonsense, and what the join makes of it."""

import contextlib

import pytest
import trio

from transport import ChannelBroken
from vswitch.errors import NotReachable
from vswitch.frames.records import frame_record
from vswitch.members.protocol import Bye, ByeCode, Notice, Update, Welcome, encode_control
from vswitch.registry.rules import EnrolRefused, refusal
from vswitch.testing import ethernet

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")


def frame(number):
    payload = number.to_bytes(4, "big") + bytes(42)
    return frame_record(ethernet(b"\xff" * 6, b"\x02" * 6, 0x88B5, payload))


async def read(device):
    while True:
        await device.wait_readable()
        with contextlib.suppress(trio.WouldBlock):
            device.read_nowait(64)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\xff\xff\xff\xff", "unknown record flag"),
        (frame(0), "frames before the welcome"),
        (encode_control(WELCOME) + encode_control(Update(mtu=1400)) * 17, "more updates than"),
    ],
)
async def test_a_switch_that_makes_no_sense_is_told_so(autojump_clock, stage, said, reason):
    codes = []

    async def script(device):
        device.channel.bulk.send_nowait([said])
        with pytest.raises(ChannelBroken) as caught:
            await read(device)
        codes.append(caught.value.code)

    async with stage.serving(script):
        error = await stage.run_once()
        await trio.sleep(1)
    assert isinstance(error, NotReachable)
    assert "what makes no sense" in str(error)
    assert reason in str(error)
    assert codes == [ByeCode.PROTOCOL]


@pytest.mark.parametrize("code", [code for code in ByeCode if refusal(code).final])
async def test_a_definite_no_ends_the_join_with_the_reason_in_full(
    autojump_clock, stage, nursery, code
):
    reason = "because " * 100  # more than a close of the transport can carry

    async def script(device):
        device.send_control(Bye(code, reason))
        await device.channel.aclose(code, reason)

    async with stage.serving(script):
        with trio.fail_after(10), pytest.raises(EnrolRefused) as caught:
            await stage.member().run()
    assert caught.value.code is code
    assert str(caught.value) == reason


async def test_a_reason_that_is_lost_is_replaced_by_that_of_the_transport(autojump_clock, stage):
    async def script(device):
        device.close(ByeCode.REVOKED, "pc1 was revoked")

    async with stage.serving(script):
        error = await stage.run_once()
    assert isinstance(error, EnrolRefused)
    assert str(error) == "pc1 was revoked"


async def test_frames_that_come_with_the_welcome_are_not_lost(autojump_clock, stage, nursery):
    early, late = [frame(number) for number in range(100)], [frame(1000)]

    async def script(device):
        said = [encode_control(Notice("first the weather")), encode_control(WELCOME)]
        device.channel.bulk.send_nowait([b"".join(said + early)])
        device.write_nowait(late)
        await trio.sleep_forever()

    async with stage.serving(script):
        nursery.start_soon(stage.member().run)
        await trio.sleep(1)
        assert stage.interface.written == early + late
