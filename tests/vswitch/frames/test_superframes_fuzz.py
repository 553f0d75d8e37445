# Invariant: whatever a superframe record says, checking and cutting it raise BadRecord or nothing,
# both for the same records; what passes makes at most 128 frames, all within the MTU and with
# right checksums, as many as it was counted for; its rebuilt header passes unchanged.

import random

from vswitch.errors import BadRecord
from vswitch.frames.checksum import word_sum
from vswitch.frames.records import SUPERFRAME, encode_record
from vswitch.frames.segment import cut_untrusted, without_superframes_untrusted
from vswitch.frames.superframes import check_superframe_untrusted, inspect_untrusted
from vswitch.frames.virtio import FRAME_AT, MAX_SEGMENTS, stands_for
from vswitch.testing.superframes import random_flow, superframe

MTU = 1500
INTERESTING = (0, 1, 2, 3, 4, 5, 6, 14, 16, 17, 34, 54, 0x40, 0x45, 0x60, 0x7F, 0x80, 0x81, 0xFF)


def valid(rng):
    flow = random_flow(rng)
    size = rng.choice((0, 64, 100, rng.randrange(64, MTU - flow.overhead + 1)))
    length = rng.randrange(MTU - flow.overhead + 1) if size == 0 else rng.randrange(5 * size)
    return superframe(flow, rng.randbytes(length), size)


def mutate(rng, record):
    """A few bytes of the headers changed, or bytes cut off or added at the end."""
    data = bytearray(record)
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(6):
            case 0:
                del data[rng.randrange(4, len(data) + 1) :]
            case 1:
                data += rng.randbytes(rng.choice((1, 2, 1500, 60_000)))
            case 2 | 3:
                at = rng.randrange(4, 14)
                data[at : at + 1] = bytes((rng.choice(INTERESTING),))
            case _:
                at = rng.randrange(4, min(len(data), 110) + 1)
                data[at : at + 1] = bytes((rng.choice(INTERESTING),))
    return encode_record(SUPERFRAME, bytes(data[4:])[:65535])


def cut_or_refuse(record):
    try:
        return cut_untrusted(record, MTU)
    except BadRecord:
        return None


def check_accepted(record, frames, header):
    assert len(frames) == stands_for(record) <= MAX_SEGMENTS
    assert all(14 <= len(frame) - 4 <= MTU + 14 + 8 for frame in frames)
    assert [int.from_bytes(frame[2:4], "big") + 4 for frame in frames] == list(map(len, frames))
    if header is not None:
        assert len(header) == 10
        rebuilt = record[:4] + header + record[FRAME_AT:]
        assert check_superframe_untrusted(rebuilt, MTU) is None
        assert cut_untrusted(rebuilt, MTU) == frames
    layout = inspect_untrusted(record, MTU)
    if layout.gso_size:
        for frame in frames:
            body = frame[4 + layout.transport - FRAME_AT :]
            ip = frame[4 + layout.network - FRAME_AT :]
            addresses = ip[12:20] if ip[0] >> 4 == 4 else ip[8:40]
            protocol = 6 if layout.csum_offset == 16 else 17
            assert (word_sum(addresses) + protocol + len(body) + word_sum(body)) % 0xFFFF == 0


def test_superframes_of_any_kind():
    rng = random.Random(1)
    accepted = refused = 0
    for number in range(30_000):
        if number % 10 == 0:
            body = rng.randbytes(rng.randrange(200))
            record = encode_record(SUPERFRAME, body)
        elif number % 10 == 1:
            # A header of any kind that begins as a good one does, on a frame of any kind.
            record = encode_record(SUPERFRAME, valid(rng)[4:14] + rng.randbytes(100))
        else:
            record = mutate(rng, valid(rng))
        frames = cut_or_refuse(record)
        assert 1 <= stands_for(record) <= MAX_SEGMENTS
        try:
            header = check_superframe_untrusted(record, MTU)
        except BadRecord:
            refused += 1
            assert frames is None
            assert without_superframes_untrusted([record], MTU) == ([], stands_for(record))
        else:
            accepted += 1
            assert frames is not None
            check_accepted(record, frames, header)
    assert accepted > 2_000
    assert refused > 10_000
