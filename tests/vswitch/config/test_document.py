"""A configuration as a whole: compared and laid over one another key by key."""

import json
import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vswitch.config.document import (
    Overlay,
    changed,
    flatten,
    listen_key,
    overlay_between,
    overlay_of,
    to_toml,
    unflatten,
)

NAMES = st.text('abc-*. é"\\\x7f', min_size=1, max_size=4)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-5, 2000),
    st.floats(0.5, 1e9),
    st.text(max_size=6),
    st.lists(st.text(max_size=3), max_size=3),
)
RULES = st.fixed_dictionaries(
    {}, optional={"list": st.lists(st.text(max_size=5)), "groups": st.just({"a": ["pc1"]})}
)
PUBLISHED = st.lists(
    st.fixed_dictionaries(
        {"listen": st.sampled_from(["tcp://:1", "tcp://0.0.0.0:1", "udp://[::1]:2", "no", ""])},
        optional={"to": st.just("pc1:80"), "allow": st.just(["10.0.0.0/8"])},
    ),
    max_size=4,
    unique_by=lambda each: listen_key(each["listen"]),
)
FOREIGN = st.lists(
    st.fixed_dictionaries({"kind": st.sampled_from(["udp", "tcp"])}, optional={"name": NAMES}),
    max_size=3,
    unique_by=lambda each: each.get("name", each["kind"]),
)
TABLES = {
    "switch": st.dictionaries(NAMES, VALUES, max_size=3),
    "port": st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=3),
    "rules": RULES,
    "publish": PUBLISHED,
    "foreign": FOREIGN,
    "names": st.dictionaries(NAMES, VALUES, max_size=2),
}
OF_NETWORK = st.fixed_dictionaries({}, optional={**TABLES, "mtu": st.integers(600, 1500)})
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        **TABLES,
        "serve": st.dictionaries(NAMES, VALUES, max_size=3),
        "network": st.dictionaries(NAMES, OF_NETWORK, max_size=2),
    },
)


@given(DOCUMENTS)
def test_flat_and_back_is_the_same_and_so_is_its_text(tables):
    flat = flatten(tables)
    whole = unflatten(flat)
    assert flatten(whole) == flat
    assert unflatten(flatten(whole)) == whole
    text = json.dumps(whole)
    assert json.dumps(unflatten(flatten(json.loads(text)))) == text
    assert flatten(tomllib.loads(to_toml(whole))) == flat


@example({"network": {"a": {}}}, {"network": {"a": {"mtu": 600}}})
@given(DOCUMENTS, DOCUMENTS)
def test_what_lies_between_two_makes_the_one_the_other(below, wanted):
    one, other = flatten(below), flatten(wanted)
    overlay = overlay_between(one, other)
    assert overlay.over(one) == other
    # A file that says something of a network says that it is there, too.
    read = overlay_of(tomllib.loads(to_toml(overlay.document())))
    assert (read.over(one), read.removed) == (other, overlay.removed)
    assert set(changed(one, other)) == overlay.values.keys() | overlay.removed
    assert overlay_between(one, one) == Overlay()


@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_one_over_another_is_both_in_turn(below, second, third):
    base, one, two = flatten(below), flatten(second), flatten(third)
    first, later = overlay_between(base, one), overlay_between(one, two)
    assert first.also(later).over(base) == two


def test_keys_are_those_of_a_file():
    tables = {
        "port": {"pc1": {"isolated": True}},
        "rules": {"list": ["deny a -> b"]},
        "publish": [{"listen": "tcp://[::]:80", "to": "pc1:80"}],
        "network": {"lab": {}, "home": {"mtu": 1400}},
    }
    assert flatten(tables) == {
        ("port", "pc1", "isolated"): True,
        ("rules",): {"list": ["deny a -> b"]},
        ("publish", "tcp://:80"): {"listen": "tcp://[::]:80", "to": "pc1:80"},
        ("network", "lab"): {},
        ("network", "home"): {},
        ("network", "home", "mtu"): 1400,
    }


def test_what_is_there_twice_stays_so_for_who_refuses_it():
    tables = {"publish": [{"listen": "tcp://:1"}, {"listen": "tcp://[::]:1"}]}
    assert unflatten(flatten(tables)) == tables


@pytest.mark.parametrize("removed", ["port", [1], ["a b"], ["a = 1\nb"], [""]])
def test_what_is_no_list_of_keys_is_refused(removed):
    with pytest.raises(ValueError, match="removed"):
        overlay_of({"removed": removed})
