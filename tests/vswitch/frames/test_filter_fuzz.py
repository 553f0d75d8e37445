"""Filters and frames from anybody: refused in words or answered, never more."""

from hypothesis import given
from hypothesis import strategies as st

from vswitch.frames.filter import parse_filter_untrusted
from vswitch.frames.headers import facts_of, summary

TEXT = """host src dst type vlan port proto and or not ( ) ip arp tcp broadcast multicast
7 0x800 10.0.0.1 10.0.0.0/8 fd00::1 02:00:00:00:00:0a 99999 -1 x"""
WORDS = st.sampled_from(TEXT.split())
FRAME = st.binary(max_size=120) | st.builds(
    lambda head, kind, rest: head + kind + rest,
    st.binary(min_size=12, max_size=12),
    st.sampled_from(
        [b"\x08\x00\x45", b"\x86\xdd\x60", b"\x08\x06\x00\x01", b"\x81\x00\x00\x0a\x08\x00\x46"]
    ),
    st.binary(max_size=120),
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60), FRAME)
def test_any_filter_on_any_frame(text, frame):
    try:
        matches = parse_filter_untrusted(text)
    except ValueError:
        return
    assert matches(frame) in (True, False)


@given(FRAME)
def test_facts_of_any_frame(frame):
    facts = facts_of(frame)
    assert len(facts.from_ip) in (0, 4, 16)
    assert len(facts.from_ip) == len(facts.to_ip)
    assert len(facts.ports) in (0, 2)
    assert summary(frame).isprintable()


@given(WORDS.map(lambda word: f"not {word}"), FRAME)
def test_not_is_the_opposite(text, frame):
    try:
        without = parse_filter_untrusted(text)
        alone = parse_filter_untrusted(text.removeprefix("not "))
    except ValueError:
        return
    assert without(frame) != alone(frame)
