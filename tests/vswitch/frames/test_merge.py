"""What is merged and what is not, header by header."""

import attrs
import pytest

from vswitch.devices.tap import GSO_MAX_SIZE
from vswitch.frames.merge import MERGEABLE, merge_datagrams
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import MIN_GSO_SIZE, USUAL_HEADERS, check_superframe_untrusted
from vswitch.frames.virtio import FRAME_AT, MAX_SEGMENTS, NO_OFFLOAD, UDP, stands_for
from vswitch.testing.superframes import Flow, superframe

MTU = 1500
UDP4, UDP6 = Flow(protocol=UDP), Flow(version=6, protocol=UDP)
both = pytest.mark.parametrize("flow", [UDP4, UDP6], ids=["v4", "v6"])
# Where the headers of a datagram end, in bytes of its record.
HEADERS = {UDP4: 56, UDP6: 76}
FREE = {UDP4: {32, 33, 38, 39}, UDP6: set()}  # the id and the header checksum


def merge(*records, mtu=MTU, max_frame=GSO_MAX_SIZE):
    return merge_datagrams(list(records), mtu, max_frame)


def payload(number, size):
    return bytes([number % 256]) * size


def datagrams(flow, *sizes):
    """One record each, the ids counting up as those of a connected socket do."""
    return [
        superframe(attrs.evolve(flow, ident=flow.ident + number), payload(number, size))
        for number, size in enumerate(sizes)
    ]


def whole(flow, *sizes):
    """What they make together."""
    data = b"".join(payload(number, size) for number, size in enumerate(sizes))
    return superframe(flow, data, sizes[0])


def patched(record, at, new):
    return record[:at] + new + record[at + len(new) :]


@both
@pytest.mark.parametrize(
    "sizes",
    [
        (64, 64),
        (1400,) * 5,
        (1452,) * 3,
        (100, 100, 99),
        (100, 100, 1),
        (65, 64),
        (1400, 3),
        (64,) * MAX_SEGMENTS,
    ],
    ids=lambda sizes: f"{len(sizes)}-{sizes[-1]}",
)
def test_a_run_is_the_superframe_that_the_host_would_have_made(flow, sizes):
    merged = merge(*datagrams(flow, *sizes))
    assert merged == [whole(flow, *sizes)]
    assert check_superframe_untrusted(merged[0], MTU) is None
    assert stands_for(merged[0]) == len(sizes)


@both
@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ((), []),
        ((100,), [1]),
        ((100, 100, 50, 100, 100), [3, 2]),
        ((100, 50, 100, 50), [2, 2]),
        ((50, 100, 50, 100), [1, 2, 1]),
        ((100, 50, 50, 50), [2, 1, 1]),
        ((100, 101, 102), [1, 1, 1]),
        ((300, 200, 100), [2, 1]),
        ((100, 100, 200, 200), [2, 2]),
        ((100, 100, 0, 100), [2, 1, 1]),
        ((0, 0, 0), [1, 1, 1]),
        ((63, 63, 63), [1, 1, 1]),
        ((64, 63, 63), [2, 1]),
        ((64,) * 300, [128, 128, 44]),
        ((64,) * 128 + (63,), [128, 1]),
        ((64,) * 129 + (63,), [128, 2]),
    ],
    ids=lambda value: f"{len(value)}-{sum(value)}",
)
def test_where_a_superframe_ends(flow, sizes, groups):
    records = datagrams(flow, *sizes)
    merged = merge(*records)
    assert [stands_for(record) for record in merged] == groups
    # Whatever is alone is as it was.
    singles = [record for record, count in zip(merged, groups, strict=True) if count == 1]
    assert all(any(single is record for record in records) for single in singles)


@both
def test_it_stays_below_the_longest_frame(flow):
    records = datagrams(flow, *[1400] * 64)
    merged = merge(*records)
    assert [stands_for(record) for record in merged] == [44, 20]
    assert len(merged[0]) - FRAME_AT <= GSO_MAX_SIZE < len(merged[0]) - FRAME_AT + 1400
    header = HEADERS[flow] - FRAME_AT
    exact = header + 3 * 1400
    assert [stands_for(each) for each in merge(*records[:4], max_frame=exact)] == [3, 1]
    assert [stands_for(each) for each in merge(*records[:4], max_frame=exact - 1)] == [2, 2]
    assert merge(*records, max_frame=header + 1400) == records


@both
@pytest.mark.parametrize("shorter", [False, True], ids=["equal", "shorter"])
def test_every_byte_of_the_headers_counts_but_id_and_header_checksum(flow, shorter):
    """Whatever is another in the second: two records, or cutting the one gives both again."""
    first, second = datagrams(flow, 200, 190 if shorter else 200)
    wanted = [cut_untrusted(each, MTU)[0] for each in (first, second)]
    merged = merge(first, second)
    assert len(merged) == 1
    assert masked(cut_untrusted(merged[0], MTU)) == masked(wanted)
    for at in (1, *range(4, HEADERS[flow])):  # 1 tells a superframe from a frame
        other = patched(second, at, bytes([second[at] ^ 0x01]))
        assert (len(merge(first, other)) == 1) == (at in FREE[flow]), at


def masked(records):
    """Without what of IPv4 cutting numbers anew."""
    return [
        record[:22] + bytes(2) + record[24:28] + bytes(2) + record[30:]
        if record[16:18] == b"\x08\x00"
        else record
        for record in records
    ]


def with_length(record, at, change):
    length = int.from_bytes(record[at : at + 2], "big") + change
    return patched(record, at, length.to_bytes(2, "big"))


# What is wrong in the same way in every record of a run.
UNSOUND = {
    "may be fragmented": (UDP4, lambda r: patched(r, 34, b"\x00")),
    "first fragment": (UDP4, lambda r: patched(r, 34, b"\x60")),
    "last fragment": (UDP4, lambda r: patched(r, 34, b"\x40\x01")),
    "reserved bit": (UDP4, lambda r: patched(r, 34, b"\xc0")),
    "no checksum, v4": (UDP4, lambda r: patched(r, 54, bytes(2))),
    "no checksum, v6": (UDP6, lambda r: patched(r, 74, bytes(2))),
    "another checksum, v4": (UDP4, lambda r: patched(r, 54, b"\x12\x34")),
    "another checksum, v6": (UDP6, lambda r: patched(r, 74, b"\x12\x34")),
    "UDP length, v4": (UDP4, lambda r: with_length(r, 52, -1)),
    "UDP length, v6": (UDP6, lambda r: with_length(r, 72, 1)),
    "IP length, v4": (UDP4, lambda r: with_length(r, 30, -1)),
    "IP length, v6": (UDP6, lambda r: with_length(r, 32, 1)),
    "padding": (UDP4, lambda r: encode_record(SUPERFRAME, r[4:] + b"\0")),
    "not IPv4": (UDP4, lambda r: patched(r, 26, b"\x08\x06")),
    "version 5": (UDP4, lambda r: patched(r, 28, b"\x55")),
    "options": (UDP4, lambda r: patched(r, 28, b"\x46")),
    "not IPv6": (UDP6, lambda r: patched(r, 28, b"\x40")),
    "an extension header": (UDP6, lambda r: patched(r, 34, b"\x00")),
    "TCP": (UDP4, lambda r: patched(r, 37, b"\x06")),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_headers_that_contradict_each_other_stay_as_they_are(name):
    flow, spoil = UNSOUND[name]
    good = datagrams(flow, 200, 200, 200, 150)
    bad = [spoil(record) for record in good]
    assert merge(*bad) == bad
    # Nor does one such end a run.
    assert merge(*good[:3], bad[3]) == [whole(flow, 200, 200, 200), bad[3]]


@both
def test_what_is_longer_than_the_mtu_stays_as_it_is(flow):
    records = datagrams(flow, 1400, 1400)
    fits = 1400 + flow.overhead
    assert len(merge(*records, mtu=fits)) == 1
    assert merge(*records, mtu=fits - 1) == records


@both
def test_only_neighbours_are_merged_and_order_is_kept(flow):
    other = datagrams(attrs.evolve(flow, ports=(1, 2)), 100, 100, 100)
    mine = datagrams(flow, 100, 100, 100)
    interleaved = [record for pair in zip(mine, other, strict=True) for record in pair]
    assert merge(*interleaved) == interleaved
    frame = frame_record(bytes(60))
    tcp = superframe(Flow(version=flow.version), bytes(100))
    for between in (frame, tcp, superframe(Flow(), bytes(9000), 1400), other[0]):
        merged = merge(*mine[:2], between, mine[2], *mine[:2])
        assert merged[0] == whole(flow, 100, 100)
        assert merged[1] is between
        assert [stands_for(each) for each in merged[2:]] == [3]
        assert merge(between, *mine[:2]) == [between, whole(flow, 100, 100)]
        assert merge(*mine[:2], between) == [whole(flow, 100, 100), between]


def test_tcp_tags_options_and_finished_frames_are_not_merged():
    options = attrs.evolve(UDP4, ip_options=b"\x01" * 4)
    tagged = attrs.evolve(UDP4, tags=(5,))
    for flow in (Flow(), Flow(version=6), options, tagged):
        records = datagrams(flow, 100, 100)
        assert merge(*records) == records
    frame = datagrams(UDP4, 100)[0][FRAME_AT:]
    for record in (frame_record(frame), encode_record(SUPERFRAME, NO_OFFLOAD + frame)):
        assert merge(record, record) == [record, record]
    big = whole(UDP4, 100, 100)
    assert merge(big, big) == [big, big]


def test_a_frame_whose_addresses_look_like_a_header_is_a_frame():
    datagram = datagrams(UDP4, 100)[0]
    frame = frame_record(datagram[4:])
    assert frame[4:14] in MERGEABLE
    assert merge(frame, frame) == [frame, frame]
    shorter = frame_record(datagrams(UDP4, 90)[0][4:])
    assert merge(datagram, datagram, shorter) == [*merge(datagram, datagram), shorter]


def test_the_header_of_a_datagram_is_a_usual_one():
    assert MERGEABLE < USUAL_HEADERS
    assert {superframe(flow, b"")[4:14] for flow in (UDP4, UDP6)} == MERGEABLE
    assert MIN_GSO_SIZE == 64


@both
def test_sums_that_wrap(flow):
    """Addresses with which the sum of the pseudo header is 0 in one's complement, whole or not."""
    size = 4 if flow.version == 4 else 16
    seen = set()
    for total in range(100, 400):
        # One word makes up for protocol and length.
        word = (0xFFFF - UDP - total).to_bytes(2, "big")
        near = attrs.evolve(flow, addresses=word + bytes(2 * size - 2), ident=0xFFFF - total)
        first = superframe(near, bytes(92))
        merged = merge(first, first, first)
        assert merged == [superframe(near, bytes(3 * 92), 92)]
        at = HEADERS[flow] - 2
        seen |= {first[at : at + 2], merged[0][at : at + 2]}
    assert b"\xff\xff" in seen
    assert b"\0\0" not in seen


def test_header_checksums_that_wrap():
    alone = superframe(attrs.evolve(UDP4, ident=0), bytes(300))
    three = superframe(attrs.evolve(UDP4, ident=0), bytes(900), 300)
    for record in (alone, three):
        check = int.from_bytes(record[38:40], "big")  # with this as its id, it is 0
        for ident in (check - 1, check, check + 1):
            flow = attrs.evolve(UDP4, ident=ident)
            first = superframe(flow, bytes(300))
            assert merge(first, first, first) == [superframe(flow, bytes(900), 300)]
