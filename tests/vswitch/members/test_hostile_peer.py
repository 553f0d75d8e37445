"""A peer with valid keys that says what no honest one says: what is kept above the channel and what
a turn costs stay bounded, and order within a flow is kept."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from vswitch.errors import BadRecord, ByeCode
from vswitch.frames.records import CONTROL, MAX_RECORD, SUPERFRAME, encode_record, frame_record
from vswitch.members.device import HELD_STEP, MemberDevice
from vswitch.members.incoming import CONTROLS_PER_SECOND, ENOUGH, FENCES_PER_SECOND, SLICE
from vswitch.members.protocol import (
    FROM_MEMBER,
    FROM_SWITCH,
    After,
    Bye,
    Hello,
    Notice,
    Welcome,
    encode_control,
)
from vswitch.testing import ethernet, fake_channel_pair

WINDOW = 4_000_000
FRAME = frame_record(ethernet(b"\x04" * 6, b"\x02" * 6, 0x88B5, bytes(46)))
TINY = frame_record(bytes(14))
SUPERFRAME_RECORD = encode_record(SUPERFRAME, bytes(10) + FRAME[4:])
HELLO = Hello(mtu=1500, mac="02:00:00:00:00:01")


def pair(**options):
    ours, theirs = fake_channel_pair(window=WINDOW)
    return MemberDevice(ours, name="m", **options), ours, theirs


def read(device, limit=64):
    try:
        return device.read_nowait(limit)
    except trio.WouldBlock:
        return []


# --- what is kept --------------------------------------------------------------------------------


async def test_sparse_messages_wait_in_the_channel_while_bulk_never_ends(mock_clock):
    """Fences that open one sparse message each; the rest must hold their writer back."""
    device, ours, theirs = pair()

    def portion():
        messages, ours.bulk.inbox = ours.bulk.inbox[:2], ours.bulk.inbox[2:]
        return messages

    ours.bulk.receive_nowait = portion
    theirs.bulk.send_nowait([FRAME])
    batch = [FRAME * 15] * 100
    taken = 0
    for turn in range(1, 3000):
        if theirs.sparse.credit > 0:
            theirs.sparse.send_nowait(batch)
            taken += sum(map(len, batch))
        theirs.bulk.send_nowait([encode_control(After(turn)) + FRAME] * 2)
        mock_clock.jump(2 / FENCES_PER_SECOND)  # as often as is allowed
        read(device)
    most = 2 * (WINDOW + sum(map(len, batch)))  # one inbox in the channel, one taken from it
    assert taken <= most + turn * len(FRAME * 15)


async def test_a_full_inbox_is_read_in_slices():
    device, _, theirs = pair()
    message = TINY * 70
    count = 2000
    theirs.bulk.send_nowait([message] * count)
    given = 0
    while given < 70 * count:
        records = read(device)
        given += len(records)
        assert 0 < len(records) <= 64
        assert len(device._unread) <= ENOUGH + SLICE // len(TINY)


async def test_a_slice_wakes_its_reader_until_all_is_read():
    """Nothing is left behind, though the channel has nothing more."""
    device, _, theirs = pair()
    theirs.sparse.send_nowait([FRAME * 300] * 30)
    theirs.bulk.send_nowait([FRAME * 300] * 30)
    got = []

    def take():
        got.extend(read(device))
        return len(got) < 18_000

    with trio.fail_after(60):
        await device.push(take)
    theirs.bulk.send_nowait([FRAME * 300] * 30)
    while len(got) < 27_000:
        with trio.fail_after(60):
            await device.wait_readable()
        got += read(device)


@pytest.mark.parametrize("size", [0, 1, 13])
@pytest.mark.parametrize("lane", ["bulk", "sparse", "datagrams"])
async def test_a_record_without_a_frame_ends_its_writer(lane, size):
    device, ours, theirs = pair()
    if lane == "datagrams":
        device.use_lane("datagram")
        theirs.open_datagrams()
    getattr(theirs, lane).send_nowait([frame_record(bytes(size)) * 60])
    with pytest.raises(BadRecord, match=f"frame of {size} bytes"):
        device.read_nowait(64)
    assert ours.closed_with[0] == ByeCode.PROTOCOL


@pytest.mark.parametrize("lane", ["bulk", "sparse", "datagrams"])
async def test_a_superframe_without_a_frame_ends_its_writer(lane):
    device, ours, theirs = pair(superframes=True)
    if lane == "datagrams":
        device.use_lane("datagram")
        theirs.open_datagrams()
    getattr(theirs, lane).send_nowait([FRAME + encode_record(SUPERFRAME, bytes(13))])
    with pytest.raises(BadRecord, match="superframe of less than"):
        device.read_nowait(64)
    assert ours.closed_with[0] == ByeCode.PROTOCOL


async def test_what_is_kept_goes_when_the_device_is_closed():
    device, _, theirs = pair()
    theirs.bulk.send_nowait([encode_control(After(9)) + FRAME * 500] * 200)
    theirs.sparse.send_nowait([FRAME * 100] * 5)
    read(device)
    assert device.held
    device.close()
    assert device.held == 0


@pytest.mark.parametrize("lane", ["bulk", "sparse"])
async def test_the_beginning_of_a_record_goes_when_the_device_is_closed(lane):
    device, _, theirs = pair()
    getattr(theirs, lane).send_nowait([FRAME + FRAME[:-1]])
    assert len(read(device)) == 1
    assert device.held == len(FRAME) - 1
    device.close()
    assert device.held == 0


async def test_what_is_behind_a_control_message_that_closes_the_device_goes():
    def close(message):
        device.close()

    device, _, theirs = pair(on_control=close)
    hello = encode_control(HELLO)
    theirs.bulk.send_nowait([hello + encode_control(After(9)) + FRAME * 9 + FRAME[:-1]])
    with pytest.raises(trio.ClosedResourceError):
        device.read_nowait(64)
    assert device.held == 0


KEPT = {
    "messages that wait their turn": lambda theirs: theirs.bulk.send_nowait([TINY * 1000] * 50),
    "what is behind a fence": lambda theirs: theirs.bulk.send_nowait(
        [encode_control(After(9)) + FRAME * 500]
    ),
    "the beginning of a record": lambda theirs: theirs.bulk.send_nowait(
        [encode_record(SUPERFRAME, bytes(40_000))[:-1]]
    ),
    "datagrams that wait their turn": lambda theirs: theirs.datagrams.send_nowait(
        [TINY * 1000] * 50
    ),
    "records of a slice": lambda theirs: theirs.bulk.send_nowait([TINY * 2000]),
}


@pytest.mark.parametrize("say", KEPT.values(), ids=KEPT)
async def test_the_channel_is_told_what_is_kept_above_it(say):
    device, ours, theirs = pair(superframes=True)
    device.use_lane("datagram")
    theirs.open_datagrams()
    say(theirs)
    read(device)
    assert device.held >= HELD_STEP
    assert ours.held_above == device.held
    theirs.sparse.send_nowait([FRAME] * 9)
    theirs.bulk.send_nowait([b"\0"])
    while read(device):
        assert abs(ours.held_above - device.held) < HELD_STEP
    assert ours.held_above < HELD_STEP


lanes = st.sampled_from(["bulk", "bulk", "sparse", "datagrams"])
steps = st.lists(
    st.one_of(
        st.tuples(lanes, st.integers(1, 300), st.integers(1, 40)),  # messages of so many frames
        st.tuples(st.just("fence"), st.integers(-3, 40), st.just(0)),
        st.tuples(st.just("read"), st.integers(1, 20), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=60)
def test_what_is_kept_is_bounded_in_any_order_of_things(steps):
    trio.run(_bounded, steps)


async def _bounded(steps):
    window = 100_000
    ours, theirs = fake_channel_pair(window=window)
    device = MemberDevice(ours, name="m")
    device.use_lane("datagram")
    theirs.open_datagrams()
    # Of each lane one inbox, which may be above the window by a message's batch, a slice's
    # records, and of each stream a record that is not whole.
    batch = 300 * 40 * len(FRAME)
    limit = 3 * (window + batch) + SLICE + 2 * MAX_RECORD
    number = sent_sparse = 0
    sent, got = {"bulk": [], "sparse": [], "datagrams": []}, []
    for what, count, frames in steps:
        match what:
            case "read":
                for _ in range(count):
                    got += read(device)
                    assert counted(device) == device.held <= limit
                    assert abs(ours.held_above - device.held) < HELD_STEP
            case "fence" if theirs.bulk.credit > 0:
                theirs.bulk.send_nowait([encode_control(After(max(0, sent_sparse + count)))])
            case lane if lane in sent and getattr(theirs, lane).credit > 0:
                messages = []
                for _ in range(count):
                    records = [record(lane, number + at) for at in range(frames)]
                    number += frames
                    sent[lane] += records
                    messages.append(b"".join(records))
                sent_sparse += count * (lane == "sparse")
                getattr(theirs, lane).send_nowait(messages)
    for _ in range(100_000):
        records = read(device)
        got += records
        assert device.held <= limit
        if not records and not (device._unread or device._incoming.waiting):
            break
    for lane, records in sent.items():
        came = [each for each in got if each[17] == ord(lane[0])]
        if lane != "bulk" or len(came) == len(records):
            assert came == records
        else:  # a fence holds
            assert came == records[: len(came)]


# What a peer with valid keys may say on any lane: whole or not, allowed or not, in any order.
said = st.one_of(
    st.sampled_from([HELLO, Welcome("m", 1), Notice("x"), Bye(1, "x"), After(2**40), After(0)]).map(
        encode_control
    ),
    st.integers(0, 60).map(lambda number: encode_control(After(number))),
    st.binary(max_size=60).map(lambda body: encode_record(CONTROL, body)),
    st.binary(min_size=1, max_size=60),
    st.integers(1, 200).map(lambda count: FRAME * count),
    st.just(SUPERFRAME_RECORD),
)
turns = st.lists(
    st.one_of(
        st.tuples(lanes, st.lists(st.tuples(said, st.integers(0, 3)), min_size=1, max_size=8)),
        st.tuples(st.just("read"), st.integers(1, 20)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("hears", [FROM_MEMBER, FROM_SWITCH], ids=["member", "switch"])
@given(turns=turns)
@settings(max_examples=100)
def test_whatever_a_peer_says_on_its_lanes_ends_its_session_at_most(hears, turns):
    trio.run(_say_anything, hears, turns)


async def _say_anything(hears, turns):
    window = 100_000
    ours, theirs = fake_channel_pair(window=window)
    device = MemberDevice(ours, name="m", superframes=True, hears=hears)
    device.use_lane("datagram")
    theirs.open_datagrams()
    limit = 3 * (window + 8 * 200 * len(FRAME)) + SLICE + 2 * MAX_RECORD
    for what, content in turns:
        if what != "read":
            lane = getattr(theirs, what)
            if lane.credit > 0:
                # Each message by itself, without its last bytes.
                lane.send_nowait([data[: len(data) - less] or b"x" for data, less in content])
            continue
        for _ in range(content):
            try:
                read(device)
            except BadRecord:
                device.close(ByeCode.PROTOCOL, "it says what no honest one says")
                assert device.held == counted(device) <= 2 * MAX_RECORD  # two that began
                return
            assert counted(device) == device.held <= limit


def counted(device):
    """Bytes above the channel, looked for one by one."""
    incoming = device._incoming
    kept = [*device._unread]
    for inbox in (incoming._bulk, incoming._sparse, incoming._datagrams):
        kept += inbox.waiting
    for _, frames in incoming._fences:
        kept += frames
    splitters = incoming._bulk_splitter, incoming._sparse_splitter
    return sum(map(len, kept)) + sum(splitter.held for splitter in splitters)


def record(lane, number):
    content = lane[:1].encode() + number.to_bytes(4, "big") + bytes(40)
    return frame_record(bytes(13) + content)


# --- control messages ----------------------------------------------------------------------------


def dear():
    """What costs most to check: a welcome whose lists are as long as they may be."""
    return encode_control(Welcome("m", 1, gateways=["::/0 via :: m"] * 64, names=["::"] * 256))


async def test_a_kind_that_the_peer_may_not_send_is_not_looked_at(monkeypatch):
    device, _, theirs = pair(hears=FROM_MEMBER)
    message = dear() + encode_control(Notice("x")) + FRAME
    monkeypatch.setattr("vswitch.members.protocol._converter", None)
    theirs.bulk.send_nowait([message])
    assert read(device) == [FRAME]
    assert device.dropped == {"control_ignored": 2}


async def test_a_switch_does_not_look_at_a_second_hello():
    heard = []
    device, _, theirs = pair(hears=FROM_MEMBER, on_control=heard.append)
    theirs.bulk.send_nowait([encode_control(HELLO)])
    read(device)
    device.admit("m", "kcp", superframes=False)
    theirs.bulk.send_nowait([encode_control(HELLO) + encode_control(Bye()) + FRAME])
    assert read(device) == [FRAME]
    assert heard == [HELLO]
    assert device.dropped == {"control_ignored": 2}


async def test_a_member_hears_what_a_switch_says():
    heard = []
    device, _, theirs = pair(hears=FROM_SWITCH, on_control=heard.append)
    said = [Notice("x"), Bye(3)]
    theirs.bulk.send_nowait([encode_control(HELLO), *map(encode_control, said)])
    read(device)
    assert heard == said


async def test_of_a_switch_those_beyond_the_limit_are_dropped_and_counted(autojump_clock):
    heard = []
    device, _, theirs = pair(hears=FROM_SWITCH, floods_end=False, on_control=heard.append)
    theirs.bulk.send_nowait([encode_control(Notice("x"))] * (CONTROLS_PER_SECOND + 7))
    read(device)
    assert len(heard) == CONTROLS_PER_SECOND
    assert device.dropped == {"control_ignored": 7}


@pytest.mark.parametrize("hears", [FROM_MEMBER, FROM_SWITCH])
async def test_too_many_control_messages_end_the_session(hears, autojump_clock):
    device, ours, theirs = pair(hears=hears)
    for _ in range(3):  # so many each second are as many as anybody may send
        theirs.bulk.send_nowait([dear()] * CONTROLS_PER_SECOND)
        while (device._unread or device._incoming.waiting) or ours.bulk.readable:
            read(device)
        await trio.sleep(1)
    theirs.bulk.send_nowait([encode_control(Notice("x"))] * (CONTROLS_PER_SECOND + 1))
    with pytest.raises(BadRecord, match="control messages a second"):
        device.read_nowait(64)
    assert ours.closed_with[0] == ByeCode.PROTOCOL


async def test_fences_have_a_limit_of_their_own(autojump_clock):
    device, ours, theirs = pair()
    theirs.bulk.send_nowait([encode_control(After(0)) for _ in range(FENCES_PER_SECOND)])
    while (device._unread or device._incoming.waiting) or ours.bulk.readable:
        read(device)
    await trio.sleep(1)
    theirs.bulk.send_nowait([encode_control(After(0)) for _ in range(FENCES_PER_SECOND + 1)])
    with pytest.raises(BadRecord, match="fences a second"):
        await device.push(lambda: read(device) == [])


@pytest.mark.parametrize("text", ['{"sparse": 1, "kind": "after"}', '{"kind":"after","sparse":1}'])
async def test_a_fence_in_other_json_is_one(text):
    device, _, theirs = pair(hears=FROM_MEMBER)
    theirs.bulk.send_nowait([encode_record(CONTROL, text.encode()) + FRAME])
    assert read(device) == []
    theirs.sparse.send_nowait([TINY])
    assert read(device) == [TINY, FRAME]
