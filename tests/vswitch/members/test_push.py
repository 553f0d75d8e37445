"""Handling what comes in where it comes in: `push` of channels and devices, and its end."""

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.transport.endpoint.test_channel import open_pair, receive_all
from transport import ChannelBroken
from transport.testing.network import Link
from vswitch.frames.records import frame_record
from vswitch.members.device import MemberDevice
from vswitch.switch.device import Pushing, read_each
from vswitch.switch.local import local_pair
from vswitch.testing import fake_channel_pair


async def test_messages_are_taken_without_a_wake_up(autojump_clock):
    got, steps = [], []

    async with open_pair() as (_, mine, theirs), trio.open_nursery() as nursery:

        def take():
            got.extend(mine.bulk.receive_nowait())
            return True

        @nursery.start_soon
        async def pushing():
            steps.append("waits")
            await mine.push(take)

        await wait_all_tasks_blocked()
        for number in range(5):
            await theirs.send([bytes([number])])
            await trio.sleep(0.1)
        assert got == [bytes([number]) for number in range(5)]
        assert steps == ["waits"]
        nursery.cancel_scope.cancel()


async def test_what_waits_already_is_taken_first(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        await theirs.send([b"early"])
        await mine.wait_readable()
        got = []
        with assert_checkpoints():
            await mine.push(lambda: got.extend(mine.bulk.receive_nowait()))
        assert got == [b"early"]


async def test_push_ends_when_told_so(autojump_clock):
    async with open_pair() as (_, mine, theirs), trio.open_nursery() as nursery:
        got = []

        def take():
            got.extend(mine.bulk.receive_nowait())
            return len(got) < 3

        nursery.start_soon(mine.push, take)
        for _ in range(3):
            await wait_all_tasks_blocked()
            await theirs.send([b"x"])
            await trio.sleep(0.1)
        await wait_all_tasks_blocked()
        await theirs.send([b"for another"])
        assert await receive_all(mine, 1) == [b"for another"]
        assert got == [b"x"] * 3


async def test_what_take_raises_comes_out_of_push_and_harms_nobody_else(autojump_clock):
    async with open_pair() as (_, mine, theirs):

        def take():
            raise ValueError("not like this")

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def pushing():
                with pytest.raises(ValueError, match="not like this"):
                    await mine.push(take)

            await wait_all_tasks_blocked()
            await theirs.send([b"x"])
        assert await receive_all(mine, 1) == [b"x"]
        await mine.send([b"still here"])
        assert await receive_all(theirs, 1) == [b"still here"]


async def test_answers_leave_at_the_end_of_the_turn(autojump_clock):
    """An answer and the acknowledgement of the question are one datagram."""
    async with open_pair(Link(delay=0.01)) as (_, mine, theirs), trio.open_nursery() as nursery:

        def answer():
            theirs.bulk.send_nowait([b"answer " + each for each in theirs.bulk.receive_nowait()])
            return True

        nursery.start_soon(theirs.push, answer)
        await trio.sleep(1)
        before = theirs.statistics().sent_datagrams
        for number in range(10):
            await mine.send([bytes([number])])
            assert await receive_all(mine, 1) == [b"answer " + bytes([number])]
        assert theirs.statistics().sent_datagrams == before + 10
        nursery.cancel_scope.cancel()


async def test_a_cancelled_push_takes_nothing_more(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        got = []
        with trio.move_on_after(1):
            await mine.push(lambda: got.append(mine.bulk.receive_nowait()) or True)
        await theirs.send([b"x"])
        await trio.sleep(1)
        assert got == []
        assert mine.bulk.receive_nowait() == [b"x"]


async def test_one_task_waits_at_a_time(autojump_clock):
    async with open_pair() as (_, mine, _), trio.open_nursery() as nursery:
        nursery.start_soon(mine.push, lambda: True)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await mine.wait_readable()
        with pytest.raises(trio.BusyResourceError):
            await mine.push(lambda: True)
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_session_ends_a_push(autojump_clock):
    async with open_pair() as (_, mine, theirs), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def pushing():
            with pytest.raises(ChannelBroken, match="enough"):
                await mine.push(lambda: bool(mine.bulk.receive_nowait()))

        await wait_all_tasks_blocked()
        theirs.close(7, "enough")


async def test_our_own_close_ends_a_push(autojump_clock):
    async with open_pair() as (_, mine, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def pushing():
            with pytest.raises(trio.ClosedResourceError):
                await mine.push(lambda: True)

        await wait_all_tasks_blocked()
        mine.close()
    with pytest.raises(trio.ClosedResourceError):
        await mine.push(lambda: True)


# --- Devices -------------------------------------------------------------------------------------


async def test_a_long_burst_is_taken_in_turns(autojump_clock):
    """Other tasks have theirs between two batches."""
    here, there = fake_channel_pair()
    device = MemberDevice(here, name="x")
    assert isinstance(device, Pushing)
    there.bulk.send_nowait([b"".join(frame_record(bytes(60)) for _ in range(200))])
    sizes, turns = [], 0

    def take():
        sizes.append(len(device.read_nowait(64)))
        return sum(sizes) < 200

    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def others():
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        await read_each(device, take)
        nursery.cancel_scope.cancel()
    assert sizes == [64, 64, 64, 8]
    assert turns >= 2  # between three batches; who is first is the scheduler's choice


async def test_a_device_without_push_is_read_all_the_same():
    device, handle = local_pair("x")
    assert not isinstance(device, Pushing)
    handle.send_nowait(bytes(60))
    handle.send_nowait(bytes(61))
    got = []

    def take():
        got.extend(device.read_nowait(1))
        return len(got) < 2

    await read_each(device, take)
    assert [len(record) for record in got] == [64, 65]
