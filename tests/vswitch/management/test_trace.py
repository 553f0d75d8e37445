"""A question about a frame, and what `vswitch trace` and its kin say for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.cli.counters import counters_of, counters_table
from vswitch.cli.events import _line
from vswitch.management.status import PortStatus
from vswitch.management.trace import Question, parse_trace_untrusted

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
NOBODY = bytes.fromhex("0200000000fe")


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("in=pc1 dst=02:00:00:00:00:0b", B + NOBODY + b"\x08\x00" + bytes(46)),
        ("in=pc1 dst=broadcast src=02-00-00-00-00-0A type=arp", b"\xff" * 6 + A + b"\x08\x06"),
        ("dst=02000000000b,in=pc1,vlan=10", B + NOBODY + b"\x81\x00\x00\x0a\x08\x00"),
        ("in=pc1 dst=broadcast type=0x88b5 size=14", b"\xff" * 6 + NOBODY + b"\x88\xb5"),
        ("in=pc1 hex=ff:00:01", b"\xff\x00\x01"),
    ],
)
def test_the_text_of_a_trace_becomes_a_frame(text, frame):
    asked = parse_trace_untrusted(text)
    assert asked.port == "pc1"
    assert asked.frame[: len(frame)] == frame
    assert len(asked.frame) in (60, len(frame))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "in=NAME"),
        ("dst=broadcast", "in=NAME"),
        ("in=pc1", "dst=MAC"),
        ("in=pc1 dst=pc2", "not a MAC address"),
        ("in=pc1 to=pc2", "write KEY=VALUE"),
        ("pc1", "write KEY=VALUE"),
        ("in=pc1 in=pc2", "twice"),
        ("in=pc1 dst=broadcast vlan=4096", "0 to 4095"),
        ("in=pc1 dst=broadcast vlan=4 size=14", "18 to"),
        ("in=pc1 dst=broadcast type=x", "not a number"),
        ("in=pc1 hex=abc", "hexadecimal"),
        ("in=pc1 hex=", "1 to"),
        ("in=pc1 hex=ab dst=broadcast", "stand alone"),
        ("in=" + "x" * 60000, "too long"),
    ],
)
def test_a_wrong_text_of_a_trace_is_refused_with_the_reason(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_trace_untrusted(text)


WORD = st.sampled_from(("in=pc1", "dst=broadcast", "vlan=7", "type=ip", "size=99", "hex=00", "x="))


@given(st.lists(WORD, max_size=8).map(" ".join) | st.text(max_size=50))
def test_any_text_is_a_frame_or_refused(text):
    try:
        asked = parse_trace_untrusted(text)
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
