"""One error out of a nursery is that error: exception groups of one are taken apart.

A nursery wraps whatever leaves it in an `ExceptionGroup`. Who calls `serve` or `join` writes
`except VswitchError` and has no interest in the nurseries inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["single_error"]


@contextmanager
def single_error() -> Iterator[None]:
    """Around a nursery: an exception that is alone in its groups comes out as it is."""
    alone: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        alone = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if isinstance(alone, BaseExceptionGroup):
            raise
    if alone is not None:
        context = alone.__context__
        try:
            raise alone
        finally:
            alone.__context__ = context  # not the group, which would be a cycle
            del alone, context  # or its traceback and this frame would keep each other alive
