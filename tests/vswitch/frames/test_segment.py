"""The cutter on cases that can be checked by eye; the kernel's own result is in tests/netns."""

import pytest

from vswitch.frames.records import FRAME, frame_of, frame_record
from vswitch.frames.segment import cut_untrusted, without_superframes_untrusted
from vswitch.frames.virtio import UDP, stands_for
from vswitch.testing import checksum
from vswitch.testing.superframes import Flow, superframe

MTU = 1500
PAYLOAD = bytes(range(250))


def cut(flow, size, payload=PAYLOAD):
    return [frame_of(record) for record in cut_untrusted(superframe(flow, payload, size), MTU)]


def pseudo(frame, protocol, version=4):
    """The pseudo header of an untagged frame without IP options."""
    start, addresses = (34, frame[26:34]) if version == 4 else (54, frame[22:54])
    length = len(frame) - start
    return addresses + length.to_bytes(4, "big") + protocol.to_bytes(4, "big") + frame[start:]


def test_tcp_over_ipv4():
    flow = Flow(ident=0xFFFF, sequence=0xFFFFFFFF, flags=0x99, tcp_options=b"\x01\x01\x01\x00")
    frames = cut(flow, 100)
    assert [len(frame) for frame in frames] == [158, 158, 108]
    assert b"".join(frame[58:] for frame in frames) == PAYLOAD
    assert [frame[16:18].hex() for frame in frames] == ["0090", "0090", "005e"]  # length
    assert [frame[18:20].hex() for frame in frames] == ["ffff", "0000", "0001"]  # id
    assert [frame[38:42].hex() for frame in frames] == ["ffffffff", "00000063", "000000c7"]
    assert [frame[47] for frame in frames] == [0x90, 0x10, 0x19]  # CWR first, FIN and PSH last
    for frame in frames:
        assert checksum(frame[14:34]) == 0
        assert checksum(pseudo(frame, 6)) == 0
        assert frame[:14] == frames[0][:14]
        assert (frame[48:50], frame[54:58]) == (b"\x01\xf5", flow.tcp_options)


def test_tcp_over_ipv6():
    frames = cut(Flow(version=6, flags=0x18), 100)
    assert [frame[18:20].hex() for frame in frames] == ["0084", "0084", "0052"]
    assert [frame[67] for frame in frames] == [0x10, 0x10, 0x18]
    assert all(checksum(pseudo(frame, 6, 6)) == 0 for frame in frames)
    assert b"".join(frame[86:] for frame in frames) == PAYLOAD


@pytest.mark.parametrize(("version", "start"), [(4, 34), (6, 54)])
def test_udp(version, start):
    frames = cut(Flow(version=version, protocol=UDP), 99)
    assert [len(frame) - start for frame in frames] == [107, 107, 60]
    assert [frame[start + 4 : start + 6].hex() for frame in frames] == ["006b", "006b", "003c"]
    assert all(checksum(pseudo(frame, UDP, version)) == 0 for frame in frames)
    assert b"".join(frame[start + 8 :] for frame in frames) == PAYLOAD


def test_tags_and_ip_options_stay():
    plain = cut(Flow(ip_options=b"\x01" * 8), 100)
    tagged = cut(Flow(ip_options=b"\x01" * 8, tags=(7, 5)), 100)
    assert [frame[:12] + frame[20:] for frame in tagged] == plain
    assert {frame[12:22].hex() for frame in tagged} == {"88a80007810000050800"}
    assert {frame[34:42] for frame in plain} == {b"\x01" * 8}
    assert all(checksum(frame[14:42]) == 0 for frame in plain)


def test_checksum_alone_is_completed():
    for version, protocol, start in ((4, 6, 34), (6, 17, 54)):
        (frame,) = cut(Flow(version=version, protocol=protocol), 0)
        assert checksum(pseudo(frame, protocol, version)) == 0
        assert frame[start:].endswith(PAYLOAD)


def test_a_whole_superframe_of_64_kilobytes():
    record = superframe(Flow(), bytes(64_000), 1448)
    frames = cut_untrusted(record, MTU)
    assert len(frames) == 45
    assert all(int.from_bytes(frame[:2], "big") == FRAME for frame in frames)
    assert all(int.from_bytes(frame[2:4], "big") == len(frame) - 4 for frame in frames)
    assert all(checksum(pseudo(frame[4:], 6)) == 0 for frame in frames)


def test_a_batch_without_superframes():
    first, last = frame_record(bytes(60)), frame_record(bytes(70))
    good = superframe(Flow(), PAYLOAD, 100)
    bad = superframe(Flow(), PAYLOAD, 3)
    frames, refused = without_superframes_untrusted([first, bad, good, bad, last], MTU)
    assert frames == [first, *cut_untrusted(good, MTU), last]
    assert refused == 2 * stands_for(bad) == 2 * 84
    assert without_superframes_untrusted([], MTU) == ([], 0)


def test_what_is_known_is_not_cut_again():
    good, bad = superframe(Flow(), PAYLOAD, 100), superframe(Flow(), PAYLOAD, 3)
    known = {}
    first = without_superframes_untrusted([good, bad], MTU, known)
    assert set(known) == {id(good), id(bad)}
    again = without_superframes_untrusted([bad, good], MTU, known)
    assert again == first
    assert all(one is other for one, other in zip(first[0], again[0], strict=True))
