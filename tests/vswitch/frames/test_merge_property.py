"""The merger against a slow reference, which reads each frame by the fields of its headers."""

import random
import struct

import attrs
import hypothesis.strategies as st
from hypothesis import given, settings

from vswitch.frames.merge import merge_datagrams
from vswitch.frames.records import encode_record, frame_of, frame_record, is_superframe
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import check_superframe_untrusted
from vswitch.frames.virtio import TCP, UDP, stands_for
from vswitch.testing.superframes import Flow, random_flow, superframe

MTU = 1500
MAX_FRAME = 62_000  # bytes
MOST = 128  # frames of a superframe


def textbook_checksum(data):
    """RFC 1071, word by word, end-around carry."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def read(record):
    """What the headers say and the payload; None for what is no datagram to be merged."""
    if not is_superframe(record):
        return None
    flags, kind, hint, gso_size, start, offset = struct.unpack("<BBHHHH", record[4:14])
    frame = frame_of(record)
    version = {b"\x08\x00": 4, b"\x86\xdd": 6}.get(frame[12:14])
    if (flags, kind, hint, gso_size, offset) != (1, 0, 0, 0, 6) or version is None:
        return None
    if start != (34 if version == 4 else 54) or len(frame) < start + 8:
        return None
    if version == 4:
        first, tos, length, _, fragment, ttl, protocol, _ = struct.unpack(">BBHHHBBH", frame[14:26])
        addresses, usual = frame[26:34], first == 0x45 and fragment == 0x4000
        size, rest = length - 20, (tos, ttl)
    else:
        word, size, protocol, ttl = struct.unpack(">IHBB", frame[14:22])
        addresses, usual = frame[22:54], word >> 28 == 6
        rest = (word, ttl)
    source, destination, length, check = struct.unpack(">HHHH", frame[start : start + 8])
    if not usual or protocol != UDP or not size == length == len(frame) - start:
        return None
    pseudo = addresses + struct.pack(">IBBH", length, 0, 0, UDP)
    if check == 0 or check != 0xFFFF - textbook_checksum(pseudo):
        return None
    return (frame[:14], version, rest, addresses, source, destination), frame[start + 8 :]


def groups(records):
    """How many of the records, in their order, make each superframe."""
    found = []
    flow = size = None  # of the superframe that the next may be part of
    for record in records:
        said = read(record)
        key, payload = said or (None, b"")
        header = 42 if key and key[1] == 4 else 62
        if (
            said
            and key == flow
            and 0 < len(payload) <= size
            and found[-1] < MOST
            and header + found[-1] * size + len(payload) <= MAX_FRAME
        ):
            found[-1] += 1
            if len(payload) < size:
                flow = None
            continue
        found.append(1)
        flow, size = (key, len(payload)) if said and len(payload) >= 64 else (None, 0)
    return found


def cut(records):
    """The frames on the wire, but for what of IPv4 a cutter numbers anew."""
    frames = []
    for record in records:
        pieces = cut_untrusted(record, MTU) if is_superframe(record) else [record]
        for frame in map(frame_of, pieces):
            if frame[12:14] == b"\x08\x00":
                frame = frame[:18] + bytes(2) + frame[20:24] + bytes(2) + frame[26:]
            frames.append(frame)
    return frames


def check(records):
    """What any batch became, having checked that it stands for the same, in the same order."""
    merged = merge_datagrams(list(records), MTU, MAX_FRAME)
    at = 0
    for record in merged:
        if record is records[at]:
            at += 1
            continue
        parts = records[at : at + stands_for(record)]
        at += len(parts)
        assert len(parts) > 1
        assert cut([record]) == cut(parts)
        assert check_superframe_untrusted(record, MTU) is None
        assert len(frame_of(record)) <= MAX_FRAME
    assert at == len(records)
    return merged


def check_honest(records):
    """The same of a batch as hosts make them: all is merged that may be."""
    merged = check(records)
    assert [stands_for(record) for record in merged] == groups(records)
    for record in merged:
        cuts = cut_untrusted(record, MTU) if is_superframe(record) else []
        for frame in map(frame_of, [record, *cuts]):
            if frame[12:14] == b"\x08\x00":
                assert textbook_checksum(frame[14 : 14 + (frame[14] & 15) * 4]) == 0
    return merged


def near(flow, rng):
    """Another flow, or the same."""
    return rng.choice(
        (
            flow,
            flow,
            attrs.evolve(flow, ports=(flow.ports[0], 9)),
            attrs.evolve(flow, destination=b"\x02" * 6),
            random_flow(rng),
            attrs.evolve(random_flow(rng), protocol=UDP, tags=(), ip_options=b""),
        )
    )


def random_batch(rng):
    flow = attrs.evolve(random_flow(rng), protocol=UDP)
    if rng.random() < 0.9:
        flow = attrs.evolve(flow, tags=(), ip_options=b"")
    records = []
    while len(records) < 128 and rng.random() < 0.95:
        size = rng.choice((0, 1, 63, 64, 65, 100, 1400, rng.randrange(MTU - flow.overhead + 1)))
        size = min(size, MTU - flow.overhead)
        for _ in range(rng.choice((1, 1, 2, 3, 70))):
            flow = attrs.evolve(flow, ident=(flow.ident + rng.randrange(3)) % 65536)
            records.append(superframe(flow, rng.randbytes(size)))
        if rng.random() < 0.3:
            flow = near(flow, rng)
            if flow.protocol == TCP:
                records.append(superframe(flow, b"", 0))
                flow = attrs.evolve(flow, protocol=UDP)
        elif rng.random() < 0.05:
            records.append(frame_record(rng.randbytes(60)))
    return records


def test_batches_of_a_hundred_thousand_frames():
    rng = random.Random(1)
    frames = kept = 0
    while frames < 100_000:
        records = random_batch(rng)
        frames += len(records)
        kept += len(check_honest(records))
    assert kept < frames / 2


def mutate(rng, record):
    """A bit of the headers another, or the length of the frame."""
    body = bytearray(record[4:])
    if rng.random() < 0.9:
        body[rng.randrange(min(len(body), 80))] ^= 1 << rng.randrange(8)
    else:
        body = body[: rng.randrange(len(body) + 1)] if rng.random() < 0.5 else body + b"\0"
    return encode_record(0xBC00 | record[1], bytes(body))


def test_headers_that_lie_are_merged_only_where_that_changes_nothing():
    rng = random.Random(2)
    merges = 0
    for _ in range(4000):
        flow = attrs.evolve(random_flow(rng), protocol=UDP, tags=(), ip_options=b"")
        records = [superframe(flow, rng.randbytes(size)) for size in (100, 100, 100, 80, 100, 100)]
        wrong = mutate(rng, rng.choice(records))
        records = [wrong if rng.random() < 0.4 else record for record in records]
        merges += len(check(records)) < len(records)
    assert merges > 1000


FLOWS = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.just(UDP),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 1)),
    ident=st.integers(0, 65535),
)
SIZES = st.integers(0, 70) | st.integers(60, 1452)


@settings(max_examples=300)
@given(
    st.lists(FLOWS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), SIZES, st.integers(1, 50)), max_size=8),
    st.randoms(use_true_random=False),
)
def test_any_batch_is_merged_as_the_reference_does(flows, runs, rng):
    records = [
        superframe(flows[which % len(flows)], rng.randbytes(size))
        for which, size, count in runs
        for _ in range(count)
    ]
    check_honest(records)


@settings(max_examples=300)
@given(st.lists(st.binary(min_size=4, max_size=200), max_size=8), st.data())
def test_nothing_is_raised(bodies, data):
    """Of bytes of any kind, alike or not, with a header in front that invites a look."""
    head = data.draw(st.sampled_from([superframe(Flow(v, UDP), b"")[4:60] for v in (4, 6)]))
    keep = data.draw(st.integers(0, len(head)))
    records = [encode_record(0xBCBD, head[:keep] + body) for body in bodies]
    check(records + records[-1:])
