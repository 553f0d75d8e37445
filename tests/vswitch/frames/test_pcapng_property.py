"""What is written as pcapng is what a reader finds, one that knows nothing of the writer."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from vswitch.frames import pcapng


def blocks(data):
    """Type and body of each block, after the draft: both lengths agree, and are multiples of 4."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0
        assert size >= 12
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        yield kind, data[at + 8 : at + size - 4]
        at += size
    assert at == len(data)


def options(data):
    found, at = {}, 0
    while at < len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert length == 0
            assert at + 4 == len(data)
            return found
        assert code not in found
        found[code] = data[at + 4 : at + 4 + length]
        assert not any(data[at + 4 + length : at + 4 + length + -length % 4])
        at += 4 + length + -length % 4
    assert not found, "options do not end"
    return found


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TIME = st.integers(0, 2**63)
PACKET = st.tuples(
    TIME, st.binary(max_size=200), st.integers(0, 70000), st.sampled_from([0, 1, 2]), TEXT
)


@given(TEXT, st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**32 - 1)), max_size=4))
def test_heads(application, interfaces):
    data = pcapng.section_header(application)
    data += b"".join(pcapng.interface(*each) for each in interfaces)
    (kind, body), *rest = blocks(data)
    assert kind == 0x0A0D0D0A
    assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    assert options(body[16:]) == {4: application.encode()}
    assert len(rest) == len(interfaces)
    for (kind, body), (name, description, snap) in zip(rest, interfaces, strict=True):
        assert kind == 1
        assert struct.unpack_from("<HHI", body) == (1, 0, snap)
        found = options(body[8:])
        assert found.pop(3, b"") == description.encode()
        assert found == {2: name.encode(), 9: b"\x09"}


@given(st.lists(PACKET, max_size=5))
def test_packets(packets):
    data = b"".join(
        pcapng.packet(7, at, content, length, direction, comment)
        for at, content, length, direction, comment in packets
    )
    found = list(blocks(data))
    assert len(found) == len(packets)
    for (kind, body), (at, content, length, direction, comment) in zip(found, packets, strict=True):
        number, high, low, captured, original = struct.unpack_from("<IIIII", body)
        assert (kind, number, high << 32 | low) == (6, 7, at)
        assert (captured, original) == (len(content), length)
        assert body[20 : 20 + captured] == content
        said = options(body[20 + captured + -captured % 4 :])
        assert said.get(1, b"").decode() == comment
        assert int.from_bytes(said.get(2, b""), "little") == direction


@given(TIME, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), TEXT)
def test_statistics(at, received, dropped, comment):
    ((kind, body),) = blocks(pcapng.interface_statistics(3, at, received, dropped, comment))
    assert kind == 5
    number, high, low = struct.unpack_from("<III", body)
    assert (number, high << 32 | low) == (3, at)
    found = options(body[12:])
    assert found.pop(1, b"").decode() == comment
    assert {code: int.from_bytes(value, "little") for code, value in found.items()} == {
        4: received,
        5: dropped,
    }


def test_the_end_has_the_totals():
    packet = pcapng.packet(0, 1, b"x" * 60, 60)
    tail = packet + pcapng.interface_statistics(0, 1, 7, 2, "note") + packet[:0]
    assert pcapng.totals_at_end(tail + pcapng.interface_statistics(1, 1, 5, 0)) == (12, 2)
    assert pcapng.totals_at_end(packet) is None
    assert pcapng.totals_at_end(b"") is None


def test_long_text_is_cut_between_characters():
    ((_, body),) = blocks(pcapng.interface("é" * 40000))
    assert options(body[8:])[2].decode() == "é" * 32767
