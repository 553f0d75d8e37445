import tracemalloc

import pytest

from vswitch.errors import BadRecord
from vswitch.frames.records import (
    CONTROL,
    FRAME,
    MAX_CONTROL_BODY,
    MAX_RECORD,
    SUPERFRAME,
    RecordSplitter,
    cut,
    encode_record,
    frame_of,
    frame_record,
    is_control,
    is_superframe,
)


def test_layout_is_flag_length_body_in_network_order():
    assert encode_record(FRAME, b"abc") == b"\xbc\xbc\x00\x03abc"
    assert encode_record(SUPERFRAME, b"") == b"\xbc\xbd\x00\x00"
    assert encode_record(CONTROL, b"{}") == b"\xbc\xbe\x00\x02{}"
    assert frame_record(b"abc") == encode_record(FRAME, b"abc")


def test_encoding_refuses_what_the_format_cannot_say():
    with pytest.raises(ValueError, match="unknown record flag"):
        encode_record(0xBCBB, b"")
    with pytest.raises(ValueError, match="at most 65535"):
        encode_record(FRAME, bytes(65_536))
    with pytest.raises(ValueError, match="at most 65535"):
        frame_record(bytes(65_536))
    with pytest.raises(ValueError, match="at most 16384"):
        encode_record(CONTROL, bytes(16_385))


def test_frame_of_skips_the_headers():
    assert frame_of(frame_record(b"frame")) == b"frame"
    assert frame_of(encode_record(SUPERFRAME, bytes(10) + b"frame")) == b"frame"
    with pytest.raises(ValueError, match="no frame"):
        frame_of(encode_record(CONTROL, b"{}"))


def test_flags_are_told_apart():
    records = [encode_record(flag, b"x") for flag in (FRAME, SUPERFRAME, CONTROL)]
    assert [is_superframe(record) for record in records] == [False, True, False]
    assert [is_control(record) for record in records] == [False, False, True]


def test_cut():
    assert cut(b"", 3) == []
    assert cut(b"abc", 3) == [b"abc"]
    assert cut(b"abcdefg", 3) == [b"abc", b"def", b"g"]


def test_whole_records_in_one_piece():
    records = [frame_record(b"a" * 60), encode_record(CONTROL, b"{}"), frame_record(bytes(14))]
    splitter = RecordSplitter()
    assert splitter.feed_untrusted(b"".join(records)) == records
    assert splitter.held == 0


def test_a_message_that_is_one_record_is_not_copied():
    record = frame_record(b"a" * 1514)
    (same,) = RecordSplitter().feed_untrusted(record)
    assert same is record


def test_records_cut_at_every_byte():
    records = [
        frame_record(bytes(15)),
        encode_record(SUPERFRAME, bytes(16)),
        frame_record(bytes(14)),
    ]
    data = b"".join(records)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            splitter = RecordSplitter()
            got = splitter.feed_untrusted(data[:first])
            got += splitter.feed_untrusted(data[first:second])
            got += splitter.feed_untrusted(data[second:])
            assert got == records
            assert splitter.held == 0


def test_holds_at_most_one_record():
    splitter = RecordSplitter()
    record = frame_record(bytes(65_535))
    for index in range(len(record) - 1):
        assert splitter.feed_untrusted(record[index : index + 1]) == []
        assert splitter.feed_untrusted(b"") == []
    assert splitter.held == MAX_RECORD - 1
    assert splitter.feed_untrusted(record[-1:]) == [record]
    assert splitter.held == 0


def test_small_pieces_do_not_copy_what_is_held():
    splitter = RecordSplitter()
    splitter.feed_untrusted(frame_record(bytes(60_000))[:-100])
    tracemalloc.start()
    try:
        for _ in range(50):
            splitter.feed_untrusted(b"\0")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000


@pytest.mark.parametrize(
    "header", [b"\xbc\xbb\x00\x00", b"\xbc\xbf\x00\x00", b"\0\0\0\0", b"\xff\xff\xff\xff"]
)
def test_unknown_flags_are_refused(header):
    with pytest.raises(BadRecord, match="unknown record flag"):
        RecordSplitter().feed_untrusted(header)


def test_control_limit_is_reached_exactly():
    largest = encode_record(CONTROL, bytes(MAX_CONTROL_BODY))
    assert RecordSplitter().feed_untrusted(largest) == [largest]
    with pytest.raises(BadRecord, match="control record of 16385 bytes, limit 16384"):
        RecordSplitter().feed_untrusted(b"\xbc\xbe\x40\x01")


def test_a_broken_stream_stays_broken():
    splitter = RecordSplitter()
    with pytest.raises(BadRecord):
        splitter.feed_untrusted(frame_record(b"good" * 4) + b"bad!")
    with pytest.raises(BadRecord, match="unknown record flag"):
        splitter.feed_untrusted(frame_record(b"good" * 4))
