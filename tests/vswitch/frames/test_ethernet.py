import pytest

from vswitch.frames.ethernet import (
    BROADCAST,
    format_mac,
    is_group,
    parse_mac,
    vlan_of,
)
from vswitch.frames.headers import FrameHeader, header

A = bytes.fromhex("020000000001")
B = bytes.fromhex("020000000002")


@pytest.mark.parametrize("text", ["02:00:5e:10:00:0A", "02-00-5E-10-00-0a", "02005e10000a"])
def test_parse_mac_takes_the_usual_notations(text):
    assert parse_mac(text) == bytes.fromhex("02005e10000a")
    assert format_mac(parse_mac(text)) == "02:00:5e:10:00:0a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:0a:0b",
        "02:00-5e:10:00:0a",
        "02005e:10000a",
        "2:0:5e:10:0:a",
        "02:00:5e:10:00:0g",
        " 02:00:5e:10:00:0a",
        "02:00:5e:10:00:0a\n",
        "0２:00:5e:10:00:0a",
    ],
)
def test_parse_mac_refuses(text):
    with pytest.raises(ValueError, match="not a MAC address"):
        parse_mac(text)


@pytest.mark.parametrize("size", [0, 5, 7])
def test_format_mac_refuses_other_lengths(size):
    with pytest.raises(ValueError, match="6 bytes"):
        format_mac(bytes(size))


def test_group_addresses():
    assert is_group(BROADCAST)
    assert is_group(bytes.fromhex("01005e000001"))
    assert not is_group(A)


def test_header_of_untagged_and_tagged_frames():
    assert header(B + A + b"\x08\x00rest") == FrameHeader(B, A, 0x0800, (), 14)
    single = B + A + b"\x81\x00\xe0\x2a\x86\xddrest"
    assert header(single) == FrameHeader(B, A, 0x86DD, (42,), 18)
    double = B + A + b"\x88\xa8\x00\x07\x81\x00\x0f\xff\x08\x06rest"
    assert header(double) == FrameHeader(B, A, 0x0806, (7, 0xFFF), 22)


def test_header_stops_at_the_second_tag():
    triple = B + A + b"\x81\x00\x00\x01\x81\x00\x00\x02\x81\x00\x00\x03\x08\x00"
    assert header(triple) == FrameHeader(B, A, 0x8100, (1, 2), 22)


@pytest.mark.parametrize(
    "frame", [b"", (B + A + b"\x08\x00")[:13], B + A + b"\x81\x00", B + A + b"\x81\x00\x00\x01\x08"]
)
def test_header_refuses_a_frame_that_ends_in_it(frame):
    with pytest.raises(ValueError, match="ends inside its header"):
        header(frame)


def test_vlan_is_the_outer_id_without_priority():
    assert vlan_of(B + A + b"\x08\x00\x45\x00") == 0
    assert vlan_of(B + A + b"\x81\x00\xe0\x00") == 0  # priority tag
    assert vlan_of(B + A + b"\x81\x00\xff\xff") == 0xFFF
    assert vlan_of(B + A + b"\x88\xa8\x00\x07\x81\x00\x00\x08") == 7
    assert vlan_of(B + A + b"\x81\x00\x01") == 0
