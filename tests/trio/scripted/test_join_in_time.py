"""How long a join waits, and for what, under a clock that jumps."""

import pytest
import trio

from vswitch.backoff import CAP, FIRST, SPREAD
from vswitch.client import PATIENCE, STABLE
from vswitch.connection import WELCOME_TIMEOUT
from vswitch.core.control import ByeCode, Welcome
from vswitch.errors import TimedOut
from vswitch.testing import ethernet

WELCOME = Welcome(name="pc1", port=1, address="10.77.0.2/24", network="10.77.0.0/24")
FRAME = ethernet(b"\xff" * 6, b"\x02" * 6, 0x88B5, bytes(46))


async def welcomed(device):
    device.send_control(WELCOME)
    await trio.sleep_forever()


async def status_of(membership):
    return await membership.status({})


async def test_a_rival_with_the_same_key_is_left_alone_for_half_a_minute(
    autojump_clock, stage, nursery, caplog
):
    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(60)
        device.close(ByeCode.REPLACED, "the same key has connected again")

    member = stage.member()
    async with stage.serving(script):
        nursery.start_soon(member.run)
        await trio.sleep(85)
        status = await status_of(member)
        assert (len(stage.sessions), status["state"]) == (1, "connecting")
        assert "another host has connected with the key of this member" in status["error"]
        await trio.sleep(60)
        assert len(stage.sessions) == 2
        assert stage.sessions[1] - stage.sessions[0] == pytest.approx(60 + CAP, abs=1)
        assert (await status_of(member))["state"] == "up"
    assert "another host has connected" in caplog.text


async def test_a_switch_that_never_welcomes(autojump_clock, stage):
    async def script(device):
        await trio.sleep_forever()

    async with stage.serving(script):
        began = trio.current_time()
        error = await stage.run_once()
    assert isinstance(error, TimedOut)
    assert "did not welcome us" in str(error)
    assert trio.current_time() - began == pytest.approx(WELCOME_TIMEOUT, abs=0.5)


async def test_silence_is_given_up_after_a_while(autojump_clock, stage):
    began = trio.current_time()
    assert isinstance(await stage.run_once(), TimedOut)
    assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.5)


async def test_pauses_grow_while_there_is_no_answer_and_shrink_after_a_good_time(
    autojump_clock, stage, nursery
):
    nursery.start_soon(stage.member().run)
    await trio.sleep(20 * 60)  # long enough for the longest pause
    good = trio.Event()

    async def script(device):
        device.send_control(WELCOME)
        await good.wait()
        device.close(ByeCode.SHUTDOWN, "a moment")

    async with stage.serving(script):
        await trio.sleep(CAP + PATIENCE + 1)
        assert len(stage.sessions) == 1
        await trio.sleep(STABLE)
        good.set()
        ended = trio.current_time()
        await trio.sleep(2)
        assert stage.sessions[1] - ended <= FIRST * (1 + SPREAD) + 0.5


async def test_sessions_that_end_at_once_are_tried_less_and_less(autojump_clock, stage, nursery):
    async def script(device):
        device.send_control(WELCOME)
        await trio.sleep(1)
        device.close(ByeCode.SERVER_ERROR, "sorry")

    nursery.start_soon(stage.member().run)
    async with stage.serving(script):
        await trio.sleep(300)
    gaps = [b - a - 1 for a, b in zip(stage.sessions, stage.sessions[1:], strict=False)]
    assert gaps[0] < 1
    assert gaps[-1] > CAP * (1 - SPREAD)
    assert 8 <= len(stage.sessions) <= 20


async def test_a_switch_that_vanishes_without_a_word_is_missed_and_found_again(
    autojump_clock, stage, nursery
):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(20)
        stage.network.link.up = False
    first = len(stage.sessions)
    async with stage.serving(welcomed):
        stage.network.link.up = True
        lost = trio.current_time()
        await trio.sleep(60)
        assert len(stage.sessions) == first + 1
        assert stage.sessions[-1] - lost < 30
        status = await status_of(member)
        assert (status["state"], status["error"]) == ("up", None)
    assert stage.interface.history == [("address", "10.77.0.2/24")]


async def test_what_was_on_its_way_when_a_session_ended_is_counted(autojump_clock, stage, nursery):
    member = stage.member()
    async with stage.serving(welcomed):
        nursery.start_soon(member.run)
        await trio.sleep(1)
        stage.network.link.up = False
        stage.interface.feed(*[FRAME + bytes(1400)] * 1000)  # more than may be in flight
        await trio.sleep(120)
        status = await status_of(member)
        kernel = len(stage.interface._incoming)
        assert status["state"] == "connecting"
        assert status["drops"]["disconnected"] > 0
        ended = status["drops"]["disconnected"] + status["drops"].get("queue_full", 0)
        assert status["tx_frames"] + ended + kernel == 1000
