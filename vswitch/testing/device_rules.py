"""The rules of `vswitch/switch/device.py` as checks, for `check_device`; each takes a fresh pair.

A broken rule is an `AssertionError`, or whatever else the device raises unasked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from vswitch.frames.build import ethernet
from vswitch.frames.records import SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.virtio import NO_OFFLOAD
from vswitch.switch.device import Device
from vswitch.testing.devices import DevicePair, DevicePeer

_A, _B = bytes.fromhex("020000000a01"), bytes.fromhex("020000000a02")
_EXPERIMENTAL = 0x88B5
_MANY = 20_000  # frames: no device may buffer as many of a kilobyte
_EARLY_RETURNS = 100  # a waiting method may return early, but not for ever


def _frames(count: int, size: int = 100) -> list[bytes]:
    return [
        ethernet(_B, _A, _EXPERIMENTAL, index.to_bytes(4, "big") + bytes(size))
        for index in range(count)
    ]


async def _read(device: Device, count: int, limit: int = 64) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        with assert_checkpoints():
            await device.wait_readable()
        try:
            records = device.read_nowait(limit)
        except trio.WouldBlock:
            continue
        assert 1 <= len(records) <= limit, "read_nowait gives 1 to limit records"
        frames += [frame_of(record) for record in records]
    return frames


async def _get(peer: DevicePeer, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        frames += await peer.get()
    return frames


def _fill(device: Device) -> list[bytes]:
    """Write until the device is full; the frames that it took."""
    frames = _frames(_MANY, 1000)
    taken = 0
    while taken < _MANY:
        batch = [frame_record(frame) for frame in frames[taken : taken + 64]]
        step = device.write_nowait(batch)
        assert 0 <= step <= len(batch)
        taken += step
        if step == 0:
            return frames[:taken]
    raise AssertionError("the device takes frames without end")


async def describes_itself(pair: DevicePair) -> None:
    """Its attributes are there and make sense."""
    device = pair.device
    assert isinstance(device, Device)
    assert device.name
    assert device.mtu >= 68
    assert device.superframes in (False, True)


async def reads_in_order_and_within_the_limit(pair: DevicePair) -> None:
    """Rule 1, reading, and the limit."""
    device = pair.device
    try:
        assert device.read_nowait(64), "an empty batch instead of WouldBlock"
    except trio.WouldBlock:
        pass
    frames = _frames(10)
    await pair.peer.put(frames)
    got = await _read(device, 3, limit=1)
    got += await _read(device, 7, limit=4)
    assert got == frames


async def writes_in_order(pair: DevicePair) -> None:
    """Rule 1, writing; an empty batch is nothing."""
    device = pair.device
    with assert_checkpoints():
        await device.wait_writable()
    assert device.write_nowait([]) == 0
    frames = _frames(10)
    assert device.write_nowait([frame_record(frame) for frame in frames]) == 10
    assert await _get(pair.peer, 10) == frames


async def superframes_pass_among_frames(pair: DevicePair) -> None:
    """Rule 1, for a device that takes superframes: here some that lack nothing."""
    if pair.device.superframes:
        frames = _frames(3)
        records = [frame_record(each) for each in frames]
        records[1] = encode_record(SUPERFRAME, NO_OFFLOAD + frames[1])
        assert pair.device.write_nowait(records) == 3
        assert await _get(pair.peer, 3) == frames


async def waiting_for_frames_can_be_cancelled(pair: DevicePair) -> None:
    """Rule 4."""
    device = pair.device
    with trio.CancelScope() as scope:
        scope.cancel()
        await device.wait_readable()
    assert scope.cancelled_caught, "wait_readable is no checkpoint"
    frames = _frames(3)
    await pair.peer.put(frames)
    with trio.CancelScope() as scope:
        scope.cancel()
        await device.wait_readable()
    assert scope.cancelled_caught, "wait_readable is no checkpoint when frames wait"
    with trio.CancelScope() as scope:
        scope.cancel()
        await device.wait_writable()
    assert scope.cancelled_caught, "wait_writable is no checkpoint"
    assert await _read(device, 3) == frames


async def _expect(wanted: type[Exception], wait: Callable[[], Awaitable[None]]) -> None:
    try:
        for _ in range(_EARLY_RETURNS):
            await wait()
    except wanted:
        return
    except Exception as error:
        raise AssertionError(f"{wanted.__name__} expected") from error
    raise AssertionError(f"{wanted.__name__} expected")


def _expect_now(wanted: type[Exception], call: Callable[[], object]) -> None:
    try:
        call()
    except wanted:
        return
    except Exception as error:
        raise AssertionError(f"{wanted.__name__} expected") from error
    raise AssertionError(f"{wanted.__name__} expected")


async def one_reader(pair: DevicePair) -> None:
    """Rule 7, reading; the other direction is free."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.device.wait_readable)
        await wait_all_tasks_blocked()
        await _expect(trio.BusyResourceError, pair.device.wait_readable)
        await pair.device.wait_writable()
        nursery.cancel_scope.cancel()


async def one_writer(pair: DevicePair) -> None:
    """Rule 7, writing."""
    _fill(pair.device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.device.wait_writable)
        await wait_all_tasks_blocked()
        await _expect(trio.BusyResourceError, pair.device.wait_writable)
        nursery.cancel_scope.cancel()


async def _expect_all(wanted: type[Exception], device: Device) -> None:
    _expect_now(wanted, lambda: device.read_nowait(1))
    _expect_now(wanted, lambda: device.write_nowait([frame_record(_frames(1)[0])]))
    await _expect(wanted, device.wait_readable)
    await _expect(wanted, device.wait_writable)


async def closed_raises(pair: DevicePair) -> None:
    """Rule 5, and closing twice."""
    pair.device.close()
    pair.device.close()
    await _expect_all(trio.ClosedResourceError, pair.device)
    await pair.device.aclose()
    await _expect_all(trio.ClosedResourceError, pair.device)


async def closing_wakes_the_reader(pair: DevicePair) -> None:
    """Rule 5, for a task that waits for frames."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, pair.device.wait_readable)
        await wait_all_tasks_blocked()
        pair.device.close()


async def closing_wakes_the_writer(pair: DevicePair) -> None:
    """Rule 5, for a task that waits for room."""
    _fill(pair.device)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.ClosedResourceError, pair.device.wait_writable)
        await wait_all_tasks_blocked()
        pair.device.close()


async def aclose_closes_when_cancelled(pair: DevicePair) -> None:
    """Rule 5, in the manner of `trio.abc.AsyncResource`."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.device.aclose()
    await _expect_all(trio.ClosedResourceError, pair.device)


async def full_and_writable_again(pair: DevicePair) -> None:
    """A full device says so, loses nothing, and becomes writable."""
    device = pair.device
    frames = _fill(device)
    writable = trio.Event()

    async def wait() -> None:
        await device.wait_writable()
        writable.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        got: list[bytes] = []
        while len(got) < len(frames):
            got += await pair.peer.get()
        await writable.wait()
    assert got == frames, "what a full device took arrives in order, once"
    last = _frames(1)
    assert device.write_nowait([frame_record(last[0])]) == 1
    assert await _get(pair.peer, 1) == last


async def broken_after_what_had_arrived(pair: DevicePair) -> None:
    """Rule 6."""
    frames = _frames(5)
    await pair.peer.put(frames)
    pair.peer.close()
    assert await _read(pair.device, 5, limit=2) == frames
    await _expect(trio.BrokenResourceError, pair.device.wait_readable)
    await _expect_all(trio.BrokenResourceError, pair.device)


async def breaking_wakes_the_reader(pair: DevicePair) -> None:
    """Rule 6, for a task that waits for frames."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, trio.BrokenResourceError, pair.device.wait_readable)
        await wait_all_tasks_blocked()
        pair.peer.close()
