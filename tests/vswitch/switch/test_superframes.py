"""Superframes through the switch: whole to those who take them, cut once for all others."""

import pytest
from trio.testing import wait_all_tasks_blocked

from vswitch.frames.ethernet import BROADCAST
from vswitch.frames.records import SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import stands_for
from vswitch.switch import delivery
from vswitch.switch.counters import DropReason
from vswitch.switch.switch import open_switch
from vswitch.testing import FakeDevice, ethernet
from vswitch.testing.superframes import Flow, superframe

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
TO_ALL = Flow(source=A, destination=BROADCAST)
TO_B = Flow(source=A, destination=B)
BIG = superframe(TO_ALL, bytes(range(250)) * 20, 1448)
SMALL = superframe(TO_ALL, bytes(100))
PLAIN = frame_record(ethernet(BROADCAST, A, 0x88B5, bytes(46)))
BAD = superframe(TO_ALL, bytes(630), 63)


def cut(*records):
    return [each for record in records for each in cut_untrusted(record, 1500)]


def balance(switch):
    statistics = switch.statistics()
    totals = statistics.totals
    came = totals.rx_frames + totals.flood_copies
    return came - totals.tx_frames - totals.dropped - statistics.queued_frames


@pytest.fixture
async def switch():
    async with open_switch() as switch:
        yield switch


def attach(switch, *devices):
    return [switch.attach(device, name="p") for device in devices]


async def test_superframes_go_whole_to_ports_that_take_them_and_cut_to_others(switch):
    source, able = FakeDevice(superframes=True), FakeDevice(superframes=True)
    plain, other = FakeDevice(), FakeDevice()
    ports = attach(switch, source, able, plain, other)
    source.feed_records([BIG, PLAIN, SMALL])
    await wait_all_tasks_blocked()
    assert able.written == [BIG, PLAIN, SMALL]
    assert plain.written == other.written == [*cut(BIG), PLAIN, *cut(SMALL)]
    counted = [port.counters.snapshot() for port in ports]
    assert (counted[0].rx_frames, counted[0].flood_copies) == (6, 12)
    assert [each.tx_frames for each in counted[1:]] == [6, 6, 6]
    assert counted[0].rx_bytes == counted[1].tx_bytes == sum(map(len, able.take()))
    assert counted[2].tx_bytes == sum(map(len, plain.take()))
    assert balance(switch) == 0


@pytest.mark.parametrize("mixed", [False, True])
async def test_a_superframe_is_cut_once_however_many_ports_take_none(switch, mixed, monkeypatch):
    calls = []

    def counting(records, mtu, known):
        frames, refused = without(records, mtu, known)
        calls.append(dict(known))
        return frames, refused

    without = delivery.without_superframes_untrusted
    monkeypatch.setattr(delivery, "without_superframes_untrusted", counting)
    source, devices = FakeDevice(superframes=True), [FakeDevice() for _ in range(5)]
    attach(switch, source, *devices)
    devices[0].feed(ethernet(BROADCAST, B, 0x88B5, bytes(46)))
    await wait_all_tasks_blocked()
    for device in (source, *devices):
        device.take()
    known = superframe(TO_B, bytes(3000), 1448)
    source.feed_records([BIG, known] if mixed else [BIG, SMALL])
    await wait_all_tasks_blocked()
    if mixed:
        assert devices[0].written == cut(BIG, known)
        assert all(device.written == cut(BIG) for device in devices[1:])
        pieces = [one[id(BIG)] for one in calls]
        assert all(each is pieces[0] for each in pieces)
    else:
        assert len(calls) == 1
        assert all(device.written == cut(BIG, SMALL) for device in devices)
    for frames in zip(*[device.written[:4] for device in devices], strict=True):
        assert all(each is frames[0] for each in frames)
    assert balance(switch) == 0


async def test_a_superframe_that_lies_is_counted_where_it_came_in_before_it_is_flooded(switch):
    source, able = FakeDevice(superframes=True), FakeDevice(superframes=True)
    plain, other = FakeDevice(), FakeDevice()
    ports = attach(switch, source, able, plain, other)
    lying = encode_record(SUPERFRAME, BIG[4:8] + b"\x01\x00" + BIG[10:])
    source.feed_records([BAD, PLAIN, lying])
    source.feed_records([BAD])
    await wait_all_tasks_blocked()
    assert able.written == [PLAIN]
    assert plain.written == other.written == [PLAIN]
    assert stands_for(BAD) == 10
    refused = 10 + stands_for(lying) + 10
    assert ports[0].counters.drops == {DropReason.BAD_SUPERFRAME: refused}
    assert switch.statistics().totals.drops == {DropReason.BAD_SUPERFRAME: refused}
    assert balance(switch) == 0


async def test_superframes_are_cut_to_the_mtu_of_the_lan():
    async with open_switch(mtu=1400) as switch:
        source, plain = FakeDevice(superframes=True), FakeDevice()
        attach(switch, source, plain)
        fits = superframe(TO_ALL, bytes(5000), 1348)
        source.feed_records([BIG, fits])
        await wait_all_tasks_blocked()
        assert plain.written == cut(fits)
        assert max(len(frame) for frame in plain.take()) == 1414
        assert switch.statistics().totals.drops == {DropReason.BAD_SUPERFRAME: stands_for(BIG)}


async def test_queued_dropped_and_detached_superframes_count_as_their_frames(switch):
    source, slow = FakeDevice(superframes=True), FakeDevice(superframes=True, capacity=1)
    port = attach(switch, source, slow)[1]
    whole = superframe(TO_ALL, bytes(60_000), 1448)
    frames = stands_for(whole)
    source.feed_records([whole] * 74)
    await wait_all_tasks_blocked()
    counted = switch.statistics().ports[1]
    # 4 MiB hold 69 of them; one is in the device.
    assert (counted.counters.tx_frames, counted.queued_frames) == (frames, 69 * frames)
    assert counted.counters.drops == {DropReason.QUEUE_FULL: 4 * frames}
    assert balance(switch) == 0
    slow.take()
    await wait_all_tasks_blocked()
    assert port.counters.tx_frames == 2 * frames
    switch.detach(port)
    drops = switch.statistics().totals.drops
    assert drops == {DropReason.QUEUE_FULL: 4 * frames, DropReason.PORT_DETACHED: 68 * frames}
    assert balance(switch) == 0


async def test_a_queue_of_cut_frames_goes_on_in_order(switch):
    source, slow = FakeDevice(superframes=True), FakeDevice(capacity=2)
    attach(switch, source, slow)
    source.feed_records([BIG, PLAIN])
    got = []
    while len(got) < 5:
        await wait_all_tasks_blocked()
        assert balance(switch) == 0
        got += slow.take()
    assert got == [frame_of(record) for record in [*cut(BIG), PLAIN]]


async def test_a_device_that_fails_with_superframes_in_hand(switch):
    source, bad = FakeDevice(superframes=True), FakeDevice(superframes=True)
    port = attach(switch, source, bad)[1]
    bad.write_nowait = lambda records: 1 // 0
    source.feed_records([BIG])
    await port.wait_detached()
    assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 4}
    switch.ingress(port, [BIG])
    assert switch.statistics().totals.drops == {DropReason.PORT_DETACHED: 8}
    assert balance(switch) == 0
