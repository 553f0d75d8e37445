"""KCP itself at the other end: in C, around which siokcp is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("siokcp", reason="siokcp has no wheel for this version of Python")

from tests.transport.lanes import oracle


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_what_is_read_is_what_was_sent(seed):
    assert oracle.run(oracle.Plan(seed, messages=60)) > 0


def test_many_segments():
    assert sum(oracle.run(oracle.Plan(seed)) for seed in range(1, 61)) > 30_000
