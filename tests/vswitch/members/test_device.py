import pytest
import trio

from vswitch.errors import BadRecord
from vswitch.frames.records import (
    CONTROL,
    FRAME,
    SUPERFRAME,
    RecordSplitter,
    encode_record,
    frame_record,
    is_control,
)
from vswitch.members.device import MAX_QUEUED_CONTROLS, MemberDevice
from vswitch.members.protocol import (
    Bye,
    ByeCode,
    Hello,
    Notice,
    decode_control_untrusted,
    encode_control,
)
from vswitch.testing import ethernet, fake_channel_pair

HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")


def record(number=0, size=100):
    return frame_record(
        ethernet(b"\x02" * 6, b"\x04" * 6, 0x0800, number.to_bytes(4, "big") + bytes(size))
    )


def member(*, window=64 * 1024, message_size=1200, **options):
    ours, theirs = fake_channel_pair(message_size=message_size, window=window)
    return MemberDevice(ours, name="pc1", **options), ours, theirs


def arrived(channel):
    return RecordSplitter().feed_untrusted(b"".join(channel.bulk.receive_nowait()))


async def test_a_small_batch_is_one_message():
    device, _, theirs = member()
    batch = [record(1), record(2)]
    assert device.write_nowait(batch) == 2
    assert theirs.bulk.receive_nowait() == [b"".join(batch)]


async def test_a_large_batch_is_cut_to_the_message_size():
    device, _, theirs = member(message_size=1000)
    batch = [record(n, 200) for n in range(50)]
    assert device.write_nowait(batch) == 50
    messages = theirs.bulk.receive_nowait()
    assert {len(message) for message in messages[:-1]} == {1000}
    assert 0 < len(messages[-1]) <= 1000
    assert b"".join(messages) == b"".join(batch)


async def test_large_records_stay_whole_where_they_fit_a_message():
    device, _, theirs = member(message_size=1000)
    batch = [record(1, 850), record(2, 60), record(3, 60), record(4, 700), record(5, 2300)]
    assert device.write_nowait(batch) == 5
    messages = theirs.bulk.receive_nowait()
    assert b"".join(messages) == b"".join(batch)
    assert messages[0] == batch[0] + batch[1]
    assert messages[1] == batch[2] + batch[3]
    assert max(map(len, messages)) <= 1000


async def test_takes_whole_records_until_the_credit_is_used_up():
    device, ours, theirs = member(window=300)
    batch = [record(n) for n in range(5)]
    size = len(batch[0])
    assert device.write_nowait(batch) == 300 // size + 1
    assert ours.bulk.credit <= 0
    assert device.write_nowait(batch) == 0
    assert arrived(theirs) == batch[: 300 // size + 1]
    assert device.write_nowait(batch[3:]) == 2


async def test_frames_come_in_within_the_limit_and_the_rest_waits():
    device, _, theirs = member()
    batch = [record(n) for n in range(10)]
    theirs.bulk.send_nowait([b"".join(batch)])
    assert device.read_nowait(4) == batch[:4]
    await device.wait_readable()
    assert device.read_nowait(64) == batch[4:]
    with pytest.raises(trio.WouldBlock):
        device.read_nowait(64)


async def test_a_record_in_parts_is_no_frame_yet():
    device, _, theirs = member()
    whole = record(1)
    theirs.bulk.send_nowait([whole[:50]])
    await device.wait_readable()
    with pytest.raises(trio.WouldBlock):
        device.read_nowait(64)
    theirs.bulk.send_nowait([whole[50:], record(2)])
    assert device.read_nowait(64) == [whole, record(2)]


async def test_control_messages_are_put_aside_and_never_forwarded():
    heard = []
    device, _, theirs = member(on_control=heard.append)
    unknown = encode_record(CONTROL, b'{"kind": "weather"}')
    theirs.bulk.send_nowait(
        [encode_control(HELLO) + record(1) + unknown, record(2) + encode_control(Bye())]
    )
    assert device.read_nowait(64) == [record(1), record(2)]
    assert heard == [HELLO, Bye()]
    theirs.bulk.send_nowait([encode_control(Notice("alone"))])
    with pytest.raises(trio.WouldBlock):
        device.read_nowait(64)
    assert heard[2:] == [Notice("alone")]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        encode_record(CONTROL, b"{"),
        encode_record(CONTROL, b'{"kind": "hello"}'),
        encode_record(SUPERFRAME, bytes(60)),
        encode_record(CONTROL, b'{"kind": "x"}') + encode_record(SUPERFRAME, bytes(60)),
    ],
)
async def test_what_is_no_record_ends_the_session(data):
    device, ours, theirs = member()
    theirs.bulk.send_nowait([record(1) + data])
    with pytest.raises(BadRecord):
        device.read_nowait(64)
    assert ours.closed_with[0] == ByeCode.PROTOCOL
    assert ours.closed_with[1]
    with pytest.raises(trio.ClosedResourceError):
        device.read_nowait(64)


async def test_superframes_pass_where_they_were_agreed():
    device, _, theirs = member(superframes=True)
    batch = [encode_record(SUPERFRAME, bytes(60)), encode_record(FRAME, bytes(60))]
    theirs.bulk.send_nowait([b"".join(batch)])
    assert device.read_nowait(64) == batch


async def test_control_is_sent_at_once_and_ahead_of_frames():
    device, ours, theirs = member(window=100)
    device.send_control(HELLO)
    assert ours.bulk.credit <= 0
    calls = []
    device.on_blocked = lambda: calls.append("blocked")
    device.send_control(Notice("one"))
    device.send_control(Notice("two"))
    assert calls == ["blocked", "blocked"]
    assert device.write_nowait([record(1)]) == 0
    assert [decode_control_untrusted(r) for r in arrived(theirs)] == [HELLO]
    # The credit of 100 covers both notices and one frame, the last one above it.
    assert device.write_nowait([record(1), record(2)]) == 1
    got = arrived(theirs)
    assert [decode_control_untrusted(r) for r in got if is_control(r)] == [
        Notice("one"),
        Notice("two"),
    ]
    assert got[2:] == [record(1)]


async def test_waiting_control_goes_out_with_an_empty_batch():
    device, _, theirs = member(window=10)
    device.send_control(Notice("first"))
    device.send_control(Notice("second"))
    arrived(theirs)
    assert device.write_nowait([]) == 0
    assert [decode_control_untrusted(r) for r in arrived(theirs)] == [Notice("second")]


async def test_control_queue_is_bounded():
    device, _, _ = member(window=1)
    for _ in range(1 + MAX_QUEUED_CONTROLS):
        device.send_control(Notice("x"))
    with pytest.raises(trio.WouldBlock):
        device.send_control(Notice("x"))


async def test_a_listener_may_end_the_session():
    device, ours, theirs = member(on_control=lambda message: device.close(ByeCode.FULL, "no"))
    theirs.bulk.send_nowait([encode_control(HELLO) + record(1)])
    with pytest.raises(trio.ClosedResourceError):
        device.read_nowait(64)
    assert ours.closed_with == (ByeCode.FULL, "no")


async def test_a_peer_that_is_gone():
    device, _, theirs = member()
    theirs.bulk.send_nowait([record(1)])
    theirs.close()
    with pytest.raises(trio.BrokenResourceError):
        device.send_control(HELLO)
    with pytest.raises(trio.BrokenResourceError):
        device.write_nowait([record(2)])
    assert device.read_nowait(64) == [record(1)]
    with pytest.raises(trio.BrokenResourceError):
        device.read_nowait(64)


async def test_two_members_exchange_frames_of_every_size():
    ours, theirs = fake_channel_pair(message_size=777, window=100_000)
    one, other = MemberDevice(ours, name="a"), MemberDevice(theirs, name="b")
    batch = [frame_record(bytes(size)) for size in range(14, 1523, 11)]
    sent = 0
    got = []
    while len(got) < len(batch):
        sent += one.write_nowait(batch[sent:])
        while True:
            try:
                got += other.read_nowait(16)
            except trio.WouldBlock:
                break
    assert got == batch
