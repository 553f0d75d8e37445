"""A member on the datagram lane: what goes where, sizes, hostile peers, and the change of lanes."""

import random
from math import inf

import pytest
import trio

from tests.transport.endpoint.test_channel import open_pair
from transport.testing.network import Link
from vswitch.errors import BadRecord
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record, split_whole_untrusted
from vswitch.frames.virtio import NO_OFFLOAD
from vswitch.members.device import MemberDevice
from vswitch.members.lane_choice import QUIET
from vswitch.members.protocol import Notice, encode_control
from vswitch.testing import ethernet, fake_channel_pair
from vswitch.testing.superframes import Flow
from vswitch.testing.superframes import superframe as make_superframe


def record(number=0, size=100):
    return frame_record(
        ethernet(b"\x02" * 6, b"\x04" * 6, 0x88B5, number.to_bytes(4, "big") + bytes(size))
    )


def member(lane="datagram", **options):
    ours, theirs = fake_channel_pair(**options)
    theirs.open_datagrams()
    device = MemberDevice(ours, name="pc1", superframes=True)
    device.use_lane(lane)
    return device, ours, theirs


async def test_frames_go_there_and_control_messages_do_not():
    device, _, theirs = member()
    batch = [record(1), record(2)]
    assert device.write_nowait(batch) == 2
    device.send_control(Notice("hello"))
    assert split_whole_untrusted(theirs.datagrams.receive_nowait()) == batch
    assert theirs.bulk.receive_nowait() == [encode_control(Notice("hello"))]
    assert (device.lane, device.lane_mode) == ("datagram", "datagram")


async def test_kcp_is_as_it_was():
    device, ours, theirs = member("kcp")
    assert not ours.datagrams.open
    assert device.write_nowait([record()]) == 1
    assert theirs.bulk.receive_nowait() == [record()]
    assert (device.lane, device.lane_mode, device.dropped) == ("kcp", "kcp", {})


async def test_superframes_pass_whole_only_while_nothing_is_lost():
    device, ours, theirs = member()
    superframe = make_superframe(Flow(), bytes(6000), 1448)
    device.write_nowait([superframe])
    assert theirs.datagrams.receive_nowait() == [superframe]
    ours.datagrams.message_size = 1384
    device.write_nowait([record(1), superframe, record(2)])
    messages = theirs.datagrams.receive_nowait()
    assert len(messages) >= 6
    records = split_whole_untrusted(messages)
    assert records[0] == record(1)
    assert records[-1] == record(2)
    assert max(map(len, records)) <= 1518
    assert sum(map(len, records[1:-1])) > 6000


async def test_what_no_unit_holds_is_counted():
    device, ours, theirs = member()
    ours.datagrams.max_message = ours.datagrams.message_size = 1000
    assert device.write_nowait([record(1, 2000), record(2)]) == 2
    assert theirs.datagrams.receive_nowait() == [record(2)]
    assert device.dropped == {"too_long": 1}
    broken = encode_record(SUPERFRAME, b"\xff" * 10 + bytes(1500))
    assert device.write_nowait([broken]) == 1
    assert device.dropped["bad_superframe"] >= 1


async def test_what_comes_on_any_lane_is_read_reliable_first():
    device, _, theirs = member()
    theirs.datagrams.send_nowait([record(3) + record(4), record(5)])
    theirs.bulk.send_nowait([record(1) + record(2)])
    assert device.read_nowait(64) == [record(n) for n in range(1, 6)]
    with pytest.raises(trio.WouldBlock):
        device.read_nowait(64)
    theirs.datagrams.send_nowait([b"", record(6)])
    await device.wait_readable()
    assert device.read_nowait(1) == [record(6)]


@pytest.mark.parametrize(
    "message",
    [
        b"\xbc",
        record()[:-1],
        record() + b"\xbc\xbc\x00",
        encode_control(Notice("x")),
        record() + encode_control(Notice("x")),
        b"\xbc\xbf\x00\x00",
        bytes(4),
    ],
)
async def test_what_is_not_whole_records_ends_the_session(message):
    device, ours, theirs = member()
    theirs.datagrams.send_nowait([record(), message])
    with pytest.raises(BadRecord):
        device.read_nowait(64)
    assert ours.closed_with[0] == 3


async def test_a_superframe_that_was_not_agreed_ends_the_session():
    ours, theirs = fake_channel_pair()
    device = MemberDevice(ours, name="pc1")
    device.use_lane("datagram")
    theirs.datagrams.send_nowait([encode_record(SUPERFRAME, NO_OFFLOAD + bytes(60))])
    with pytest.raises(BadRecord):
        device.read_nowait(64)
    assert ours.closed_with[0] == 3


async def test_a_full_lane_takes_a_part_of_a_batch():
    device, ours, theirs = member(window=1000)
    batch = [record(n, 300) for n in range(10)]
    taken = device.write_nowait(batch)
    assert 0 < taken < 10
    assert device.write_nowait(batch[taken:]) == 0
    assert split_whole_untrusted(theirs.datagrams.receive_nowait()) == batch[:taken]
    await device.wait_writable()
    assert ours.datagrams.credit > 0


async def test_auto_follows_the_path(autojump_clock):
    device, ours, theirs = member("auto")
    theirs.datagrams.send_nowait([record(9)])
    assert device.read_nowait(64) == [record(9)]  # the other side may be quicker
    device.write_nowait([record(1)])
    assert theirs.bulk.receive_nowait() == [record(1)]
    assert (device.lane, device.lane_mode) == ("kcp", "auto")
    await trio.sleep(QUIET)
    device.write_nowait([record(2)])
    assert theirs.datagrams.receive_nowait() == [record(2)]
    assert device.lane == "datagram"
    ours.lost_at = trio.current_time()
    device.write_nowait([record(3)])
    assert theirs.bulk.receive_nowait() == [record(3)]
    assert device.lane == "kcp"
    ours.lost_at = -inf
    await trio.sleep(QUIET)
    device.write_nowait([record(4)])
    assert theirs.bulk.receive_nowait() == [record(4)]  # the wait has doubled


# --- Over real sessions --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
async def test_on_a_bad_path_nothing_is_doubled_or_changed(autojump_clock, seed):
    rng = random.Random(seed)
    link = Link(delay=0.01, jitter=0.01, loss=0.05, duplicate=0.05, corrupt=0.02)
    async with open_pair(link) as (network, mine, theirs), trio.open_nursery() as nursery:
        network._random.seed(seed)
        here, there = (MemberDevice(each, name="x", superframes=True) for each in (mine, theirs))
        for device in (here, there):
            device.use_lane("datagram")
        got = []

        async def read():
            def take():
                try:
                    got.extend(there.read_nowait(64))
                except trio.WouldBlock:
                    pass
                return True

            await there.push(take)

        nursery.start_soon(read)
        sent = []
        for _ in range(1000):
            batch = [
                record(len(sent) + n, rng.choice([0, 60, 1400, 8000]))
                for n in range(rng.choice([1, 1, 5, 30]))
            ]
            assert here.write_nowait(batch) == len(batch)
            sent += batch
            await trio.sleep(0.005)
        await trio.sleep(1)
        assert len(set(got)) == len(got)
        assert set(got) <= set(sent)
        assert len(sent) * 0.3 < len(got) < len(sent)
        assert mine.statistics().datagram_lost > 10
        assert mine.datagrams.message_size < 1500
        assert here.dropped == {}
        nursery.cancel_scope.cancel()


async def test_auto_over_a_real_session(autojump_clock):
    link = Link(delay=0.01)
    async with open_pair(link) as (_, mine, theirs):
        here, there = MemberDevice(mine, name="a"), MemberDevice(theirs, name="b")
        for device in (here, there):
            device.use_lane("auto")
        got, sent, lanes = [], [], []
        for number in range(900):
            link.loss = 0.2 if 400 <= number < 500 else 0.0
            sent.append(record(number))
            here.write_nowait([sent[-1]])
            lanes.append(here.lane)
            await trio.sleep(0.1)
            try:
                got += there.read_nowait(64)
            except trio.WouldBlock:
                pass
        assert lanes[:290] == ["kcp"] * 290
        assert set(lanes[310:400]) == {"datagram"}
        assert set(lanes[430:]) == {"kcp"}
        assert got[:400] == sent[:400]
        assert len(got) == len(set(got)) > 870
        await trio.sleep(0.1)


async def test_the_end_comes_after_what_had_come(autojump_clock):
    async with open_pair() as (_, mine, theirs):
        there = MemberDevice(theirs, name="b")
        mine.open_datagrams()
        there.use_lane("datagram")
        mine.datagrams.send_nowait([record(1)])
        await trio.sleep(0.05)
        await mine.aclose(7, "enough")
        await trio.sleep(0.05)
        await there.wait_readable()
        assert there.read_nowait(64) == [record(1)]
        with pytest.raises(trio.BrokenResourceError, match="enough"):
            there.read_nowait(64)
        with pytest.raises(trio.BrokenResourceError):
            there.write_nowait([record(2)])


async def test_a_lane_that_was_not_opened():
    async with open_pair() as (_, mine, _theirs):
        with pytest.raises(RuntimeError):
            mine.datagrams  # noqa: B018
