"""The accounts of what sessions hold together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.endpoint.budget import MemoryBudget


def test_who_holds_most_is_known():
    budget = MemoryBudget(1000)
    budget.account("a", 300)
    budget.account("b", 500)
    budget.account("c", 100)
    assert budget.total == 900
    assert budget.largest() == "b"
    budget.account("b", 0)
    assert budget.largest() == "a"


def test_tight_and_full():
    budget = MemoryBudget(1000)
    budget.account("a", 800)
    assert budget.total <= budget.tight_above
    budget.account("b", 1)
    assert budget.total > budget.tight_above
    assert budget.total <= budget.full_above
    budget.account("b", 151)
    assert budget.total > budget.full_above
    budget.account("a", 0)
    assert budget.total <= budget.tight_above


def test_nobody_holds_nothing():
    budget = MemoryBudget(1)
    budget.account("a", 0)
    with pytest.raises(ValueError, match="empty"):
        budget.largest()
    with pytest.raises(ValueError, match="at least one byte"):
        MemoryBudget(0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1000))))
def test_the_total_is_the_sum(changes):
    budget, model = MemoryBudget(10_000), {}
    for holder, held in changes:
        budget.account(holder, held)
        model[holder] = held
    assert budget.total == sum(model.values())
    if any(model.values()):
        assert model[budget.largest()] == max(model.values())
