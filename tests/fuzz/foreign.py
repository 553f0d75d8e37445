"""The streams of foreign programs, cut anywhere.

Invariants: BadRecord and nothing else; records are frames of possible length; no more than two
frames are kept back.
"""

from collections import Counter
from collections.abc import Iterator

from tests.fuzz.reader import Reader
from vswitch.errors import BadRecord
from vswitch.foreign.formats import FramedStream, QemuStream, longest_frame
from vswitch.frames.build import arp_request, icmp_echo
from vswitch.frames.records import FRAME, HEADER_SIZE, frame_record

MTU = 1500
A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
FRAMES = (
    arp_request(A, "10.0.0.1", "10.0.0.2"),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=bytes(56)),
    icmp_echo(A, "10.0.0.1", B, "10.0.0.2", data=b"\xbc\xbc\x00\x40" * 360),
)
CODECS = (FramedStream, QemuStream)
LONGEST = longest_frame(MTU)
AT_MOST = 200_000  # bytes of one run


def run(data: bytes) -> None:
    reader = Reader(data)
    codec = reader.choice(CODECS)
    stream = codec(MTU, Counter())
    fed = 0
    while reader and fed < AT_MOST:
        piece = _piece(reader, codec)
        fed += len(piece)
        step = reader.choice((len(piece) or 1, 1448, 60, 7))
        for at in range(0, len(piece), step):
            try:
                records = stream.feed_untrusted(piece[at : at + step])
            except BadRecord:
                return
            for record in records:
                assert record[:2] == FRAME.to_bytes(2, "big")
                assert int.from_bytes(record[2:4], "big") == len(record) - HEADER_SIZE
                assert 14 <= len(record) - HEADER_SIZE <= LONGEST
            assert stream.held <= 2 * (HEADER_SIZE + LONGEST)


def _piece(reader: Reader, codec: type[FramedStream] | type[QemuStream]) -> bytes:
    match reader.below(5):
        case 0:
            return b"".join(codec.encode([frame_record(reader.choice(FRAMES))]))
        case 1:  # the header of something else
            flag = reader.choice((b"\xbc\xbc", b"\xbc\xbe", b"\0\0", b"\xbc\xbd"))
            return flag + reader.edge(16).to_bytes(2, "big")
        case 2:  # the same again and again
            return reader.take(1 + reader.below(8)) * (1 + reader.below(2000))
        case 3:
            part = bytearray(b"".join(codec.encode([frame_record(reader.choice(FRAMES))])))
            part[reader.number(2) % len(part)] = reader.edge(8)
            return bytes(part[: 1 + reader.number(2) % len(part)])
        case _:
            return reader.blob(9000)


def seeds() -> Iterator[tuple[str, bytes]]:
    for number, codec in enumerate(CODECS):
        yield f"{codec.__name__}-steps", bytes((number, 0, 0, 0, 0, 1, 1, 0, 2, 2))
        raw = b"".join(codec.encode([frame_record(FRAMES[0])]))
        yield f"{codec.__name__}-raw", bytes((number, 4, len(raw))) + raw + b"\3"
        yield f"{codec.__name__}-odd", bytes((number, 1, 1, 0x1F, 0, 3, 1, 3, 0, 5, 1, 1, 0, 2, 0))
        yield f"{codec.__name__}-junk", bytes((number, 4, 20)) + bytes(range(200, 220)) + bytes(9)
    lost = bytes((0, 1, 2, 0x80, 0))
    again = bytes((2, 3)) + b"\xbc\xbc\x00\x0e" + (1999).to_bytes(2, "little") + b"\1"
    yield "finding-6-steps-that-are-none", lost + 2 * again
