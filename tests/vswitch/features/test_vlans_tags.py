"""Tags put in front and taken away: what passes, what is refused, and superframes."""

import pytest

from vswitch.features.vlans import PortVlans, Tagging, Untagging
from vswitch.frames.ethernet import ALL_VLANS, parse_vlans
from vswitch.frames.load import load_of
from vswitch.frames.records import SUPERFRAME, encode_record, frame_of, frame_record
from vswitch.frames.segment import cut_untrusted
from vswitch.frames.superframes import check_superframe_untrusted
from vswitch.frames.virtio import UDP, stands_for
from vswitch.switch.counters import DropReason, PortCounters
from vswitch.testing import ethernet, vlan_tagged
from vswitch.testing.superframes import Flow, superframe

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
PLAIN = ethernet(B, A, 0x0800, bytes(46))
ACCESS = PortVlans(untagged=10)
TRUNK = PortVlans(parse_vlans("10,20-30"))
NATIVE = PortVlans(parse_vlans("10,20-30"), 1)


def taken(stage, frame):
    """The frame that comes out, or the reason why none does; `explain` has to say the same."""
    counters = PortCounters()
    record = frame if frame[:1] == b"\xbc" else frame_record(frame)
    out = stage.take([record], 0.0, counters)
    explained = stage.explain(record, 0.0)
    if out:
        assert explained.record == out[0]
        assert counters.drops == {}
        return frame_of(out[0]) if record is not frame else out[0]
    (reason,) = counters.drops
    assert counters.drops[reason] == stands_for(record)
    assert explained.reason == reason
    assert explained.record is None
    return reason


@pytest.mark.parametrize(
    ("membership", "frame", "inside"),
    [
        (ACCESS, PLAIN, vlan_tagged(PLAIN, 10)),
        (ACCESS, vlan_tagged(PLAIN, 0, priority=5), vlan_tagged(PLAIN, 10, priority=5)),
        (ACCESS, vlan_tagged(PLAIN, 10, priority=3), vlan_tagged(PLAIN, 10, priority=3)),
        (ACCESS, vlan_tagged(PLAIN, 20), "vlan_refused"),
        (ACCESS, vlan_tagged(PLAIN, 4095), "vlan_refused"),
        (ACCESS, vlan_tagged(PLAIN, 10, tpid=0x88A8), "vlan_refused"),
        (ACCESS, vlan_tagged(vlan_tagged(PLAIN, 20), 10), "vlan_refused"),
        (ACCESS, vlan_tagged(vlan_tagged(PLAIN, 20), 0), "vlan_refused"),
        (TRUNK, PLAIN, "vlan_refused"),
        (TRUNK, vlan_tagged(PLAIN, 0), "vlan_refused"),
        (TRUNK, vlan_tagged(PLAIN, 25), vlan_tagged(PLAIN, 25)),
        (TRUNK, vlan_tagged(PLAIN, 31), "vlan_refused"),
        (TRUNK, vlan_tagged(vlan_tagged(PLAIN, 7), 25), vlan_tagged(vlan_tagged(PLAIN, 7), 25)),
        (TRUNK, vlan_tagged(PLAIN, 25, tpid=0x88A8), "vlan_refused"),
        (NATIVE, PLAIN, vlan_tagged(PLAIN, 1)),
        (NATIVE, vlan_tagged(PLAIN, 0, priority=7), vlan_tagged(PLAIN, 1, priority=7)),
        (NATIVE, vlan_tagged(vlan_tagged(PLAIN, 20), 1), "vlan_refused"),
        (ACCESS, PLAIN[:13], PLAIN[:13]),  # the forwarder refuses it
        (ACCESS, PLAIN[:14], vlan_tagged(PLAIN[:14], 10)),
        (TRUNK, vlan_tagged(PLAIN, 25)[:17], "runt"),
    ],
)
def test_frames_that_come_in_are_tagged_or_refused(membership, frame, inside):
    assert taken(Tagging(membership), frame) == inside


@pytest.mark.parametrize(
    ("frame", "outside"),
    [
        (vlan_tagged(PLAIN, 10, priority=5), PLAIN),
        (vlan_tagged(PLAIN, 20), vlan_tagged(PLAIN, 20)),
        (vlan_tagged(vlan_tagged(PLAIN, 20), 10), "vlan_refused"),
        (vlan_tagged(vlan_tagged(PLAIN, 10), 20), vlan_tagged(vlan_tagged(PLAIN, 10), 20)),
    ],
)
def test_frames_that_leave_are_untagged_or_refused(frame, outside):
    assert taken(Untagging(10), frame) == outside


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, UDP])
@pytest.mark.parametrize("gso", [0, 500])
def test_a_superframe_keeps_its_segments_with_and_without_a_tag(version, protocol, gso):
    record = superframe(Flow(version=version, protocol=protocol), bytes(1400), gso)
    inside = taken(Tagging(ACCESS), record)
    assert inside[26:30] == b"\x81\x00\x00\x0a"
    assert check_superframe_untrusted(inside, 1500) is None
    assert stands_for(inside) == stands_for(record)
    assert [
        frame_record(vlan_tagged(frame_of(piece), 10)) for piece in cut_untrusted(record, 1500)
    ] == cut_untrusted(inside, 1500)
    assert taken(Untagging(10), inside) == record


def test_a_tag_makes_no_full_frame_oversize_and_no_record_too_long():
    full = ethernet(B, A, 0x0800, bytes(1500))
    inside = Tagging(ACCESS).take([frame_record(full)], 0.0, PortCounters())
    assert len(frame_of(inside[0])) == 1518
    huge = encode_record(SUPERFRAME, bytes(10) + PLAIN[:14] + bytes(65_535 - 24))
    assert taken(Tagging(ACCESS), huge) == DropReason.OVERSIZE
    assert taken(Tagging(ACCESS), frame_record(bytes(65_532))) == DropReason.OVERSIZE
    fits = encode_record(SUPERFRAME, bytes(10) + PLAIN[:14] + bytes(65_531 - 24))
    assert len(taken(Tagging(ACCESS), fits)) == 65_539


def test_headers_that_point_nowhere_are_refused_or_harmless():
    lying = bytearray(superframe(Flow(), bytes(1400), 500))
    lying[10:12] = b"\xfe\xff"  # csum_start
    assert taken(Tagging(ACCESS), bytes(lying)) == DropReason.BAD_SUPERFRAME
    tagged = bytearray(superframe(Flow(tags=(10,)), bytes(1400), 500))
    tagged[10:12] = b"\x03\x00"
    assert taken(Untagging(10), bytes(tagged)) == DropReason.BAD_SUPERFRAME
    stump = encode_record(SUPERFRAME, bytes(5))
    assert taken(Tagging(ACCESS), stump) == stump
    assert taken(Untagging(10), stump) == stump
    assert load_of([stump]).frames == 1


def test_lists_of_vlans_are_read_or_refused():
    assert parse_vlans("10, 20-22") == {10, 20, 21, 22}
    assert parse_vlans("ALL") == ALL_VLANS
    assert len(ALL_VLANS) == 4094
    for text in ("", "0", "4095", "5-3", "1,,2", "x", "-3", "1-2-3", "١"):
        with pytest.raises(ValueError, match=r"VLANs"):
            parse_vlans(text)
