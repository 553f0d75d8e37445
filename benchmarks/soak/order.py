"""Trio's order of tasks without chance, so that a seed decides a whole run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

T = TypeVar("T")


def in_fixed_order(call: Callable[[], T]) -> T:
    """The result of `call`, in which Trio runs tasks in an order that is the same each time.

    Trio leaves that order to chance, but registers its generator with Hypothesis, which seeds it
    for each of its examples; so this is one.
    """
    results: list[T] = []

    @settings(
        phases=[Phase.explicit],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(None)
    @given(st.none())
    def once(_: None) -> None:
        results.append(call())

    once()
    (result,) = results
    return result
