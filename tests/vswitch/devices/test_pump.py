"""One direction of a member: order, back-pressure, and what is counted when a device ends."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.devices.pump import BATCH, Pump, Tally
from vswitch.frames.records import frame_of, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import stands_for
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

BIG = superframe(Flow(), bytes(range(256)) * 12, 1448)
JUMBO = superframe(Flow(), bytes(5000), 2000)
BAD = superframe(Flow(), bytes(200), 20)


def frames(count, first=0):
    return [
        ethernet(b"\x02" * 6, b"\x04" * 6, 0x0800, number.to_bytes(4, "big") + bytes(50))
        for number in range(first, first + count)
    ]


@pytest.fixture
def tally():
    return Tally()


async def test_a_pump_moves_everything_in_order_and_counts_it(nursery, tally):
    source, sink = FakeDevice(), FakeDevice()
    nursery.start_soon(Pump(source, sink, tally).run, [])
    sent = frames(3 * BATCH + 1)
    source.feed(*sent)
    await wait_all_tasks_blocked()
    assert sink.take() == sent
    assert tally == Tally(len(sent), sum(map(len, sent)), 0)


async def test_early_records_go_before_those_of_the_source(nursery, tally):
    source, sink = FakeDevice(), FakeDevice(capacity=1)
    source.feed(*frames(3, first=2))
    early = [frame_record(frame) for frame in frames(2)]
    nursery.start_soon(Pump(source, sink, tally).run, early)
    got = []
    while len(got) < 5:
        await wait_all_tasks_blocked()
        got += sink.take()
    assert got == frames(5)
    assert tally.frames == 5


async def test_a_source_is_not_read_while_the_sink_is_full(nursery, tally):
    source, sink = FakeDevice(), FakeDevice(capacity=10)
    nursery.start_soon(Pump(source, sink, tally).run, [])
    sent = frames(5 * BATCH)
    source.feed(*sent)
    await wait_all_tasks_blocked()
    assert len(sink.written) == 10
    assert len(source._incoming) == 4 * BATCH
    assert tally.frames == 10
    got = []
    while len(got) < len(sent):
        got += sink.take(7)
        await wait_all_tasks_blocked()
    assert got == sent
    assert tally == Tally(len(sent), sum(map(len, sent)), 0)


class Hasty(FakeDevice):
    """Returns early from waiting, which rule 4 of the device protocol allows."""

    async def wait_readable(self):
        await trio.lowlevel.checkpoint()

    async def wait_writable(self):
        await trio.lowlevel.checkpoint()


async def test_devices_may_return_early_from_waiting(tally):
    source, sink = Hasty(), Hasty(capacity=3)
    sent = frames(20)
    source.feed(*sent)
    got = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pump(source, sink, tally).run, [])
        while len(got) < len(sent):
            await trio.lowlevel.checkpoint()
            got += sink.take()
        nursery.cancel_scope.cancel()
    assert got == sent


@pytest.mark.parametrize("error", [trio.BrokenResourceError("gone"), OSError("no such device")])
async def test_what_a_device_raises_comes_out_of_the_pump(tally, error):
    source, sink = FakeDevice(), FakeDevice()
    source.feed(*frames(3))
    source.fail(error)
    with pytest.raises(type(error), match=str(error)):
        await Pump(source, sink, tally).run([])
    assert tally == Tally(3, sum(map(len, frames(3))), 0)


async def test_a_batch_that_the_sink_did_not_take_is_counted_as_lost(tally):
    source, sink = FakeDevice(), FakeDevice(capacity=10)
    source.feed(*frames(BATCH + 5))
    errors = []

    async def run():
        with pytest.raises(trio.BrokenResourceError) as caught:
            await Pump(source, sink, tally).run([])
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        sink.fail(trio.BrokenResourceError("gone"))
    assert len(errors) == 1
    assert (tally.frames, tally.lost) == (10, BATCH - 10)
    assert len(source._incoming) == 5


async def test_records_of_a_pump_cancelled_while_it_waits_for_room_are_lost_and_counted(tally):
    source, sink = FakeDevice(), FakeDevice(capacity=1)
    source.feed(*frames(3))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pump(source, sink, tally).run, [])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (tally.frames, tally.lost) == (1, 2)


async def test_superframes_pass_whole_where_both_sides_take_them(nursery, tally):
    source, sink = FakeDevice(superframes=True), FakeDevice(superframes=True)
    batch = [BIG, frame_record(frames(1)[0]), BAD]
    source.feed_records(batch)
    nursery.start_soon(Pump(source, sink, tally).run, [])
    await wait_all_tasks_blocked()
    assert sink.written == batch
    assert tally == Tally(3 + 1 + stands_for(BAD), sum(len(frame_of(each)) for each in batch))


async def test_superframes_are_cut_for_a_sink_that_takes_none(nursery, tally):
    source, sink = FakeDevice(superframes=True, mtu=1500), FakeDevice(capacity=2, mtu=9000)
    plain = frame_record(frames(1)[0])
    nursery.start_soon(Pump(source, sink, tally).run, [BIG])
    source.feed_records([BAD, plain, BIG])
    source.feed_records([JUMBO])  # more than the source's MTU
    wanted = [frame_of(each) for each in [*cut_untrusted(BIG, 1500), plain]]
    wanted += wanted[:3]
    got = []
    while len(got) < len(wanted):
        await wait_all_tasks_blocked()
        got += sink.take()
    await wait_all_tasks_blocked()
    assert sink.take() == []
    assert got == wanted
    refused = stands_for(BAD) + stands_for(JUMBO)
    assert tally == Tally(7, sum(map(len, wanted)), refused=refused)


async def test_a_lost_superframe_counts_as_the_frames_that_it_stands_for(tally):
    source, sink = FakeDevice(superframes=True), FakeDevice(superframes=True, capacity=1)
    source.feed_records([BIG, BIG])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Pump(source, sink, tally).run, [])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (tally.frames, tally.lost) == (3, 3)


async def test_pump_after_pump_adds_to_one_tally(tally):
    for _ in range(3):
        source, sink = FakeDevice(), FakeDevice()
        source.feed(*frames(4))
        source.fail(trio.BrokenResourceError("gone"))
        with pytest.raises(trio.BrokenResourceError):
            await Pump(source, sink, tally).run([])
    assert tally.frames == 12
