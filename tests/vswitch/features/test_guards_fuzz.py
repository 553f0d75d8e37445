# Invariant: whatever the bytes, parsers and guards raise nothing, and agree with the reference.

import os

from tests.vswitch.features.guard_frames import frame, judged, record, rules, seeded
from vswitch.features.guards import judge_untrusted
from vswitch.frames.headers import network_untrusted, upper_ipv4_untrusted, upper_ipv6_untrusted
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record

INPUTS = int(os.environ.get("VSWITCH_FUZZ_INPUTS", 20_000))


def damaged(rng, data):
    out = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(out) + 1)
        if rng.random() < 0.5 and at < len(out):
            out[at] = rng.choice([0, 1, 0x2C, 0x3A, 0x45, 0x60, 0x81, 0x86, 0xFF, out[at] ^ 1])
        elif rng.random() < 0.5:
            out[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del out[at : at + rng.randint(1, 8)]
    return bytes(out)


def test_guards_raise_nothing_on_any_frame():
    rng = seeded(7113)
    for _ in range(INPUTS):
        data = rng.randbytes(rng.randrange(120)) if rng.random() < 0.2 else frame(rng)
        data = damaged(rng, data)
        its = rules(rng)
        assert judge_untrusted(record(rng, data), its) == judged(data, its), (data.hex(), its)


def test_guards_raise_nothing_on_records_that_end_anywhere():
    rng = seeded(6105)
    its = rules(rng)
    whole = [frame(rng) for _ in range(200)]
    for data in whole:
        for made in (frame_record(data), encode_record(SUPERFRAME, bytes(10) + data)):
            for end in range(4, len(made)):
                judge_untrusted(made[:end], its)


def test_header_parsers_raise_nothing_at_any_offset():
    rng = seeded(8200)
    for _ in range(INPUTS):
        data = rng.randbytes(rng.randrange(80))
        at = rng.randrange(100)
        network_untrusted(data, at)
        upper_ipv4_untrusted(data, at)
        upper_ipv6_untrusted(data, at)
