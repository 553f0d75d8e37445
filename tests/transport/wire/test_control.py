"""Control items: what is written is read, and what cannot be is refused."""

import pytest

from transport.constants import MAX_CLOSE_REASON, MAX_CONTROL_ITEMS, SEALED_OVERHEAD
from transport.errors import BadPacket
from transport.wire.control import (
    MTU_PROBE_SIZE,
    Arrivals,
    Close,
    MtuAck,
    MtuProbe,
    PathChallenge,
    PathResponse,
    Ping,
    Pong,
    Rekey,
    decode_control_untrusted,
    encode_control,
)

EIGHT = b"12345678"
ALL = [
    PathChallenge(EIGHT),
    PathResponse(EIGHT),
    Close(0x0102, "grüße"),
    Ping(EIGHT),
    Pong(EIGHT),
    MtuProbe(0x01020304, 1000),
    MtuAck(8972, 0xFFFFFFFF),
    Rekey(),
    Arrivals(2**40, 2**64 - 1),
]


def refused(data):
    with pytest.raises(BadPacket) as caught:
        decode_control_untrusted(data)
    return caught.value.reason == "bad_control"


@pytest.mark.parametrize("item", ALL, ids=lambda item: type(item).__name__)
def test_round_trip_of_each(item):
    assert decode_control_untrusted(encode_control(item)) == [item]


def test_round_trip_of_all_together():
    assert decode_control_untrusted(encode_control(*ALL)) == ALL


@pytest.mark.parametrize(
    "data",
    [b"\x06\x03\x00abc", b"\x06\x00\x00", b"\x07\x05\x00abcde", b"\x07\x07\x00abcdefg"],
)
def test_probes_and_their_answers_have_their_size(data):
    assert refused(data)


@pytest.mark.parametrize(
    "value", [bytes(15), bytes(17), b"", (2).to_bytes(8, "little") + (1).to_bytes(8, "little")]
)
def test_arrivals_that_cannot_be(value):
    assert refused(b"\x09" + len(value).to_bytes(2, "little") + value)


def test_a_probe_fills_a_datagram():
    for size in (548, 1200, 8972):
        probe = MtuProbe(7, size - SEALED_OVERHEAD - MTU_PROBE_SIZE)
        assert len(encode_control(probe)) + SEALED_OVERHEAD == size


def test_layout():
    assert encode_control(Ping(EIGHT)) == b"\x04\x08\x00" + EIGHT
    assert encode_control(Close(0x0102, "no")) == b"\x03\x04\x00\x02\x01no"
    assert encode_control(Rekey(), Pong(EIGHT)) == b"\x08\x00\x00\x05\x08\x00" + EIGHT
    assert encode_control(PathChallenge(EIGHT), PathResponse(EIGHT)) == (
        b"\x01\x08\x00" + EIGHT + b"\x02\x08\x00" + EIGHT
    )


def test_an_empty_control_datagram_has_no_items():
    assert decode_control_untrusted(b"") == []


def test_unknown_items_are_skipped():
    unknown = b"\x63\x05\x00abcde" + b"\xff\x00\x00"
    data = unknown + encode_control(Rekey()) + unknown
    assert decode_control_untrusted(data) == [Rekey()]


def test_every_truncation_is_refused_or_ends_between_items():
    data = encode_control(*ALL)
    ends = set()
    at = 0
    for item in ALL:
        at += len(encode_control(item))
        ends.add(at)
    for size in range(1, len(data)):
        if size in ends:
            assert decode_control_untrusted(data[:size]) == ALL[: sorted(ends).index(size) + 1]
        else:
            assert refused(data[:size])


@pytest.mark.parametrize("number", [1, 2, 4, 5])
@pytest.mark.parametrize("size", [0, 7, 9])
def test_eight_bytes_are_eight(number, size):
    assert refused(bytes([number, size, 0]) + bytes(size))


def test_length_beyond_the_end():
    assert refused(b"\x04\x09\x00" + EIGHT)
    assert refused(b"\x63\xff\xff" + bytes(100))


def test_number_of_items_is_bounded():
    full = encode_control(*[Rekey()] * MAX_CONTROL_ITEMS)
    assert len(decode_control_untrusted(full)) == MAX_CONTROL_ITEMS
    assert refused(full + encode_control(Rekey()))
    assert refused(b"\x63\x00\x00" * (MAX_CONTROL_ITEMS + 1))  # unknown ones count


def test_long_reason_is_cut_between_characters():
    (item,) = decode_control_untrusted(encode_control(Close(1, "x" + "ü" * MAX_CLOSE_REASON)))
    assert item == Close(1, "x" + "ü" * ((MAX_CLOSE_REASON - 1) // 2))
    assert len(item.reason.encode()) == MAX_CLOSE_REASON - 1


def test_reason_that_is_too_long_or_no_code():
    longest = (2 + MAX_CLOSE_REASON).to_bytes(2, "little")
    assert decode_control_untrusted(b"\x03" + longest + bytes(2) + b"x" * MAX_CLOSE_REASON)
    over = (3 + MAX_CLOSE_REASON).to_bytes(2, "little")
    assert refused(b"\x03" + over + bytes(2) + b"x" * (MAX_CLOSE_REASON + 1))
    assert refused(b"\x03\x01\x00x")


@pytest.mark.parametrize("raw", [b"a\nb", b"a\x1bb", b"a\x00b", "a\u202eb".encode(), b"a\x7fb"])
def test_reason_cannot_reach_a_terminal(raw):
    data = b"\x03" + (2 + len(raw)).to_bytes(2, "little") + bytes(2) + raw
    assert decode_control_untrusted(data) == [Close(0, "a?b")]


def test_reason_that_is_not_utf_8():
    (item,) = decode_control_untrusted(b"\x03\x04\x00\x00\x00\xff\xfe")
    assert item.reason.isprintable()


def test_numbers_that_their_fields_do_not_hold():
    """Sums that a peer has a hand in, and whatever the program above calls a code or a reason."""
    out = encode_control(Arrivals(2**64, 2**65), Close(2**16, "a\ud800b"), MtuAck(-1, 2**32))
    assert decode_control_untrusted(out) == [
        Arrivals(2**64 - 1, 2**64 - 1),
        Close(2**16 - 1, "a?b"),
        MtuAck(0, 2**32 - 1),
    ]
