"""What `vswitch impair` is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vswitch.errors import ConfigError
from vswitch.features.impair import Orders, orders_untrusted, said


def test_orders_are_read_from_text_and_written_back():
    args = {"delay": "40ms~5ms", "loss": "1%", "duplicate": "0.5%", "reorder": "2%"}
    orders = orders_untrusted({**args, "rate": "10M", "seed": 7, "direction": "in", "for": "30s"})
    assert orders == Orders(
        delay=0.04,
        jitter=0.005,
        loss=0.01,
        duplicate=0.005,
        reorder=0.02,
        rate=10e6,
        seed=7,
        direction="in",
        seconds=30.0,
    )
    assert said(orders) == (
        "delay 40ms~5ms, loss 1%, duplicate 0.5%, reorder 2%, rate 10M, seed 7, direction in"
    )
    assert orders_untrusted({"rate": "1.5k"}).rate == 1500
    assert orders_untrusted({"delay": "250us"}).delay == 0.00025


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({}, "say what"),
        ({"seed": 1}, "say what"),
        ({"delay": "40"}, "write 40ms"),
        ({"delay": "61s"}, "at most 60s"),
        ({"delay": "1ms~"}, "write 40ms"),
        ({"loss": "1"}, "write 0% to 100%"),
        ({"loss": "101%"}, "write 0% to 100%"),
        ({"rate": "10"}, "1k to 100G"),
        ({"rate": "fast"}, "1k to 100G"),
        ({"delay": "1ms", "seed": True}, "--seed"),
        ({"delay": "1ms", "direction": "up"}, "--direction"),
        ({"delay": "1ms", "for": "ever"}, "--for"),
    ],
)
def test_wrong_orders_are_refused_with_the_reason(args, complaint):
    with pytest.raises(ConfigError, match=complaint):
        orders_untrusted(args)


KEYS = ("delay", "loss", "duplicate", "reorder", "rate", "seed", "direction", "for")
VALUES = st.none() | st.text("0123456789.%~msMkG-", max_size=9) | st.integers() | st.booleans()


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_orders_of_any_text_are_read_or_refused(args):
    try:
        orders = orders_untrusted(args)
    except ConfigError:
        return
    assert said(orders)
