"""The cutter and the sums against a slow reference that shares nothing with them."""

import random
import struct

import hypothesis.strategies as st
from hypothesis import given, settings

from vswitch.frames.checksum import complete_checksum, word_sum, word_sums
from vswitch.frames.records import frame_of
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import check_superframe_untrusted
from vswitch.frames.virtio import TCP, UDP, stands_for
from vswitch.testing.superframes import Flow, random_flow, superframe

MTU = 1500


def textbook_sum(data):
    """RFC 1071, word by word, end-around carry: 0 only if every word is."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def textbook_checksum(data):
    return 0xFFFF - textbook_sum(data)


def reference(flow, frame, payload, gso_size):
    """The frames on the wire, each from the fields of its own headers as the RFCs say."""
    network = 14 + 4 * len(flow.tags)
    header = 20 + len(flow.ip_options) if flow.version == 4 else 40
    transport = network + header
    start = len(frame) - len(payload)
    size = gso_size or max(1, len(payload))
    chunks = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    frames = []
    for number, chunk in enumerate(chunks):
        segment = bytearray(frame[transport:start] + chunk)
        if flow.protocol == TCP:
            at = 16
            segment[4:8] = ((flow.sequence + number * size) % 2**32).to_bytes(4, "big")
            if number < len(chunks) - 1:
                segment[13] &= ~0x09 & 0xFF
            if number > 0:
                segment[13] &= 0x7F
        else:
            at = 6
            segment[4:6] = len(segment).to_bytes(2, "big")
        ip = bytearray(frame[network:transport])
        if flow.version == 4:
            ip[2:4] = (header + len(segment)).to_bytes(2, "big")
            ip[4:6] = ((flow.ident + number) % 2**16).to_bytes(2, "big")
            ip[10:12] = b"\0\0"
            ip[10:12] = textbook_checksum(bytes(ip)).to_bytes(2, "big")
            addresses = ip[12:20]
        else:
            ip[4:6] = len(segment).to_bytes(2, "big")
            addresses = ip[8:40]
        segment[at : at + 2] = b"\0\0"
        pseudo = bytes(addresses) + struct.pack(">IBBH", len(segment), 0, 0, flow.protocol)
        check = textbook_checksum(pseudo + segment)
        if not check and (flow.protocol == UDP or len(chunks) == 1):
            check = 0xFFFF
        segment[at : at + 2] = check.to_bytes(2, "big")
        frames.append(bytes(frame[:network] + ip + segment))
    return frames


def check_one(flow, payload, gso_size, *, ecn=False):
    record = superframe(flow, payload, gso_size, ecn=ecn)
    got = cut_untrusted(record, MTU)
    wanted = reference(flow, frame_of(record), payload, gso_size)
    assert [frame_of(each) for each in got] == wanted, (flow, payload, gso_size)
    assert stands_for(record) == len(wanted)
    assert check_superframe_untrusted(record, MTU) is None or len(wanted) == 1
    return len(wanted)


def test_a_hundred_thousand_frames_are_cut_as_the_reference_does():
    rng = random.Random(1)
    frames = 0
    for number in range(26_000):
        flow = random_flow(rng)
        size = rng.randrange(64, 100)
        length = rng.choice((size, size + 1, 5 * size, rng.randrange(size, 11 * size)))
        if number % 40 == 0:
            size = rng.randrange(100, MTU - flow.overhead + 1)
            length = rng.randrange(size, min(40 * size, 60_000))
        payload = rng.randbytes(length) if number % 10 else b"\xff" * length
        frames += check_one(flow, payload, size)
    assert frames > 100_000


def test_ten_thousand_checksums_are_completed_as_the_reference_does():
    rng = random.Random(2)
    for number in range(10_000):
        flow = random_flow(rng)
        length = rng.randrange(200 if number % 20 else MTU - flow.overhead + 1)
        check_one(flow, rng.randbytes(length), 0)


def test_every_value_of_the_checksum():
    """One word of the payload runs through all values: each checksum comes, both zeros too."""
    for version, size, gso_size in ((4, 160, 80), (6, 60, 0)):
        flow = Flow(version=version, protocol=UDP if gso_size else TCP)
        base = superframe(flow, bytes(size), gso_size)
        transport = 34 if version == 4 else 54
        at = transport + (6 if gso_size else 16)
        seen = set()
        for word in range(0x10000):
            record = base[:-2] + word.to_bytes(2, "big")
            frame = frame_of(cut_untrusted(record, MTU)[-1])
            seen.add(frame[at : at + 2])
            if word % 256 == 0:
                payload = bytes(size - 2) + word.to_bytes(2, "big")
                wanted = reference(flow, frame_of(record), payload, gso_size)
                assert frame == wanted[-1]
        assert len(seen) == 0xFFFF
        assert b"\0\0" not in seen


def test_a_hundred_thousand_sums():
    rng = random.Random(3)
    pool = rng.randbytes(4000) + b"\xff" * 1000 + bytes(1000) + rng.randbytes(4000)
    for number in range(100_000):
        size = rng.randrange(64) if number % 20 else rng.randrange(1500)
        at = rng.randrange(len(pool) - size)
        data = pool[at : at + size]
        assert word_sum(data) == textbook_sum(data) % 0xFFFF


FLOWS = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, UDP]),
    tags=st.lists(st.integers(0, 4095), max_size=2).map(tuple),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
    ident=st.integers(0, 65535),
    ip_options=st.integers(0, 10).map(lambda words: b"\x01" * 4 * words),
    sequence=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 255),
    tcp_options=st.integers(0, 10).map(lambda words: b"\x01" * 4 * words),
)


@settings(max_examples=300)
@given(FLOWS, st.binary(max_size=3000), st.just(0) | st.integers(64, 1380), st.booleans())
def test_any_superframe_is_cut_as_the_reference_does(flow, payload, gso_size, ecn):
    if not gso_size:
        payload = payload[: MTU - flow.overhead]
    check_one(flow, payload, gso_size, ecn=bool(gso_size and ecn and flow.protocol == TCP))


@given(st.lists(st.binary(min_size=700, max_size=700), min_size=1, max_size=4), st.binary())
def test_sums_of_pieces_are_sums(pieces, last):
    pieces = [*pieces, last[:700]]
    assert [total % 0xFFFF for total in word_sums(pieces)] == [
        textbook_sum(piece) % 0xFFFF for piece in pieces
    ]


@given(st.binary(min_size=2, max_size=3000), st.data())
def test_a_completed_range_sums_to_ones(frame, data):
    start = data.draw(st.integers(0, (len(frame) - 2) // 2).map(lambda words: 2 * words))
    offset = data.draw(st.integers(0, (len(frame) - start - 2) // 2).map(lambda words: 2 * words))
    partial = frame[: start + offset] + b"\0\0" + frame[start + offset + 2 :]
    check = complete_checksum(partial, start, offset)
    whole = partial[: start + offset] + check + partial[start + offset + 2 :]
    assert textbook_sum(whole[start:]) == 0xFFFF
