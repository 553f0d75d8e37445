"""Waiting for what other processes do: by asking again, with a deadline and a name for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from vswitch.errors import TimedOut

T = TypeVar("T")

INTERVAL = 0.05  # seconds between questions: short beside the start of a process


def wait_until(question: Callable[[], T | None], what: str, *, timeout: float = 20) -> T:
    """Ask until the answer is true and give it; `TimedOut` naming `what` after `timeout` seconds.

    The question is asked once more at the deadline, so a slow machine never fails unasked.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        answer = question()
        if answer:
            return answer
        if late:
            raise TimedOut(f"no {what} within {timeout:g} s")
        time.sleep(INTERVAL)
