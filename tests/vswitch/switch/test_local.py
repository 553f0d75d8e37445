import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.frames.records import frame_record
from vswitch.switch.local import LANE_FRAMES, local_pair
from vswitch.testing import ethernet

A = "02:00:00:00:00:01"
B = "02:00:00:00:00:02"


def frame(number=0, size=46):
    return ethernet(B, A, 0x0800, number.to_bytes(4, "big") + bytes(size))


async def test_frames_go_both_ways_without_record_headers():
    device, port = local_pair("bot")
    await port.send(frame(1))
    await port.send_batch([frame(2), frame(3)])
    assert device.read_nowait(64) == [frame_record(frame(n)) for n in (1, 2, 3)]
    assert device.write_nowait([frame_record(frame(4)), frame_record(frame(5))]) == 2
    assert await port.receive() == [frame(4), frame(5)]


async def test_send_waits_while_the_lane_is_full():
    device, port = local_pair("bot", capacity=2)
    port.send_nowait(frame(0))
    port.send_nowait(frame(1))
    with pytest.raises(trio.WouldBlock):
        port.send_nowait(frame(2))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.send_batch, [frame(n) for n in range(2, 7)])
        got = []
        while len(got) < 7:
            await wait_all_tasks_blocked()
            batch = device.read_nowait(64)
            assert len(batch) <= 2
            got += batch
    assert got == [frame_record(frame(n)) for n in range(7)]


async def test_a_local_device_takes_as_many_records_as_its_lane_has_room_for():
    device, port = local_pair("bot")
    batch = [frame_record(frame(n)) for n in range(LANE_FRAMES + 5)]
    assert device.write_nowait(batch) == LANE_FRAMES
    assert device.write_nowait(batch) == 0
    assert port.receive_nowait(1) == [frame(0)]
    assert device.write_nowait(batch[LANE_FRAMES:]) == 1


async def test_receive_limit_and_single_frames():
    device, port = local_pair("bot")
    device.write_nowait([frame_record(frame(n)) for n in range(5)])
    assert await port.receive(2) == [frame(0), frame(1)]
    assert await port.receive_frame() == frame(2)
    assert port.receive_nowait() == [frame(3), frame(4)]
    with pytest.raises(trio.WouldBlock):
        port.receive_nowait()
    with pytest.raises(ValueError, match="at least 1"):
        await port.receive(0)


async def test_iteration_ends_when_the_switch_lets_go():
    device, port = local_pair("bot")
    device.write_nowait([frame_record(frame(n)) for n in range(3)])
    device.close()
    assert [got async for got in port] == [frame(0), frame(1), frame(2)]
    with pytest.raises(trio.BrokenResourceError):
        await port.send(frame())


async def test_closing_the_port_leaves_what_was_sent():
    device, port = local_pair("bot")
    async with port:
        await port.send(frame(1))
    with pytest.raises(trio.ClosedResourceError):
        await port.send(frame(2))
    with pytest.raises(trio.ClosedResourceError):
        await port.receive()
    assert device.read_nowait(64) == [frame_record(frame(1))]
    with pytest.raises(trio.BrokenResourceError):
        device.read_nowait(64)
    with pytest.raises(trio.BrokenResourceError):
        device.write_nowait([frame_record(frame(3))])


async def test_one_task_in_each_direction():
    _, port = local_pair("bot")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.receive)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await port.receive()
        await port.send(frame())
        nursery.cancel_scope.cancel()


async def test_a_cancelled_send_has_sent_the_first_frames_once():
    device, port = local_pair("bot", capacity=2)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.send_batch, [frame(n) for n in range(5)])
            await wait_all_tasks_blocked()
            scope.cancel()
    assert device.read_nowait(64) == [frame_record(frame(0)), frame_record(frame(1))]
    with pytest.raises(trio.WouldBlock):
        device.read_nowait(64)


async def test_frames_that_cannot_be_forwarded_are_refused_at_once():
    _, port = local_pair("bot", mtu=100)
    with pytest.raises(ValueError, match="no Ethernet header"):
        await port.send(bytes(13))
    await port.send(bytes(122))
    with pytest.raises(ValueError, match="exceeds the MTU of 100"):
        port.send_nowait(bytes(123))


@pytest.mark.parametrize("wrong", [{"mtu": 0}, {"mtu": 65_532}, {"capacity": 0}])
def test_sizes_have_to_make_sense(wrong):
    with pytest.raises(ValueError, match=r"no usable MTU|at least one frame"):
        local_pair("bot", **wrong)
