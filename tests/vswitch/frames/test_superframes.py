"""Which superframes are fit for a kernel, header by header."""

import attrs
import pytest

from vswitch.errors import BadRecord
from vswitch.frames.records import SUPERFRAME, encode_record, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import (
    MIN_GSO_SIZE,
    check_superframe_untrusted,
    inspect_untrusted,
    is_usual_untrusted,
)
from vswitch.frames.virtio import (
    FRAME_AT,
    GSO_ECN,
    GSO_NONE,
    MAX_SEGMENTS,
    NO_OFFLOAD,
    TCP,
    UDP,
    VIRTIO_HEADER,
    stands_for,
)
from vswitch.testing import icmp_echo
from vswitch.testing.superframes import Flow, superframe

MTU = 1500
TCP4, TCP6 = Flow(), Flow(version=6)
UDP4, UDP6 = Flow(protocol=UDP), Flow(version=6, protocol=UDP)
FLOWS = [TCP4, TCP6, UDP4, UDP6]
FIELDS = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset")


def changed(record, **fields):
    """The record with other values in its virtio-net header."""
    values = dict(zip(FIELDS, VIRTIO_HEADER.unpack_from(record, 4), strict=True))
    return record[:4] + VIRTIO_HEADER.pack(*(values | fields).values()) + record[FRAME_AT:]


def patched(record, at, new):
    """The record with other bytes from `at` in its frame."""
    at += FRAME_AT
    return record[:at] + new + record[at + len(new) :]


def plain(frame, header=NO_OFFLOAD):
    return encode_record(SUPERFRAME, header + frame)


BIG = {flow: superframe(flow, bytes(9000), MTU - flow.overhead) for flow in FLOWS}
SMALL = {flow: superframe(flow, bytes(500)) for flow in FLOWS}


@pytest.mark.parametrize("tags", [(), (5,), (7, 5)])
@pytest.mark.parametrize("flow", FLOWS, ids=["tcp4", "tcp6", "udp4", "udp6"])
def test_what_a_kernel_makes_is_fit_as_it_is(flow, tags):
    flow = attrs.evolve(flow, tags=tags)
    largest = MTU - flow.overhead
    records = [superframe(flow, bytes(size)) for size in (0, 1, 100, largest)]
    records += [superframe(flow, bytes(9000), size) for size in (largest, 536, 72)]
    assert [check_superframe_untrusted(record, MTU) for record in records] == [None] * 7
    assert [is_usual_untrusted(record, MTU) for record in records[:4]] == [not tags] * 4
    with pytest.raises(BadRecord, match="MTU"):
        check_superframe_untrusted(superframe(flow, bytes(largest + 1)), MTU)
    with pytest.raises(BadRecord, match="MTU"):
        check_superframe_untrusted(superframe(flow, bytes(9000), largest + 1), MTU)


def test_the_ecn_bit_is_for_tcp():
    for flow in (TCP4, TCP6):
        record = superframe(flow, bytes(9000), 1000, ecn=True)
        assert check_superframe_untrusted(record, MTU) is None
    with pytest.raises(BadRecord, match="gso_type 0x85"):
        check_superframe_untrusted(superframe(UDP4, bytes(9000), 1000, ecn=True), MTU)


def test_a_frame_that_lacks_nothing_is_not_looked_into():
    frame = icmp_echo("02:00:00:00:00:01", "10.0.0.1", "02:00:00:00:00:02", "10.0.0.2")
    assert check_superframe_untrusted(plain(frame), MTU) is None
    junk = plain(frame, VIRTIO_HEADER.pack(0, 0, 5000, 1, 2, 3))
    assert check_superframe_untrusted(junk, MTU) == NO_OFFLOAD
    assert cut_untrusted(junk, MTU) == [frame_record(frame)]
    untagged = frame[:14] + bytes(1500)
    tagged = frame[:12] + b"\x81\x00\x00\x05\x08\x00" + bytes(1500)
    for longest in (untagged, tagged):
        assert check_superframe_untrusted(plain(longest), MTU) is None
        with pytest.raises(BadRecord, match="1501 bytes"):
            check_superframe_untrusted(plain(longest + b"x"), MTU)


@pytest.mark.parametrize("hint", [0, 34, 5000, 65535])
def test_hdr_len_is_rebuilt(hint):
    record = BIG[TCP4]
    assert check_superframe_untrusted(changed(record, hdr_len=hint), MTU) == record[4:14]
    small = SMALL[TCP4]
    assert check_superframe_untrusted(changed(small, hdr_len=hint or 1), MTU) == small[4:14]


def test_what_fits_one_segment_is_not_cut():
    record = superframe(TCP4, bytes(1000), 1000)
    assert check_superframe_untrusted(record, MTU) == superframe(TCP4, bytes(1000))[4:14]
    assert len(cut_untrusted(record, MTU)) == stands_for(record) == 1
    assert inspect_untrusted(record, MTU).gso_type == GSO_NONE


def test_bounds_of_size_and_segments():
    for flow in FLOWS:
        most = superframe(flow, bytes(MAX_SEGMENTS * 100), 100)
        assert check_superframe_untrusted(most, MTU) is None
        assert stands_for(most) == MAX_SEGMENTS
        with pytest.raises(BadRecord, match="128 segments"):
            check_superframe_untrusted(superframe(flow, bytes(MAX_SEGMENTS * 100 + 1), 100), MTU)
        least = superframe(flow, bytes(300), MIN_GSO_SIZE)
        assert check_superframe_untrusted(least, MTU) is None
        tiny = superframe(flow, bytes(300), MIN_GSO_SIZE - 1)
        with pytest.raises(BadRecord, match="gso_size 63"):
            check_superframe_untrusted(tiny, MTU)
        assert len(cut_untrusted(tiny, MTU, min_gso_size=1)) == 5


HOSTILE = {
    "no frame": plain(b""),
    "half an Ethernet header": plain(bytes(13)),
    "no virtio-net header": encode_record(SUPERFRAME, b"123"),
    "a tag cut off": plain(bytes(12) + b"\x81\x00"),
    "checksum said to be valid": changed(SMALL[TCP4], flags=2),
    "both flags": changed(SMALL[TCP4], flags=3),
    "unknown flags": changed(SMALL[TCP4], flags=0xFF),
    "9,000 bytes uncut": plain(bytes(9014)),
    "9,000 bytes uncut with a checksum to do": changed(BIG[TCP4], gso_type=0, gso_size=0),
    **{
        f"gso_type {kind:#x}": changed(BIG[TCP4], gso_type=kind)
        for kind in (2, 3, 4, 5, 6, 7, 8, 0x10, 0x21, 0x25, 0x40, 0x41, 0x80, 0x83, 0x84, 0x85)
    },
    "UFO": changed(BIG[UDP4], gso_type=3),
    "gso_size 0": changed(BIG[TCP4], gso_size=0),
    "gso_size 1": changed(BIG[TCP4], gso_size=1),
    "gso_size 8": changed(BIG[TCP4], gso_size=8),
    "gso_size 65535": changed(BIG[TCP4], gso_size=65535),
    "to be cut, no checksum to do, TCP": changed(BIG[TCP4], flags=0),
    "to be cut, no checksum to do, UDP": changed(BIG[UDP4], flags=0),
    "csum_start 0": changed(BIG[TCP4], csum_start=0),
    "csum_start 14": changed(BIG[TCP4], csum_start=14),
    "csum_start 33": changed(BIG[TCP4], csum_start=33),
    "csum_start 35 of UDP": changed(BIG[UDP4], csum_start=35),
    "csum_start in the payload": changed(SMALL[TCP4], csum_start=400),
    "csum_start past the end": changed(SMALL[TCP4], csum_start=60_000),
    "csum_offset 0": changed(BIG[TCP4], csum_offset=0),
    "csum_offset of UDP for TCP": changed(SMALL[TCP4], csum_offset=6),
    "csum_offset of TCP for UDP": changed(SMALL[UDP4], csum_offset=16),
    "TCP type on UDP": changed(BIG[UDP4], gso_type=1),
    "TCP type of IPv4 on IPv6": changed(BIG[TCP6], gso_type=1),
    "TCP type of IPv6 on IPv4": changed(BIG[TCP4], gso_type=4),
    "UDP type on TCP": changed(BIG[TCP6], gso_type=5),
    "on ARP": plain(bytes(12) + b"\x08\x06" + bytes(60), SMALL[TCP4][4:14]),
    "of an untagged frame on a tagged one": changed(
        superframe(Flow(tags=(5,)), bytes(9000), 1000), csum_start=34
    ),
    "three tags": superframe(Flow(tags=(1, 2, 3)), bytes(100)),
    "IPv6 in the EtherType, IPv4 behind it": patched(SMALL[TCP4], 12, b"\x86\xdd"),
    "IPv4 in the EtherType, IPv6 behind it": patched(SMALL[TCP6], 12, b"\x08\x00"),
    "IPv4 version 5": patched(SMALL[TCP4], 14, b"\x55"),
    "IPv6 version 5": patched(SMALL[TCP6], 14, b"\x50"),
    "IPv4 header of 16 bytes": patched(SMALL[TCP4], 14, b"\x44"),
    "IPv4 options that are none": patched(SMALL[TCP4], 14, b"\x46"),
    "IPv4 length 40": patched(BIG[TCP4], 16, b"\x00\x28"),
    "IPv4 length 0": patched(SMALL[TCP4], 16, b"\x00\x00"),
    "IPv4 length one more": patched(SMALL[UDP4], 16, (529).to_bytes(2, "big")),
    "IPv6 length one less": patched(SMALL[UDP6], 18, (507).to_bytes(2, "big")),
    "padding": SMALL[TCP4] + b"\0",
    "first fragment": patched(SMALL[UDP4], 20, b"\x20\x00"),
    "last fragment": patched(SMALL[UDP4], 20, b"\x00\x01"),
    "IPv4 protocol ICMP": patched(SMALL[UDP4], 23, b"\x01"),
    "IPv6 with an extension header": patched(SMALL[TCP6], 20, b"\x00"),
    "TCP header of 16 bytes": patched(SMALL[TCP4], 46, b"\x40"),
    "TCP header past the end": patched(superframe(TCP4, b""), 46, b"\xf0"),
    "TCP over IPv6, header of 16 bytes": patched(SMALL[TCP6], 66, b"\x40"),
    "TCP over IPv6, header past the end": patched(superframe(TCP6, b""), 66, b"\xf0"),
    "UDP length of cut datagrams": patched(BIG[UDP4], 38, b"\x00\x08"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused(name):
    record = HOSTILE[name]
    for function in (check_superframe_untrusted, inspect_untrusted, cut_untrusted):
        with pytest.raises(BadRecord):
            function(record, MTU)
    assert 1 <= stands_for(record) <= MAX_SEGMENTS


@pytest.mark.parametrize("flow", FLOWS, ids=["tcp4", "tcp6", "udp4", "udp6"])
def test_no_prefix_of_a_superframe_is_fit(flow):
    header = SMALL[flow][4:14]
    frame = SMALL[flow][FRAME_AT:]
    for size in range(len(frame)):
        record = plain(frame[:size], header)
        with pytest.raises(BadRecord):
            check_superframe_untrusted(record, MTU)
        assert stands_for(record) == 1


def test_what_a_record_stands_for():
    assert stands_for(frame_record(bytes(100))) == 1
    assert stands_for(SMALL[TCP4]) == stands_for(plain(bytes(60))) == 1
    assert stands_for(BIG[TCP4]) == stands_for(BIG[UDP6]) == 7
    assert stands_for(superframe(TCP4, bytes(9000), 1000, ecn=True)) == 9
    assert stands_for(changed(BIG[TCP4], gso_type=GSO_ECN)) == 1
    assert stands_for(changed(BIG[TCP4], csum_start=65535)) == 1
    assert stands_for(changed(BIG[TCP4], gso_size=1)) == MAX_SEGMENTS
    assert stands_for(encode_record(SUPERFRAME, b"1234")) == 1
    assert TCP4.protocol == TCP
