"""A question about a frame, and what `vswitch trace` and its kin say for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.cli.counters import counters_of, counters_table
from vswitch.cli.events import _line
from vswitch.frames.build import checksum
from vswitch.frames.headers import summary
from vswitch.management.status import PortStatus
from vswitch.management.trace import Host, Question, parse_trace_untrusted

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
NOBODY = bytes.fromhex("0200000000fe")
HOSTS = (Host("pc1", 1, A, "10.0.0.1"), Host("pc2", 2, B, "10.0.0.2"), Host("bot", 3))


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("in=pc1 dst=02:00:00:00:00:0b", B + NOBODY + b"\x08\x00\x45\0\0\x2e"),
        ("in_port=pc1 dl_dst=02:00:00:00:00:0b arp", B + NOBODY + b"\x08\x06\0\x01\x08\0\x06\x04"),
        ("in=pc1 dst=broadcast src=02-00-00-00-00-0A type=arp", b"\xff" * 6 + A + b"\x08\x06"),
        ("dst=02000000000b,in=pc1,vlan=10", B + NOBODY + b"\x81\x00\x00\x0a\x08\x00"),
        ("in=pc1 dst=broadcast type=0x88b5 size=14", b"\xff" * 6 + NOBODY + b"\x88\xb5"),
        ("in=pc1 hex=ff:00:01", b"\xff\x00\x01"),
        ("pc1 02:00:00:00:00:0b", B + NOBODY + b"\x08\x00\x45"),
    ],
)
def test_the_text_of_a_trace_becomes_a_frame(text, frame):
    asked = parse_trace_untrusted(text)
    assert asked.port == "pc1"
    assert asked.frame[: len(frame)] == frame
    assert len(asked.frame) in (60, len(frame))


def test_short_is_the_same_as_with_its_keys():
    long = parse_trace_untrusted("in=pc1 dst=pc2 proto=tcp dport=22", HOSTS)
    assert parse_trace_untrusted("pc1 pc2 tcp 22", HOSTS) == long
    assert parse_trace_untrusted("pc1 pc2", HOSTS) == parse_trace_untrusted("in=pc1 dst=pc2", HOSTS)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "in=NAME"),
        ("dst=broadcast", "in=NAME"),
        ("in=pc1", "dst=MAC"),
        ("in=pc1 dst=pc9", r"neither a port \(pc1, pc2, bot\) nor an IP or MAC address"),
        ("in=pc1 dst=bot", "not known yet: write dst=MAC"),
        ("in=pc1 dst=10.0.0.9", "given nobody this address"),
        ("in=pc1 dst=pc2 src-ip=x", "not an IP address"),
        ("in=pc1 dst=pc2 src-ip=::1 ip", "no address of IPv4"),
        ("in=pc1 dst=pc2 arp dst-ip=::1", "no address of IPv4"),
        ("in=pc1 dst=pc2 icmp port=1", "of tcp and udp"),
        ("in=pc1 dst=pc2 tcp port=65536", "0 to 65535"),
        ("in=pc1 dst=pc2 tcp size=53", "54 to"),
        ("in=pc1 to=pc2", "write KEY=VALUE"),
        ("pc1", "write KEY=VALUE"),
        ("in=pc1 in=pc2", "twice"),
        ("in=pc1 dst=broadcast vlan=4096", "0 to 4095"),
        ("in=pc1 dst=broadcast vlan=4 size=14", "46 to"),
        ("in=pc1 dst=broadcast type=x", "not a number"),
        ("in=pc1 hex=abc", "hexadecimal"),
        ("in=pc1 hex=", "1 to"),
        ("in=pc1 hex=ab dst=broadcast", "stand alone"),
        ("in=" + "x" * 60000, "too long"),
    ],
)
def test_a_wrong_text_of_a_trace_is_refused_with_the_reason(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_trace_untrusted(text, HOSTS)


@pytest.mark.parametrize(
    ("text", "destination", "said"),
    [
        ("dst=pc2", B, "ip 10.0.0.1 > 10.0.0.2 icmp, 60 bytes"),
        ("dst=2 size=200", B, "ip 10.0.0.1 > 10.0.0.2 icmp, 200 bytes"),
        ("dst=10.0.0.2 tcp port=22", B, "ip 10.0.0.1.49152 > 10.0.0.2.22 tcp, 60 bytes"),
        ("dst=02:00:00:00:00:0b tp_dst=53", B, "ip 10.0.0.1.49152 > 10.0.0.2.53 udp, 60 bytes"),
        ("dst=pc2 src-ip=10.9.9.9 proto=47", B, "ip 10.9.9.9 > 10.0.0.2 47, 60 bytes"),
        (
            "dst=broadcast dport=9",
            b"\xff" * 6,
            "ip 10.0.0.1.49152 > 255.255.255.255.9 udp, 60 bytes",
        ),
        (
            "dst=224.0.0.251",
            bytes.fromhex("01005e0000fb"),
            "ip 10.0.0.1 > 224.0.0.251 icmp, 60 bytes",
        ),
        ("dst=pc2 arp", B, "arp 10.0.0.1 > 10.0.0.2, 60 bytes"),
        ("dst=pc2 ip6", B, "ip6 fe80::ff:fe00:a > fe80::ff:fe00:b icmp6, 62 bytes"),
        ("dst=ff02::fb port=5353", bytes.fromhex("3333000000fb"), None),
    ],
)
def test_names_and_headers_of_a_trace(text, destination, said):
    frame = parse_trace_untrusted(f"in=pc1 {text}", HOSTS).frame
    assert (frame[:6], frame[6:12]) == (destination, A)
    if said is None:
        said = "ip6 fe80::ff:fe00:a.49152 > ff02::fb.5353 udp, 62 bytes"
    assert summary(frame).split(" > ", 1)[1].split(" ", 1)[1] == said
    check = {"ip": 14}.get(said.split()[0])
    assert check is None or checksum(frame[check : check + 20]) == 0


WORD = st.sampled_from(
    (
        "in=pc1",
        "dst=broadcast",
        "dst=pc2",
        "vlan=7",
        "type=ip",
        "size=99",
        "hex=00",
        "x=",
        "ip6",
        "arp",
        "tcp",
        "dport=7",
        "src-ip=10.0.0.1",
        "dst-ip=::1",
        "dst=10.0.0.2",
    )
)


@given(st.lists(WORD, max_size=8).map(" ".join) | st.text(max_size=50))
def test_any_text_is_a_frame_or_refused(text):
    try:
        asked = parse_trace_untrusted(text, HOSTS)
    except ValueError:
        return
    assert isinstance(asked, Question)


def test_counters_and_what_they_grow_by():
    port = PortStatus(port=1, name="pc1", state="up", rx_frames=100, drops={"runt": 2})
    before = counters_of([port], {"dropped": 2})
    assert before == {("pc1", "rx_frames"): 100, ("pc1", "drops.runt"): 2, ("*", "dropped"): 2}
    assert counters_table(before).splitlines()[1].split() == ["pc1", "rx_frames", "100"]
    later = {**before, ("pc1", "rx_frames"): 150, ("pc1", "queued_frames"): 3}
    lines = [line.split() for line in counters_table(later, before, 2.0).splitlines()]
    assert ["pc1", "rx_frames", "150", "25"] in lines
    assert ["pc1", "queued_frames", "3", "-"] in lines


def test_an_event_is_one_line_whatever_is_in_it():
    event = {"number": 7, "at": 0.5, "kind": "port-down", "port": "pc1", "reason": "has\nleft"}
    line = _line(event)
    assert line == "#7 1970-01-01T00:00:00.500Z port-down port=pc1 reason=has?left"
