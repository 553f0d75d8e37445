"""How many frames and bytes a batch is."""

from collections import deque

import hypothesis.strategies as st
import pytest
from hypothesis import given

from vswitch.frames.load import Load, load_of, load_of_frames
from vswitch.frames.records import SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.virtio import MAX_SEGMENTS, NO_OFFLOAD, VIRTIO_HEADER, stands_for
from vswitch.testing.superframes import Flow, superframe

SMALL = superframe(Flow(), bytes(500))
BIG = superframe(Flow(), bytes(5000), 1448)


def test_nothing():
    assert load_of([]) == load_of_frames([]) == Load(0, 0, 0)


def test_frames():
    batch = [frame_record(bytes(60)), frame_record(bytes(14)), frame_record(b"")]
    assert load_of(batch) == load_of(deque(batch)) == load_of_frames(batch) == Load(3, 74, 0)


def test_superframes_count_as_what_they_stand_for():
    assert load_of([SMALL]) == Load(1, len(SMALL) - 14, 1)
    assert load_of([BIG]) == Load(4, len(BIG) - 14, 1)
    assert load_of([BIG, frame_record(bytes(60)), SMALL]) == Load(
        6, len(BIG) + len(SMALL) - 28 + 60, 2
    )
    assert load_of(cut_untrusted(BIG, 1500)) == Load(4, 5000 + 4 * (14 + 52), 0)


def test_a_superframe_that_ends_inside_its_header_has_no_bytes():
    stumps = [encode_record(SUPERFRAME, BIG[4 : 4 + size]) for size in range(11)]
    assert load_of(stumps) == Load(11, 0, 11)
    assert load_of([*stumps, BIG, frame_record(bytes(60))]) == Load(16, len(BIG) - 14 + 60, 12)


@pytest.mark.parametrize(("gso_size", "frames"), [(0, 1), (1, MAX_SEGMENTS), (3000, 2)])
def test_a_header_that_lies_counts_the_same_everywhere(gso_size, frames):
    lying = encode_record(SUPERFRAME, VIRTIO_HEADER.pack(1, 1, 0, gso_size, 34, 16) + BIG[14:])
    assert load_of([lying]).frames == load_of([lying, BIG]).frames - 4 == frames


HEADERS = st.builds(
    VIRTIO_HEADER.pack,
    st.integers(0, 3),
    st.sampled_from([0, 1, 4, 5, 0x80, 0x81]),
    st.just(0),
    st.sampled_from([0, 1, 64, 1448, 65535]),
    st.sampled_from([0, 14, 34, 65535]),
    st.sampled_from([6, 16]),
)
BODIES = st.builds(lambda header, frame: header + frame, HEADERS, st.binary(max_size=200))
RECORDS = st.one_of(
    st.binary(max_size=60).map(frame_record),
    BODIES.map(lambda body: encode_record(SUPERFRAME, body)),
    st.binary(max_size=12).map(lambda body: encode_record(SUPERFRAME, body)),
    st.binary(max_size=60).map(lambda frame: encode_record(SUPERFRAME, NO_OFFLOAD + frame)),
)


@given(st.lists(RECORDS, max_size=8))
def test_a_batch_is_its_records_one_by_one(batch):
    load = load_of(batch)
    assert load.frames == sum(map(stands_for, batch))
    assert load.bytes == sum(len(frame_of(record)) for record in batch)
    assert load.superframes == sum(record[1] == SUPERFRAME & 0xFF for record in batch)
