import pytest

from vswitch.frames.ethernet import max_frame
from vswitch.switch.counters import DropReason
from vswitch.switch.forwarding import refuse_head
from vswitch.testing import ethernet, vlan_tagged

A = "02:00:00:00:00:01"
B = "02:00:00:00:00:02"


def judge(frame):
    return refuse_head(frame[:16])


@pytest.mark.parametrize("destination", [B, "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"])
def test_ordinary_frames_pass(destination):
    assert judge(ethernet(destination, A, 0x0800, bytes(46))) is None
    assert judge(ethernet(destination, A, 0x0800)) is None
    assert judge(vlan_tagged(ethernet(destination, A, 0x0800), 7)) is None


@pytest.mark.parametrize("size", range(14))
def test_a_frame_that_ends_in_its_header_is_a_runt(size):
    assert judge(ethernet(B, A, 0x0800)[:size]) is DropReason.RUNT


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
def test_a_frame_that_ends_in_its_tag_is_a_runt(tpid):
    frame = vlan_tagged(ethernet(B, A, 0x0800), 7, tpid=tpid)
    assert judge(frame[:14]) is DropReason.RUNT
    assert judge(frame[:15]) is DropReason.RUNT
    assert judge(frame[:16]) is None


def test_frames_from_a_group_address_or_from_zero_are_refused():
    assert judge(ethernet(B, "ff:ff:ff:ff:ff:ff", 0x0800)) is DropReason.SOURCE_MULTICAST
    assert judge(ethernet(B, "03:00:00:00:00:01", 0x0800)) is DropReason.SOURCE_MULTICAST
    assert judge(ethernet(B, "00:00:00:00:00:00", 0x0800)) is DropReason.SOURCE_ZERO


@pytest.mark.parametrize("last", range(0x20))
def test_sixteen_addresses_are_for_the_next_bridge_only(last):
    frame = ethernet(bytes([0x01, 0x80, 0xC2, 0, 0, last]), A, 0x88CC)
    assert judge(frame) is (DropReason.RESERVED_DESTINATION if last < 0x10 else None)


def test_pause_frames_are_for_the_next_bridge_only():
    pause = ethernet("01:80:c2:00:00:01", A, 0x8808, b"\x00\x01\xff\xff")
    assert judge(pause) is DropReason.RESERVED_DESTINATION


def test_the_longest_frame_has_two_tags():
    assert max_frame(1500) == 1522
    assert max_frame(9000) == 9022
