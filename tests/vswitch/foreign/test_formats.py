"""Foreign formats, byte for byte as their descriptions have them, and what is made of garbage."""

import random
import struct
import sys
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vswitch.errors import BadRecord
from vswitch.foreign.formats import (
    ASTRAY,
    LOST_AT_ONCE,
    STRAY,
    FramedStream,
    QemuStream,
    record_untrusted,
    vxlan_header,
    without_vxlan_untrusted,
)
from vswitch.frames.records import frame_record
from vswitch.testing import arp_request, icmp_echo

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
FRAMES = [
    arp_request(A, "10.0.0.1", "10.0.0.2"),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=bytes(1472)),
    icmp_echo(B, "10.0.0.2", A, "10.0.0.1", data=bytes(range(56))),
]


def framed(frame):
    return b"\xbc\xbc" + struct.pack(">H", len(frame)) + frame


def stream():
    dropped = Counter()
    return FramedStream(1500, dropped), dropped


def frames(records):
    return [record[4:] for record in records]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 5000])
def test_a_framed_stream_gives_the_same_frames_however_it_is_cut(size):
    data = b"".join(map(framed, FRAMES))
    found, (splitter, dropped) = [], stream()
    for at in range(0, len(data), size):
        found += splitter.feed_untrusted(data[at : at + size])
    assert frames(found) == FRAMES
    assert splitter.held == 0
    assert not dropped


GARBAGE = [
    b"x",
    b"garbage between records",
    b"\xbc",
    b"\xbc\xbc",
    b"\xbc\xbc\xff\xff",
    b"\xbc" * 101,
    bytes(5000),
]


@pytest.mark.parametrize("size", [1, 3, 64, 20_000])
@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_between_records_loses_no_record(garbage, size):
    data = b"".join(framed(frame) + garbage for frame in FRAMES) + framed(FRAMES[0])
    splitter, dropped = stream()
    found = []
    for at in range(0, len(data), size):
        found += splitter.feed_untrusted(data[at : at + size])
    assert frames(found) == [*FRAMES, FRAMES[0]]
    assert dropped == {"resync": len(FRAMES)}


def test_a_frame_behind_garbage_does_not_wait_for_the_next():
    splitter, dropped = stream()
    found = splitter.feed_untrusted(b"\xbc\xbc\x01\x00 half a record" + framed(FRAMES[0]))
    assert found == [] or frames(found) == [FRAMES[0]]
    assert splitter.feed_untrusted(b"!") == []
    splitter, dropped = stream()
    assert splitter.feed_untrusted(b"noise \xbc\xbc\x01\x00 half") == []
    assert frames(splitter.feed_untrusted(framed(FRAMES[0]))) == [FRAMES[0]]
    assert dropped == {"resync": 1}


@pytest.mark.parametrize("size", [1, 64, 20_000])
def test_garbage_that_looks_like_a_record_costs_one_frame_at_most(size):
    garbage = b"x\xbc\xbc\x00\x40 too short for its word"
    data = framed(FRAMES[0]) + garbage + b"".join(map(framed, [*FRAMES, *FRAMES]))
    splitter, _ = stream()
    found = []
    for at in range(0, len(data), size):
        found += frames(splitter.feed_untrusted(data[at : at + size]))
    assert len([frame for frame in found if frame in FRAMES]) >= 6


def test_half_a_record_costs_one_more_at_most():
    splitter, dropped = stream()
    data = framed(FRAMES[2])[:50] + b"".join(framed(frame) for frame in [FRAMES[0]] * 5)
    found = frames(splitter.feed_untrusted(data))
    assert found[-3:] == [FRAMES[0]] * 3
    assert dropped["resync"] == 1


def test_frames_that_no_ethernet_has_are_counted_and_passed_over():
    splitter, dropped = stream()
    long = framed(bytes(1523))
    data = framed(b"short") + long + framed(bytes(1522)) + framed(b"") + framed(FRAMES[0])
    assert frames(splitter.feed_untrusted(data)) == [bytes(1522), FRAMES[0]]
    assert dropped == {"runt": 2, "oversize": 1}
    assert splitter.feed_untrusted(long[:700]) == []
    assert splitter.held == 0
    assert frames(splitter.feed_untrusted(long[700:] + framed(FRAMES[0]))) == [FRAMES[0]]


def test_a_stream_without_frames_is_given_up():
    splitter, _ = stream()
    splitter.feed_untrusted(b"GET / HTTP/1.1\r\n" * (ASTRAY // 16))
    with pytest.raises(BadRecord, match="something else"):
        splitter.feed_untrusted(b"GET / HTTP/1.1\r\n")


FULL_OF_THEM = [
    (FramedStream, b"\xbc\xbc\0\0"),  # in step, and no frame in it
    (FramedStream, b"\xbc\xbc\0\x0d" + bytes(13)),
    (FramedStream, b"\xbc\xbc\0\x0e" + bytes(14) + b"x"),
    (QemuStream, bytes(4)),
    (QemuStream, b"\0\0\0\x0d" + bytes(13)),
]


@pytest.mark.parametrize(("kind", "hostile"), FULL_OF_THEM)
def test_what_is_no_frame_is_a_lost_step_and_a_read_full_of_them_the_end(kind, hostile):
    codec = kind(1500, Counter())
    for number in range(1, LOST_AT_ONCE):
        codec.feed_untrusted(hostile)
        assert codec.lost_steps >= number - 1  # whether a frame is a true one, the next tells
    with pytest.raises(BadRecord, match="lost steps"):
        codec.feed_untrusted(hostile * 3000)
    assert codec.lost_steps <= 2 * LOST_AT_ONCE


@pytest.mark.parametrize("size", [100, 1448, 64 * 1024])
def test_bytes_without_a_frame_are_lost_steps_however_few_flags_they_have(size):
    codec, dropped = stream()
    data = b"GET / HTTP/1.1\r\n" * (20 * STRAY // 16)
    for at in range(0, len(data), size):
        codec.feed_untrusted(data[at : at + size])
    assert codec.lost_steps >= 20
    assert dropped == {"resync": 1}


HOSTILE = {
    "headers": b"\xbc\xbc\x00\x0e" * 5000,
    "flags": b"\xbc" * 20_000,
    "three": b"\xbc\xbc\x05" * 7000,
    "nested": b"".join(b"\xbc\xbc" + struct.pack(">H", 1522 - 5 * n) + b"x" for n in range(280))
    * 14,
    "one end": b"".join(b"\xbc\xbc" + struct.pack(">H", 1518 - 4 * n) for n in range(375)) * 14,
    "long in short": (b"\xbc\xbc\x00\x0e" + b"\xbc\xbc\x05\xf2" + bytes(10)) * 1100,
    "the last byte": (b"\xbc\xbc\x05\xf2" + bytes(1521) + b"\xbc\xbc\x05\xf2" + bytes(1521)) * 7,
}


def steps_of(job):
    """Lines of the reader that run meanwhile: what it costs, on a machine of any speed."""
    count = 0

    def line(frame, event, arg):
        nonlocal count
        count += event == "line"
        return line

    def call(frame, event, arg):
        return line if frame.f_code.co_filename.endswith("formats.py") else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        job()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("size", [1, 7, 1448, 64 * 1024])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_lost_step_costs_a_constant_for_each_byte_and_two_frames(hostile, size):
    splitter, dropped = stream()
    data = HOSTILE[hostile]
    fed, most = b"\0\0\0\0" + data, 0

    def feed():
        nonlocal most
        with suppress(BadRecord):  # "headers" at once are more lost steps than one read may have
            for at in range(0, len(fed), size):
                splitter.feed_untrusted(fed[at : at + size])
                most = max(most, splitter.held)

    steps = steps_of(feed)
    assert dropped["resync"]
    assert most <= 2 * (1522 + 4)
    assert steps <= 70 * len(fed)  # one byte at a time costs most of that


@settings(max_examples=200)
@given(st.data())
def test_honest_frames_with_garbage_between_are_all_found(data):
    """Against the slowest of readers, which knows where the garbage is."""
    chance = data.draw(st.randoms(use_true_random=False))
    pieces = data.draw(st.lists(st.tuples(st.booleans(), st.integers(14, 1522)), max_size=12))
    sent, wanted = b"", []
    for garbage, size in pieces:
        content = chance.randbytes(size).replace(b"\xbc", b"\xbd")
        if not garbage:
            wanted.append(content)
        sent += content if garbage else framed(content)
    sent += framed(FRAMES[0])
    splitter, dropped = stream()
    found = []
    at = 0
    while at < len(sent):
        size = chance.choice([1, 5, 60, 1500, 9000])
        found += splitter.feed_untrusted(sent[at : at + size])
        assert splitter.held <= 2 * (1522 + 4)
        at += size
    assert frames(found) == [*wanted, FRAMES[0]]
    assert dropped["resync"] <= sum(garbage for garbage, _ in pieces)


@pytest.mark.parametrize("size", [1, 3, 100, 5000])
def test_a_qemu_stream_gives_the_same_frames_however_it_is_cut(size):
    data = b"".join(struct.pack(">I", len(frame)) + frame for frame in FRAMES)
    splitter, found = QemuStream(1500, Counter()), []
    for at in range(0, len(data), size):
        found += splitter.feed_untrusted(data[at : at + size])
    assert frames(found) == FRAMES
    assert b"".join(splitter.encode([frame_record(frame) for frame in FRAMES])) == data


def test_a_qemu_stream_counts_what_is_no_frame_and_ends_at_no_length():
    dropped = Counter()
    splitter = QemuStream(1500, dropped)
    data = [struct.pack(">I", size) + bytes(size) for size in (0, 13, 1523, 65_000, 60)]
    assert frames(splitter.feed_untrusted(b"".join(data))) == [bytes(60)]
    assert dropped == {"runt": 2, "oversize": 2}
    with pytest.raises(BadRecord, match="no stream of QEMU"):
        splitter.feed_untrusted(b"GET / HTTP/1.1\r\n")


def test_a_vxlan_header_is_read_back_and_reserved_bits_are_ignored():
    datagram = bytes.fromhex("0800000000002a00") + FRAMES[0]
    assert vxlan_header(42) + FRAMES[0] == datagram
    assert without_vxlan_untrusted(datagram) == (42, FRAMES[0])
    assert without_vxlan_untrusted(bytes.fromhex("08ffffff00002aff") + b"x") == (42, b"x")
    assert without_vxlan_untrusted(bytes(8) + FRAMES[0]) is None
    assert without_vxlan_untrusted(datagram[:7]) is None
    assert without_vxlan_untrusted(vxlan_header(0xFFFFFF)) == (0xFFFFFF, b"")


def test_a_datagram_that_is_no_frame_is_counted():
    dropped = Counter()
    assert record_untrusted(bytes(13), 1522, dropped) is None
    assert record_untrusted(bytes(1523), 1522, dropped) is None
    assert record_untrusted(bytes(14), 1522, dropped) == frame_record(bytes(14))
    assert dropped == {"runt": 1, "oversize": 1}


@pytest.mark.parametrize("seed", range(20))
def test_random_garbage_holds_little_back(seed):
    chance = random.Random(seed)
    splitter, _ = stream()
    for _ in range(200):
        piece = chance.choice([chance.randbytes(100), b"\xbc\xbc", framed(FRAMES[0])])
        for record in splitter.feed_untrusted(piece):
            assert record[:2] == b"\xbc\xbc"
            assert 14 <= len(record) - 4 <= 1522
        assert splitter.held <= 2 * (1522 + 4)
