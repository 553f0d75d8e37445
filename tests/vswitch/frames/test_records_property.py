import hypothesis.strategies as st
import pytest
from hypothesis import given

from vswitch.errors import BadRecord
from vswitch.frames.records import (
    CONTROL,
    FRAME,
    MAX_RECORD,
    MIN_FRAME,
    SUPERFRAME,
    RecordSplitter,
    cut,
    encode_record,
)

RECORDS = st.lists(
    st.builds(
        encode_record,
        st.sampled_from([FRAME, SUPERFRAME, CONTROL]),
        st.binary(min_size=MIN_FRAME, max_size=40) | st.integers(MIN_FRAME, 3000).map(bytes),
    ),
    max_size=12,
)
CUTS = st.lists(st.integers(0, 200), max_size=40)


def pieces(data, sizes):
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


@given(RECORDS, CUTS)
def test_any_cutting_gives_the_same_records(records, sizes):
    splitter = RecordSplitter()
    got = []
    for piece in pieces(b"".join(records), sizes):
        got += splitter.feed_untrusted(piece)
        assert splitter.held < MAX_RECORD
    assert got == records
    assert splitter.held == 0


@given(RECORDS, st.integers(1, 5000))
def test_cut_and_split_are_inverse(records, size):
    data = b"".join(records)
    messages = cut(data, size)
    assert b"".join(messages) == data
    assert all(len(message) == size for message in messages[:-1])
    splitter = RecordSplitter()
    assert [r for message in messages for r in splitter.feed_untrusted(message)] == records


@given(RECORDS, st.binary(min_size=4, max_size=20), CUTS)
def test_a_bad_header_is_found_wherever_it_is_cut(records, junk, sizes):
    flag, length = int.from_bytes(junk[:2], "big"), int.from_bytes(junk[2:4], "big")
    if flag in (FRAME, SUPERFRAME) or (flag == CONTROL and length <= 16 * 1024):
        junk = b"\0" + junk
    splitter = RecordSplitter()

    def feed_all():
        for piece in pieces(b"".join(records) + junk, sizes):
            splitter.feed_untrusted(piece)

    with pytest.raises(BadRecord):
        feed_all()
    with pytest.raises(BadRecord):
        splitter.feed_untrusted(b"")
