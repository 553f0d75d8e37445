"""From a TAP to a session: written through, queued fairly, bounded, counted."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from vswitch.devices.pump import BATCH, QueuedPump, Tally
from vswitch.frames.records import frame_of
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import stands_for
from vswitch.switch.egress import EgressQueue
from vswitch.switch.port import FLUSH_BYTES
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

BIG = superframe(Flow(), bytes(range(256)) * 12, 1448)
BAD = superframe(Flow(), bytes(200), 20)


def frames(flow, count, first=0, size=50):
    source = bytes([4] * 5 + [flow])
    return [
        ethernet(b"\x02" * 6, source, 0x88B5, number.to_bytes(4, "big") + bytes(size))
        for number in range(first, first + count)
    ]


@pytest.fixture
def tally():
    return Tally()


def start(nursery, source, sink, tally, **limits):
    uplink = QueuedPump(source, sink, tally, EgressQueue(**limits))
    nursery.start_soon(uplink.read)
    nursery.start_soon(uplink.write)
    return uplink


async def test_a_queued_pump_moves_everything_in_order_and_counts_it(nursery, tally):
    source, sink = FakeDevice(), FakeDevice()
    start(nursery, source, sink, tally)
    sent = frames(1, 3 * BATCH + 1)
    source.feed(*sent)
    await wait_all_tasks_blocked()
    assert sink.take() == sent
    assert tally == Tally(len(sent), sum(map(len, sent)))


async def test_a_flow_that_begins_overtakes_one_that_waits(nursery, tally):
    source, sink = FakeDevice(), FakeDevice(capacity=1)
    start(nursery, source, sink, tally)
    bulk = frames(1, 20, size=9000)
    source.feed(*bulk)
    await wait_all_tasks_blocked()
    ping = frames(2, 1)
    source.feed(*ping)
    got = []
    while len(got) < 21:
        await wait_all_tasks_blocked()
        got += sink.take()
    assert got.index(ping[0]) <= 1 + FLUSH_BYTES // 9000 + 1  # what was on its way already
    assert [each for each in got if each != ping[0]] == bulk
    assert tally.dropped == 0


async def test_a_full_queue_drops_and_reading_pauses(nursery, tally):
    source, sink = FakeDevice(), FakeDevice(capacity=10)
    start(nursery, source, sink, tally, max_frames=50)
    source.feed(*frames(1, 10 * BATCH))
    await wait_all_tasks_blocked()
    assert (tally.frames, tally.dropped) == (10, BATCH - 10 - 50)
    unread = len(source._incoming)
    assert unread == 9 * BATCH  # the rest is left where it is
    sink.take()
    await wait_all_tasks_blocked()
    assert len(source._incoming) < unread
    assert tally.frames == 20


async def test_a_queued_pump_accounts_for_every_frame(tally):
    source, sink = FakeDevice(), FakeDevice(capacity=7)
    sent = 500
    async with trio.open_nursery() as nursery:
        uplink = start(nursery, source, sink, tally, max_frames=30)
        source.feed(*frames(1, sent))
        for _ in range(9):
            await wait_all_tasks_blocked()
            sink.take()
        nursery.cancel_scope.cancel()
    uplink.close()
    assert tally.frames + tally.dropped + tally.lost + len(source._incoming) == sent
    uplink.close()
    assert tally.frames + tally.dropped + tally.lost + len(source._incoming) == sent


@pytest.mark.parametrize("direction", ["source", "sink"])
async def test_what_a_device_raises_comes_out_of_the_queued_pump(tally, direction):
    source, sink = FakeDevice(), FakeDevice(capacity=1)
    source.feed(*frames(1, 5))
    uplink = None

    async def run():
        nonlocal uplink
        async with trio.open_nursery() as nursery:
            uplink = start(nursery, source, sink, tally)
            await wait_all_tasks_blocked()
            {"source": source, "sink": sink}[direction].fail(trio.BrokenResourceError("gone"))

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert caught.group_contains(trio.BrokenResourceError, match="gone")
    uplink.close()
    assert (tally.frames, tally.lost) == (1, 4)


async def test_superframes_are_cut_for_a_session_that_takes_none(nursery, tally):
    source, sink = FakeDevice(superframes=True), FakeDevice()
    source.feed_records([BIG, BAD])
    start(nursery, source, sink, tally)
    await wait_all_tasks_blocked()
    assert sink.take() == [frame_of(each) for each in cut_untrusted(BIG, 1500)]
    assert tally.refused == stands_for(BAD)
