"""The second lane of a session: through lossy paths, through channels, and to the end."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.transport.endpoint.test_channel import open_pair
from transport import ChannelBroken
from transport.testing.cores import client_and_server
from transport.testing.network import Link
from transport.wire.datagrams import DATA
from vswitch.errors import BadRecord
from vswitch.frames.records import frame_record
from vswitch.members.device import MemberDevice
from vswitch.members.protocol import After, Notice, encode_control
from vswitch.testing import ethernet, fake_channel_pair


def record(flow, number=0, size=60):
    frame = ethernet(
        b"\x04" * 6, b"\x02" * 5 + bytes([flow]), 0x88B5, bytes([number]) + bytes(size)
    )
    return frame_record(frame)


# --- Session -------------------------------------------------------------------------------------


def latencies(*, sparse):
    """Seconds that each of 200 pings takes beside a bulk flow at 5 % loss, RTT 40 ms."""
    wire, client, server = client_and_server(delay=0.02, seed=7)
    wire.filter = lambda d: [d] if wire.random.random() >= 0.05 else []
    started, took = {}, []
    for number in range(200):
        ping = b"ping" + number.to_bytes(4, "big")
        started[ping] = wire.now
        (client.session.sparse.send if sparse else client.session.bulk.send)([ping], wire.now)
        client.demux.touch(client.session)
        for _ in range(25):
            if client.session.bulk.credit > 0:
                client.send(bytes(1200))
            wire.advance(0.002)
            got = server.session.sparse.take_messages()
            got += [m for m in server.read() if m.startswith(b"ping")]
            server.demux.touch(server.session)
            took += [wire.now - started.pop(m) for m in got]
    wire.heal()
    wire.advance(5)
    got = server.session.sparse.take_messages()
    took += [wire.now - started.pop(m) for m in got]
    took += [wire.now - started.pop(m) for m in server.read() if m.startswith(b"ping")]
    assert not started
    assert client.session.drained
    return sorted(took)


def test_what_is_sparse_does_not_wait_for_what_bulk_has_lost():
    sparse, bulk = latencies(sparse=True), latencies(sparse=False)
    # One way, and a round trip and a bit for those that were lost themselves.
    assert sparse[len(sparse) // 2] <= 0.025
    assert sparse[len(sparse) * 95 // 100] <= 0.020 + 0.040 + 0.030
    assert bulk[len(bulk) * 95 // 100] > 1.2 * sparse[len(sparse) * 95 // 100]


def test_a_gap_in_bulk_holds_up_nothing_sparse():
    wire, client, server = client_and_server(delay=0.02)
    wire.advance(1)
    wire.filter = lambda d: []
    client.send(b"lost")
    wire.collect()
    wire.heal()
    client.send(b"behind it")
    client.session.sparse.send([b"ping"], wire.now)
    wire.advance(0.021)
    assert server.session.readable
    assert server.session.sparse.take_messages() == [b"ping"]
    assert server.read() == []
    wire.advance(1)
    assert server.read() == [b"lost", b"behind it"]
    assert client.session.lanes.progress() == (2, 2, 1, 1)


def test_sparse_leaves_first():
    wire, client, _ = client_and_server()
    wire.advance(1)
    client.send(bytes(1300))
    client.session.sparse.send([bytes(100)], wire.now)
    sizes = [len(each.data) for each in wire.collect() if each.data[0] == DATA]
    assert sizes == sorted(sizes)


def test_the_lane_is_made_when_it_is_needed():
    wire, client, server = client_and_server()
    client.send(b"x")
    wire.advance(1)
    assert server.session.lanes.sparse.reliable is None
    assert client.session.lanes.progress() == (1, 1, 0, 0)
    client.session.sparse.send([b"y"], wire.now)
    client.demux.touch(client.session)
    wire.advance(1)
    assert server.session.sparse.take_messages() == [b"y"]


def test_larger_messages_count_as_their_segments():
    wire, client, server = client_and_server()
    client.send(bytes(3 * client.session.bulk.kcp.message_size), b"", b"x")
    wire.advance(5)
    assert client.session.lanes.progress() == (5, 5, 0, 0)
    assert len(server.read()) == 3


@pytest.mark.parametrize("flip", [2, 3, 1 << 31])
def test_any_other_conversation_is_dropped(flip):
    wire, client, server = client_and_server()
    client.send(b"x")
    number = client.session.bulk.kcp.conv
    plaintext = (number ^ flip).to_bytes(4, "little") + bytes(20)
    train, size = client.session.keys.current.sealer.seal_unit(DATA, plaintext, 1400)
    assert len(train) <= size
    server.inject(bytes(train), client.address)
    wire.advance(1)
    assert server.session.drops["not_kcp"] == 1
    assert server.session.lanes.sparse.reliable is None
    assert server.read() == [b"x"]


def test_the_end_leaves_what_had_arrived():
    wire, client, server = client_and_server()
    client.session.sparse.send([b"last words"], wire.now)
    client.demux.touch(client.session)
    wire.advance(0.1)
    client.close(7, "enough")
    wire.advance(0.1)
    assert server.session.ended.reason == "enough"
    assert server.session.readable
    assert server.session.sparse.take_messages() == [b"last words"]
    assert not server.session.readable


# --- Channel -------------------------------------------------------------------------------------


async def test_push_and_waiting_wake_for_either_lane(autojump_clock):
    async with open_pair() as (_, mine, theirs), trio.open_nursery() as nursery:
        got = []

        def take():
            if mine.sparse.readable:
                got.extend(mine.sparse.receive_nowait())
            if mine.bulk.readable:
                got.extend(mine.bulk.receive_nowait())
            return True

        nursery.start_soon(mine.push, take)
        await wait_all_tasks_blocked()
        theirs.sparse.send_nowait([b"sparse"])
        await trio.sleep(0.1)
        theirs.bulk.send_nowait([b"bulk"])
        await trio.sleep(0.1)
        assert got == [b"sparse", b"bulk"]
        nursery.cancel_scope.cancel()


async def test_each_lane_has_its_own_credit_and_its_own_messages(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        while mine.bulk.credit > 0:
            mine.bulk.send_nowait([bytes(1000)])
        assert mine.sparse.credit > 0
        mine.sparse.send_nowait([b"ping"])
        await trio.sleep(0.05)
        assert theirs.sparse.receive_nowait() == [b"ping"]
        with pytest.raises(trio.WouldBlock):
            theirs.sparse.receive_nowait()
        while mine.sparse.credit > 0:
            mine.sparse.send_nowait([bytes(1000)])
        with pytest.raises(trio.WouldBlock):
            mine.sparse.send_nowait([b"x"])


async def test_bulk_on_hold_wakes_nobody(autojump_clock):
    async with open_pair(Link(delay=0.01)) as (_, mine, theirs):
        theirs.hold_bulk(True)
        await mine.send([b"held"])
        with trio.move_on_after(1) as scope:
            await theirs.wait_readable()
        assert scope.cancelled_caught
        assert theirs.bulk.readable
        theirs.hold_bulk(False)
        await theirs.wait_readable()
        assert theirs.bulk.receive_nowait() == [b"held"]


async def test_the_end_comes_after_both_lanes_were_read(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        theirs.hold_bulk(True)
        mine.bulk.send_nowait([b"bulk"])
        mine.sparse.send_nowait([b"sparse"])
        await mine.aclose(7, "enough")
        await trio.sleep(0.1)
        await theirs.wait_readable()
        assert theirs.ended
        assert theirs.bulk.receive_nowait() == [b"bulk"]
        with pytest.raises(trio.WouldBlock):
            theirs.bulk.receive_nowait()
        assert theirs.sparse.receive_nowait() == [b"sparse"]
        for verb in (theirs.bulk.receive_nowait, theirs.sparse.receive_nowait):
            with pytest.raises(ChannelBroken, match="enough"):
                verb()
        theirs.close()
        with pytest.raises(trio.ClosedResourceError):
            theirs.sparse.receive_nowait()
        with pytest.raises(trio.ClosedResourceError):
            theirs.sparse.send_nowait([b"x"])


# --- Member --------------------------------------------------------------------------------------


def read(device):
    try:
        return device.read_nowait(1000)
    except trio.WouldBlock:
        return []


async def test_behind_a_fence_nothing_of_bulk_is_handled_and_of_sparse_little():
    """X is acknowledged, but waits behind a fence; Y, of its flow, must wait for it."""
    ours, theirs = fake_channel_pair()
    device = MemberDevice(ours, name="a")
    a1, a2, x, y = record(1, 1), record(1, 2), record(2, 1), record(2, 2)
    theirs.bulk.send_nowait([record(3) + encode_control(After(1)) + a2, x])
    assert read(device) == [record(3)]
    theirs.bulk.send_nowait([record(4)])
    with trio.move_on_after(0.01) as scope:
        await device.wait_readable()
    assert scope.cancelled_caught
    theirs.sparse.send_nowait([a1, y])
    await device.wait_readable()
    assert read(device) == [a1, a2, x, record(4), y]


async def test_what_is_behind_a_fence_goes_with_the_session():
    ours, theirs = fake_channel_pair()
    device = MemberDevice(ours, name="a")
    theirs.bulk.send_nowait([record(3) + encode_control(After(2)) + record(1)])
    assert read(device) == [record(3)]
    theirs.bulk.send_nowait([record(2)])
    theirs.sparse.send_nowait([record(4)])
    theirs.close()
    await device.wait_readable()
    assert read(device) == [record(4)]
    assert device.held == 0
    with pytest.raises(trio.BrokenResourceError):
        read(device)


async def test_no_control_message_on_the_sparse_lane():
    ours, theirs = fake_channel_pair()
    device = MemberDevice(ours, name="a")
    theirs.sparse.send_nowait([encode_control(Notice("x"))])
    with pytest.raises(BadRecord):
        read(device)
    assert ours.closed_with


async def test_a_quiet_flow_passes_a_full_bulk_lane():
    ours, theirs = fake_channel_pair(window=20_000)
    device = MemberDevice(ours, name="a")
    batch = [record(1, 1), record(2, 1)]
    for _ in range(5):
        device.write_nowait([record(1, 0, 1100)])
    # Nothing of these was looked at, so anything may be of flow 2.
    assert device.overtake_nowait(batch, lambda bucket: False) == ([], batch)
    while ours.bulk.credit > 0:
        device.write_nowait([record(1, 0, 1100)])
    assert device.write_nowait(batch) == 0
    del theirs.bulk.inbox[:5]  # as if they had been read
    assert device.overtake_nowait(batch, lambda bucket: False) == (batch[1:], batch[:1])
    assert theirs.sparse.receive_nowait() == [record(2, 1)]
