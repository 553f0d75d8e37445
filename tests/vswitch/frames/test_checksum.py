import pytest

from vswitch.frames.checksum import complete_checksum, word_sum, word_sums
from vswitch.testing import checksum

# The example of RFC 1071, section 3: the sum of these words is ddf2.
EXAMPLE = bytes.fromhex("0001f203f4f5f6f7")


def test_the_example_of_the_rfc():
    assert word_sum(EXAMPLE) == 0xDDF2
    assert checksum(EXAMPLE) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    ("data", "total"),
    [
        (b"", 0),
        (b"\x12", 0x1200),
        (b"\x12\x34\x56", 0x6834),
        (b"\xff\xff", 0),  # both zeros of one's complement are 0 here
        (b"\xff\xff" * 700, 0),
        (b"\xff\xfe" * 700, -700 % 0xFFFF),
        (b"\x00\x01" * 32767, 32767),
        (b"\xff" * 65535, 0xFF00),
        (bytes(65536), 0),
    ],
)
def test_sums_of_known_bytes(data, total):
    assert word_sum(data) == total


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 199, 200, 201, 1447, 1448, 9000])
@pytest.mark.parametrize("last", [1, 2, 60])
def test_sums_of_pieces(size, last):
    data = bytes(number * 7 % 251 for number in range(3 * size + min(last, size)))
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [total % 0xFFFF for total in word_sums(pieces)] == [word_sum(piece) for piece in pieces]


def test_pieces_whose_words_are_all_ones_carry_at_every_fold():
    pieces = [b"\xff" * 1448] * 3
    assert [total % 0xFFFF for total in word_sums(pieces)] == [0, 0, 0]
    assert all(0 < total < 1 << 2000 for total in word_sums(pieces))


def test_completion_sums_from_the_start_and_never_gives_zero():
    frame = b"head" + EXAMPLE
    assert complete_checksum(frame, 4, 0) == (0xFFFF - 0xDDF2).to_bytes(2, "big")
    assert complete_checksum(b"head\xff\xff", 4, 0) == b"\xff\xff"
    assert complete_checksum(b"head\x00\x00", 4, 0) == b"\xff\xff"


@pytest.mark.parametrize(("start", "offset"), [(11, 0), (4, 7), (12, 0), (13, 0), (65535, 65535)])
def test_completion_outside_of_the_frame(start, offset):
    with pytest.raises(ValueError, match="no checksum field"):
        complete_checksum(b"head" + EXAMPLE, start, offset)
