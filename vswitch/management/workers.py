"""Work in threads, and how much of a processor it has taken.

    with measured() as work:
        await run_sync(look, at, much)
    work.seconds

A thread of ours has the interpreter in turns with the task that moves frames, so its time is the
switch's time. It is that of whoever asked: of this task, and of those that it has begun.

Error contract: what the function raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar, TypeVarTuple

import trio
from attrs import define

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


@define(eq=False)
class Work:
    """What threads have done for somebody."""

    seconds: float = 0.0  # of a processor


_work: ContextVar[Work | None] = ContextVar("work", default=None)


@contextmanager
def measured() -> Iterator[Work]:
    """What `run_sync` takes inside."""
    work = Work()
    token = _work.set(work)
    try:
        yield work
    finally:
        _work.reset(token)


async def run_sync(
    function: Callable[[*_Arguments], _Result],
    *args: *_Arguments,
    limiter: trio.CapacityLimiter | None = None,
) -> _Result:
    """`trio.to_thread.run_sync`, measured."""
    work, took = _work.get(), 0.0

    def timed() -> _Result:
        nonlocal took
        begun = time.thread_time()
        try:
            return function(*args)
        finally:
            took = time.thread_time() - begun

    try:
        return await trio.to_thread.run_sync(timed, limiter=limiter)
    finally:
        if work is not None:
            work.seconds += took
