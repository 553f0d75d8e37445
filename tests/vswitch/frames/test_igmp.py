"""IGMP and MLD, read and written."""

import ipaddress
import random

import pytest

from vswitch.errors import BadRecord
from vswitch.frames.igmp import (
    GroupMessage,
    Says,
    group_mac,
    is_for_everybody,
    query_record,
    read_untrusted,
)
from vswitch.frames.records import frame_of
from vswitch.testing import arp_request, ethernet, icmp_echo, vlan_tagged
from vswitch.testing.groups import igmp, igmp3_report, mld, mld2_report

A = bytes.fromhex("02000000000a")


def packed(text):
    return ipaddress.ip_address(text).packed


G4, H4 = packed("239.1.2.3"), packed("239.1.2.4")
G6, H6 = packed("ff15::1234:5678"), packed("ff15::9")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (igmp(A, 0x12, "239.1.2.3"), GroupMessage(Says.REPORT, 4, joins=(G4,))),
        (igmp(A, 0x16, "239.1.2.3"), GroupMessage(Says.REPORT, 4, joins=(G4,))),
        (igmp(A, 0x17, "239.1.2.3"), GroupMessage(Says.REPORT, 4, leaves=(G4,))),
        (igmp(A, 0x11, "0.0.0.0"), GroupMessage(Says.QUERY, 4, response_time=10.0)),
        (
            igmp(A, 0x11, "239.1.2.3", code=10, sender="0.0.0.0"),
            GroupMessage(Says.QUERY, 4, group=G4, anonymous=True, response_time=1.0),
        ),
        (igmp(A, 0x11, "0.0.0.0", code=0x8F), GroupMessage(Says.QUERY, 4, response_time=24.8)),
        (
            igmp3_report(
                A, [(4, "239.1.2.3", []), (3, "239.1.2.4", []), (6, "239.9.9.9", ["10.0.0.1"])]
            ),
            GroupMessage(Says.REPORT, 4, joins=(G4,), leaves=(H4,)),
        ),
        (
            igmp3_report(A, [(5, "239.1.2.3", ["10.0.0.1"]), (1, "239.1.2.4", ["10.0.0.1"])]),
            GroupMessage(Says.REPORT, 4, joins=(G4, H4)),
        ),
        (mld(A, 131, "ff15::1234:5678"), GroupMessage(Says.REPORT, 6, joins=(G6,))),
        (mld(A, 132, "ff15::1234:5678"), GroupMessage(Says.REPORT, 6, leaves=(G6,))),
        (mld(A, 130, "::", delay=10_000), GroupMessage(Says.QUERY, 6, response_time=10.0)),
        (
            mld2_report(A, [(2, "ff15::1234:5678", []), (1, "ff15::9", [])]),
            GroupMessage(Says.REPORT, 6, joins=(G6,), leaves=(H6,)),
        ),
        (vlan_tagged(igmp(A, 0x16, "239.1.2.3"), 7), GroupMessage(Says.REPORT, 4, joins=(G4,))),
        (arp_request(A, "10.0.0.1", "10.0.0.2"), None),
        (icmp_echo(A, "10.0.0.1", A, "10.0.0.2"), None),
        (ethernet(A, A, 0x86DD, b"\x60" + bytes(60)), None),
        (b"", None),
    ],
)
def test_what_is_said(frame, message):
    assert read_untrusted(frame) == message


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("group", [b"", "own"])
def test_queries_of_the_switch_are_read_as_such(version, group):
    asked = (G4 if version == 4 else G6) if group else b""
    frame = frame_of(query_record(A, version, 7, 2.0, asked))
    assert frame[12:16] == b"\x81\x00\x00\x07"
    message = read_untrusted(frame)
    assert message == GroupMessage(
        Says.QUERY, version, group=asked, anonymous=version == 4, response_time=2.0
    )


@pytest.mark.parametrize(
    "frame",
    [
        igmp(A, 0x16, "10.0.0.1"),
        igmp(A, 0x11, "10.0.0.1"),
        igmp(A, 0x16, "239.1.2.3")[:-1] + b"\xff",  # the checksum
        igmp(A, 0x16, "239.1.2.3")[:-2],
        igmp(A, 0x16, "239.1.2.3").replace(b"\x40\x00\x01\x02", b"\x40\x00\x02\x02"),  # TTL 2
        igmp3_report(A, [(4, "10.0.0.1", [])]),
        mld(A, 131, "2001:db8::1"),
        mld(A, 131, "ff15::1", sender="2001:db8::1"),
        mld(A, 130, "::", sender="::"),
        mld(A, 131, "ff15::1")[:-1] + b"\xff",
        mld(A, 131, "ff15::1")[:-4],
    ],
)
def test_what_is_wrong_is_refused(frame):
    with pytest.raises(BadRecord):
        read_untrusted(frame)


def test_groups_that_always_go_everywhere():
    for text in ("224.0.0.251", "224.0.0.252", "224.0.0.5", "239.255.255.250", "ff02::1"):
        assert is_for_everybody(group_mac(packed(text))), text
    for text in ("ff02::fb", "ff02::1:3", "ff02::1:2", "ff02::1:ff12:3456", "ff02::16"):
        assert is_for_everybody(group_mac(packed(text))), text
    for text in ("239.1.2.3", "224.0.1.129", "232.1.1.1", "ff15::1234:5678"):
        assert not is_for_everybody(group_mac(packed(text))), text
    assert is_for_everybody(bytes.fromhex("090007ffffff"))  # AppleTalk
    assert group_mac(packed("239.129.2.3")) == bytes.fromhex("01005e010203")


def test_whatever_the_bytes_only_bad_record_is_raised():
    rng = random.Random(4541)
    frames = [
        igmp(A, 0x16, "239.1.2.3"),
        igmp3_report(A, [(4, "239.1.2.3", ["10.0.0.1"]), (3, "239.1.2.4", [])]),
        mld(A, 131, "ff15::1"),
        mld2_report(A, [(2, "ff15::1", ["fe80::1"]), (1, "ff15::9", [])]),
        vlan_tagged(frame_of(query_record(A, 6, 7, 2.0, G6)), 9),
        ethernet(
            group_mac(packed("224.0.0.13")),
            A,
            0x0800,
            bytes.fromhex("4500001600000000016700000a000001e000000d2000"),
        ),
    ]
    seen = set()
    for _ in range(60_000):
        frame = bytearray(rng.choice(frames))
        for _ in range(rng.randint(0, 3)):
            if frame:
                frame[rng.randrange(len(frame))] = rng.choice((0, 1, 255, rng.randrange(256)))
        del frame[rng.choice((len(frame), len(frame), rng.randrange(len(frame) + 1))) :]
        try:
            message = read_untrusted(bytes(frame))
        except BadRecord:
            seen.add("bad")
        else:
            seen.add(None if message is None else message.says)
    assert seen == {"bad", None, *Says}
