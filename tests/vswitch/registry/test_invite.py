"""Join strings: what is written is read back, and any slip is found."""

from __future__ import annotations

import base64
from hashlib import blake2s

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from transport.crypto.identity import PublicKey
from vswitch.addresses import HostPort
from vswitch.errors import ConfigError, ExitCode
from vswitch.registry.invite import JoinString

KEY = PublicKey(bytes(range(32)))
JOIN = JoinString(KEY, bytes(8), bytes(range(16)), (HostPort("switch.example.org", 7450),))


def test_the_text_form_is_the_documented_one():
    # Written out once, so that another release cannot change what users have in their mail.
    assert JOIN.encode() == (
        "vsw1:aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypqaaaaaaaaaaaaaaaqeayeaudaocajbifqydio"
        "b6bmjjjq@switch.example.org:7450"
    )
    assert JoinString.parse_untrusted(JOIN.encode()) == JOIN


def test_the_psk_is_derived_from_the_secret():
    assert JOIN.psk == blake2s(b"vswitch psk v1", key=bytes(range(16)), digest_size=32).digest()


def test_a_new_string_has_a_new_token_and_pins_the_key():
    one, two = (JoinString.new(KEY, HostPort("::1", 1)) for _ in range(2))
    assert one.token_secret != two.token_secret
    assert one.token_id != two.token_id
    assert one.server_key == KEY
    assert one.encode().endswith("@[::1]:1")
    assert len(one.encode().partition("@")[0]) == 5 + 96


def test_white_space_around_it_does_not_matter_and_case_of_the_code_neither():
    text = JOIN.encode()
    head, _, tail = text.removeprefix("vsw1:").partition("@")
    assert JoinString.parse_untrusted(f"  {text}\n") == JOIN
    assert JoinString.parse_untrusted(f"vsw1:{head.upper()}@{tail}") == JOIN


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: "", "does not begin with 'vsw2:'"),
        (lambda text: text.replace("vsw1", "vsw3"), "does not begin with 'vsw2:'"),
        (lambda text: text.replace("vsw1", "vsw2"), "none of a-z and 2-7"),
        (lambda text: text.partition("@")[0], "from '@' on"),
        (lambda text: text.replace("vsw1:", "vsw1:a"), "has 97 characters"),
        (lambda text: text.replace("aaaq", "aaa", 1), "has 95 characters"),
        (lambda text: text.replace("aaaq", "aaa1", 1), "none of a-z and 2-7"),
        (lambda text: text.replace("aaaq", "aaab", 1), "check sum differs"),
        (lambda text: text.replace("aaaq", "aaaä", 1), "none of a-z and 2-7"),
        (lambda text: text.replace("7450", "7451"), "check sum differs"),
        (lambda text: text.replace("org", "com"), "check sum differs"),
        (lambda text: text + "x" * 500, "longer than 512"),
    ],
)
def test_a_wrong_string_is_refused_with_the_reason(change, reason):
    with pytest.raises(ConfigError) as caught:
        JoinString.parse_untrusted(change(JOIN.encode()))
    assert reason in str(caught.value)
    assert "copy all of what `vswitch invite` printed" in str(caught.value)
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("where", ["", ":1", "a", "a:0", "a:x", "-:1", "::1:5"])
def test_a_string_that_is_sealed_but_leads_nowhere_is_refused(where):
    class Nowhere:
        def text(self):
            return where

    text = JoinString(KEY, bytes(8), bytes(16), (Nowhere(),)).encode()
    with pytest.raises(ConfigError, match="not a join string"):
        JoinString.parse_untrusted(text)


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=16, max_size=16),
    st.lists(
        st.builds(HostPort, st.ip_addresses().map(str), st.integers(1, 65535)),
        min_size=1,
        max_size=4,
        unique=True,
    ).map(tuple),
    st.sampled_from(["", "pc1"]),
)
def test_every_string_is_read_back(key, token_id, secret, places, name):
    join = JoinString(PublicKey(key), token_id, secret, places, name)
    assert JoinString.parse_untrusted(join.encode()) == join


@given(st.integers(0, 10**6), st.characters(min_codepoint=33, max_codepoint=126))
def test_one_wrong_character_anywhere_is_found(position, letter):
    text = JOIN.encode()
    position %= len(text)
    changed = text[:position] + letter + text[position + 1 :]
    if changed.partition("@")[0].lower() + "@" + changed.partition("@")[2] == text:
        return
    with pytest.raises(ConfigError, match="not a join string"):
        JoinString.parse_untrusted(changed)


NAMED = evolve(JOIN, name="pc1")


def tagged(fields):
    """A string with these fields and a right check sum."""
    body = b"".join(bytes((tag, len(value))) + value for tag, value in fields)
    check = blake2s(b"vsw2" + body).digest()[:4]
    return "vsw2:" + base64.b32encode(body + check).decode().lower().rstrip("=")


FIELDS = [
    (1, KEY.raw),
    (2, bytes(8)),
    (3, bytes(range(16))),
    (4, b"switch.example.org:7450"),
    (5, b"pc1"),
]


def test_a_string_with_a_name_is_the_documented_one():
    assert NAMED.encode() == tagged(FIELDS)
    assert JoinString.parse_untrusted(f" {NAMED.encode()}\n") == NAMED
    assert JoinString.parse_untrusted(NAMED.encode().upper().replace("VSW2", "vsw2")) == NAMED


def test_what_a_later_version_says_is_passed_over():
    later = [(200, b"x" * 255), *FIELDS, (6, b"")]
    assert JoinString.parse_untrusted(tagged(later)) == NAMED
    assert JoinString.parse_untrusted(tagged(FIELDS[:4])) == JOIN


def test_a_switch_that_is_at_several_places():
    home = HostPort("10.0.0.1", 1)
    both = evolve(NAMED, servers=(*JOIN.servers, home))
    assert both.encode() == tagged([*FIELDS[:4], (4, b"10.0.0.1:1"), FIELDS[4]])
    assert JoinString.parse_untrusted(both.encode()) == both
    nameless = evolve(both, name="")
    assert JoinString.parse_untrusted(nameless.encode()) == nameless
    again = tagged([*FIELDS, FIELDS[3], (4, b"10.0.0.1:1")])
    assert JoinString.parse_untrusted(again) == both
    many = [(4, b"192.0.2.%d:1" % number) for number in range(9)]
    servers = JoinString.parse_untrusted(tagged([*FIELDS[:3], *many])).servers
    assert [each.host for each in servers] == [f"192.0.2.{number}" for number in range(4)]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [*FIELDS, (4, b"switch")],
        FIELDS[1:],
        FIELDS[:3],
        [*FIELDS[:4], (5, b"Not a name")],
        [*FIELDS[:3], (4, b"switch")],
        [*FIELDS[:3], (4, b"\xff:1")],
        [(1, b"short"), *FIELDS[1:]],
    ],
)
def test_a_string_whose_fields_make_no_sense_is_refused(fields):
    with pytest.raises(ConfigError, match="not a join string"):
        JoinString.parse_untrusted(tagged(fields))


@given(st.integers(0, 10**6), st.characters(min_codepoint=33, max_codepoint=126))
def test_one_wrong_character_of_a_named_string_is_found(position, letter):
    text = NAMED.encode()
    position %= len(text)
    changed = text[:position] + letter + text[position + 1 :]
    if changed.lower() == text and changed.startswith("vsw2"):
        return
    with pytest.raises(ConfigError, match="not a join string"):
        JoinString.parse_untrusted(changed)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567=", max_size=300))
def test_any_text_is_a_named_string_or_refused(code):
    with pytest.raises(ConfigError, match="not a join string"):
        JoinString.parse_untrusted(f"vsw2:{code}")


def test_the_secret_is_not_shown():
    assert "secret" not in repr(JOIN)
    assert repr(JOIN.token_secret) not in repr(JOIN)
